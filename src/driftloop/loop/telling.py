"""Tells the retrainer how far a training is, while it runs and without holding it up."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from driftloop.protocol.progress import Progress

if TYPE_CHECKING:
    from driftloop.training.descent import Progress as Descent

EVERY_S = 1.0
"""Pause between two reports; what comes meanwhile replaces what has not been told."""


class Telling:
    """Use it as a context around the training, and give it to the training as its `progress`.

    `tell` sends a report. It is called on a thread of its own, since a retrainer that is slow or away must not slow
    the training down.
    """

    def __init__(
        self,
        tell: Callable[[Progress], object],
        run: str,
        step: str,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._run, self._step, self._every_s, self._clock = tell, run, step, every_s, clock
        self._newest: Progress | None = None
        self._first: tuple[float, int] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, descent: "Descent") -> None:
        """Take notice of how far the training is."""
        now = self._clock()
        if self._first is None or self._newest is None or descent.step < self._newest.done:
            # A training in full may follow a warm start that was given up.
            self._first = now, descent.step
        began, step = self._first
        left = None
        if descent.step > step:
            left = round((now - began) / (descent.step - step) * (descent.steps - descent.step), 1)
        self._newest = Progress(self._run, self._step, descent.step, descent.steps, descent.loss, left)

    def _work(self) -> None:
        told = None
        while True:
            last = self._ended.wait(self._every_s)
            if self._newest is not None and self._newest is not told:
                told = self._newest
                self._tell(told)
            if last:
                return
