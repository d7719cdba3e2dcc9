"""A service of a small fleet, with a prediction server and a retrainer that answer from memory."""

import json
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from driftloop.protocol import http as protocol_http
from driftloop.protocol import windows
from driftloop.settings import Settings
from driftloop.units.app import create_app

from .postgresql import BINARIES, Postgres

LONG_S = 60.0

COUNTED = """
name = "pumps"
unit = "pump"
unit_column = "pump"
[time]
column = "hour"
[[settings]]
name = "speed"
[[sensors]]
name = "pressure"
[[sensors]]
name = "flow"
source = "Flow (l/s)"
"""
CLOCK = COUNTED.replace('column = "hour"', 'column = "at"\nkind = "timestamp"\nevery = "10s"')
REFUSING = COUNTED.replace("[[settings]]", "[[settings]]\nmissing = 'refuse'").replace(
    "[[sensors]]", "[[sensors]]\nmissing = 'refuse'"
)


def asked_windows(content: bytes, columns: int = 3) -> list[dict[str, Any]]:
    """The windows of a request to the server, with their rows as lists, None for a missing value."""
    return [
        {**msgspec.to_builtins(one), "rows": [[None if math.isnan(value) else value for value in row] for row in rows]}
        for one in windows.decode_batch(content).windows
        for rows in [np.frombuffer(one.rows, dtype="<f4").reshape(-1, columns).tolist()]
    ]


def until(what: Callable[[], Any]) -> Any:
    """Wait for a condition."""
    deadline = time.monotonic() + LONG_S
    while not (found := what()):
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.01)
    return found


class Server:
    """A prediction server: remaining life is 100 less the window's newest pressure; keeps what it was asked."""

    def __init__(self, digest: str, window: int = 4) -> None:
        self.digest, self.window, self.version = digest, window, "1"
        self.windows: list[dict[str, Any]] = []
        self.away, self.columns = False, 3
        self.refuses: Callable[[dict[str, Any]], bool] = lambda _: False
        self.lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            if self.away:
                raise httpx.ConnectError("is away", request=request)
            if request.url.path == "/model":
                fleet = {"name": "pumps", "digest": self.digest}
                return httpx.Response(200, json={"fleet": fleet, "window": self.window, "model_version": self.version})
            windows = asked_windows(request.content, self.columns)
            if any(self.refuses(window) for window in windows):
                return httpx.Response(422, json={"detail": [{"field": "windows", "message": "no"}]})
            self.windows += windows
            answers = [
                {"rul": 100.0 - (one["rows"][-1][1] or 0), "lower": 1.0, "upper": 99.0, "flags": [],
                 "model_version": self.version}
                for one in windows
            ]  # fmt: skip
            return httpx.Response(200, json={"predictions": answers, "model_version": self.version})


