"""The outbox of the watch: delivers alerts and events in order, and keeps what cannot be delivered now."""

import logging
import threading
import uuid
from collections import deque
from typing import Any

import httpx

from driftloop import durable
from driftloop.protocol.http import GLANCE, client, may_change, why

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_NO_TOKEN_YET = frozenset({401, 403})
"""Refusals that a token which is put right ends."""


class Outbox:
    """Posts JSON in order, without making the watch wait: what cannot be delivered now is kept and tried again.

    At most `most` messages wait; beyond that the oldest is dropped and counted. A message with a `key` replaces
    a waiting one with the same key.
    """

    def __init__(self, token: str = "", *, most: int = 1000, transport: httpx.BaseTransport | None = None) -> None:
        self._http = client(token=token, patience=GLANCE, transport=transport)
        self._most = most
        self._waiting: deque[tuple[str, str | None, Any]] = deque()
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._failing = False
        self.dropped = 0
        """Messages that were given up: the outbox was full, or the receiver refused them."""

    def put(self, url: str, body: Any, key: str | None = None) -> None:
        """Queue a message."""
        with self._guard:
            if key is not None:
                self._waiting = deque(message for message in self._waiting if message[1] != key)
            self._waiting.append((url, key, body))
            while len(self._waiting) > self._most:
                self._waiting.popleft()
                self.dropped += 1
        self._wake.set()

    def event(self, url: str, event: dict[str, Any]) -> None:
        """Queue an event for the retrainer at `url`; its id makes sure that it is logged once."""
        self.put(f"{url.rstrip('/')}/events", {"time": durable.now(), "id": uuid.uuid4().hex, **event})

    @property
    def waiting(self) -> int:
        """Messages not yet delivered."""
        return len(self._waiting)

    def deliver(self) -> bool:
        """Send what waits, oldest first; True when nothing is left.

        Where a receiver cannot be reached, the rest of its messages wait for the next time.
        """
        with self._guard:
            messages = list(self._waiting)
        unreachable: set[str] = set()
        for message in messages:
            receiver = message[0].rpartition("/")[0]
            if receiver in unreachable:
                continue
            if not self._sent(message[0], message[2]):
                unreachable.add(receiver)
                continue
            with self._guard:
                # put() may have replaced or dropped it in the meantime.
                self._waiting = deque(other for other in self._waiting if other is not message)
        return not self._waiting

    def start(self) -> None:
        """Deliver in a thread of its own from now on."""
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Try once more to deliver what waits, then end."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.deliver()
        self._http.close()

    def _work(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while not self.deliver() and not self._stopping:
                self._wake.wait(_RETRY_S)
                self._wake.clear()

    def _sent(self, url: str, body: Any) -> bool:
        try:
            answer = self._http.post(url, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._complain(f"{url} does not answer: {why(error)}; it is tried again")
            return False
        if answer.is_success:
            self._failing = False
            return True
        what = f"{url} answered {answer.status_code}: {answer.text[:200]}"
        if answer.is_client_error and not may_change(answer) and answer.status_code not in _NO_TOKEN_YET:
            log.error("%s; the message is given up", what)
            self.dropped += 1
            return True
        self._complain(f"{what}; it is tried again")
        return False

    def _complain(self, what: str) -> None:
        if not self._failing:
            log.warning("%s", what)
        self._failing = True
