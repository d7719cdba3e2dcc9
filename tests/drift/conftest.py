"""Baselines of made-up engines, and a server on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from driftloop.drift.baseline import Baseline
from made_up import build_baseline

from .engines import trace


@pytest.fixture(scope="session")
def baseline() -> Baseline:
    """Of one domain."""
    return build_baseline([trace(i) for i in range(60)], replicates=300)


@pytest.fixture(scope="session")
def two_domains() -> Baseline:
    """Of two domains, the second of which is the traffic."""
    traces = [trace(i) for i in range(40)] + [trace(i, 1, fleet=1) for i in range(40)]
    return build_baseline(traces, [0.05, 0.95], replicates=300)


class Loopback:
    """A server on 127.0.0.1 that records what it is sent and answers what it is told."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Any, dict[str, str]]] = []
        self.status = 200
        self.answers: dict[str, str] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                owner.received.append((self.path, None, dict(self.headers)))
                self._answer(owner.answers.get(path, ""))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.received.append((self.path, body, dict(self.headers)))
                self._answer("{}")

            def _answer(self, text: str) -> None:
                content = text.encode()
                self.send_response(owner.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def bodies(self, path: str) -> list[Any]:
        """What was posted to `path`."""
        return [body for where, body, _ in self.received if where == path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A recording server."""
    server = Loopback()
    yield server
    server.close()
