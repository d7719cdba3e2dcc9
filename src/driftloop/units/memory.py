"""What is known of every unit, held in memory so that a row costs the same whatever the fleet's size.

It is a function of the store: `load` builds it, the committer's thread keeps it up, the predictor's takes what is due
from it, and whatever fails throws it away.
A life's newest rows (its tail) are kept as they are sent; what does not fit in memory is read again.
"""

import math
import struct
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import msgspec
import numpy as np

from driftloop.fleet import lives as life_rules
from driftloop.fleet import names
from driftloop.fleet.schema import Schema
from driftloop.units.tables import BACKFILLED, NOTHING
from driftloop.units.tails import Tail

RUNNING, FAILED, REMOVED, OVERHAULED = "running", "failed", "removed", "overhauled"
MOST_PENDING = 256
"""Steps of a life that wait for their answer in memory; more are read from the store when these are answered."""
MOST_PENDING_IN_ALL = 100_000
BACKFILL_PAUSE_S = 10.0
"""A backfill is over for a unit, and its newest step is predicted, when nothing has come for so long."""


class Latest(msgspec.Struct):
    """A life's newest answer."""

    place: int
    step: int
    time: float
    rul: float | None
    low: float | None
    high: float | None
    flags: list[str]
    version: str


@dataclass(slots=True)
class Pending:
    """The rows of a step that is not answered yet."""

    rows: list[tuple[float, bytes]]
    """Time and readings."""
    due: float
    received: float
    backfilled: bool = False


@dataclass(slots=True)
class Life:
    """One life of a unit, in memory."""

    id: int
    unit: "Unit"
    number: int
    state: str = RUNNING
    first: float | None = None
    """Where steps are counted from: 0 for a counter of steps, else the time of the first row."""
    first_step: int = 0
    """The step there, as people count."""
    installed: float | None = None
    age: int | None = None
    youth: str = "unknown"
    """How the age is known: `installed`, `age`, `counter`; or `unknown`."""
    earliest: float = math.inf
    last_time: float = -math.inf
    last_received: float = 0.0
    ended: float | None = None
    sent: int = NOTHING
    """Up to this place every step that had rows was sent to be predicted."""
    pending: dict[int, Pending] = field(default_factory=dict)
    behind: bool = False
    """There are more steps to be answered in the store than in memory."""
    due: float = math.inf
    tail: Tail | None = None
    latest: Latest | None = None
    contradictions: int = 0
    recent: deque[tuple[float, float]] | None = None
    """Newest readings that the end's threshold is for."""


@dataclass(slots=True)
class Unit:
    """A unit and its lives, oldest first."""

    id: int
    name: str
    lives: list[Life] = field(default_factory=list)

    @property
    def life(self) -> Life:
        """The newest one."""
        return self.lives[-1]


