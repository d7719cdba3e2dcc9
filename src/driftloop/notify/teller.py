"""Tells people, on a thread of its own that nothing waits for: from the log, at least once, with retries and an end.

What is to be told is kept with the number of the newest event that was looked at, so that a kill loses nothing; one
between a delivery and its note tells it twice. A cause that was told of is quiet for a while; what happens meanwhile
is told together at its end. What cannot be delivered is tried again, later and later, and in the end given up, which
is an event and stands in the status.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.notify import delivery, messages
from driftloop.notify.messages import Kept, Notice
from driftloop.protocol.events import Event

KEPT = "notify"
"""Its name in the store."""
LOOK_S = 1.0
GATHER_S = 5.0
"""How long a new message waits for what follows at once, such as first aid."""
FIRST_RETRY_S, RETRY_FACTOR, LONGEST_RETRY_S = 10.0, 2.0, 3600.0
MOST_TRIES = 20
"""Then it is given up: about eleven hours."""

log = logging.getLogger(__name__)


class Log(Protocol):
    """The store, as far as it is asked here."""

    @property
    def last(self) -> int:
        """Number of the newest event."""
        ...

    def read(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events after a number, oldest first."""
        ...

    def kept(self, name: str, kind: type[Kept]) -> Kept | None:
        """What is kept under a name."""
        ...

    def change(self) -> AbstractContextManager[Any]:
        """A change that is kept when the block ends."""
        ...


class Teller:
    """Tells of one retrainer's events. `turn` is one look, `work` looks until `stop`."""

    def __init__(
        self,
        store: Log,
        path: Path | None,
        fleet: str,
        docs: str,
        *,
        cool_down_s: float,
        muted: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` is the file of addresses, None where nobody is told; `muted` says whether a cause is."""
        self._store, self._path, self._fleet, self._docs = store, path, fleet, docs
        self._cool_down_s, self._muted, self._clock = cool_down_s, muted, clock
        self._stopping = threading.Event()
        self._due: dict[int, float] = {}
        # What happened before anybody was to be told is history.
        self.state = store.kept(KEPT, Kept) or Kept(cursor=store.last)

    @property
    def on(self) -> bool:
        """Whether anybody is told."""
        return self._path is not None

    def shown(self) -> dict[str, Any] | None:
        """What the status shows; None where nobody is told."""
        return messages.shown(self.state) if self.on else None

    def work(self) -> None:
        """Look every LOOK_S until `stop`; survives whatever a look raises."""
        while not self._stopping.wait(LOOK_S):
            try:
                self.turn()
            except DriftloopError as error:
                self.state.last_error = str(error)
            except Exception:
                log.exception("telling people failed")

    def stop(self) -> None:
        """End `work`; a delivery under way is not waited for."""
        self._stopping.set()

    def turn(self) -> None:
        """Look for what is new, and deliver what is due."""
        if not self.on:
            return
        if self._store.last > self.state.cursor:
            messages.take(self.state, self._store.read(self.state.cursor))
            self._keep()
        for notice in list(self.state.waiting):
            if self._stopping.is_set():
                return
            if self._is_due(notice):
                self._deliver(notice)

    def _is_due(self, notice: Notice) -> bool:
        now = self._clock()
        if notice.seq not in self._due:
            quiet = messages.quiet_s(self.state, notice.key, durable.now(), self._cool_down_s)
            self._due[notice.seq] = now + (0.0 if notice.tries else max(GATHER_S, quiet))
        return now >= self._due[notice.seq]

    def _deliver(self, notice: Notice) -> None:
        self._due.pop(notice.seq, None)
        if self._muted(notice.cause) or self._muted(notice.section):
            messages.drop(self.state, notice)
            self._keep()
            return
        notice.tries += 1  # from now on it gathers no more lines
        missing = self._send(notice)
        about = {"model_version": notice.model_version, "cause": notice.cause or None, "about": notice.key}
        if not missing:
            messages.told(self.state, notice, durable.now())
            self._keep("notified", **about)
            return
        self.state.last_error = f"{notice.key}: {missing}"
        if notice.tries < MOST_TRIES:
            pause = min(LONGEST_RETRY_S, FIRST_RETRY_S * RETRY_FACTOR ** (notice.tries - 1))
            self._due[notice.seq] = self._clock() + pause
            self._keep()
            return
        messages.drop(self.state, notice)
        self.state.given_up += 1
        self._keep("notification_failed", **about, tries=notice.tries, reason=missing)

    def _send(self, notice: Notice) -> str | None:
        """Who has not got it, in words without a secret; None where all have."""
        assert self._path is not None
        try:
            found = delivery.addresses(self._path)
        except DriftloopError as error:
            return str(error)
        title, body = messages.title(notice, self._fleet), messages.body(notice, self._docs)
        missing = []
        for address in found:
            if address.mark in notice.delivered:
                continue
            if delivery.send(address, title, body):
                notice.delivered.append(address.mark)
            else:
                missing.append(address.name)
        return f"not taken by address {', '.join(missing)}" if missing else None

    def _keep(self, kind: str | None = None, **detail: Any) -> None:
        with self._store.change() as change:
            change.kept[KEPT] = self.state
            if kind is not None:
                change.tell(kind, **detail)


def send_test(path: Path | None, fleet: str) -> list[dict[str, Any]]:
    """Send a message that says that it is a test to every address; who took it. Raises DriftloopError."""
    if path is None:
        raise DriftloopError(
            "nobody is to be told of anything", where="DRIFTLOOP_NOTIFY_FILE", remedy="name a file of addresses"
        )
    text = "This is a test of being told. Nothing has happened, and nothing is to be done."
    return [
        {"address": each.name, "taken": delivery.send(each, f"driftloop {fleet}: a test", text)}
        for each in delivery.addresses(path)
    ]
