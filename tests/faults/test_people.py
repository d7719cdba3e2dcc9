"""Kills between shadow, approval and promotion, where a person approves every promotion, and over a rollback by hand.

Around first aid, which the quickly trained model of these cases cannot be given, tests/loop/test_worker_first_aid.py
kills.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from driftloop.fleet.runs import Run
from driftloop_bench.experiment.traffic import failed
from live_platform import LONG_S, Platform

from .conftest import Prepare
from .story import Story
from .test_kill import hurt, kill

ASKING = {"DRIFTLOOP_PROMOTION": "approve"}
DURING = ("shadow", "awaiting_approval", "approved")
CASES = [(process, phase) for process in ("retrainer", "server", "mlflow", "up") for phase in DURING]


@pytest.mark.parametrize(("process", "phase"), CASES, ids=["-".join(case) for case in CASES])
def test_a_kill_around_an_approval_loses_nothing_and_asks_once(
    process: str, phase: str, prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    platform = prepared(**ASKING)
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post([run for run in changed_fleet if run.role != "live"])
        if phase == "approved":
            approve(platform)
        else:
            story.until(phase)
        hurt(platform, story, process)
        if phase != "approved":
            approve(platform)
        assert story.settled()["decision"] == "promoted"
        story.check(moved=True)
    (asked,) = platform.of_kind("approval_needed")
    (answered,) = platform.of_kind("approval_answered")
    assert (answered["approval"], answered["who"]) == (asked["approval"], "ann")
    assert len(platform.of_kind("shadow_ended")) == 1
    assert platform.registry.tags(asked["model_version"])["approval_by"] == "ann"


@pytest.mark.parametrize("phase", ["collect", "train"])
def test_going_back_while_a_retraining_runs_and_a_kill_over_it(
    phase: str, prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    platform = prepared()
    assert platform.run("train").returncode == 0
    assert platform.run("promote", "2").returncode == 0
    platform.wait(lambda: platform.served() == "2", "version 2 to be served")
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post([run for run in changed_fleet if run.role != "live"])
        story.until(phase)
        [of_two] = platform.of_kind("retraining_started")
        asking = threading.Thread(target=go_back, args=(platform,))
        asking.start()
        # As near as a test comes to between the alias and the store.
        platform.wait(lambda: platform.production() == "1", "the alias to move")
        kill(platform.pid("retrainer"))
        asking.join()
        platform.wait(lambda: platform.of_kind("retraining_superseded"), "the end of the retraining", LONG_S)
        assert story.settled("fleet_change:1")["decision"] == "promoted"
        platform.wait(lambda: platform.served() == platform.production(), "the server to serve what is in production")
        story.traffic.stop()
    (back,) = platform.of_kind("rolled_back")
    assert (back["model_version"], back["from_version"], back["who"]) == ("1", "2", "bob")
    (ended,) = platform.of_kind("retraining_superseded")
    assert (ended["run"], ended["model_version"]) == (of_two["run"], "2")
    # The next one began at the version that was gone back to, and what the ended one had made was never promoted.
    production = platform.registry.version(platform.production() or "")
    assert production.tags["parent_version"] == "1"
    made = [v for v in platform.registry.versions() if v.tags.get("retraining") == of_two["run"]]
    assert {version.tags["decision"] for version in made} <= {"abandoned", "rejected"}
    assert platform.registry.tags("2")["decision"] == "rolled_back"
    assert not list(failed(story.traffic.records))


def go_back(platform: Platform) -> None:
    """Ask until there is an answer, which a retrainer that is killed meanwhile does not give; it happens once."""

    def answered() -> Any:
        with contextlib.suppress(httpx.HTTPError):
            body = {"from_version": "2", "reason": "wild answers"}
            return platform.post("/rollback", body, X_Driftloop_Actor="bob").is_success
        return None

    platform.wait(answered, "the rollback to be answered")


def approve(platform: Platform) -> str:
    """Approve what waits, as Ann, as soon as anything does and until that is taken; its version."""

    def answered() -> Any:
        waiting = platform.loop().get("approval")
        if waiting is None:
            return None
        body = {"answer": "approve", "reason": "in a test"}
        answer = platform.post(f"/approvals/{waiting['id']}", body, X_Driftloop_Actor="ann")
        return waiting["version"] if answer.status_code in (200, 409) else None

    # A retrainer that is killed meanwhile may have the answer, or not: it is given again.
    return str(platform.wait(answered, "an approval", LONG_S))
