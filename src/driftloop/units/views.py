"""What is shown of units: the list from memory, one unit with its history from the store."""

import math
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop import durable
from driftloop.fleet import lives as life_rules
from driftloop.protocol import unit_list
from driftloop.protocol.problems import refusal
from driftloop.protocol.unit_list import Entry, Order, Sort, State
from driftloop.units import life_events, loading, tables
from driftloop.units.committing import StoreUnavailable
from driftloop.units.keeper import Keeper
from driftloop.units.memory import Life, Unit

CONTRADICTING = "contradicting_rows"
"""Flag of a unit of which several rows came for one time: perhaps two units under one name."""
MOST_STEPS = 5000


def listed(
    keeper: Keeper, *, sort: Sort, order: Order, q: str, flag: str, state: State, offset: int, limit: int
) -> dict[str, Any]:
    """A page of the units in a state. `flags` counts them all, whatever `flag` is."""
    memory = keeper.memory
    with memory.lock:
        _check_known(keeper)
        lives = [unit.life for unit in memory.units.values() if state in ("all", unit.life.state)]
        entries = [_entry(keeper, life) for life in lives]
    chosen = unit_list.choose(entries, sort=sort, order=order, q=q, flag=flag)
    with memory.lock:
        page = [shown(keeper, life) for life in chosen.units[offset : offset + limit]]
    return {"total": len(chosen.units), "units": page, "flags": chosen.flags}


def _entry(keeper: Keeper, life: Life) -> Entry[Life]:
    latest = life.latest
    rul, low = (latest.rul, latest.low) if latest is not None else (None, None)
    return Entry(life.unit.name, seen(keeper, life), rul, low, flags_of(life), life)


def flags_of(life: Life) -> list[str]:
    """The flags of a life's newest answer, and of the unit itself."""
    found = list(life.latest.flags) if life.latest is not None else []
    return found + [CONTRADICTING] * (life.contradictions > 0)


def seen(keeper: Keeper, life: Life) -> float | None:
    """When a unit's newest row is from: by the row where it has a time, else when it came."""
    if life.last_time == -math.inf:
        return None
    return life.last_time if keeper.memory.schema.time.kind == "timestamp" else life.last_received


def shown(keeper: Keeper, life: Life) -> dict[str, Any]:
    """A unit in the list."""
    latest, moment = life.latest, seen(keeper, life)
    return {
        "unit": life.unit.name,
        "state": life.state,
        "life": life.number,
        "last_seen": _time(moment),
        "step": latest.step if latest is not None else None,
        "rul": latest.rul if latest is not None else None,
        "low": latest.low if latest is not None else None,
        "high": latest.high if latest is not None else None,
        "flags": flags_of(life),
        "version": latest.version if latest is not None else None,
        "history_from": keeper.memory.history_from(life),
    }


def unit(keeper: Keeper, name: str, *, life_number: int | None, steps: int) -> dict[str, Any]:
    """One unit with its newest steps: predictions, sensors, life events and lives."""
    memory = keeper.memory
    with memory.lock:
        found = find(keeper, name)
        chosen = [life for life in found.lives if life.number == (life_number or found.life.number)]
        if not chosen:
            raise refusal(404, "life", f"{name} has no life {life_number}")
        [life] = chosen
        head = shown(keeper, life)
    with keeper.store.read() as connection:
        answers = _newest_answers(connection, life.id, steps)
        numbers, sensors = _sensors(connection, keeper, life, steps)
        return {
            **head,
            "predictions": [answer(one) for one in answers],
            "steps": numbers,
            "sensors": sensors,
            "quality": _quality(connection, life),
            "life_events": _events(connection, keeper, found),
            "lives": _lives(connection, found),
        }


def _newest_answers(connection: Connection, life: int, most: int) -> list[Any]:
    """The newest answers of a life, oldest first."""
    predictions = tables.predictions
    wanted = sa.select(predictions).where(predictions.c.life == life).order_by(predictions.c.place.desc()).limit(most)
    return list(reversed(connection.execute(wanted).all()))


def window(keeper: Keeper, name: str, steps: int) -> dict[str, Any]:
    """The newest `steps` steps of a unit's newest life that were sent to the server, and the number of the last one."""
    memory = keeper.memory
    with memory.lock:
        life = find(keeper, name).life
        with keeper.store.read() as connection:
            [tail] = loading.read_tails(connection, memory, [life], steps, keeper.columns)
        last = life.first_step + life.sent if len(tail) else None
    rows = np.frombuffer(tail.content(), dtype="<f4").reshape(-1, memory.schema.n_columns).tolist()
    return {"unit": life.unit.name, "life": life.number, "step": last, "rows": rows}


def life_events_of(keeper: Keeper, name: str) -> list[dict[str, Any]]:
    """The life events of a unit, oldest first; RequestRefused where there is no such unit."""
    found = find(keeper, name)
    with keeper.store.read() as connection:
        return _events(connection, keeper, found)


