"""What 8df0893 has written is read as it was meant: the files in `before/` were made by it."""

import shutil
from pathlib import Path

from driftloop.drift.alerts import read_alert
from driftloop.loop import migration
from driftloop.loop.feedback import FeedbackLog, Outcome
from driftloop.protocol.alerts import Alert, read_webhook
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT, Cause, by_hand

BEFORE = Path(__file__).parent / "before"
SINCE = "2026-01-31T12:00:00.000Z"


def test_the_loop_goes_on_from_its_state(tmp_path: Path):
    shutil.copy(BEFORE / "state.json", tmp_path)
    found = migration.read_state(tmp_path / "state.json")
    assert found.phase == "running"
    assert found.attempt is not None
    assert (found.attempt.why, found.attempt.step, found.attempt.archived) == (Cause(FLEET_CHANGE, "1"), "train", 80)
    assert [(str(item.why), item.mode) for item in found.queue] == [("concept:1", "full")]
    assert found.firing == {"fleet_change:1": [SINCE], "sensor_fault:1": [SINCE]}
    assert list(found.settled) == ["by_hand", str(by_hand("1", SINCE))]
    found.reopen("1", "promoted again", 90)
    assert [decision.decision for decision in found.settled.values()] == ["rolled_back", "superseded"]
    store = migration.open_store(tmp_path, keep=100)
    with store.change() as change:
        change.state = found
    store.close()
    again = migration.open_store(tmp_path, keep=100)
    assert again.state == found
    again.close()


def test_the_watch_goes_on_with_its_alert():
    alert = read_alert(BEFORE / "watch.json", "cmapss")
    assert alert is not None
    assert (alert.cause, alert.starts_at, alert.features) == (Cause(SENSOR_FAULT, "1"), SINCE, ["sensor_4"])
    assert (alert.n, alert.score, alert.fleet, alert.firing) == (500, 3.25, "cmapss", True)
    assert alert.summary == "Traffic of model version 1 has drifted, a sensor does not tell the truth: sensor_4"


def test_a_webhook_that_was_on_its_way_is_ours_whatever_our_fleet_is():
    about = "Traffic of model version 1 has drifted, the fleet has changed: sensor_4, sensor_11"
    expected = Alert(True, FLEET_CHANGE, "1", SINCE, ["sensor_4", "sensor_11"], 500, 3.25, about)
    assert read_webhook((BEFORE / "webhook.json").read_bytes(), "cells").ours == [expected]


def test_events_and_feedback_are_all_there(tmp_path: Path):
    shutil.copytree(BEFORE, tmp_path / "events", ignore=shutil.ignore_patterns("*.json", "feedback*"))
    shutil.copytree(BEFORE, tmp_path / "feedback", ignore=shutil.ignore_patterns("*.json", "events*"))
    store = migration.open_store(tmp_path, keep=100)
    assert [(event["seq"], event["kind"]) for event in store.read()] == [(1, "verdict"), (2, "promoted")]
    assert store.append("rejected")["seq"] == 3
    feedback = FeedbackLog(store)
    assert feedback.engines() == ["a", "b", "c"]
    assert feedback.outcomes("c", "1") == [Outcome("c", "cycle 3", "1", 50.0, 40.0, 60.0, 55.0)]
    store.close()
