"""Kills between shadow, approval and promotion, where a person approves every promotion.

Around first aid, which the quickly trained model of these cases cannot be given, tests/loop/test_worker_first_aid.py
kills.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from driftloop.fleet.runs import Run
from live_platform import LONG_S, Platform

from .conftest import Prepare
from .story import Story
from .test_kill import hurt

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
