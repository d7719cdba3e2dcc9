"""The newest answers of each unit, for who looks at the fleet; no record, and gone with the process.

A request only leaves its answers here; a thread sorts them by unit. Bounded twice: in units, of which the one that has
been silent for longest goes first, and in answers, of which the oldest goes first where its unit has a newer one.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from driftloop.protocol.answers import Answer
from driftloop.serving.requests import Prediction, Window

PAUSE_S = 0.2
"""Between two looks at what has arrived."""
UNITS = 20_000
ANSWERS = 200_000
OF_ONE_UNIT = 500
MOST_WAITING = 131_072
"""Answers that wait for the thread; beyond that the oldest is passed over."""


class _Said(NamedTuple):
    time: float
    unit: str
    cycle: float | None
    prediction: Prediction


class Recent:
    """The newest answers of at most `units` units, at most `answers` in all."""

    def __init__(self, *, units: int = UNITS, answers: int = ANSWERS, of_one_unit: int = OF_ONE_UNIT) -> None:
        self._units, self._answers, self._of_one = units, answers, of_one_unit
        self._held: OrderedDict[str, deque[Answer]] = OrderedDict()
        self._order: deque[str] = deque()
        """The unit of each held answer, oldest first; one that has left it meanwhile is passed over."""
        self._count = 0
        self._waiting: deque[_Said] = deque(maxlen=MOST_WAITING)
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recent", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def put(self, windows: Sequence[Window], predictions: Sequence[Prediction]) -> None:
        """Leave what units are named in one batch; never waits.

        Not the windows: their rows are thousands of objects, which would fill the memory until the thread comes.
        """
        now = time.time()
        self._waiting.extend(
            _Said(now, window.engine_id, window.cycle, said)
            for window, said in zip(windows, predictions, strict=True)
            if window.engine_id is not None
        )

    def newest(self) -> list[Answer]:
        """The newest answer of each unit."""
        self.settle()
        with self._guard:
            return [answers[-1] for answers in self._held.values()]

    def of(self, unit: str) -> list[Answer]:
        """What is remembered of one unit, oldest first."""
        self.settle()
        with self._guard:
            return list(self._held.get(unit, ()))

    def settle(self) -> None:
        """Sort in what waits."""
        with self._guard:
            while self._waiting:
                self._take(self._waiting.popleft())

    def _take(self, one: _Said) -> None:
        unit, said = one.unit, one.prediction
        step = None if one.cycle is None else int(one.cycle)
        held = self._held.setdefault(unit, deque())
        held.append(Answer(unit, one.time, step, said.rul, said.lower, said.upper, said.flags, said.model_version))
        self._order.append(unit)
        self._count += 1
        self._held.move_to_end(unit)
        if len(held) > self._of_one:
            held.popleft()
            self._count -= 1
        self._shrink()

    def _shrink(self) -> None:
        while len(self._held) > self._units:
            _, gone = self._held.popitem(last=False)
            self._count -= len(gone)
        while self._order and (self._count > self._answers or len(self._order) > 2 * self._answers):
            held = self._held.get(self._order.popleft())
            if held is not None and len(held) > 1 and self._count > self._answers:
                held.popleft()
                self._count -= 1

    def _work(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            self.settle()
