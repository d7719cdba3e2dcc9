"""What somebody who says nothing of themselves may make a process hold, and for how long."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI, Request

from driftloop.access import connections
from driftloop.access.connections import LEAST_BYTES, MOST_BYTES, Connection
from live_server import running

HEAD = b"POST /size HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = 200 * MOST_BYTES


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = FastAPI()

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    with running(app) as client:
        assert client.base_url.port is not None
        yield client.base_url.port


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        yield one


def answer(one: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    found = b""
    try:
        while piece := one.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def taken(one: socket.socket, piece: bytes, most: int = ENDLESS) -> int:
    """How many bytes go out before the other end has closed, and at most `most`."""
    sent = 0
    try:
        while sent < most:
            one.sendall(piece)
            sent += len(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (HEAD + b"X-Long: ", b"a" * 4096),
        (HEAD, b"X-Many: one\r\n" * 300),
        (b"POST /", b"a" * 4096),
        (CHUNKED + b"1\r\na\r\n0\r\nX-Trailer: ", b"a" * 4096),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"X-Trailer: one\r\n" * 300),
        (CHUNKED + b"1;", b"a" * 4096),
    ],
    ids=["header", "headers", "address", "trailer", "trailers", "extension of a chunk"],
)
def test_what_is_no_body_does_not_grow_without_end(port: int, before: bytes, piece: bytes) -> None:
    with connected(port) as one:
        one.sendall(before)
        # What lies in the buffers of both ends has not been taken.
        assert taken(one, piece) < ENDLESS


def test_a_head_that_is_too_long_is_told(port: int) -> None:
    with connected(port) as one:
        one.sendall(HEAD + b"X-Long: " + b"a" * (MOST_BYTES - len(HEAD) - 7))
        assert answer(one).startswith(b"HTTP/1.1 431 ")


def test_a_long_body_and_a_long_head_that_is_allowed_pass(port: int) -> None:
    body = b"b" * (40 * MOST_BYTES)
    with connected(port) as one:
        one.sendall(HEAD + b"X-Long: " + b"a" * (MOST_BYTES // 2) + f"\r\nContent-Length: {len(body)}\r\n".encode())
        one.sendall(b"Connection: close\r\n\r\n" + body)
        said = answer(one)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.endswith(str(len(body)).encode())


def test_bodies_one_after_the_other_do_not_add_up(port: int) -> None:
    request = HEAD + b"Content-Length: 30000\r\n\r\n" + b"b" * 30_000
    with connected(port) as one:
        for _ in range(5):
            one.sendall(request)
            found = one.recv(65536)
            assert b"200 OK" in found
            assert found.endswith(b"30000")


@pytest.mark.usefixtures("hurried")
def test_nobody_is_waited_for_without_end(port: int) -> None:
    with connected(port) as one:
        assert answer(one) == b""  # nothing was asked
    with connected(port) as one:
        one.sendall(HEAD)
        assert answer(one).startswith(b"HTTP/1.1 408 ")
    with connected(port) as one:
        one.sendall(HEAD + b"Content-Length: 100\r\n\r\nabc")
        assert answer(one) == b""  # the application has not answered, and is not answered for


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_S", 0.2)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The servers' ends of all connections, the newest last."""
    found: list[Connection] = []
    made = Connection.connection_made

    def noted(one: Connection, transport: asyncio.Transport) -> None:
        found.append(one)
        made(one, transport)

    monkeypatch.setattr(Connection, "connection_made", noted)
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_slow_line_is_waited_for_and_a_drop_now_and_then_is_not(port: int, opened: list[Connection]) -> None:
    """The clock is the test's: it looks when a piece has come."""
    with connected(port) as one:
        one.sendall(HEAD + b"Connection: close\r\nContent-Length: 100000\r\n\r\n")
        until(lambda: opened and opened[-1]._come)
        end = opened[-1]

        def looks_after(piece: bytes) -> bool:
            """Whether the connection is still open after the look that follows this piece."""
            wanted = end._come + len(piece)
            one.sendall(piece)
            until(lambda: end._come == wanted)
            looked = threading.Event()
            end.loop.call_soon_threadsafe(lambda: (end._has_come(), looked.set()))
            assert looked.wait(60)
            return not end.transport.is_closing()

        for _ in range(20):
            assert looks_after(b"a" * LEAST_BYTES)
        assert not looks_after(b"a")
