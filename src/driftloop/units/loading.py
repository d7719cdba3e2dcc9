"""Reading the store into memory: everything at the start, a life's newest rows and waiting steps when needed."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from driftloop.fleet import lives as life_rules
from driftloop.units import tables
from driftloop.units.memory import MOST_PENDING, Latest, Life, Memory, Unit
from driftloop.units.store import cursor
from driftloop.units.tables import BACKFILLED, BEFORE_START, NOTHING, USED
from driftloop.units.tails import Tail

_AT_ONCE = MOST_PENDING
"""Rows that are read at once of a life that has many to be answered."""


def load(connection: Connection, memory: Memory, columns: dict[int, list[str]], lateness: float) -> None:
    """Fill an empty memory from the store."""
    lives, rows, predictions = tables.lives, tables.rows, tables.predictions
    by_id: dict[int, Unit] = {}
    for one in connection.execute(sa.select(tables.units)):
        by_id[one.id] = unit = Unit(one.id, one.name)
        memory.add_unit(unit)
    newest, last = (
        sa.select(sa.func.max(one.c[column])).where(one.c.life == lives.c.id).correlate(lives).scalar_subquery()
        for one, column in ((predictions.alias(), "place"), (rows.alias(), "time"))
    )
    counted = rows.alias()
    in_life = (counted.c.life == lives.c.id) & (counted.c.mark != BEFORE_START)
    # Not by min(): the first row of an index is found without looking at the others.
    first = sa.select(counted.c.time).where(in_life).correlate(lives).order_by(counted.c.time).limit(1)
    said = sa.select(lives, newest.label("newest"), last.label("last"), first.scalar_subquery().label("earliest"))
    for one in connection.execute(said.order_by(lives.c.unit, lives.c.number)):
        life = Life(one.id, by_id[one.unit], one.number, one.state, one.first, one.first_step or 0)
        life.installed, life.age, life.youth, life.ended = one.installed, one.age, one.youth, one.ended
        life.sent = max(NOTHING if one.newest is None else one.newest, one.skipped)
        if one.last is not None:
            life.last_time, life.earliest = one.last, inf if one.earliest is None else one.earliest
        memory.add_life(life)
    answered = sa.select(predictions).join(lives, predictions.c.life == lives.c.id)
    for one in connection.execute(answered.where(predictions.c.place == newest)):
        memory.lives[one.life].latest = latest(one)
    seen = sa.select(rows.c.life, rows.c.received).join(lives, rows.c.life == lives.c.id)
    for one in connection.execute(seen.where(rows.c.time == last)):
        memory.lives[one.life].last_received = one.received
    against = sa.select(tables.conflicts.c.life, sa.func.count()).group_by(tables.conflicts.c.life)
    for one in connection.execute(against):
        memory.lives[one[0]].contradictions = one[1]
    # What was erased keeps its numbers: streams have told of them, and answers to it may be on their way.
    memory.seq = max(
        int(connection.execute(sa.select(sa.func.max(predictions.c.seq))).scalar() or 0),
        *(cursor(connection, name) or 0 for name in ("predictions", tables.GIVEN_ANSWERS)),
    )
    memory.last_life = max([cursor(connection, tables.GIVEN_LIVES) or 0, *memory.lives])
    for life in memory.lives.values():
        if life.first is not None and life.last_time > -np.inf and memory.place(life, life.last_time) > life.sent:
            read_pending(connection, memory, life, columns, lateness)


def read_pending(
    connection: Connection, memory: Memory, life: Life, columns: dict[int, list[str]], lateness: float
) -> None:
    """Let the oldest steps of a life that were never answered wait for it, as many as memory holds."""
    life.behind = False
    after = life.sent + 1 if life.sent != NOTHING else memory.place(life, life.earliest)
    marks = tables.rows.c.mark.in_((USED, BACKFILLED))
    found = [(memory.place(life, row.time), row) for row in _rows_of(connection, life, memory, after, marks, _AT_ONCE)]
    more = len(found) == _AT_ONCE
    found = [one for one in found if one[0] > life.sent]
    if more and found:
        last = found[-1][0]
        if found[0][0] == last:
            whole = _rows_of(connection, life, memory, last, marks, until=last)
            found = [(last, row) for row in whole if memory.place(life, row.time) == last]
        else:
            # More rows of the last step may follow.
            found = [one for one in found if one[0] < last]
    for place, row in found:
        memory.add(life, place, (row.time, converted(row, columns, memory)), row.received, lateness, row.mark)
    life.behind = life.behind or more
    memory.settle(life)


def read_tails(
    connection: Connection, memory: Memory, lives: Sequence[Life], window: int, columns: dict[int, list[str]]
) -> list[Tail]:
    """The newest `window` steps of each life that were sent, oldest first, fewer where there are fewer; all of them by
    one question: a life at a time would wait for a database as often."""
    by_place: dict[int, dict[int, list[tuple[float, bytes]]]] = {life.id: {} for life in lives}
    begun = {life.id: life for life in lives if life.sent != NOTHING and life.first is not None}
    for row in _newest_rows_of(connection, begun.values(), memory, window) if begun else ():
        life = begun[row.life]
        place = memory.place(life, row.time)
        if life.sent - window < place <= life.sent:
            by_place[row.life].setdefault(place, []).append((row.time, converted(row, columns, memory)))
    return [_tail(by_place[life.id], life.sent, window, memory) for life in lives]


def _tail(by_place: dict[int, list[tuple[float, bytes]]], sent: int, window: int, memory: Memory) -> Tail:
    """The rows of a life's steps up to the one that was sent last, as they are sent."""
    tail = Tail(window, len(memory.nothing))
    previous: int | None = None
    for place in sorted(by_place):
        bridge(tail, 0 if previous is None else place - previous - 1, memory)
        tail.append(encoded(by_place[place], memory))
        previous = place
    if previous is not None:
        bridge(tail, sent - previous, memory)
    return tail


