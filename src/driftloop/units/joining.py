"""A life that never ended: the one that was begun behind it is taken back into it, with what it has by now."""

import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop.protocol.problems import refusal
from driftloop.units import loading, tables
from driftloop.units.keeper import Keeper
from driftloop.units.memory import RUNNING, Life
from driftloop.units.tables import BEFORE_START, LATE, NOTHING


def join(connection: Connection, keeper: Keeper, life: Life) -> None:
    """Let a life, which has ended, hold what came behind it; RequestRefused where that is the story of another life.

    Answers that were given stay, under the steps of this life. What is not answered yet waits in the store until the
    life is opened again.
    """
    later = [other for other in life.unit.lives if other.number > life.number]
    if not later:
        return
    _refuse(connection, life, later)
    [other] = later
    keeper.keep_numbers(connection)
    if other.first is not None and life.first is not None:
        _move(connection, keeper, life, other)
    connection.execute(sa.update(tables.events).where(tables.events.c.life == other.id).values(life=life.id))
    connection.execute(sa.delete(tables.lives).where(tables.lives.c.id == other.id))
    keeper.memory.drop(other)


def _refuse(connection: Connection, life: Life, later: list[Life]) -> None:
    name, other = life.unit.name, later[-1]
    if len(later) > 1 or other.state != RUNNING:
        message = f"{name} has lived on since: withdraw the newest event of its life {other.number} first"
        raise refusal(409, "event", message)
    rows = tables.rows
    newest, earliest = (
        connection.execute(sa.select(function(rows.c.time)).where(rows.c.life == one.id)).scalar()
        for function, one in ((sa.func.max, life), (sa.func.min, other))
    )
    if earliest is not None and (newest is None or earliest <= newest):
        why = f"life {life.number} has none (any more)" if newest is None else "they do not follow on those before"
        raise refusal(409, "event", f"the rows of life {other.number} of {name} cannot be taken back into it: {why}")


def _move(connection: Connection, keeper: Keeper, life: Life, other: Life) -> None:
    """Give a life the rows and answers of the one behind it."""
    rows, answers, memory = tables.rows, tables.predictions, keeper.memory
    assert other.first is not None
    shift = memory.place(life, other.first)
    of_other = rows.c.life == other.id
    connection.execute(sa.update(rows).where(of_other, rows.c.mark == BEFORE_START).values(mark=LATE))
    connection.execute(sa.update(rows).where(of_other).values(life=life.id))
    connection.execute(sa.update(tables.conflicts).where(tables.conflicts.c.life == other.id).values(life=life.id))
    place = answers.c.place + shift
    moved = {"life": life.id, "place": place, "step": life.first_step + place}
    connection.execute(sa.update(answers).where(answers.c.life == other.id).values(moved))
    newest = connection.execute(sa.select(sa.func.max(answers.c.place)).where(answers.c.life == life.id)).scalar()
    lives = tables.lives
    skipped = connection.execute(sa.select(lives.c.skipped).where(lives.c.id == other.id)).scalar_one()
    if skipped != NOTHING:
        skipped += shift
        keeper.write(connection, life, skipped=skipped)
    life.sent = max(life.sent, NOTHING if newest is None else newest, skipped)
    life.last_time, life.last_received = max(life.last_time, other.last_time), other.last_received
    life.contradictions += other.contradictions
    if other.latest is not None:
        [found] = connection.execute(sa.select(answers).where(answers.c.life == life.id, answers.c.place == newest))
        life.latest = loading.latest(found)
    memory.forget_tail(life)
