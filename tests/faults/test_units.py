"""`kill -9` of the service that takes rows, at seeded moments of store, predict, close and archive.

Nothing that was acknowledged is lost, nothing is there twice, and every closed run is archived once. UNITS_KILLS kills,
by default 200, and a fifth of them where the store is on PostgreSQL; the server and the retrainer are doubles that
outlive it.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from driftloop.settings import Settings
from units.conftest import COUNTED, asked_windows, postgres, postgres_url
from units.process import Process

__all__ = ["postgres", "postgres_url"]
"""Fixtures of the unit tests."""

KILLS = int(os.environ.get("UNITS_KILLS", "200"))
SEED = int(os.environ.get("FAULTS_SEED", "0"))
UNITS, LIFE = 12, 25
"""Units at once, and rows of a life."""


class Doubles:
    """A prediction server and a retrainer in one; what they were told is kept."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.runs: dict[str, Any] = {}
        self.contradicting: list[str] = []
        self.outcomes: dict[tuple[str, int], float] = {}
        self.asked: Counter[str] = Counter()
        doubles = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, body: Any, status: int = 200) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                fleet = {"name": "pumps", "digest": doubles.digest}
                self.answer({"fleet": fleet, "window": 4, "model_version": "1"})

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                body = {"windows": asked_windows(content)} if self.path == "/predict" else json.loads(content)
                self.answer(*doubles.told(self.path, body))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def told(self, path: str, body: Any) -> tuple[Any, int]:
        if path == "/predict":
            self.asked.update(one["request_id"] for one in body["windows"])
            answers = [
                {"rul": float(LIFE - one["cycle"]), "lower": 0.0, "upper": 99.0, "flags": [], "model_version": "1"}
                for one in body["windows"]
            ]
            return {"predictions": answers, "model_version": "1"}, 200
        if path == "/feedback":
            self.outcomes |= {(one["engine_id"], one["cycle"]): one["true_rul"] for one in body["outcomes"]}
            return {"added": len(body["outcomes"]), "known": 0}, 200
        for run in body["runs"]:
            if self.runs.setdefault(run["run_id"], run["rows"]) != run["rows"]:
                self.contradicting.append(run["run_id"])
        return {"added": [], "known": [run["run_id"] for run in body["runs"]]}, 200


@pytest.fixture
def doubles(tmp_path: Path) -> Iterator[Doubles]:
    (tmp_path / "fleet.toml").write_text(COUNTED)
    found = Doubles(Settings(fleet=str(tmp_path / "fleet.toml")).schema.digest)
    yield found
    found.http.shutdown()