def bridge(tail: Tail, steps: int, memory: Memory) -> bool:
    """Let a tail go on behind steps without rows: they are missing, or, where nothing may be, the history begins anew.

    True where it begins anew.
    """
    if steps <= 0 or not len(tail):
        return False
    if any(channel.missing == "refuse" for channel in memory.schema.channels):
        tail.clear()
        return True
    tail.skip(steps, memory.nothing)
    return False


def encoded(rows: Sequence[tuple[float, bytes]], memory: Memory) -> bytes:
    """The rows of one step as the one that is sent, by the fleet's rule for several rows in a step."""
    if len(rows) == 1:
        return memory.as_sent(memory.unpack(rows[0][1]))
    values = np.array([memory.unpack(readings) for _, readings in sorted(rows)])
    return memory.as_sent(life_rules.merged(values, np.array([0]), memory.schema)[0].tolist())


def converted(row: Any, columns: dict[int, list[str]], memory: Memory) -> bytes:
    """The readings of a stored row in the order of today's columns; what was not measured then is missing."""
    names = columns[row.layout]
    if tuple(names) == memory.schema.columns:
        return bytes(row.readings)
    values = dict(zip(names, np.frombuffer(row.readings, dtype="<f8").tolist(), strict=True))
    return memory.pack(tuple(values.get(name, float("nan")) for name in memory.schema.columns))


def readings_of(rows: Iterable[Any], columns: dict[int, list[str]], memory: Memory) -> NDArray[np.float64]:
    """The readings of stored rows, `[n, columns]`."""
    content = b"".join(converted(row, columns, memory) for row in rows)
    return np.frombuffer(content, dtype="<f8").reshape(-1, memory.schema.n_columns)


def latest(one: Any) -> Latest:
    """An answer as memory keeps it."""
    flags = msgspec.json.decode(one.flags, type=list[str])
    return Latest(one.place, one.step, one.time, one.rul, one.low, one.high, flags, one.version)


def _newest_rows_of(connection: Connection, lives: Iterable[Life], memory: Memory, steps: int) -> Sequence[Any]:
    """The rows of the newest steps of each life that were sent; a step more at the edges, for rounding."""
    rows, width = tables.rows, _width(memory)
    bounds = sa.values(sa.column("life", sa.Integer), sa.column("since", sa.Double), sa.column("until", sa.Double))
    wanted = bounds.data(
        [(life.id, (life.first or 0.0) + (life.sent - steps) * width, (life.first or 0.0) + (life.sent + 1) * width)
         for life in lives]
    ).cte("wanted")  # fmt: skip
    of_life = (rows.c.life == wanted.c.life) & rows.c.time.between(wanted.c.since, wanted.c.until)
    told = sa.select(rows.c.life, rows.c.time, rows.c.layout, rows.c.readings).join_from(wanted, rows, of_life)
    return connection.execute(told.where(rows.c.mark.in_((USED, BACKFILLED)))).all()


def _width(memory: Memory) -> float:
    """How far steps are from each other."""
    return 1.0 if memory.counted else memory.schema.time.width


def _rows_of(
    connection: Connection,
    life: Life,
    memory: Memory,
    after: int,
    marks: Any,
    most: int | None = None,
    until: int | None = None,
) -> Sequence[Any]:
    """The rows of a life's steps from one place on, in the order of time; a step more at the edges, for rounding."""
    rows, width = tables.rows, _width(memory)
    assert life.first is not None
    told = (rows.c.time, rows.c.received, rows.c.mark, rows.c.layout, rows.c.readings)
    wanted = sa.select(*told).where(rows.c.life == life.id, marks, rows.c.time >= life.first + (after - 1) * width)
    if until is not None:
        wanted = wanted.where(rows.c.time <= life.first + (until + 1) * width)
    wanted = wanted.order_by(rows.c.time)
    return connection.execute(wanted if most is None else wanted.limit(most)).all()
