"""Server-sent events, read line by line; a cut connection goes on behind the last id that came.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from typing import Any, NamedTuple

import httpx

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.protocol.client import detail
from driftloop.protocol.http import may_change

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
"""Longer than a silent stream's heartbeats are apart."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
PATH = "/api/v1/events/stream"


class Message(NamedTuple):
    """One message: its event, its content, and the place behind it."""

    event: str
    content: dict[str, Any]
    place: str


class Place:
    """How far a stream has come, and how long to wait before it is opened again."""

    def __init__(self, last: str = "") -> None:
        self.last = last
        self._pause_s = FIRST_PAUSE_S
        self._event, self._data = "", ""

    @property
    def headers(self) -> dict[str, str]:
        """What says where to go on."""
        return {"Last-Event-ID": self.last} if self.last else {}

    def opened(self, answer: httpx.Response) -> None:
        """Look at the answer that a stream begins with; raises DriftloopError where asking again is of no use."""
        self._event = self._data = ""
        if answer.is_success:
            return
        if may_change(answer):
            raise httpx.ReadError(f"answered {answer.status_code}")
        raise DriftloopError(detail(answer), where=str(answer.request.url))

    def read(self, line: str) -> Message | None:
        """Take a line; returns the message that it ends, if it does."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last = value
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data += value
        elif not line and self._data:
            event, content = self._event, durable.decode_json(self._data, dict[str, Any])
            self._event = self._data = ""
            self._pause_s = FIRST_PAUSE_S
            return Message(event, content, self.last)
        return None

    def cut(self) -> float:
        """How long to wait now that the connection is gone; twice as long where nothing came since the last time."""
        pause, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, 2 * self._pause_s)
        return pause
