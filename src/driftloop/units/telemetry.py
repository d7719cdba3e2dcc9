"""Rows in: each is kept once under its unit and time, and says what became of it.

`stored`, `known` (the same row was there), `late` (its step was answered before; kept, and no answer is rewritten),
`ended` (the unit's life was over; kept, part of no run), or `refused`: unreadable, of a time that can hardly be right
(driftloop.units.doubts), or contradicting a row that is there.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop.units import bulk, tables
from driftloop.units.keeper import Keeper
from driftloop.units.memory import RUNNING, Life, Unit
from driftloop.units.rows import BadRow, Row
from driftloop.units.tables import AFTER_END, BACKFILLED, BEFORE_START, LATE, NOTHING, USED

STORED, KNOWN, LATE_ROW, ENDED, REFUSED = "stored", "known", "late", "ended", "refused"
RESULTS = (STORED, KNOWN, LATE_ROW, ENDED, REFUSED)
_SAID = {USED: STORED, BACKFILLED: STORED, LATE: LATE_ROW, BEFORE_START: LATE_ROW, AFTER_END: ENDED}
_KEYS = 400
"""Rows that are looked up in one statement."""

Readings = dict[tuple[int, float], bytes]


class Manner(NamedTuple):
    """How the rows of a request are meant."""

    backfill: bool = False
    """Of the past, no traffic."""
    jump: bool = False
    """Counters that jump far ahead are right."""


MANNER = Manner()
"""As rows come that nothing is said of."""


class Taken(NamedTuple):
    """What became of the rows of one request."""

    results: list[str]
    problems: list[dict[str, Any]]

    def shown(self) -> dict[str, Any]:
        """The answer's body: how many of each, what became of each row, in order, and why some were refused."""
        counts = Counter(self.results)
        return {
            "rows": len(self.results),
            **{result: counts[result] for result in RESULTS},
            "results": self.results,
            "problems": self.problems,
        }


def take(
    connection: Connection, keeper: Keeper, given: Sequence[Row | BadRow], now: float, manner: Manner = MANNER
) -> Taken:
    """Keep the rows of a request; nothing else writes to the store meanwhile."""
    with keeper.memory.lock:
        return _Taking(connection, keeper, now, manner).take(given)