class Gateway:
    """Sends rows and ends of lives until they are acknowledged, and remembers what was."""

    def __init__(self, process: Process, drawn: random.Random) -> None:
        self.process, self.drawn = process, drawn
        self.acknowledged: dict[str, int] = {}
        self.ended: dict[str, str] = {}
        self.names = [f"pump-{at}" for at in range(UNITS)]
        self.next = UNITS
        self.stopping = threading.Event()
        self.problems: list[str] = []

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.turn()
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    def turn(self) -> None:
        """One row of a few units; those whose life is over end."""
        chosen = self.drawn.sample(self.names, self.drawn.randint(1, UNITS))
        rows = []
        for name in chosen:
            hour = self.acknowledged.get(name, 0) + 1
            rows.append({"unit": name, "hour": hour, "speed": 3.0, "pressure": float(hour), "flow": 2.0})
        if self.post("/telemetry", rows) is None:
            return
        for row in rows:
            self.acknowledged[row["unit"]] = int(row["hour"])
        for name in [name for name in chosen if self.acknowledged[name] >= LIFE]:
            kind = self.drawn.choice(["failed", "removed"])
            if self.post(f"/units/{name}/events", {"kind": kind, "id": f"end-of-{name}"}) is None:
                return
            self.ended[name] = kind
            self.names.remove(name)
            self.names.append(f"pump-{self.next}")
            self.next += 1

    def post(self, path: str, body: Any) -> Any:
        """Send until it is acknowledged; None where this is to stop before."""
        while not self.stopping.is_set():
            try:
                answer = httpx.post(self.process.url + path, json=body, trust_env=False, timeout=30.0)
            except httpx.HTTPError:
                time.sleep(0.01)
                continue
            if answer.is_success:
                found = answer.json()
                assert not found.get("refused"), found
                return found
            assert answer.status_code == 503, answer.text
        return None


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kills_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, doubles: Doubles, request: pytest.FixtureRequest, kind: str
) -> None:
    drawn = random.Random(SEED)
    store = f"sqlite:///{tmp_path / 'state' / 'units' / 'units.db'}"
    if kind == "postgresql":
        store = request.getfixturevalue("postgres_url")
    variables = {"DRIFTLOOP_SERVER_URL": doubles.url, "DRIFTLOOP_RETRAINER_URL": doubles.url}
    variables["DRIFTLOOP_UNITS_DATABASE"] = store if kind == "postgresql" else ""
    process = Process(tmp_path / "state", COUNTED, **variables)
    # Whatever comes of it.
    request.addfinalizer(process.end)
    gateway = Gateway(process, random.Random(SEED + 1))
    sending = threading.Thread(target=gateway.run, daemon=True)
    process.start()
    sending.start()
    for _ in range(KILLS if kind == "sqlite" else KILLS // 5):
        # A moment drawn from what a few rounds of rows, answers, ends and archivings take.
        pause = drawn.uniform(0.0, 0.8)
        gateway.stopping.wait(pause)
        process.kill()
        process.start()
    # Few kills, or a slow machine, are through before a first life is over; and what is archived shows only then.
    process.wait(lambda: gateway.ended or not sending.is_alive())
    # A failed kill must not pass for a quiet end.
    assert not gateway.problems, gateway.problems
    assert sending.is_alive()
    gateway.stopping.set()
    sending.join()
    process.wait(lambda: settled(process, gateway))
    process.end()
    process.http.close()
    check(store, gateway, doubles)


def settled(process: Process, gateway: Gateway) -> bool:
    """Whether every step is answered and every closed run archived."""
    status = process.http.get("/status").json()
    if status["steps_waiting"] or status["units_behind"]:
        return False
    return all(
        process.http.get(f"/units/{name}", params={"steps": 1}).json()["lives"][0]["archive"] == "archived"
        for name in gateway.ended
    )


def check(store: str, gateway: Gateway, doubles: Doubles) -> None:
    """Hold the store, and what the doubles were told, against what was acknowledged."""
    engine = sa.create_engine(store)
    rows: dict[str, list[int]] = {}
    answers: dict[str, list[int]] = {}
    with engine.connect() as found:
        for table, kept in (("rows", rows), ("predictions", answers)):
            what = f"SELECT units.name, {table}.{'time' if table == 'rows' else 'step'} FROM {table}"
            what += " JOIN lives ON lives.id = life JOIN units ON units.id = unit"
            for name, step in found.execute(sa.text(what)):
                kept.setdefault(name, []).append(int(step))
        told = found.execute(sa.text("SELECT units.name FROM events JOIN units ON units.id = unit"))
        events = Counter(name for (name,) in told)
    engine.dispose()
    for name, hours in gateway.acknowledged.items():
        # A row that was on its way when this stopped may be there, though nobody was told.
        assert sorted(rows[name])[:hours] == list(range(1, hours + 1)), name
        assert sorted(rows[name]) == list(range(1, len(rows[name]) + 1)), name
        assert sorted(answers[name]) == sorted(rows[name]), name
    assert doubles.contradicting == []
    for name, kind in gateway.ended.items():
        assert events[name] == 1, name
        assert [row[1] for row in doubles.runs[name]] == [float(hour) for hour in range(1, LIFE + 1)], name
        labels = {step: rul for (run, step), rul in doubles.outcomes.items() if run == name}
        expected = {step: float(LIFE - step) for step in range(1, LIFE + 1)} if kind == "failed" else {}
        assert labels == expected, name
    assert set(doubles.runs) >= set(gateway.ended)
    assert len(doubles.runs) <= len(gateway.ended) + UNITS


def test_a_full_disk_acknowledges_nothing_and_loses_nothing(tmp_path: Path, doubles: Doubles) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        process = Process(
            disk / "state", COUNTED, DRIFTLOOP_SERVER_URL=doubles.url, DRIFTLOOP_RETRAINER_URL=doubles.url
        )
        with process:
            hour = 0

            def send(count: int) -> int:
                """The status of an answer to so many rows of a unit, which follow on those that were acknowledged."""
                nonlocal hour
                rows = [
                    {"unit": "a", "hour": hour + at, "speed": 3.0, "pressure": 1.0, "flow": 2.0}
                    for at in range(1, count + 1)
                ]
                answer = process.http.post("/telemetry", json=rows)
                hour += count if answer.is_success else 0
                if not answer.is_success:
                    assert (answer.status_code, answer.json()["field"]) == (503, "store"), answer.text
                return answer.status_code

            assert send(10) == 200
            with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                while True:
                    ballast.write(b"\0" * 65536)
            # What the log still has room for is acknowledged; then nothing is.
            while send(500) == 200:
                pass
            acknowledged = hour
            assert send(500) == 503
            assert process.http.get("/healthz").is_success
            (disk / "ballast").unlink()
            process.wait(lambda: send(5) == 200)
            assert hour == acknowledged + 5
            process.wait(lambda: process.http.get("/units/a", params={"steps": 1}).json()["step"] == hour)
            assert process.http.get("/units/a", params={"steps": 1}).json()["quality"]["rows"] == hour
            process.kill()
            process.start()
            assert process.http.get("/units/a", params={"steps": 1}).json()["quality"]["rows"] == hour
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
