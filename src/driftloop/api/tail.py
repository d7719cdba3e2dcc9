"""The newest events of one fleet, followed by one thread for all who listen, and what of its state has changed.

A listener has a place of its own, the number of the last event that it has seen. What is held here is read from here;
what is older is asked of the retrainer, so that nobody misses an event, however long the connection was cut.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.protocol.events import Event

log = logging.getLogger(__name__)

HELD = 2000
PAUSE_S = 0.5
"""Between two looks at the retrainer."""
SILENT_S = 30.0
"""A watch says every few seconds what it sees: of one that was silent for so long nobody knows what it would say."""


class Tail:
    """Follows a retrainer; `ask` puts a GET to it and raises DriftloopError where it does not answer."""

    def __init__(self, ask: Callable[..., dict[str, Any]]) -> None:
        self._ask = ask
        self._held: deque[Event] = deque(maxlen=HELD)
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tail", daemon=True)
        self.last = 0
        """Number of the newest event that is known; 0 before the first."""
        self.known = False
        """Whether the retrainer has ever answered."""
        self.state: dict[str, Any] | None = None
        """What the retrainer said of itself last; None where it does not answer."""
        self._said: str | None = None
        self._heard = 0.0

    def start(self) -> None:
        """Start to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it may take as long as one question."""
        self._stopping.set()

    def after(self, seq: int) -> list[Event]:
        """The events behind number `seq`, oldest first, a page of them; raises DriftloopError where they are too old to
        be held here and the retrainer does not answer."""
        if seq >= self.last:
            return []
        with self._guard:
            if self._held and self._held[0]["seq"] <= seq + 1:
                return [event for event in self._held if event["seq"] > seq]
        found: list[Event] = self._ask("/events", after=seq)["events"]
        return found

    def look(self) -> None:
        """One look: new events, and the state where anything may have changed."""
        status = self._ask("/status")
        last = int(status.get("last_event") or 0)
        if last < self.last:
            # Another store than before: its numbers begin anew.
            with self._guard:
                self._held.clear()
            self.last = 0
        if not self.last and last > HELD:
            self.last = last - HELD
        while self.last < last:
            events: list[Event] = self._ask("/events", after=self.last)["events"]
            if not events:
                break
            with self._guard:
                self._held.extend(events)
            said = [event for event in events if event.get("kind") == "verdict" and "verdict" in event]
            if said:
                self._hear(said[-1])
            self.last = int(events[-1]["seq"])
        self.state, self.known = status, True

    @property
    def silent(self) -> bool:
        """Whether the watch has said nothing for longer than it does where it works."""
        return self._said is not None and time.monotonic() - self._heard > SILENT_S

    @property
    def verdict(self) -> str | None:
        """What the watch says now; None where that is not known, or not any more."""
        return None if self.silent else self._said

    def _hear(self, event: Event) -> None:
        # What was there already when it was first looked at may be old; later on clocks need not agree.
        age = 0.0 if self.known else time.time() - durable.parse_time(str(event["time"])).timestamp()
        self._said, self._heard = str(event["verdict"]), time.monotonic() - max(0.0, age)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except (DriftloopError, KeyError, TypeError, ValueError) as error:
                if self.state is not None:
                    log.warning("events cannot be followed for now: %s", error)
                    self.state = None
            self._stopping.wait(PAUSE_S)
