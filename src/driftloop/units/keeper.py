"""Who keeps units and lives: in the store and in memory alike, on the committer's thread."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop import durable
from driftloop.fleet import lives as life_rules
from driftloop.fleet import names
from driftloop.settings import Settings
from driftloop.units import loading, tables
from driftloop.units.doubts import Doubts
from driftloop.units.memory import FAILED, REMOVED, RUNNING, Life, Memory, Unit
from driftloop.units.rows import Row
from driftloop.units.store import Store, insert, keep_cursor
from driftloop.units.tables import AFTER_END, LATE, USED

WAITING = "waiting"
"""Of a life's run: it is to be archived."""
BY_RULE = "the fleet file's end rule"


class End(NamedTuple):
    """Where a row says that a life has ended, and how."""

    time: float
    state: str


class Keeper:
    """Keeps the units of one store."""

    def __init__(self, store: Store, memory: Memory, settings: Settings) -> None:
        self.store, self.memory = store, memory
        self.lateness, self.skew = settings.units_lateness_s, settings.units_skew_s
        self.doubts = Doubts(settings)
        self.columns = store.columns()
        self._end = settings.schema.end

    def rebuild(self) -> None:
        """Read everything anew; where that cannot be, nothing is known."""
        with self.memory.lock:
            self.memory.clear()
            with self.store.read() as connection:
                loading.load(connection, self.memory, self.columns, self.lateness)
            self.memory.known = True
            self.memory.wake.set()

    def converted(self, row: Any) -> bytes:
        """The readings of a stored row, in the order of today's columns."""
        return loading.converted(row, self.columns, self.memory)

    # Units and lives.

    def new_unit(self, connection: Connection, name: str, now: float, *, empty: bool = False) -> Unit:
        """Keep a unit that nobody spoke of before, with a life (unless it is to be `empty`)."""
        unit = Unit(_key(connection.execute(sa.insert(tables.units).values(name=name, created=now))), name)
        self.memory.add_unit(unit)
        if not empty:
            self.new_life(connection, unit)
        return unit

    def new_life(self, connection: Connection, unit: Unit, **known: Any) -> Life:
        """Begin another life of a unit; `known` are columns of it."""
        number, self.memory.last_life = len(unit.lives) + 1, self.memory.last_life + 1
        values: dict[str, Any] = {
            "id": self.memory.last_life,
            "unit": unit.id,
            "number": number,
            "state": RUNNING,
            "youth": "unknown",
        }
        values |= known
        connection.execute(sa.insert(tables.lives).values(values))
        life = Life(self.memory.last_life, unit, number)
        life.youth, life.installed, life.age = values["youth"], values.get("installed"), values.get("age")
        self.memory.add_life(life)
        return life

    def begin(self, connection: Connection, life: Life, time: float) -> None:
        """Count the steps of a life from a row at this time."""
        waiting = [(row, one) for one in life.pending.values() for row in one.rows]
        self.memory.forget_pending(life)
        self.memory.begin(life, time)
        for row, one in waiting:
            mark = tables.BACKFILLED if one.backfilled else USED
            self.memory.add(life, self.memory.place(life, row[0]), row, one.received, self.lateness, mark)
        self.write(connection, life, first=life.first, first_step=life.first_step, youth=life.youth)

    def write(self, connection: Connection, life: Life, **values: Any) -> None:
        """Change columns of a life."""
        connection.execute(sa.update(tables.lives).where(tables.lives.c.id == life.id).values(values))

    def backfilled(self, connection: Connection, life: Life) -> None:
        """Write down from where answers go on, behind rows that were no traffic."""
        if self.memory.pass_over(life):
            self.write(connection, life, skipped=life.sent)

    def read_on(self, connection: Connection, life: Life) -> None:
        """Let steps wait in memory again that only the store has."""
        with self.memory.lock:
            # Where the store was read anew meanwhile, there is another object of this life.
            if self.memory.lives.get(life.id) is life:
                loading.read_pending(connection, self.memory, life, self.columns, self.lateness)
                life.due = np.inf
                self.memory.settle(life)

    def keep_numbers(self, connection: Connection) -> None:
        """Before lives or answers are deleted: give none of their numbers out again."""
        keep_cursor(connection, tables.GIVEN_LIVES, self.memory.last_life)
        keep_cursor(connection, tables.GIVEN_ANSWERS, self.memory.seq)

    def keep_conflict(self, connection: Connection, values: dict[str, Any]) -> bool:
        """Keep a row that contradicts another one; True where it is new."""
        added = insert(connection, tables.conflicts).values(values).on_conflict_do_nothing()
        return bool(connection.execute(added).rowcount)

    # Ends.

    def end_by_rule(self, connection: Connection, life: Life, row: Row, flush: Callable[[], None]) -> End | None:
        """Where the fleet file's rules say, with this row, that the life is over."""
        if row.out:
            return End(row.time, REMOVED)
        if self._end.rule == "column":
            return End(row.time, FAILED) if row.ended else None
        if self._end.rule != "threshold" or row.compared is None:
            return None
        if life.recent is None:
            flush()
            life.recent = self._recent(connection, life)
        else:
            life.recent.append((row.time, row.compared))
        if not life_rules.beyond(row.compared, self._end):
            return None
        newest = sorted(life.recent)
        time, compared = np.array([one[0] for one in newest]), np.array([one[1] for one in newest])
        nothing = np.zeros(len(newest), dtype=np.int64)
        rows = life_rules.Rows(np.empty((len(newest), 0)), nothing, nothing, time, compared, None)
        kept, ended = life_rules.end_of(rows, self._end)
        return End(float(time[kept - 1]), FAILED) if ended else None

    def lives_on(self, life: Life, row: Row) -> bool:
        """Whether, by the fleet file, this row is the first one of a unit that has failed and was repaired."""
        if self._end.after != "new_life" or life.state != FAILED or life.ended is None or row.time <= life.ended:
            return False
        return not (row.ended or (row.compared is not None and life_rules.beyond(row.compared, self._end)))

    def _recent(self, connection: Connection, life: Life) -> deque[tuple[float, float]]:
        rows, most = tables.rows, 2 * self._end.needed[1]
        wanted = sa.select(rows.c.time, rows.c.compared).where(
            rows.c.life == life.id, rows.c.mark.in_(tables.IN_LIFE), rows.c.compared.is_not(None)
        )
        found = connection.execute(wanted.order_by(rows.c.time.desc()).limit(most)).all()
        return deque(((one.time, one.compared) for one in reversed(found)), maxlen=most)

    def close(
        self,
        connection: Connection,
        life: Life,
        state: str,
        time: float | None,
        now: float,
        event: dict[str, Any] | None = None,
    ) -> int:
        """End a life behind its last row at or before `time`, by default its newest; returns the event's number.

        Its run waits to be archived, and every answer that was given gets its label where the unit has failed. `event`
        holds columns of the event that says so; without one it is the fleet file's rule.
        """
        rows, predictions = tables.rows, tables.predictions
        of_life = rows.c.mark.in_(tables.IN_LIFE) & (rows.c.life == life.id)
        wanted = sa.select(sa.func.max(rows.c.time)).where(of_life)
        last = connection.execute(wanted if time is None else wanted.where(rows.c.time <= time)).scalar()
        closings = sa.select(tables.lives.c.closings).where(tables.lives.c.id == life.id)
        before = int(connection.execute(closings).scalar_one())
        values: dict[str, Any] = {"state": state, "closed": now, "closings": before + 1, "ended": last}
        if last is not None:
            place = self.memory.place(life, last)
            beyond = of_life & (rows.c.time > last)
            connection.execute(sa.update(rows).where(beyond).values(mark=AFTER_END))
            values |= {"archive": WAITING, "run_id": self._run_id(connection, life, before)}
            if state == FAILED:
                true = sa.case((predictions.c.place <= place, place - predictions.c.place))
                connection.execute(sa.update(predictions).where(predictions.c.life == life.id).values(true_rul=true))
            for at in [at for at in life.pending if at > place]:
                self.memory.take(life, at)
        self.write(connection, life, **values)
        life.state, life.ended = state, last
        said = {"kind": state, "time": last, "note": BY_RULE, "who": "driftloop", "happened": durable.now()}
        said |= {"unit": life.unit.id, "life": life.id, "recorded": now, **(event or {})}
        self.memory.settle(life)
        return _key(connection.execute(sa.insert(tables.events).values(said)))

    def _run_id(self, connection: Connection, life: Life, closings: int) -> str:
        """The id of a life's run: the unit's own for its first life; never one that was used before, nor one like those
        of a unit that has another name by now: who takes this run back would take that one back."""
        name, lives = names.run_id(life.unit.name), tables.lives
        alike = (lives.c.run_id == name) | lives.c.run_id.startswith(f"{name}.", autoescape=True)
        others = sa.select(lives.c.run_id).where(lives.c.unit != life.unit.id, alike)
        if any(names.unit_of(one) == name for one in connection.execute(others).scalars()):
            name = f"{name[:100]}.of{life.unit.lives[0].id}"
        own = names.run_id(name, life.number)
        return f"{own}.again{closings}" if closings else own

    def reopen(self, connection: Connection, life: Life) -> None:
        """Let a life go on that ended by mistake."""
        rows, predictions = tables.rows, tables.predictions
        values = {"state": RUNNING, "closed": None, "ended": None, "archive": "", "run_id": None, "note": None}
        self.write(connection, life, **values)
        connection.execute(sa.update(predictions).where(predictions.c.life == life.id).values(true_rul=None))
        life.state, life.ended, life.recent = RUNNING, None, None
        after = sa.select(rows).where(rows.c.life == life.id, rows.c.mark == AFTER_END).order_by(rows.c.time)
        came = connection.execute(after).all()
        if came and life.first is None:
            # It had ended before its first row came.
            self.begin(connection, life, came[0].time)
        for one in came:
            place = self.memory.place(life, one.time)
            mark = USED if place > life.sent else LATE
            key = (rows.c.life == life.id) & (rows.c.time == one.time)
            connection.execute(sa.update(rows).where(key).values(mark=mark))
        self.memory.forget_pending(life)
        if life.first is not None:
            self.read_on(connection, life)


def _key(result: Any) -> int:
    return int(result.inserted_primary_key[0])
