"""Looks at the platform while an experiment's traffic runs, and tells of marks as they happen."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from driftloop.errors import DriftloopError
from driftloop_bench.experiment.marks import Marks
from driftloop_bench.experiment.platform import Platform
from driftloop_bench.experiment.recording import Recording

POLL_S = 0.5
"""Marks are the times that events carry, so looking more often would cost processor time and change nothing."""


class Observer:
    """Told what happens while it happens; does nothing by itself."""

    def stage(self, text: str) -> None:
        """A new phase has begun."""

    def mark(self, name: str, seconds: float, marks: Marks) -> None:
        """Mark `name` was reached `seconds` after T0."""

    def tick(self, recording: Recording) -> None:
        """Some time has passed; called a few times a second."""


class Watch:
    """Collects the platform's events while traffic runs and reports marks as they happen."""

    def __init__(self, platform: Platform, recording: Recording, observer: Observer, after: int) -> None:
        self.observer = observer
        self._platform, self._recording, self._after = platform, recording, after
        self._told: set[str] = set()

    async def until(
        self, done: Callable[[Recording, Marks], str | None], timeout_s: float, traffic: asyncio.Task[None]
    ) -> str | None:
        """Look until `done` says why, or None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            if traffic.done():
                traffic.result()
                raise DriftloopError("the traffic stopped by itself")
            marks = await self.look()
            self.observer.tick(self._recording)
            if reason := done(self._recording, marks):
                return reason
        return None

    async def look(self) -> Marks:
        """Fetch new events; a retrainer that does not answer at the moment is asked again later."""
        with contextlib.suppress(DriftloopError):
            events, self._after = await self._platform.events(self._after)
            self._recording.events += events
        marks = self._recording.marks()
        for name in marks.told:
            value = getattr(marks, name)
            if marks.t0 is not None and value is not None and name not in self._told:
                self._told.add(name)
                self.observer.mark(name, value - marks.t0, marks)
        return marks
