"""A real platform for the tests of the whole: started by the real commands, looked at, hurt, and ended.

Every wait is for a condition, with a limit far beyond what it takes, so that a slow machine is slow and not red.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest

from described import undescribed
from driftloop import settings
from driftloop.embedded import guard
from driftloop.embedded.processes import tail
from driftloop.embedded.supervisor import STATUS, port_is_free
from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.fleet.runs import Run
from driftloop.loop.store import NAME as STORE
from driftloop.loop.store import read_events
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.settings import Settings
from driftloop_bench.experiment.traffic import AgingFleet, Load, Record, SentEngine, encode
from ports import free_ports

COMMAND = (sys.executable, "-m", "driftloop.cli")
LONG_S = 420.0
"""Longest wait for anything; on an idle machine with two cores nothing takes a tenth of it."""
POLL_S = 0.03
EVIDENCE_LINES = 25


class Platform:
    """`driftloop up` on free ports, with its state in `state` and a small simulated fleet."""

    def __init__(self, state: Path, *, engines: int, fleets: Sequence[str] = (), **variables: str) -> None:
        self.state = state.resolve()
        self._fleets = [argument for fleet in fleets for argument in ("--fleet", fleet)]
        names = ("mlflow", "server", "retrainer", "console", "units")
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, free_ports(5), strict=True)}
        own = {f"DRIFTLOOP_{name.upper()}_URL": url for name, url in self.urls.items()}
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DRIFTLOOP_", "CMAPSS_", "ENABLE_RETRAINING"))},
            **own,
            "DRIFTLOOP_STATE_DIR": str(self.state),
            # No files there: every process simulates its fleet.
            "DRIFTLOOP_RAW_DIR": str(self.state / "no-data"),
            "DRIFTLOOP_SIMULATOR_ENGINES": str(engines),
            "PYTHONPATH": str(_quick_training(self.state.parent / "quick")),
            **variables,
        }
        self._overrides = {
            "state_dir": self.state,
            "token_file": self.state / "token",
            "raw_dir": self.state / "no-data",
            "simulator_engines": engines,
            "cmapss_dir": None,
            "archive": "",
            **{f"{name}_url": url for name, url in self.urls.items()},
        }
        self.up: subprocess.Popen[bytes] | None = None
        # Made once: a client costs more than what it is asked for here.
        # Idle connections are dropped before the server does it (after 5 s): a kill is the only fault wanted here.
        limits = httpx.Limits(keepalive_expiry=2.0)
        self._http = httpx.Client(timeout=10.0, trust_env=False, limits=limits)
        self.registry = Registry(self.urls["mlflow"], "rul-lstm", timeout_s=30.0)
        self._events: list[dict[str, Any]] = []
        self.undescribed: list[str] = []
        """What of its events is not as docs/reference/events.md has it."""

    @property
    def settings(self) -> Settings:
        """The settings that its processes have."""
        return settings.load(**self._overrides)

    # Life.

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end()
        if kind is None:
            assert self.undescribed == [], self.undescribed

    def end(self) -> None:
        """Print the evidence, and end whatever is left of it."""
        print(self.evidence())
        self._http.close()
        self.registry.close()
        if self.up is not None and self.up.poll() is None:
            self.up.send_signal(signal.SIGCONT)
            self.up.terminate()
            try:
                self.up.wait(60)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
        guard.end_marked(str(self.state), grace_s=2)

    def start(self, *, wait: bool = True) -> None:
        """Start it and, by default, wait until every component does its work."""
        (self.state / "logs").mkdir(parents=True, exist_ok=True)
        with (self.state / "logs" / "up.log").open("ab") as log:
            self.up = subprocess.Popen(
                [*COMMAND, "up", "--plain", *self._fleets],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every component does its work."""
        self.wait(lambda: self.written().get("ready") is True, "the platform to be ready")

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        assert self.up is not None
        self.up.send_signal(signal.SIGINT)
        return self.up.wait(timeout=120)

    def kill_up(self) -> None:
        """`kill -9` of the supervisor; returns when its guard has ended everything else."""
        assert self.up is not None
        self.up.kill()
        self.up.wait()
        self.up = None
        self.wait(lambda: not self.left_running(), "the end of the orphans")

    def left_running(self) -> list[str]:
        """Command lines of processes that belong to it, and ports that are still taken."""
        found = _mentioning(str(self.state))
        ports = [int(url.rpartition(":")[2]) for url in self.urls.values()]
        return found + [f"port {port}" for port in ports if not port_is_free("127.0.0.1", port)]

    # Looking.

    def written(self) -> dict[str, Any]:
        """What the supervisor writes about itself; empty while it is not up."""
        try:
            return dict(json.loads((self.state / STATUS).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def pid(self, component: str) -> int:
        """The process of a component, waiting until it has one."""
        self.wait(lambda: self.written().get("components", {}).get(component, {}).get("pid"), f"{component} to run")
        return int(self.written()["components"][component]["pid"])

    def get(self, component: str, path: str) -> dict[str, Any] | None:
        """What a component answers to GET; None where it does not answer with success."""
        try:
            answer = self._http.get(self.urls[component] + path)
            return dict(answer.json()) if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST to the retrainer with the platform's token; `body` is JSON, or bytes of it; `_` in `headers` is `-`."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": f"Bearer {self.settings.token}", "Content-Type": "application/json", **more}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._http.post(self.urls["retrainer"] + path, content=content, headers=headers, timeout=60.0)

    def production(self) -> str | None:
        """The version behind the alias `production`; None where there is none, or the registry does not answer."""
        try:
            return self.registry.alias(PRODUCTION)
        except RegistryUnavailable:
            return None

    def served(self) -> str | None:
        """The version that the server answers with; None where it does not answer, or with the stub."""
        model = self.get("server", "/model")
        return None if model is None or model["stub"] else str(model["model_version"])

    def metric(self, name: str) -> float | None:
        """The value of one of the server's metrics, its first series; None where it has none, or does not answer."""
        try:
            text = self._http.get(self.urls["server"] + "/metrics").text
        except httpx.HTTPError:
            return None
        lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        return float(lines[0].rpartition(" ")[2]) if lines else None

    def loop(self) -> dict[str, Any]:
        """The retrainer's status; empty while it does not answer."""
        return self.get("retrainer", "/status") or {}

    def events(self) -> list[dict[str, Any]]:
        """The event log as it is on disk, also while the retrainer is away."""
        known = self._events
        with contextlib.suppress(DriftloopError):  # it is being made
            new = read_events(self.state / "loop" / STORE, known[-1]["seq"] if known else 0)
            known += new
            self.undescribed += [each for event in new for each in undescribed(event)]
        return known

    def of_kind(self, kind: str, **detail: Any) -> list[dict[str, Any]]:
        """The events of one kind with these details."""
        return [e for e in self.events() if e["kind"] == kind and all(e.get(k) == v for k, v in detail.items())]

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = LONG_S) -> Any:
        """Wait until `condition()` is true and return it; fails the test, naming `what`, where it is not in time."""
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            if self.up is not None and self.up.poll() is not None:
                pytest.fail(f"`driftloop up` ended with code {self.up.returncode} while waiting for {what}")
            if time.monotonic() > deadline:
                pytest.fail(f"waited {limit_s:g} s for {what}")
            time.sleep(POLL_S)
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A driftloop command in this platform's environment."""
        token = self.state / "token"
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment | ({"DRIFTLOOP_TOKEN_FILE": str(token)} if token.exists() else {}),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * LONG_S, check=False,
        )  # fmt: skip
        print(f"$ driftloop {' '.join(arguments)}  -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def evidence(self) -> str:
        """The ends of all logs and the newest events; pytest shows it where a test fails."""
        parts = [f"evidence of {self.state}"]
        for log in sorted((self.state / "logs").glob("*.log")):
            parts += [f"--- {log.name}", tail(log, EVIDENCE_LINES)]
        for log in sorted((self.state / "loop" / "pipelines").glob("*/pipeline.log"))[-2:]:
            parts += [f"--- {log.parent.name}", tail(log, EVIDENCE_LINES)]
        parts.append("--- events")
        parts += [json.dumps(event) for event in shortened(self.events())]
        parts += ["--- state", json.dumps(self.loop())]
        return "\n".join(parts)


class Traffic:
    """An open-loop load in a thread of its own, while the context lasts; `records` is what became of it."""

    def __init__(
        self, platform: Platform, runs: Sequence[Run], *, rate: float, window: int, timeout_s: float, seed: int = 0
    ) -> None:
        fleet = AgingFleet([encoded(run) for run in runs], window, seed)
        self.load = Load(platform.urls["server"] + "/predict", rate, fleet.next_request, timeout_s)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.load.run()), name="traffic")

    @property
    def records(self) -> list[Record]:
        """One record for each request, in the order of sending."""
        return self.load.records

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing more, and wait for the last answers."""
        self.load.stop()
        self._thread.join()


_ENCODED: dict[str, SentEngine] = {}


def encoded(run: Run) -> SentEngine:
    """An engine as it is sent; encoded once for all tests."""
    return _ENCODED.setdefault(run.run_id + run.sha256, encode(run))


def shortened(events: Sequence[dict[str, Any]], most: int = 60) -> Iterator[dict[str, Any]]:
    """The newest events without the repetitions of one verdict and without the lists of figures."""
    said: object = None
    kept = []
    for event in events:
        verdict = (event.get("model_version"), event.get("verdict"))
        if event["kind"] == "verdict" and verdict == said:
            continue
        said = verdict if event["kind"] == "verdict" else said
        kept.append({key: value for key, value in event.items() if key not in ("worst", "id", "mixture", "metrics")})
    yield from kept[-most:]


def _quick_training(folder: Path) -> Path:
    """A folder that makes the trainings of all processes small, as the first of their PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_bytes(Path(__file__).with_name("quick_training.py").read_bytes())
    return folder


def _command(pid: int) -> str:
    try:
        return f"{pid} {' '.join(psutil.Process(pid).cmdline())}"
    except psutil.Error:
        return str(pid)


def _mentioning(folder: str) -> list[str]:
    """Processes whose command or environment names the folder, which a mark in the environment might have missed."""
    found = []
    for process in psutil.process_iter():
        try:
            named = folder in " ".join(process.cmdline()) or folder in process.environ().values()
            if named and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(_command(process.pid))
        except psutil.Error:
            continue
    return found