class Retrainer:
    """A retrainer that archives in memory; it may be away, or refuse."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.posts = 0
        self.outcomes: dict[tuple[str, int], dict[str, Any]] = {}
        self.withdrawn: dict[str, str] = {}
        self.refuses = ""
        self.labels = 200
        """What it answers to labels."""
        self.away = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("is away", request=request)
        body = json.loads(request.content)
        if request.url.path == "/archive/withdraw":
            self.withdrawn |= dict.fromkeys(body["runs"], body["reason"])
            return httpx.Response(200, json={"withdrawn": body["runs"], "versions": ["7"]})
        if request.url.path == "/feedback" and self.labels != 200:
            return httpx.Response(self.labels, json={"detail": [{"field": "outcomes", "message": "not now"}]})
        if request.url.path == "/feedback":
            for one in body["outcomes"]:
                self.outcomes[(one["engine_id"], one["cycle"])] = one
            return httpx.Response(200, json={"added": len(body["outcomes"]), "known": 0})
        self.posts += 1
        if self.refuses:
            return httpx.Response(422, json={"detail": [{"field": "runs[0]", "message": self.refuses}]})
        added, known = [], []
        for run in body["runs"]:
            before = self.runs.setdefault(run["run_id"], run)
            if before["rows"] != run["rows"]:
                return httpx.Response(409, json={"detail": [{"field": "runs", "message": "other rows"}]})
            (known if before is not run else added).append(run["run_id"])
        return httpx.Response(200, json={"added": added, "known": known})


class Fleet:
    """A running service and both whom it talks to."""

    def __init__(self, folder: Path, file: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.folder, self.more = folder, more
        (folder / "fleet.toml").write_text(file)
        self.settings = self._settings()
        self.server = Server(self.settings.schema.digest)
        self.retrainer = Retrainer()
        self.http: Any = None
        real = protocol_http._Client

        def made(**options: Any) -> httpx.Client:
            url = str(options.get("base_url", ""))
            asked: Callable[[httpx.Request], httpx.Response] = self.retrainer
            for address, whom in (("http://server", self.server), ("http://units", self._itself)):
                asked = whom if url.startswith(address) else asked
            return real(**{**options, "transport": httpx.MockTransport(asked)})

        monkeypatch.setattr("driftloop.protocol.http._Client", made)

    def _itself(self, request: httpx.Request) -> httpx.Response:
        """What the service answers to a client of its own."""
        where = request.url.raw_path.decode()
        told = ("Content-Type", "X-Driftloop-Actor")
        headers = {name: request.headers[name].encode() for name in told if name in request.headers}
        answer = self.http.request(request.method, where, content=request.content, headers=headers)
        return httpx.Response(answer.status_code, content=answer.content)

    def _settings(self) -> Settings:
        fixed = {"fleet": str(self.folder / "fleet.toml"), "state_dir": self.folder, "units_lateness_s": 0.0}
        fixed |= {"server_url": "http://server", "retrainer_url": "http://retrainer"}
        return Settings(**{**fixed, **self.more})

    def start(self) -> None:
        self.settings = self._settings()
        self.server.columns = self.settings.schema.n_columns
        self.app: FastAPI = create_app(self.settings)
        self._client = TestClient(self.app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
        self.http = self._client.__enter__()

    def stop(self) -> None:
        if self.http is not None:
            self._client.__exit__(None, None, None)
            self.http = None

    def again(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def send(self, *rows: dict[str, Any], status: int = 200, **query: Any) -> dict[str, Any]:
        answer = self.http.post("/telemetry", json=list(rows), params=query)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def tell(self, unit: str, status: int = 201, **event: Any) -> dict[str, Any]:
        answer = self.http.post(f"/units/{unit}/events", json=event)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def unit(self, name: str, **query: Any) -> dict[str, Any]:
        answer = self.http.get(f"/units/{name}", params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def steps(self, name: str, **query: Any) -> list[int]:
        """The steps that were answered."""
        return [one["step"] for one in self.unit(name, **query)["predictions"]]

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait for a condition."""
        return until(what)

    def asked(self) -> list[tuple[str, int]]:
        """The unit and step of every window that the server was sent."""
        return [(one["engine_id"], one["cycle"]) for one in self.server.windows]


def row(pump: str, hour: Any, pressure: float = 1.0, flow: float = 2.0, speed: float = 3.0) -> dict[str, Any]:
    """A row of the small fleet."""
    return {"pump": pump, "time": hour, "speed": speed, "pressure": pressure, "flow": flow}


Make = Callable[..., Fleet]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[Fleet] = []

    def of(file: str = COUNTED, **more: Any) -> Fleet:
        fleet = Fleet(tmp_path, file, monkeypatch, **more)
        made.append(fleet)
        fleet.start()
        return fleet

    yield of
    for fleet in made:
        fleet.stop()


@pytest.fixture
def fleet(make: Make) -> Fleet:
    """The small fleet, whose time is a counter."""
    return make()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    if not BINARIES or os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs PostgreSQL, and to be root to become its user")
    folder = Path(tempfile.mkdtemp(prefix="driftloop-postgres-"))
    found = Postgres(folder)
    found.start()
    try:
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A database of its own in it, with the password."""
    return postgres.new().replace("units@", f"units:{postgres.password.read_text().strip()}@")