class Memory:
    """Every unit; `lock` is held for whatever looks at more than one field, statements of the store among it, but never
    while a commit is waited for."""

    def __init__(self, schema: Schema, tail_bytes: int) -> None:
        self.schema, self._most_bytes = schema, tail_bytes
        self.lock = threading.RLock()
        self.wake = threading.Event()
        """Set where something became due."""
        self.counted = schema.time.kind == "counter" and schema.time.every is None
        self._pack = struct.Struct(f"<{schema.n_columns}d")
        self._sent = struct.Struct(f"<{schema.n_columns}f")
        self.nothing = self.as_sent((math.nan,) * schema.n_columns)
        """A row without values, as it is sent."""
        self.reading = 0
        """How often it was read from the store: what was asked of it before says nothing of it now."""
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.known = False
        """Whether it is what the store says; not while the store cannot be read."""
        self.reading += 1
        self.units: dict[str, Unit] = {}
        self.lives: dict[int, Life] = {}
        self.due: list[tuple[float, int]] = []
        self.seq = 0
        """The number of the newest answer."""
        self.last_life = 0
        """The number of the newest life; whoever was erased keeps its own."""
        self.pending = 0
        self._tails: OrderedDict[int, int] = OrderedDict()
        self._bytes = 0

    # What a row is.

    def pack(self, values: tuple[float, ...]) -> bytes:
        """The readings of a row as they are kept."""
        return self._pack.pack(*values)

    def as_sent(self, values: Sequence[float]) -> bytes:
        """The readings of a step as they are sent to the server, which computes with float32."""
        return self._sent.pack(*values)

    def unpack(self, readings: bytes) -> tuple[float, ...]:
        """The same as numbers."""
        return self._pack.unpack(readings)

    def place(self, life: Life, time: float) -> int:
        """The step of a time in a life, counted from its first row (of a counter, the counter itself)."""
        assert life.first is not None
        if self.counted:
            return int(time)
        return int(life_rules.step_index(np.float64(time), life.first, self.schema))  # type: ignore[arg-type]

    def begin(self, life: Life, time: float) -> None:
        """Count the life's steps from this row, its first, by what is known of its age then."""
        width = self.schema.time.width
        life.first = 0.0 if self.counted else time
        index = 0 if self.counted else life_rules.first_index(time, self.schema)
        if life.youth in ("installed", "age"):
            since = 0
            if life.installed is not None and self.schema.time.kind == "timestamp":
                since = max(0, math.floor((time - life.installed) / width + 0.5))
            at = int(time) if self.counted else 0
            life.first_step = (life.age or 0) + 1 + since - at
        elif self.schema.time.kind == "timestamp" or life.youth == "said_unknown":
            life.first_step = index
        else:
            life.first_step, life.youth = index, "counter"

    def history_from(self, life: Life) -> int | None:
        """The step of its life at which a unit's rows begin; None where its age is not known, or they were deleted."""
        if life.first is None or life.earliest == math.inf or life.youth in ("unknown", "said_unknown"):
            return None
        return life.first_step + self.place(life, life.earliest)

    def no_youth(self, life: Life) -> bool:
        """Whether the rows of a life do not begin with it."""
        known = self.history_from(life)
        return known is None or known > 1

    # Steps that wait.

    def add(self, life: Life, place: int, row: tuple[float, bytes], now: float, lateness: float, mark: int) -> None:
        """Let a step wait for its answer, or a row of a step that does. Of a backfill only the newest step waits."""
        known = life.pending.get(place)
        if mark == BACKFILLED:
            due = now + max(lateness, BACKFILL_PAUSE_S)
            older = [at for at, one in life.pending.items() if one.backfilled and at < place]
            if any(one.backfilled and at > place for at, one in life.pending.items()):
                return
            for at in older:
                self._take(life, at)
        elif known is None and self._full(life):
            life.behind = True
            return
        else:
            due = self._due(life, place, now, lateness)
        if known is None:
            life.pending[place] = Pending([row], due, now, mark == BACKFILLED)
            self.pending += 1
        else:
            known.rows.append(row)
            known.due, known.received = due, now
            # With one row of its own the step is no mere history.
            known.backfilled = known.backfilled and mark == BACKFILLED
        if self.counted:
            self._follow(life, place)
        self.settle(life)

    def _due(self, life: Life, place: int, now: float, lateness: float) -> float:
        """When a step whose newest row came now is predicted."""
        if self.counted:
            # A step that follows the one before waits for nothing else, and behind a gap for what is missing there.
            before = life.pending.get(place - 1)
            if before is not None:
                return now if before.backfilled else max(now, before.due)
            first = life.sent == NOTHING and all(place <= at for at in life.pending)
            return now if first or NOTHING < life.sent >= place - 1 else now + lateness
        if self.schema.time.kind == "timestamp" and life.first is not None:
            return max(now, life.first + (place + 0.5) * self.schema.time.width) + lateness
        return now + lateness

    def _follow(self, life: Life, place: int) -> None:
        """Let the steps that waited for this one wait no longer than it does."""
        due = life.pending[place].due
        while (after := life.pending.get(place + 1)) is not None and after.due > due and not after.backfilled:
            after.due = due
            place += 1

    def pass_over(self, life: Life) -> bool:
        """Pass over all steps of a backfill but the newest; whether that changes from where answers go on."""
        newest = max((at for at, one in life.pending.items() if one.backfilled), default=NOTHING)
        if newest == NOTHING or min(life.pending) < newest or newest - 1 <= life.sent:
            return False
        life.sent = newest - 1
        self.forget_tail(life)
        return True

    def _take(self, life: Life, place: int) -> None:
        del life.pending[place]
        self.pending -= 1

    def pop_due(self) -> tuple[float, int]:
        """When a life was to be due, and its number; it may be due at another time by now."""
        return heappop(self.due)

    def put_back(self, life: Life) -> None:
        """Let a life that was popped be due as it was."""
        heappush(self.due, (life.due, life.id))

    def _full(self, life: Life) -> bool:
        waiting = len(life.pending)
        return life.behind or waiting >= MOST_PENDING or (self.pending >= MOST_PENDING_IN_ALL and waiting > 0)

    def take(self, life: Life, place: int) -> Pending:
        """A step that waited, which is answered now."""
        found = life.pending[place]
        self._take(life, place)
        return found

    def settle(self, life: Life) -> None:
        """Note when the life is due next."""
        due = min((one.due for one in life.pending.values()), default=0.0 if life.behind else math.inf)
        if due != life.due:
            life.due = due
            if due < math.inf:
                heappush(self.due, (due, life.id))
                self.wake.set()

    # Tails.

    def keep_tail(self, life: Life, tail: Tail) -> None:
        """Keep a life's newest rows, and forget those of lives that were quiet for longest where memory is full."""
        self._bytes += tail.size - self._tails.pop(life.id, 0)
        self._tails[life.id] = tail.size
        life.tail = tail
        while self._bytes > self._most_bytes and len(self._tails) > 1:
            other, gone = self._tails.popitem(last=False)
            self._bytes -= gone
            if other in self.lives:
                self.lives[other].tail = None

    def forget_tail(self, life: Life) -> None:
        """Read the life's newest rows again before the next answer."""
        self._bytes -= self._tails.pop(life.id, 0)
        life.tail = None

    # Units.

    def unit(self, name: str) -> Unit | None:
        """The unit of a name, however it is typed; None where there is none. A store of an earlier version may have
        one under a name that would be written otherwise today."""
        return self.units.get(name) or self.units.get(names.unit(name))

    def add_unit(self, unit: Unit) -> None:
        """Take a unit."""
        self.units[unit.name] = unit

    def add_life(self, life: Life) -> None:
        """Take a life, the unit's newest."""
        life.unit.lives.append(life)
        self.lives[life.id] = life

    def remove(self, unit: Unit) -> None:
        """Forget a unit."""
        for life in list(unit.lives):
            self.drop(life)
        self.units.pop(unit.name, None)

    def drop(self, life: Life) -> None:
        """Forget a life."""
        self.forget_pending(life)
        self.forget_tail(life)
        self.lives.pop(life.id, None)
        life.unit.lives.remove(life)

    def forget_pending(self, life: Life) -> None:
        """Let none of a life's steps wait in memory."""
        self.pending -= len(life.pending)
        life.pending.clear()

    def before(self, unit: Unit) -> Sequence[Life]:
        """Lives before the newest one whose rows may have the times of its own: where times are no clock's."""
        return () if self.schema.time.kind == "timestamp" else unit.lives[:-1]

    def follows(self, life: Life, time: float) -> bool:
        """Whether a row is the next one of its life, or one with which a life begins."""
        newest, width = life.last_time, self.schema.time.width
        return newest < time <= newest + width if newest > -math.inf else time <= width

    def at(self, unit: Unit, time: float) -> Life:
        """The life that a row of this time belongs to: by the time where it is a clock's, else the newest one."""
        if self.schema.time.kind == "timestamp":
            for life in unit.lives:
                if life.ended is not None and time <= life.ended:
                    return life
        return unit.life
