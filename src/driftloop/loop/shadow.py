"""The shadow: before a promotion the challenger answers what the champion was asked, off the path of the answer.

Servers remember the newest whole window of each unit (driftloop.serving.ring). A thread reads them, asks both models
side by side, and the report is judged by driftloop.loop.judge.shadow. No request waits for it: it begins when the
challenger is registered, while the gate still judges, and ends after so many answers or seconds, whichever is first.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from driftloop.errors import BundleError, DriftloopError
from driftloop.loop import background
from driftloop.loop.judge import shadow as judge
from driftloop.loop.judge.shadow import Report, Said
from driftloop.model.answers import Model, open_model
from driftloop.model.follower import Bundles
from driftloop.model.registry import Registry
from driftloop.model.signature import INPUT, OUTPUTS
from driftloop.protocol.windows import UnitWindow, WindowsUnavailable

LOOK_S = 0.2
"""Pause between two looks at what has arrived."""
EARLIER = 4
"""Rows before its newest one that a unit is asked about too when it is seen for the first time: each was the newest of
a request. Else a recovery would wait until a hundred requests have come."""
GRACE_S = 3.0
"""How long a shadow may take beyond its time: servers or registry may answer slowly."""

log = logging.getLogger(__name__)

Read = Callable[[], Sequence[UnitWindow]]


class _Answer(NamedTuple):
    champion: tuple[float, float, float, float]
    challenger: tuple[float, float, float, float]
    """RUL, lower and upper end, seconds."""
    regime: int
    step: int


class Shadow:
    """The shadow of one challenger at a time; `report` begins it where `begin` has not."""

    def __init__(
        self,
        registry: Registry,
        folder: Path,
        read: Read,
        *,
        answers: int,
        seconds: float,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        """`ended` is called, on a thread of the shadow's own, when there is something to report."""
        self._bundles = Bundles(registry, folder, keep=2)
        self._read, self._answers, self._seconds, self._ended = read, answers, seconds, ended
        self._current: _Run | None = None

    @property
    def on(self) -> bool:
        """Whether there is a shadow at all."""
        return self._answers > 0

    def begin(self, champion: str, challenger: str) -> None:
        """Begin in the background, unless this one has begun already."""
        if self.on and (self._current is None or self._current.of != (champion, challenger)):
            self.end()
            self._current = _Run(
                self._bundles, self._read, champion, challenger, self._answers, self._seconds, self._ended
            )
            self._current.start()

    def report(self, champion: str, challenger: str) -> Report | None:
        """How it did; None while it goes on. Raises DriftloopError where the registry is away."""
        self.begin(champion, challenger)
        run = self._current
        assert run is not None
        found = run.outcome()
        if found is not None:
            self.end()
        if isinstance(found, DriftloopError):
            raise found
        return found

    def end(self) -> None:
        """Forget what goes on; its thread ends by itself."""
        if self._current is not None:
            self._current.stopping.set()
        self._current = None


class _Run(threading.Thread):
    """One challenger's shadow."""

    def __init__(
        self,
        bundles: Bundles,
        read: Read,
        champion: str,
        challenger: str,
        answers: int,
        seconds: float,
        ended: Callable[[], object],
    ) -> None:
        super().__init__(name="shadow", daemon=True)
        self.of, self.stopping = (champion, challenger), threading.Event()
        self._bundles, self._read, self._most, self._seconds, self._ended = bundles, read, answers, seconds, ended
        self._began = time.monotonic()
        self._found: Report | DriftloopError | None = None

    def outcome(self) -> Report | DriftloopError | None:
        if self._found is None and time.monotonic() > self._began + self._seconds + GRACE_S:
            return Report(0, round(self._seconds + GRACE_S, 3), note="it could not be finished in its time")
        return self._found

    def run(self) -> None:
        background.give_way()
        try:
            champion, challenger = self._open()
            self._found = self._compare(champion, challenger)
        except BundleError as error:
            self._found = self._broken(f"its bundle cannot be used: {error}")
        except DriftloopError as error:
            self._found = error
        except Exception as error:
            # A challenger that cannot even be asked must not be promoted.
            log.exception("the shadow failed")
            self._found = self._broken(f"{type(error).__name__}: {error}")
        self._ended()

    def _broken(self, reason: str) -> Report:
        return Report(0, round(self._passed(), 3), False, [reason], broken=True)

    def _passed(self) -> float:
        return time.monotonic() - self._began

    def _open(self) -> tuple[Model, Model]:
        with self._bundles.alone():
            models = [open_model(self._bundles.fetch(version)) for version in self.of]
            self._bundles.prune()
        return models[0], models[1]

    def _compare(self, champion: Model, challenger: Model) -> Report:
        found: list[_Answer] = []
        seen: set[tuple[str, int | None, bytes]] = set()
        note = None
        while True:
            try:
                for window in self._new(seen):
                    found.append(_answer(champion, challenger, window))
                    if len(found) >= self._most or self.stopping.is_set():
                        break
                note = None
            except WindowsUnavailable as error:
                note = f"requests cannot be read: {error}"
            left = self._seconds - self._passed()
            if len(found) >= self._most or left <= 0 or self.stopping.wait(min(LOOK_S, left)):
                return _judge(found, challenger.cap, self._passed(), note)

    def _new(self, seen: set[tuple[str, int | None, bytes]]) -> list[UnitWindow]:
        """The windows of requests of the last seconds that have not been answered here yet, and behind them what their
        units had sent before."""
        known = {unit for unit, _, _ in seen}
        new = []
        for window in self._read():
            key = (window.unit, window.step, window.rows[-1:].tobytes())
            if len(window.rows) and window.age_s <= self._seconds + self._passed() and key not in seen:
                seen.add(key)
                new.append(window)
        first = [window for window in new if window.unit not in known]
        return new + [
            _before(window, back) for back in range(1, EARLIER + 1) for window in first if len(window.rows) > back
        ]


def _before(window: UnitWindow, back: int) -> UnitWindow:
    """The window as it was so many rows before."""
    return replace(window, rows=window.rows[:-back], step=None if window.step is None else window.step - back)


def _answer(champion: Model, challenger: Model, window: UnitWindow) -> _Answer:
    """Both models' answers to a window; each is asked twice, in turn, and its quicker answer is timed."""
    first = [_ask(model, window) for model in (champion, challenger)]
    second = [_ask(model, window) for model in (champion, challenger)]
    said = [(*one[0], min(one[1], other[1])) for one, other in zip(first, second, strict=True)]
    step = window.step if window.step is not None else len(window.rows)
    return _Answer(said[0], said[1], first[1][2], step)


def _ask(model: Model, window: UnitWindow) -> tuple[tuple[float, float, float], float, int]:
    """RUL, lower and upper end; the seconds of this thread, which nothing else that runs here lengthens; the regime."""
    rows: Any = np.ascontiguousarray(window.rows[None, -model.window :], dtype=np.float32)
    began = time.thread_time()
    rul, lower, upper, regime, _ = model.session.run(list(OUTPUTS), {INPUT: rows})
    return (float(rul[0]), float(lower[0]), float(upper[0])), time.thread_time() - began, int(regime[0])


def _judge(found: Sequence[_Answer], cap: float, seconds: float, note: str | None) -> Report:
    said = [
        Said(*np.array([getattr(one, name) for one in found], dtype=np.float64).reshape(-1, 4).T)
        for name in ("champion", "challenger")
    ]
    regime = np.array([one.regime for one in found], dtype=np.int64)
    step = np.array([one.step for one in found], dtype=np.int64)
    return judge.judge(said[0], said[1], regime, step, cap, seconds, note)
