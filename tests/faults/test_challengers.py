"""Challengers that are worse, and alerts that come together."""

import threading
from collections.abc import Sequence

import numpy as np

from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import COLUMNS
from driftloop.fleets.cmapss.simulator import simulate

from .conftest import ENGINES, Prepare
from .story import Story, alert, webhook

MANY = 30
"""Runs that a first challenger learns from."""
HIGHER = np.eye(1, len(COLUMNS)) * 5.0
"""What is added to a row so that its altitude is one of no known regime."""


def test_a_worse_challenger_is_rejected_and_not_tried_again_until_new_runs_arrive(
    prepared: Prepare, healthy_fleet: Sequence[Run]
) -> None:
    platform = prepared()
    lives = simulate("FD001", seed=1, engines=ENGINES, splits=("train",)).train
    # Units of another fleet, or they would be no labels of one: run where the champion has not been, and else alike.
    runs = [Run(f"eng-scrambled-{unit}", rows + HIGHER) for unit, rows in enumerate(lives)]
    completed = [run for run in runs if run.role != "live"]
    # Engines to learn from that get better with age; the gate engines tell the truth.
    scrambled = [run if run.role == "gate" else Run(run.run_id, run.rows[::-1].copy()) for run in completed]
    with Story(platform, healthy_fleet) as story:
        story.post(scrambled[:MANY])
        assert platform.post("/alerts", webhook(alert())).json()["alerts"][0]["result"] == "queued"
        decision = story.settled()
        assert decision["decision"] == "rejected"
        assert "not shown to be better" in decision["reason"]
        rejected = platform.of_kind("rejected")
        assert [event["reason"] for event in rejected] == [decision["reason"]]
        tags = platform.registry.tags(rejected[0]["model_version"])
        assert (tags["decision"], tags["decision_reason"]) == ("rejected", decision["reason"])
        story.check(moved=False)

    # The same alert, fired anew: it waits for more runs, and says so.
    assert platform.post("/alerts", webhook(alert())).json()["alerts"][0]["result"] in ("queued", "duplicate")
    platform.wait(lambda: platform.of_kind("waiting_for_labels"), "the wait for more runs")
    reason = platform.of_kind("waiting_for_labels")[-1]["reason"]
    assert f"a challenger that learnt {MANY} was turned down" in reason
    assert len(platform.of_kind("retraining_started")) == 1
    # Half as many more open the cause again.
    story.post(scrambled[MANY : MANY + 1])
    story.post(scrambled[MANY + 1 :])
    platform.wait(lambda: len(platform.of_kind("retraining_started")) == 2, "the second retraining")


def test_alerts_that_come_at_once_start_one_retraining(prepared: Prepare, changed_fleet: Sequence[Run]) -> None:
    platform = prepared()
    answers: list[str] = []

    def fire() -> None:
        body = webhook(alert(since="2026-01-01T00:00:00.000Z"), alert("sensor_fault"), alert())
        answers.extend(item["result"] for item in platform.post("/alerts", body).json()["alerts"])

    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post([run for run in changed_fleet if run.role != "live"])
        at_once = [threading.Thread(target=fire) for _ in range(4)]
        for thread in at_once:
            thread.start()
        for thread in at_once:
            thread.join()
        assert len(answers) == 12
        # The watch has seen the drift by itself meanwhile, or it has not: one of them all was the first.
        assert answers.count("queued") <= 1
        assert set(answers) <= {"queued", "duplicate", "refused"}
        assert story.settled()["decision"] == "promoted"
        assert len(platform.of_kind("retraining_started")) == 1
        refusals = platform.of_kind("retraining_refused", cause="sensor_fault:1")
        assert all("sensor fault" in refusal["reason"] for refusal in refusals)
        assert refusals
        story.check(moved=True)
