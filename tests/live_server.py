"""An application behind a real HTTP server, in this process, or asked without one as from this machine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from driftloop.access.connections import Connection
from driftloop.access.listening import listen


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """The application behind a real HTTP server on a free port."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, loop="uvloop", http=Connection, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        # The socket listens already: the first request waits for the server, not the other way round.
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


def local(app: FastAPI, **more: Any) -> TestClient:
    """A client without a server that asks as a program on this machine does."""
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000), **more)
