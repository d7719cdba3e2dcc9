"""What is done by the clock: when it is due, that it is done once, and what watches say."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop import schedules
from driftloop.loop.by_hand import Busy, Unknown
from driftloop.loop.calendar import Calendar, LiveError
from driftloop.loop.schedules import Muted, Schedule
from driftloop.loop.waits import Now

from .fakes import NEW, Clocks
from .test_worker import World

DAY = 86_400.0


class Days:
    """A retrainer and its calendar; `pass_s` lets time pass and does what is due."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.error: LiveError | None = None
        self.start()

    def start(self) -> None:
        self.calendar = Calendar(self.world.worker, lambda: self.error)

    def restart(self) -> None:
        self.world.restart()
        self.start()
        self.world.settle()

    def pass_s(self, seconds: float) -> float:
        self.world.clock.now += seconds
        return self.turn()

    def turn(self) -> float:
        left = self.calendar.turn()
        self.world.settle()
        return left

    def add(self, name: str, act: Any, **about: Any) -> Schedule:
        return self.calendar.add(Schedule(name, act, **about), "ann")

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.world.store.read() if event["kind"] == kind]

    def finish(self) -> None:
        """Let the retraining under way end, and its pause pass."""
        self.world.run(self.world.rejecting)
        self.world.settle()
        self.world.clock.now += 31.0
        self.world.settle()


@pytest.fixture
def days(tmp_path: Path) -> Days:
    made = Days(tmp_path)
    made.world.settle()
    return made


def test_a_retraining_is_started_every_so_often_and_once_each_time(days: Days) -> None:
    days.world.arrive()
    days.add("weekly", "retrain", every_s=7 * DAY, mode="full")
    assert days.pass_s(6.9 * DAY) == pytest.approx(60.0)
    assert days.world.backend.jobs == []
    days.pass_s(0.2 * DAY)
    assert [job.mode for job in days.world.backend.jobs] == ["full"]
    (due,) = days.of_kind("schedule_due")
    assert (due["schedule"], due["result"]) == ("weekly", "started")
    assert due["next"] == days.world.status["schedules"][0]["next"] > days.world.clock().time
    assert days.of_kind("retraining_started")[0]["who"] == "schedule weekly"
    days.turn()
    days.finish()
    days.turn()
    assert len(days.world.backend.jobs) == 1
    days.pass_s(7 * DAY)
    assert len(days.world.backend.jobs) == 2


def test_one_that_was_missed_runs_once(days: Days) -> None:
    days.world.arrive()
    days.add("daily", "retrain", every_s=DAY)
    days.world.clock.now += 9.5 * DAY
    days.restart()
    days.turn()
    assert len(days.world.backend.jobs) == 1
    days.finish()
    days.turn()
    assert len(days.world.backend.jobs) == 1
    assert days.world.status["schedules"][0]["next"] > days.world.clock().time


def test_after_another_boot_the_wall_clock_says_what_is_left(days: Days) -> None:
    days.world.arrive()
    days.add("weekly", "retrain", every_s=7 * DAY)
    days.world.clock.wall += 6 * DAY
    days.world.clock.boot, days.world.clock.now = "boot-2", days.world.clock.now - 4000.0
    days.restart()
    days.turn()
    assert days.world.backend.jobs == []
    days.pass_s(1.1 * DAY)
    assert len(days.world.backend.jobs) == 1


@given(
    steps=st.lists(st.tuples(st.sampled_from([-1e8, -400.0, 0.0, 400.0, 1e8]), st.booleans()), max_size=6),
    every=st.sampled_from([60.0, DAY]),
)
def test_no_interval_is_longer_than_itself_whatever_the_clocks_do(
    steps: list[tuple[float, bool]], every: float
) -> None:
    clock = Clocks()
    entry = schedules.make(Schedule("one", "retrain", every_s=every), clock())
    for number, (jump, boots) in enumerate(steps):
        clock.wall += jump
        if boots:
            clock.boot, clock.now = f"boot-{number}", 100.0
        entry.carry_over(clock())
        assert 0.0 <= entry.left_s(clock()) <= every
        if not boots and not any(one[1] for one in steps[: number + 1]):
            # Nothing but the wall clock has moved, and it has no say.
            assert entry.left_s(clock()) == every


