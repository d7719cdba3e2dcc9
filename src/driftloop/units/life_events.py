"""Life events: installed, failed, removed while healthy, overhauled; who says so, when, and how one is taken back."""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop import durable
from driftloop.protocol.life_events import LifeEvent, Name
from driftloop.protocol.problems import refusal
from driftloop.units import tables
from driftloop.units.joining import join
from driftloop.units.keeper import Keeper
from driftloop.units.memory import FAILED, OVERHAULED, REMOVED, RUNNING, Life, Unit

_ENDS = {"failed": FAILED, "removed": REMOVED, "overhauled": OVERHAULED}


class PostedEvent(LifeEvent, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /units/{unit}/events."""

    who: Name = ""


def post(connection: Connection, keeper: Keeper, name: str, event: PostedEvent, who: str, now: float) -> dict[str, Any]:
    """Take an event; what is kept of it. RequestRefused where it contradicts what is known of the unit."""
    happened, moment = _moment(keeper, event, now)
    if event.age is not None and event.kind != "installed":
        raise refusal(422, "age", "says something only of an installation")
    with keeper.memory.lock:
        known = _known(connection, keeper, name, event)
        if known is not None:
            return known
        unit = keeper.memory.unit(name)
        said = {
            "kind": event.kind,
            "time": moment,
            "happened": happened or durable.format_seconds(now),
            "note": event.note,
            "who": who or event.who or "somebody",
            "recorded": now,
            "key": event.id,
        }
        if event.kind == "installed":
            unit = unit or keeper.new_unit(connection, name, now, empty=True)
            life = _install(connection, keeper, unit, event, moment)
            number = _tell(connection, {**said, "unit": life.unit.id, "life": life.id})
        else:
            life = _running(unit, name, event.kind)
            _check_end(life, moment)
            number = keeper.close(connection, life, _ENDS[event.kind], moment, now, said)
            if event.kind == "overhauled":
                keeper.new_life(connection, life.unit, youth="installed", installed=moment, age=0)
        found = connection.execute(sa.select(tables.events).where(tables.events.c.id == number)).one()
        return shown(found, life)


def withdraw(
    connection: Connection, keeper: Keeper, name: str, number: int, reason: str, who: str, now: float
) -> dict[str, Any]:
    """Take a wrong event back: an end is undone and the life goes on, what was archived of it is withdrawn."""
    events, lives = tables.events, tables.lives
    with keeper.memory.lock:
        unit = keeper.memory.unit(name)
        found = connection.execute(sa.select(events).where(events.c.id == number)).one_or_none()
        if unit is None or found is None or found.unit != unit.id:
            raise refusal(404, "event", f"there is no event {number} of {name}")
        if found.withdrawn is not None:
            raise refusal(409, "event", f"was withdrawn already, by {found.withdrawn_by}")
        life = keeper.memory.lives[found.life]
        row = connection.execute(sa.select(lives).where(lives.c.id == life.id)).one()
        if found.kind == "installed" and life.number > 1 and life.first is None and life is unit.life:
            # Nothing came of the life that began so; the one before is the newest again.
            life = unit.lives[-2]
            join(connection, keeper, life)
        elif found.kind == "installed":
            keeper.write(connection, life, youth="unknown", installed=None, age=None)
            life.youth, life.installed, life.age = "unknown", None, None
        else:
            if life.state == RUNNING:
                raise refusal(409, "event", "the life goes on already")
            join(connection, keeper, life)
            keeper.reopen(connection, life)
            if row.archive and row.run_id:
                values = {"run_id": row.run_id, "reason": reason or f"event {number} was withdrawn", "event": number}
                connection.execute(sa.insert(tables.withdrawals).values(values))
        values = {"withdrawn": now, "withdrawn_by": who or "somebody", "withdrawn_why": reason}
        connection.execute(sa.update(events).where(events.c.id == number).values(values))
        return shown(connection.execute(sa.select(events).where(events.c.id == number)).one(), life)


def shown(event: Any, life: Life | None, withdrawal: Any = None) -> dict[str, Any]:
    """An event as JSON; `withdrawal` is what became of the run that was archived because of it."""
    found: dict[str, Any] = {
        "id": event.id,
        "kind": event.kind,
        "time": event.happened,
        "life": life.number if life is not None else None,
        "note": event.note,
        "who": event.who,
        "recorded": durable.format_seconds(event.recorded),
        "withdrawn": None,
    }
    if event.withdrawn is not None:
        found["withdrawn"] = {
            "time": durable.format_seconds(event.withdrawn),
            "who": event.withdrawn_by,
            "reason": event.withdrawn_why,
            "run": withdrawal.run_id if withdrawal is not None else None,
            "learnt_from": msgspec.json.decode(withdrawal.answer)
            if withdrawal is not None and withdrawal.answer is not None
            else None,
        }
    return found


def _moment(keeper: Keeper, event: PostedEvent, now: float) -> tuple[str | None, float | None]:
    """When an event happened, for people, and on the clock of the unit's rows where that is known."""
    is_clock = keeper.memory.schema.time.kind == "timestamp"
    if event.step is not None and is_clock:
        raise refusal(422, "step", "this fleet's rows have times, no counter: send time")
    if event.time is None:
        return None, event.step
    try:
        moment = durable.parse_time(event.time)
    except ValueError as error:
        raise refusal(422, "time", str(error)) from error
    ahead = moment.timestamp() - now
    if ahead > keeper.skew:
        raise refusal(422, "time", f"is {ahead:.0f} s ahead of this machine's clock; tell of it when it has happened")
    return durable.format_time(moment), moment.timestamp() if is_clock else event.step


def _known(connection: Connection, keeper: Keeper, name: str, event: PostedEvent) -> dict[str, Any] | None:
    if event.id is None:
        return None
    events = tables.events
    found = connection.execute(sa.select(events).where(events.c.key == event.id)).one_or_none()
    if found is None:
        return None
    life = keeper.memory.lives[found.life]
    if found.kind != event.kind or life.unit.name != name:
        raise refusal(409, "id", f"is that of another event: {life.unit.name} {found.kind} at {found.happened}")
    return shown(found, life)


def _install(connection: Connection, keeper: Keeper, unit: Unit, event: PostedEvent, moment: float | None) -> Life:
    youth = "said_unknown" if event.age == "unknown" else "age" if event.age else "installed"
    age = None if event.age == "unknown" else event.age or 0
    known = {"youth": youth, "installed": moment, "age": age}
    life = unit.life if unit.lives else None
    if life is None or life.state != RUNNING:
        return keeper.new_life(connection, unit, **known)
    if life.youth in ("installed", "age"):
        message = f"{unit.name} is in service already; say before that it has failed, was removed or overhauled"
        raise refusal(409, "kind", message)
    life.youth, life.installed, life.age = youth, moment, age
    keeper.write(connection, life, **known)
    if life.first is not None:
        keeper.begin(connection, life, life.earliest if keeper.memory.counted else life.first)
    return life


def _running(unit: Unit | None, name: str, kind: str) -> Life:
    if unit is None:
        raise refusal(404, "unit", f"nothing is known of {name}")
    if unit.life.state != RUNNING:
        gone = f"{name} is in service no more ({unit.life.state}), so it cannot be {kind}"
        raise refusal(409, "kind", f"{gone}; say first that it is installed")
    return unit.life


def _check_end(life: Life, moment: float | None) -> None:
    if moment is not None and life.earliest < float("inf") and moment < life.earliest:
        raise refusal(422, "time", f"lies before the first row of {life.unit.name}")


def _tell(connection: Connection, values: dict[str, Any]) -> int:
    made = connection.execute(sa.insert(tables.events).values(values)).inserted_primary_key
    assert made is not None
    return int(made[0])
