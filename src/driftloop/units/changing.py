"""Units under other names: renamed, split where two went under one, or erased."""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop.protocol.problems import refusal
from driftloop.units import tables, views
from driftloop.units.keeper import Keeper
from driftloop.units.rows import name_of
from driftloop.units.tables import BACKFILLED

_OF_LIFE = (tables.predictions, tables.rows, tables.conflicts)


class PostedName(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /units/{unit}/rename and of /split: the other name."""

    name: str


def rename(connection: Connection, keeper: Keeper, old: str, given: str) -> dict[str, Any]:
    """Call a unit otherwise from now on; runs that are archived keep their ids."""
    new = name_of(given)
    with keeper.memory.lock:
        unit = views.find(keeper, old)
        if new in keeper.memory.units:
            raise refusal(409, "name", f"there is a unit {new} already")
        connection.execute(sa.update(tables.units).where(tables.units.c.id == unit.id).values(name=new))
        old = unit.name
        del keeper.memory.units[old]
        unit.name = new
        keeper.memory.add_unit(unit)
    return {"unit": new, "before": old}


def split(connection: Connection, keeper: Keeper, old: str, given: str, now: float) -> dict[str, Any]:
    """Make a unit of the rows that contradicted those of another: two went under one name.

    Rows at the same time are told apart; a row that came alone stays where it is.
    """
    new = name_of(given)
    conflicts, rows = tables.conflicts, tables.rows
    with keeper.memory.lock:
        life = views.find(keeper, old).life
        old = life.unit.name
        if new in keeper.memory.units:
            raise refusal(409, "name", f"there is a unit {new} already")
        wanted = sa.select(conflicts).where(conflicts.c.life == life.id).order_by(conflicts.c.time, conflicts.c.id)
        found = connection.execute(wanted).all()
        if not found:
            raise refusal(409, "unit", f"{old} has no contradicting rows, so there is nothing to split")
        other = keeper.new_unit(connection, new, now).life
        moved = {one.time: one for one in reversed(found)}
        for time in sorted(moved):
            one = moved[time]
            if other.first is None:
                keeper.begin(connection, other, time)
            place = keeper.memory.place(other, time)
            values = {"life": other.id, "time": time, "received": one.received, "mark": BACKFILLED}
            values |= {"layout": one.layout, "ended": 0, "readings": one.readings}
            connection.execute(sa.insert(rows).values(values))
            connection.execute(sa.delete(conflicts).where(conflicts.c.id == one.id))
            other.last_time, other.earliest = max(other.last_time, time), min(other.earliest, time)
            other.last_received = one.received
            row = (time, keeper.converted(one))
            keeper.memory.add(other, place, row, one.received, keeper.lateness, BACKFILLED)
        keeper.backfilled(connection, other)
        life.contradictions -= len(moved)
    return {"unit": old, "split_off": new, "rows": len(moved), "left": life.contradictions}


def erase(connection: Connection, keeper: Keeper, name: str, reason: str) -> dict[str, Any]:
    """Delete everything of a unit; its archived runs are taken back."""
    lives, events = tables.lives, tables.events
    with keeper.memory.lock:
        unit = views.find(keeper, name)
        name = unit.name
        archived = connection.execute(
            sa.select(lives.c.run_id).where(lives.c.unit == unit.id, lives.c.archive != "", lives.c.run_id.is_not(None))
        ).scalars()
        taken_back = list(archived)
        for run_id in taken_back:
            values = {"run_id": run_id, "reason": reason or "the unit was erased"}
            connection.execute(sa.insert(tables.withdrawals).values(values))
        keeper.keep_numbers(connection)
        of_unit = [life.id for life in unit.lives]
        for table in _OF_LIFE:
            connection.execute(sa.delete(table).where(table.c.life.in_(of_unit)))
        connection.execute(sa.delete(events).where(events.c.unit == unit.id))
        connection.execute(sa.delete(lives).where(lives.c.unit == unit.id))
        connection.execute(sa.delete(tables.units).where(tables.units.c.id == unit.id))
        keeper.memory.remove(unit)
    return {"unit": name, "erased": True, "runs_withdrawn": taken_back}