class _Taking:
    """One request's rows, on their way into the store."""

    def __init__(self, connection: Connection, keeper: Keeper, now: float, manner: Manner) -> None:
        self._connection, self._keeper, self._memory = connection, keeper, keeper.memory
        self._now, self._manner = now, manner
        self._fresh: Readings = {}
        self._found: Readings = {}
        self._inserts: list[dict[str, Any]] = []
        self._filled: set[int] = set()

    def take(self, given: Sequence[Row | BadRow]) -> Taken:
        self._look_up(given)
        taken = Taken([REFUSED] * len(given), [])
        problems: dict[int, dict[str, Any]] = {}
        rows: list[tuple[float, int, Row]] = []
        for at, row in enumerate(given):
            if isinstance(row, BadRow):
                problems[at] = {"unit": row.unit, "field": row.field, "message": row.message}
            else:
                rows.append((row.time, at, row))
        # In the order of time, so that a life begins with its first row, and none is late behind one that came with it.
        for _, at, row in sorted(rows, key=lambda one: one[:2]):
            taken.results[at], problem = self._one(row)
            if problem is not None:
                problems[at] = problem
        taken.problems.extend({"row": at, **problems[at]} for at in sorted(problems))
        self._flush()
        for life_id in self._filled:
            if life_id in self._memory.lives:
                self._keeper.backfilled(self._connection, self._memory.lives[life_id])
        return taken

    def _look_up(self, given: Sequence[Row | BadRow]) -> None:
        """Read the rows that may be there already: those that are not newer than everything of their life."""
        keys = []
        for row in given:
            unit = self._memory.units.get(row.unit) if isinstance(row, Row) else None
            if unit is not None and isinstance(row, Row):
                now, before = self._memory.at(unit, row.time), self._memory.before(unit)
                keys += [(life.id, row.time) for life in (now, *before) if row.time <= life.last_time]
        rows = tables.rows
        for start in range(0, len(keys), _KEYS):
            wanted = sa.tuple_(rows.c.life, rows.c.time).in_(keys[start : start + _KEYS])
            for one in self._connection.execute(
                sa.select(rows.c.life, rows.c.time, rows.c.layout, rows.c.readings).where(wanted)
            ):
                self._found[(one.life, one.time)] = self._keeper.converted(one)

    def _one(self, row: Row) -> tuple[str, dict[str, Any] | None]:
        memory, keeper = self._memory, self._keeper
        readings, known = memory.pack(row.values), memory.units.get(row.unit)
        why = self._doubted(known, row, readings)
        if why:
            return REFUSED, {"unit": row.unit, "field": memory.schema.time.column or "index", "message": why}
        unit = known or keeper.new_unit(self._connection, row.unit, self._now)
        life = memory.at(unit, row.time)
        if keeper.lives_on(life, row):
            life = keeper.new_life(self._connection, unit, youth="installed", installed=row.time, age=0)
        key = (life.id, row.time)
        there = self._fresh.get(key) or self._found.get(key)
        if there == readings or (not memory.follows(life, row.time) and self._of_earlier(unit, row, readings)):
            return KNOWN, None
        if there is not None:
            return REFUSED, self._contradicting(life, row, there, readings)
        mark = self._mark(life, row.time)
        self._inserts.append(
            {
                "life": life.id,
                "time": row.time,
                "received": self._now,
                "mark": mark,
                "layout": keeper.store.layout,
                "compared": row.compared,
                "ended": int(row.ended),
                "readings": readings,
            }
        )
        self._fresh[key] = readings
        self._note(life, row, readings, mark)
        over = mark == AFTER_END and life.ended is not None and row.time <= life.ended
        return LATE_ROW if over else _SAID[mark], None

    def _doubted(self, unit: Unit | None, row: Row, readings: bytes) -> str:
        """Why a row's time can hardly be right; empty where it can be, and where the row is there already."""
        doubts = self._keeper.doubts
        why = doubts.of_any(row.time, self._now)
        if why or self._manner.jump:
            return why
        life = self._memory.at(unit, row.time) if unit is not None and unit.lives else None
        why = doubts.of_traffic(life, row.time, self._now, backfill=self._manner.backfill)
        if not why or unit is None or life is None:
            return why
        key = (life.id, row.time)
        there = (self._fresh.get(key) or self._found.get(key)) == readings
        return "" if there or self._of_earlier(unit, row, readings) else why

    def _of_earlier(self, unit: Unit, row: Row, readings: bytes) -> bool:
        """Whether the same row is there of an earlier life: whoever sends at least once sends it again at any time."""
        return any(self._found.get((life.id, row.time)) == readings for life in self._memory.before(unit))

    def _mark(self, life: Life, time: float) -> int:
        memory = self._memory
        if life.state != RUNNING:
            # What is archived never changes: no row that comes after the end is part of the run.
            return AFTER_END
        if life.first is None:
            self._keeper.begin(self._connection, life, time)
        elif not memory.counted and time < life.first:
            if life.sent != NOTHING:
                return BEFORE_START
            # Nothing was answered yet, so that steps may still be counted from here.
            self._keeper.begin(self._connection, life, time)
        if self._manner.backfill:
            return BACKFILLED
        return LATE if memory.place(life, time) <= life.sent else USED

    def _note(self, life: Life, row: Row, readings: bytes, mark: int) -> None:
        """Let memory know of a row that is kept."""
        memory = self._memory
        life.last_time, life.last_received = max(life.last_time, row.time), self._now
        if mark != BEFORE_START:
            life.earliest = min(life.earliest, row.time)
        if mark in (USED, BACKFILLED):
            place = memory.place(life, row.time)
            if place > life.sent:
                memory.add(life, place, (row.time, readings), self._now, self._keeper.lateness, mark)
            if mark == BACKFILLED:
                self._filled.add(life.id)
        if life.state == RUNNING and mark in tables.IN_LIFE:
            end = self._keeper.end_by_rule(self._connection, life, row, self._flush)
            if end is not None:
                self._flush()
                self._keeper.close(self._connection, life, end.state, end.time, self._now)

    def _contradicting(self, life: Life, row: Row, there: bytes, sent: bytes) -> dict[str, Any]:
        memory = self._memory
        values: dict[str, Any] = {"life": life.id, "time": row.time, "received": self._now}
        values |= {"layout": self._keeper.store.layout, "readings": sent}
        if self._keeper.keep_conflict(self._connection, values):
            life.contradictions += 1
        columns = memory.schema.columns
        differing = [
            (name, old, new)
            for name, old, new in zip(columns, memory.unpack(there), row.values, strict=True)
            if not (old == new or (math.isnan(old) and math.isnan(new)))
        ]
        return {
            "unit": row.unit,
            "field": differing[0][0],
            "message": "contradicts the row that is kept of this unit and time",
            "stored": {name: old for name, old, _ in differing},
            "sent": {name: new for name, _, new in differing},
        }

    def _flush(self) -> None:
        bulk.add(self._connection, tables.rows, self._inserts)
        self._inserts = []