def test_cron_is_about_the_wall_clock_and_an_earlier_one_does_not_stop_it(days: Days) -> None:
    days.world.arrive()
    entry = days.add("night", "retrain", cron="0 3 * * *")
    assert durable.parse_time(entry.next).hour == 3
    days.pass_s(DAY)
    assert len(days.world.backend.jobs) == 1
    days.finish()
    days.turn()
    assert len(days.world.backend.jobs) == 1
    # Ten years ahead by mistake, then put right.
    days.world.clock.wall += 3650 * DAY
    days.turn()
    days.finish()
    count = len(days.world.backend.jobs)
    days.world.clock.wall -= 3650 * DAY
    days.turn()
    left = durable.parse_time(days.world.status["schedules"][0]["next"]) - durable.parse_time(days.world.clock().time)
    assert 0.0 < left.total_seconds() <= DAY
    assert len(days.world.backend.jobs) == count


def test_too_few_runs_are_said_and_the_next_time_comes(days: Days) -> None:
    days.add("daily", "retrain", every_s=DAY)
    days.pass_s(DAY)
    (due,) = days.of_kind("schedule_due")
    assert due["result"].startswith("nothing to learn from: 0 new completed runs")
    assert days.world.backend.jobs == []
    days.pass_s(DAY)
    assert len(days.of_kind("schedule_due")) == 2


def test_a_busy_loop_is_waited_for(days: Days) -> None:
    days.world.arrive()
    days.world.alert()
    days.world.settle()
    days.add("daily", "retrain", every_s=DAY)
    days.pass_s(DAY)
    assert (len(days.world.backend.jobs), days.of_kind("schedule_due")) == (1, [])
    days.finish()
    days.turn()
    assert len(days.world.backend.jobs) == 2


def test_a_kill_in_the_middle_neither_loses_nor_repeats_one(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.world.arrive()
    days.add("daily", "retrain", every_s=DAY)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(days.world.worker, "start", killed)
    with pytest.raises(KeyboardInterrupt):
        days.pass_s(DAY)
    days.restart()
    days.turn()
    assert len(days.world.backend.jobs) == 1
    assert len(days.of_kind("schedule_due")) == 1
    assert [event.get("resumed") for event in days.of_kind("retraining_started")] == [None, True]


def test_a_watch_of_the_error_fires_once_and_ends_below_its_threshold(days: Days) -> None:
    days.add("high", "error", above=20.0)
    for rmse in (None, 19.0, 21.0, 25.0, 19.0, 17.0, 19.0, 21.0):
        days.error = LiveError("1", rmse, "live") if rmse is not None else None
        days.pass_s(61.0)
    kinds = [event["kind"] for event in days.world.store.read() if event["kind"].startswith("watch_")]
    assert kinds == ["watch_firing", "watch_resolved", "watch_firing"]
    fired = days.of_kind("watch_firing")[0]
    assert (fired["model_version"], fired["reason"]) == ("1", "the live RMSE is 21.0, the limit 20")
    days.restart()
    assert days.world.status["schedules"][0]["firing"]


def test_a_watch_says_that_nothing_has_been_trained_for_too_long(days: Days) -> None:
    days.add("old", "overdue", days=30.0, every_s=3600.0)
    created = durable.parse_time(days.world.clock().time).timestamp()
    days.world.registry.known["1"] = days.world.registry.known["1"].__class__(
        **{**vars(days.world.registry.known["1"]), "created": created}
    )
    days.pass_s(29 * DAY)
    assert days.of_kind("watch_firing") == []
    days.pass_s(2 * DAY)
    assert days.of_kind("watch_firing")[0]["reason"] == "the last successful training was 31.0 days ago"
    # A provisional version is no training.
    version = days.world.registry.add(decision="promoted", training="first_aid")
    days.world.registry.known[version] = days.world.registry.known[version].__class__(
        **{**vars(days.world.registry.known[version]), "created": created + 31 * DAY}
    )
    days.pass_s(3600.0)
    assert days.of_kind("watch_resolved") == []
    days.world.registry.known[version].tags["training"] = "warm_start"
    days.pass_s(3600.0)
    assert len(days.of_kind("watch_resolved")) == 1


def test_entries_are_listed_replaced_and_cancelled(days: Days) -> None:
    days.add("daily", "retrain", every_s=DAY)
    days.add("daily", "retrain", every_s=2 * DAY)
    (shown,) = days.world.status["schedules"]
    assert (shown["every_s"], shown["who"], shown["firing"]) == (2 * DAY, "ann", False)
    assert "wait" not in shown
    assert days.calendar.cancel("daily", "bob").name == "daily"
    assert days.of_kind("schedule_removed")[0]["who"] == "bob"
    assert days.world.status["schedules"] == []
    with pytest.raises(Unknown):
        days.calendar.cancel("daily", "bob")


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"act": "retrain"}, "either every_s or cron"),
        ({"act": "retrain", "every_s": 5.0, "cron": "0 3 * * *"}, "either every_s or cron"),
        ({"act": "retrain", "cron": "at dawn"}, "is no cron expression"),
        ({"act": "retrain", "cron": "0 0 30 2 *"}, "is no cron expression"),
        ({"act": "overdue"}, "`overdue` needs `days`"),
        ({"act": "error"}, "`error` needs `above`"),
        ({"act": "retrain", "every_s": 5.0, "above": 3.0}, "above: is of `error` alone, not of `retrain`"),
    ],
)
def test_what_does_not_fit_together_is_refused(days: Days, about: dict[str, Any], why: str) -> None:
    with pytest.raises(DriftloopError, match=why):
        days.add("one", **about)
    assert days.world.status["schedules"] == []


