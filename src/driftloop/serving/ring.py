"""The ring: the newest whole window of each of the units that asked last, for first aid without labels.

A request only leaves its rows here; a thread makes numbers of them, so that nobody waits for it. The rows of a window
are rows of one unit, never put together from several requests. Bounded in units, in rows of a window and in bytes: the
unit that has been silent for longest goes first. A request that does not name its unit leaves nothing.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from driftloop.protocol.windows import UnitWindow
from driftloop.serving.requests import Rows, Window

PAUSE_S = 0.2
"""Between two looks at what has arrived."""
REFRESH_S = 1.0
"""A unit's window is not taken again sooner: a busy server would make numbers of every row that it is sent."""
MOST_WAITING = 1024
"""Windows that wait for the thread; what is more is passed over, the unit's next one comes."""


class _Taken(NamedTuple):
    unit: str
    step: int | None
    at: float
    rows: Rows


class _Held(NamedTuple):
    step: int | None
    at: float
    rows: NDArray[np.float32]


class Ring:
    """The newest windows of at most `units` units, of each at most `rows` rows, in at most `most_bytes` in all."""

    def __init__(self, *, units: int, rows: int, most_bytes: int) -> None:
        self._units, self._rows, self._most_bytes = units, rows, most_bytes
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._bytes = 0
        self._due: dict[str, float] = {}
        """When each unit's window may be taken again; asked by requests, without the lock."""
        self._waiting: deque[_Taken] = deque(maxlen=MOST_WAITING)
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ring", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def put(self, windows: Sequence[Window]) -> None:
        """Take the windows of units that are due; never waits."""
        now = time.monotonic()
        for window in windows:
            unit = window.engine_id
            if unit is None or now < self._due.get(unit, 0.0) or len(self._waiting) >= MOST_WAITING:
                continue
            self._due[unit] = now + REFRESH_S
            step = None if window.cycle is None else int(window.cycle)
            self._waiting.append(_Taken(unit, step, now, window.rows))

    def windows(self, after: str, most: int) -> tuple[list[UnitWindow], str | None]:
        """Up to `most` windows of units behind `after`, by their names, and what begins the next page, if any does."""
        self.settle()
        now = time.monotonic()
        with self._guard:
            names = sorted(unit for unit in self._held if unit > after)
            chosen = [(unit, self._held[unit]) for unit in names[:most]]
        found = [UnitWindow(unit, held.rows, held.step, now - held.at) for unit, held in chosen]
        return found, found[-1].unit if len(names) > most else None

    def of(self, unit: str) -> UnitWindow | None:
        """The newest window of one unit; None where none is held."""
        self.settle()
        with self._guard:
            held = self._held.get(unit)
        return None if held is None else UnitWindow(unit, held.rows, held.step, time.monotonic() - held.at)

    def settle(self) -> None:
        """Make numbers of what waits."""
        while self._waiting:
            try:
                taken = self._waiting.popleft()
            except IndexError:  # the other thread was quicker
                return
            self._hold(taken)

    def _hold(self, taken: _Taken) -> None:
        # None, a missing value, becomes NaN.
        rows = np.array(taken.rows[-self._rows :], dtype=np.float32)
        with self._guard:
            known = self._held.pop(taken.unit, None)
            self._bytes += rows.nbytes - (known.rows.nbytes if known else 0)
            self._held[taken.unit] = _Held(taken.step, taken.at, rows)
            while self._held and (len(self._held) > self._units or self._bytes > self._most_bytes):
                unit, gone = self._held.popitem(last=False)
                self._bytes -= gone.rows.nbytes
                self._due.pop(unit, None)

    def _work(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            self.settle()