def find(keeper: Keeper, name: str) -> Unit:
    """A unit by its name; RequestRefused where there is none, StoreUnavailable where nobody can know."""
    _check_known(keeper)
    found = keeper.memory.unit(name)
    if found is None:
        raise refusal(404, "unit", f"nothing is known of {name[:80]}")
    return found


def _check_known(keeper: Keeper) -> None:
    if not keeper.memory.known:
        raise StoreUnavailable("cannot be read now", where="store")


def answer(one: Any) -> dict[str, Any]:
    """A stored answer as JSON."""
    return {
        "time": _time(one.time),
        "step": one.step,
        "rul": one.rul,
        "low": one.low,
        "high": one.high,
        "flags": msgspec.json.decode(one.flags),
        "version": one.version,
        "true_rul": one.true_rul,
    }


def answers_after(connection: Connection, seq: int, most: int) -> list[tuple[int, dict[str, Any]]]:
    """The answers behind number `seq`, in the order in which they were made, each with its own number."""
    answers, lives, units = tables.predictions, tables.lives, tables.units
    wanted = (
        sa.select(answers, units.c.name.label("unit"), lives.c.number)
        .join(lives, answers.c.life == lives.c.id)
        .join(units, lives.c.unit == units.c.id)
        .where(answers.c.seq > seq)
        .order_by(answers.c.seq)
        .limit(most)
    )
    return [
        (one.seq, {"unit": one.unit, "life": one.number, **answer(one), "made": _time(one.made)})
        for one in connection.execute(wanted)
    ]


def check_place(keeper: Keeper, after: int) -> None:
    """Refuse a place behind all answers: without that word, those up to it would be missed."""
    with keeper.memory.lock:
        _check_known(keeper)
        newest = keeper.memory.seq
    if after > newest:
        message = f"is ahead of the newest answer ({newest}): the store was put back from a backup; go on from there"
        raise refusal(409, "after", message)


def _sensors(connection: Connection, keeper: Keeper, life: Life, steps: int) -> tuple[list[int], list[dict[str, Any]]]:
    """The newest steps of a life that have rows, and the values of each column there."""
    memory, rows = keeper.memory, tables.rows
    columns = memory.schema.channels
    wanted = sa.select(rows).where(rows.c.life == life.id, rows.c.mark.in_(tables.IN_LIFE))
    found = list(reversed(connection.execute(wanted.order_by(rows.c.time.desc()).limit(steps)).all()))
    values: list[list[float]] = []
    numbers: list[int] = []
    if found and life.first is not None:
        readings = loading.readings_of(found, keeper.columns, memory)
        places = [memory.place(life, one.time) for one in found]
        starts = [at for at, place in enumerate(places) if at == 0 or place != places[at - 1]]
        merged = life_rules.merged(readings, np.array(starts), memory.schema)
        values = merged.T.tolist()
        numbers = [life.first_step + places[at] for at in starts]
    shown_columns = [
        {
            "name": channel.name,
            "unit": channel.unit,
            "values": values[at] if values else [],
            "low": None,
            "high": None,
        }
        for at, channel in enumerate(columns)
    ]
    return numbers, shown_columns


def _quality(connection: Connection, life: Life) -> dict[str, Any]:
    """How many rows of a life came, and how."""
    rows = tables.rows
    counted = sa.select(rows.c.mark, sa.func.count().label("rows")).where(rows.c.life == life.id).group_by(rows.c.mark)
    counts = {one.mark: one.rows for one in connection.execute(counted)}
    return {
        "rows": sum(counts.values()),
        "backfilled": counts.get(tables.BACKFILLED, 0),
        "late": counts.get(tables.LATE, 0) + counts.get(tables.BEFORE_START, 0),
        "after_end": counts.get(tables.AFTER_END, 0),
        "contradicting": life.contradictions,
    }


def _events(connection: Connection, keeper: Keeper, unit: Unit) -> list[dict[str, Any]]:
    events, withdrawals = tables.events, tables.withdrawals
    found = connection.execute(sa.select(events).where(events.c.unit == unit.id).order_by(events.c.id)).all()
    numbers = [one.id for one in found if one.withdrawn is not None]
    taken = connection.execute(sa.select(withdrawals).where(withdrawals.c.event.in_(numbers))) if numbers else ()
    back = {one.event: one for one in taken}
    return [life_events.shown(one, keeper.memory.lives.get(one.life), back.get(one.id)) for one in found]


def _lives(connection: Connection, unit: Unit) -> list[dict[str, Any]]:
    lives = tables.lives
    found = connection.execute(sa.select(lives).where(lives.c.unit == unit.id).order_by(lives.c.number)).all()
    return [
        {
            "life": one.number,
            "state": one.state,
            "closed": _time(one.closed),
            "run": one.run_id,
            "archive": one.archive or None,
            "note": one.note,
        }
        for one in found
    ]


def _time(moment: float | None) -> str | None:
    return None if moment is None else durable.format_seconds(moment)