def test_there_are_only_so_many(days: Days) -> None:
    for number in range(schedules.MOST):
        days.add(f"s{number}", "retrain", every_s=DAY)
    with pytest.raises(DriftloopError, match="there are 50 schedules already"):
        days.add("more", "retrain", every_s=DAY)
    days.add("s3", "retrain", every_s=DAY)


def test_a_mute_ends_by_itself_and_survives_a_restart(days: Days) -> None:
    days.calendar.mute("fleet_change:1", 600.0, "we know", "ann")
    days.pass_s(300.0)
    days.restart()
    (shown,) = days.world.status["muted"]
    assert (shown["cause"], shown["reason"], shown["who"]) == ("fleet_change:1", "we know", "ann")
    assert days.turn() <= 60.0
    days.pass_s(299.0)
    assert days.world.status["muted"]
    days.pass_s(2.0)
    assert days.world.status["muted"] == []
    assert [event.get("who") for event in days.of_kind("unmuted")] == [None]
    with pytest.raises(Unknown):
        days.calendar.unmute("fleet_change:1", "ann")


def test_no_mute_is_forgotten_for_a_newer_one(days: Days) -> None:
    for number in range(schedules.MOST):
        days.calendar.mute(f"fleet_change:{number}", 60.0, "", "ann")
    with pytest.raises(Busy, match="50 causes are muted already"):
        days.calendar.mute("concept", 60.0, "", "ann")
    days.calendar.mute("fleet_change:7", 600.0, "longer", "ann")
    assert len(days.world.store.state.muted) == schedules.MOST


def test_muted_is_a_cause_or_a_kind(days: Days) -> None:
    now = days.world.clock()
    days.calendar.mute("concept", 60.0, "", "ann")
    days.calendar.mute("fleet_change:1", 60.0, "", "ann")
    muted: list[Muted] = days.world.store.state.muted
    said = {
        cause: schedules.is_muted(muted, cause, now)
        for cause in ("concept:3", "concept", "fleet_change:1", "fleet_change:12", "fleet_change")
    }
    assert said == {
        "concept:3": True,
        "concept": True,
        "fleet_change:1": True,
        "fleet_change:12": False,
        "fleet_change": False,
    }
    assert not schedules.is_muted(muted, "concept:3", Now(now.boot, now.seconds + 61.0, now.time))


def test_first_aid_by_hand_stands_until_labels_come(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    from driftloop.loop import by_hand, first_aid

    from .test_worker_first_aid import Aid

    aid = Aid(days.world)
    monkeypatch.setattr(first_aid, "give", aid)
    assert by_hand.first_aid(days.world.worker, "ann")["result"] == "waiting"
    assert days.world.settle() == "idle"
    aid.kind = "promoted"
    assert by_hand.first_aid(days.world.worker, "ann") == {
        "result": "promoted",
        "reason": "grown",
        "model_version": "2",
    }
    assert days.world.settle() == "waiting_for_labels"
    assert days.of_kind("first_aid_promoted")[0]["who"] == "ann"
    with pytest.raises(by_hand.Busy, match="is provisional already"):
        by_hand.first_aid(days.world.worker, "ann")
    days.restart()
    days.world.arrive(len(NEW))
    assert days.world.settle() == "running"
