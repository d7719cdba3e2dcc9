"""What docs/approvals.md has one type, typed as it stands, beside a retrainer that asks."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftloop.loop.api import service
from driftloop.loop.jobs.local import Job
from driftloop.loop.judge import promotion
from driftloop.settings import Settings
from live_platform import COMMAND
from live_server import running
from walking import UP, commands

from .fakes import FakeBackend, FakeRegistry
from .test_service import TOKEN, run_of

PAGE = "docs/approvals.md"


class Asking:
    """A retrainer whose gate passes every challenger, and somebody who types beside it."""

    def __init__(self, folder: Path, http: httpx.Client, registry: FakeRegistry) -> None:
        self.folder, self.http, self.registry = folder, http, registry

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/status").json()
        return found

    def asks(self) -> dict[str, Any]:
        """Retrain; the question, once there is one."""
        self.until(lambda: self.status()["state"] in ("idle", "cooling_down"))
        answer = self.http.post("/retrain", json={})
        assert answer.status_code == 200, answer.text
        self.until(lambda: self.status()["approval"])
        question: dict[str, Any] = self.status()["approval"]
        return question

    def until(self, condition: Any) -> None:
        """Until it holds, or the test's own time is over."""
        while not condition():
            time.sleep(0.02)

    def types(self, line: str) -> str:
        """Type a command; what it printed."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        # `status` says too that there is no server here.
        ends_well = (0, 1) if line.startswith("driftloop status") else (0,)
        assert done.returncode in ends_well, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What the shell has: `driftloop` and the address of this retrainer."""
        bin_ = self.folder / "bin"
        bin_.mkdir(exist_ok=True)
        (bin_ / "driftloop").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        (bin_ / "driftloop").chmod(0o755)
        own = {"DRIFTLOOP_RETRAINER_URL": str(self.http.base_url).rstrip("/"), "DRIFTLOOP_STATE_DIR": "state"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLOOP_")}
        path = f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            **kept,
            **own,
            "PATH": path,
            "HOME": str(self.folder),
            "LOGNAME": "kim",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    state = tmp_path / "state"
    state.mkdir()
    (state / "token").write_text(TOKEN)
    settings = Settings(
        state_dir=state, token_file=state / "token", promotion="approve", shadow_answers=0, cool_down_s=0
    )
    registry = FakeRegistry()
    registry.add(decision="promoted")
    registry.pointers["production"] = "1"
    registry.close = lambda: None  # type: ignore[attr-defined]

    def passes(job: Job) -> None:
        tags = {
            "retraining": job.run,
            "cause": job.cause,
            "parent_version": job.champion,
            "bundle_digest": "1a2b3c4d" * 8,
        }
        promotion.decide(registry, registry.add(**tags), promotion.APPROVED, "better", job.cause)

    monkeypatch.setattr(service, "Registry", lambda *_: registry)
    app = service.create_app(settings, backend=FakeBackend(script=passes))
    with running(app) as http:
        http.headers["Authorization"] = f"Bearer {TOKEN}"
        runs = [{**run_of(f"eng-q{number:02d}", seed=number), "confirmed": True} for number in range(24)]
        assert http.post("/archive/runs", json={"runs": runs}).status_code == 200
        yield Asking(tmp_path, http, registry)


def test_what_the_page_on_approvals_has_one_type(asking: Asking) -> None:
    [up, *typed] = commands(PAGE)
    started = UP.match(up)
    assert started
    assert started["variables"].strip() == "DRIFTLOOP_PROMOTION=approve"
    said = {}
    for line in typed:
        question = asking.asks() if not asking.status()["approval"] else asking.status()["approval"]
        here = line.replace("http://127.0.0.1:8600", str(asking.http.base_url).rstrip("/"))
        said[line] = asking.types(here.replace("3-1a2b3c4d", question["id"]))
        if "status" not in line:
            asking.until(lambda: not asking.status()["approval"])
    answers = [event for event in asking.http.get("/events").json()["events"] if event["kind"] == "approval_answered"]
    assert [(one["model_version"], one["answer"], one["who"]) for one in answers] == [
        ("2", "approve", "kim"),
        ("3", "reject", "kim"),
        ("4", "approve", "ann"),
    ]
    assert [one["reason"] for one in answers] == ["agrees with the bench", "wrong on unit 7", "agrees with the bench"]
    decisions = {version: asking.registry.tags(version)["decision"] for version in ("2", "3", "4")}
    assert decisions == {"2": "promoted", "3": "rejected", "4": "promoted"}
    [status] = [said[line] for line in typed if line.startswith("driftloop status")]
    assert "2-1a2b3c4d" in status
    assert json.loads(said[typed[-1]])["answer"] == "approve"
