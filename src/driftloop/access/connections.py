"""A connection that somebody may open without saying who they are: what it may make a process hold is bounded.

uvicorn keeps the head of a request however long it grows, and waits for the rest of a request for ever. Here a head, or
what else comes without being a body, has at most MOST_BYTES, and a request that is not whole must go on coming.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 64 * 1024
LOOK_S = 20.0
"""How long it may take until something has come of a request, and until there is LEAST_BYTES more of it."""
LEAST_BYTES = 1024
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """One connection of a server."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is open: something must come."""
        super().connection_made(transport)
        self._waiting, self._beside, self._come, self._before = True, 0, 0, 0
        self._look = self.loop.call_later(LOOK_S, self._has_come)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless too much has come that is no body."""
        self._beside += len(data)
        self._come += len(data)
        super().data_received(data)
        if self._waiting and self._beside > MOST_BYTES:
            self._refuse(_TOO_LONG)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._waiting = True

    def on_body(self, body: bytes) -> None:
        """A piece of a body, whose length the application bounds."""
        self._beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._waiting, self._beside = False, 0
        super().on_message_complete()

    def _has_come(self) -> None:
        """Look whether a request that is not whole goes on coming, as far as it is read at all."""
        few = self._come - self._before < LEAST_BYTES
        if self._waiting and few and not self.flow.read_paused and not self.transport.is_closing():
            self._refuse(_TOO_SLOW)
            return
        self._before = self._come
        self._look = self.loop.call_later(LOOK_S, self._has_come)

    def _refuse(self, answer: bytes) -> None:
        """Say why, where no answer has begun, and close."""
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if self._come and (cycle is None or cycle.response_complete):
            self.transport.write(answer)
        self.transport.close()
