"""That an alert has ended is not missed, however its messages are lost, doubled or overtaken on their way."""

import threading
from pathlib import Path

import pytest

from driftloop.protocol.alerts import Alert

from .test_worker import CAUSE, World

SINCE, LATER = "2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def end(world: World, since: str = SINCE) -> None:
    """The watch says so itself, beside the webhook, and again for a while."""
    ended = Alert(False, "fleet_change", "1", since, ["sensor_11"], ends_at=LATER)
    world.report(
        "alert_resolved",
        id=ended.end_id,
        model_version="1",
        cause=CAUSE,
        drift="fleet_change",
        starts_at=since,
        features=["sensor_11"],
        ends_at=LATER,
    )


def test_an_end_that_alertmanager_never_passed_on_calls_off_what_waits(world: World):
    # The alert began again before Alertmanager had told of its end: under the same labels it knows one alert alone.
    world.alert(at=SINCE)
    assert world.settle() == "waiting_for_labels"
    world.alert(at=LATER)
    end(world)
    assert world.store.state.firing == {CAUSE: [LATER]}
    assert world.settle() == "waiting_for_labels"
    world.alert(firing=False, at=LATER)
    assert world.settle() == "idle"
    assert world.store.state.firing == {}
    assert world.decisions == [(CAUSE, "resolved")]


def test_an_end_that_is_told_again_ends_nothing_younger_and_is_one_event(world: World):
    world.alert(at=SINCE)
    for _ in range(3):
        end(world)
    world.alert(at=LATER)
    end(world)
    assert world.store.state.firing == {CAUSE: [LATER]}
    assert world.kinds.count("alert_resolved") == 1


def test_a_webhook_that_was_held_up_by_the_archive_begins_nothing_that_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.turned_down(20)
    world.alert(firing=False)
    world.settle()
    asked, answers = threading.Event(), threading.Event()
    total = world.archive.total

    def slow() -> int:
        asked.set()
        assert answers.wait(30)
        return total()

    monkeypatch.setattr(world.archive, "total", slow)
    late = threading.Thread(target=lambda: world.alert(at=LATER))
    late.start()
    assert asked.wait(30)
    # The sender has given up waiting, and the end of its alert needs no archive.
    assert world.alert(firing=False, at=LATER) == "resolved"
    answers.set()
    late.join()
    assert world.store.state.firing == {CAUSE: [LATER]}
    end(world, LATER)
    assert world.store.state.firing == {}
    assert world.settle() == "idle"


def test_an_alert_that_starts_in_the_future_or_before_all_times_fires_and_ends(world: World):
    for at in ("2999-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z"):
        world.alert(at=at)
        assert world.settle() == "waiting_for_labels"
        world.alert(firing=False, at=at)
        assert world.settle() == "idle"


def test_an_alert_that_fires_again_under_its_own_beginning_counts(world: World):
    """Alertmanager ends an alert whose watch was away for a minute; the watch comes back with the same one."""
    world.alert()
    world.settle()
    world.alert(firing=False)
    assert world.settle() == "idle"
    assert world.alert() == "queued"
    assert world.settle() == "waiting_for_labels"
