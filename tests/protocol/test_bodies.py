"""Bodies: bounded, unpacked, and no failure of the process where somebody goes away in the middle."""

import gzip
from typing import Any

import pytest
from fastapi import Request

from driftloop.protocol import bodies
from driftloop.protocol.problems import RequestRefused


def posted(*pieces: bytes, ends: bool = True, **headers: str) -> Request:
    """A request whose body comes in pieces; the other end goes away where it does not end."""
    coming: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    coming.append({"type": "http.request", "body": b"", "more_body": False} if ends else {"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": named}, receive)


async def test_a_body_is_read_as_far_as_it_may_be_long() -> None:
    assert await bodies.read(posted(b"abc", b"def"), 6) == b"abcdef"
    assert await bodies.read(posted(b"abc", b"def"), 5) is None


async def test_a_body_that_stops_half_way_is_refused_and_fails_nothing() -> None:
    with pytest.raises(RequestRefused, match="came only in part"):
        await bodies.read(posted(b"abc", ends=False), 100)


async def test_of_what_is_packed_no_more_is_unpacked_than_allowed() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    assert await bodies.read(posted(bomb, content_encoding="gzip"), 100_000) is None
    assert await bodies.read(posted(gzip.compress(b"abc"), content_encoding="gzip"), 100) == b"abc"
    nested = gzip.compress(bomb)
    assert await bodies.read(posted(nested, content_encoding="gzip"), 100_000) == bomb
    with pytest.raises(RequestRefused, match="send gzip"):
        await bodies.read(posted(nested, content_encoding="gzip, gzip"), 100_000)
