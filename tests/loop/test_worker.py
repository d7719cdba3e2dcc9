"""The worker, with a registry, an archive, a pipeline, a server and a clock in the test's hands."""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.loop import by_hand, changes, migration, status
from driftloop.loop.by_hand import Busy
from driftloop.loop.decide import MAX_RESTARTS, NOTHING_NEW
from driftloop.loop.inbox import Inbox
from driftloop.loop.jobs.local import Job, Runs, unpack
from driftloop.loop.judge import gate, promotion
from driftloop.loop.moves import Facts
from driftloop.loop.state import Attempt
from driftloop.loop.store import NAME, read_events
from driftloop.loop.worker import Worker
from driftloop.protocol.alerts import Alert
from driftloop.protocol.windows import UnitWindow
from driftloop.settings import Settings
from driftloop.training.modes import Mode

from .fakes import NEW, OLD, Clocks, FakeArchive, FakeBackend, FakeEvidence, FakeRegistry, KilledError

CAUSE = "fleet_change:1"


class World:
    """One retrainer and everything around it; `restart` is a kill -9 and a new start."""

    def __init__(self, folder: Path, **overrides: object) -> None:
        self.folder = folder
        chosen = {"cool_down_s": 30.0, "recovery_answers": 1000, "enable_retraining": True, "first_aid": False}
        chosen |= {"shadow_answers": 0}
        self.settings = Settings(state_dir=folder, **{**chosen, **overrides})
        self.clock, self.archive, self.registry = Clocks(), FakeArchive([*OLD]), FakeRegistry()
        self.registry.add(decision="promoted")
        self.registry.pointers["production"] = "1"
        self.backend, self.evidence = FakeBackend(), FakeEvidence()
        self.changed: list[str] = []
        self.windows: list[UnitWindow] = []
        self.serves: str | None = None
        self.restart()

    def restart(self) -> None:
        self.backend = FakeBackend(jobs=self.backend.jobs, script=self.backend.script)
        if hasattr(self, "store"):
            self.store.close()
        self.store = migration.open_store(self.folder, 10_000)
        self.worker = Worker(
            self.settings,
            self.folder,
            self.store,
            self.registry,
            self.archive,
            self.backend,
            changed_runs=lambda: self.changed,
            windows=lambda: self.windows,
            served=lambda: self.serves or self.registry.pointers["production"],
            clock=self.clock,
        )
        self.worker.look.evidence = self.evidence
        self.inbox = Inbox(self.worker)

    # By hand.

    def retrain(self, mode: Mode) -> Attempt:
        return by_hand.retrain(self.worker, mode)

    def promote(self, version: str) -> str | None:
        return by_hand.promote(self.worker, version).from_version

    def rollback(self, version: str | None = None) -> tuple[str | None, str]:
        """Go back from a version, by default the one that is in production; where from, and where to."""
        done = by_hand.rollback(self.worker, version or self.registry.pointers["production"])
        return done.from_version, done.model_version

    def settle(self, moves: int = 20) -> str:
        """Make every move that is due now; the state afterwards."""
        for _ in range(moves):
            pause = self.worker.tick()
            if pause is None or pause > 0:
                break
        return self.phase

    @property
    def phase(self) -> str:
        return self.store.state.phase

    @property
    def status(self) -> dict[str, Any]:
        return status.status(self.worker)

    @property
    def waits_for(self) -> str:
        """What the loop lacks now."""
        attempt = self.store.state.attempt
        assert attempt is not None
        return self.worker.look.lacking_for(attempt) or ""

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.store.read()]

    @property
    def decisions(self) -> list[tuple[str, str]]:
        return [(item["cause"], item["decision"]) for item in self.status["history"]]

    def alert(
        self, version: str = "1", *, firing: bool = True, drift: str = "fleet_change", at: str | None = None
    ) -> str:
        since = at or "2027-01-15T08:00:00.000Z"
        return self.inbox.on_alert(Alert(firing, drift, version, since, ["sensor_11"], 500, 3.0, "drift"))

    def arrive(self, count: int = len(NEW)) -> None:
        self.archive.ids = [*OLD, *NEW[:count]]
        self.inbox.on_runs(NEW[:count])
        self.clock.now += 1.0

    def report(self, kind: str, **detail: object) -> None:
        self.inbox.on_event({"kind": kind, **detail})

    # What the steps of a pipeline do to the world.

    def train(self, job: Job) -> str:
        return self.registry.add(retraining=job.run, cause=job.cause, parent_version=job.champion, decision="pending")

    def approving(self, job: Job) -> None:
        promotion.decide(self.registry, self.train(job), promotion.APPROVED, "better", job.cause)

    def rejecting(self, job: Job) -> None:
        promotion.decide(self.registry, self.train(job), promotion.REJECTED, "worse on old engines", job.cause)

    def turned_down(self, labels: int) -> None:
        """A challenger that learnt from so many labels was rejected, and the pause after it is over."""
        self.arrive(labels)
        self.alert()
        self.settle()
        self.run(self.rejecting)
        self.settle()
        self.clock.now += 31

    def asking(self, job: Job) -> None:
        promotion.decide(
            self.registry, self.train(job), promotion.UNDECIDED, "only 1 new", job.cause, ["better", gate.TOO_FEW]
        )
        self.registry.set_alias("challenger", self.registry.versions()[-1].version)

    def run(self, script: Callable[[Job], None]) -> None:
        script(self.backend.jobs[-1])
        self.backend.end()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("verdict", ["no_drift", "fleet_age"])
def test_an_alert_leads_to_a_promotion_that_the_watch_confirms(world: World, verdict: str):
    world.arrive()
    assert world.alert() == "queued"
    assert world.settle() == "running"
    assert world.backend.jobs == [Job(world.backend.jobs[0].run, CAUSE, "1", "warm_start", Runs(sorted(NEW)).packed())]
    world.run(world.approving)
    assert world.settle() == "verifying"
    world.report("verdict", model_version="2", verdict="not_enough_data", n=100)
    assert world.settle() == "verifying"
    world.report("verdict", model_version="2", verdict=verdict, n=900)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers == {"production": "2", "previous": "1"}
    assert world.registry.tags("2")["decision"] == "promoted"
    assert world.decisions == [(CAUSE, "promoted")]
    assert [kind for kind in world.kinds if kind != "verdict"] == [
        "alert_firing",
        "retraining_started",
        "promoted",
        "serving_confirmed",
        "recovery_verified",
    ]
    world.clock.now += 31
    assert world.settle() == "idle"


def test_a_concept_drift_waits_for_runs_with_the_new_labels_and_is_decided_by_the_gate(world: World):
    world.arrive(40)
    world.changed = NEW[38:]
    assert world.alert(drift="concept") == "queued"
    assert world.settle() == "waiting_for_labels"
    world.changed = NEW[20:]
    world.arrive(60)
    world.settle()
    world.clock.now += world.settings.supersede_pause_s
    assert world.settle() == "running"
    assert world.backend.jobs[0].cause == "concept:1"
    world.run(world.approving)
    # Nothing that the drift watch could see has changed, and there may be no traffic at all.
    assert world.settle() == "cooling_down"
    assert world.decisions == [("concept:1", "promoted")]
    assert "rolled_back" not in world.kinds


def test_before_all_labels_are_superseded_it_is_said_and_wrong_runs_can_be_taken_back(world: World):
    world.arrive(60)
    world.changed = NEW[20:]
    world.alert(drift="concept")
    assert world.settle() == "idle"
    (said,) = [event for event in world.store.read() if event["kind"] == "about_to_supersede"]
    assert (said["labels"], said["count"], said["runs"]) == (len(OLD), 40, sorted(NEW[20:]))
    assert said["seconds"] == world.settings.supersede_pause_s
    assert world.status["about_to"].startswith(f"about to supersede {len(OLD)} labels because of 40 runs (")

    world.clock.now += world.settings.supersede_pause_s - 1
    world.restart()
    assert world.settle() == "idle"
    # The runs are withdrawn: the concept watch ends its alert.
    world.changed = []
    world.alert(drift="concept", firing=False)
    world.clock.now += 10
    assert world.settle() == "idle"
    assert world.backend.jobs == []
    assert "about_to" not in world.status


def test_an_alert_that_ends_between_deciding_and_starting_starts_nothing(world: World, monkeypatch: pytest.MonkeyPatch):
    world.arrive()
    world.alert()
    real = world.worker.look.facts

    def facts_and_then(*given: Any) -> Facts:
        found = real(*given)
        world.alert(firing=False)
        return found

    monkeypatch.setattr(world.worker.look, "facts", facts_and_then)
    assert world.settle() == "idle"
    assert world.backend.jobs == []
    assert world.worker.blocked is None


def test_other_causes_start_without_a_pause(world: World):
    world.arrive(60)
    world.alert()
    assert world.settle() == "running"
    assert "about_to_supersede" not in world.kinds


def test_the_start_event_is_durable_before_the_pipeline_starts(world: World):
    world.arrive()
    world.alert()
    seen: list[list[str]] = []
    world.backend.script = lambda _: seen.append([event["kind"] for event in read_events(world.folder / NAME)])
    world.settle()
    assert seen[0][-1] == "retraining_started"


def test_the_same_alert_sent_again_is_the_same_cause(world: World):
    world.arrive()
    assert world.alert() == "queued"
    assert world.alert() == "duplicate"
    world.settle()
    assert world.alert() == "duplicate"
    assert len(world.backend.jobs) == 1
    assert world.kinds.count("alert_firing") == 1


def test_two_alerts_at_once_start_one_retraining(world: World):
    world.arrive()
    assert world.alert() == "queued"
    assert world.alert(drift="sensor_fault") == "refused"
    assert world.settle() == "running"
    assert len(world.backend.jobs) == 1
    assert world.kinds.count("retraining_started") == 1


def test_a_sensor_fault_is_refused_and_never_trained_on(world: World):
    world.arrive()
    assert world.alert(drift="sensor_fault") == "refused"
    assert world.alert(drift="sensor_fault") == "refused"
    assert world.settle() == "idle"
    assert world.backend.jobs == []
    refusals = [event for event in world.store.read() if event["kind"] == "retraining_refused"]
    assert len(refusals) == 1
    assert "sensor_11" in refusals[0]["reason"]


def test_with_retraining_switched_off_the_alert_is_recorded_and_nothing_else(tmp_path: Path):
    world = World(tmp_path)
    world.settings = world.settings.model_copy(update={"enable_retraining": False})
    world.restart()
    world.arrive()
    assert world.alert() == "recorded"
    assert world.settle() == "idle"
    assert world.kinds == ["alert_firing"]


def switch(world: World, on: bool) -> None:
    world.settings = world.settings.model_copy(update={"enable_retraining": on})
    world.restart()


def test_what_was_queued_stays_so_while_retraining_is_switched_off(world: World):
    world.arrive()
    assert world.alert() == "queued"
    switch(world, on=False)
    assert world.settle() == "idle"
    assert world.backend.jobs == []
    switch(world, on=True)
    assert world.settle() == "running"


def test_a_wait_for_labels_ends_when_retraining_is_switched_off(world: World):
    world.alert()
    assert world.settle() == "waiting_for_labels"
    switch(world, on=False)
    world.arrive()
    assert world.settle() == "idle"
    assert world.decisions == [(CAUSE, "switched_off")]
    assert world.backend.jobs == []
    switch(world, on=True)
    assert world.alert() == "queued"
    assert world.settle() == "running"


def test_a_retraining_that_was_under_way_ends_when_retraining_is_switched_off(world: World):
    world.arrive()
    world.alert()
    assert world.settle() == "running"
    switch(world, on=False)
    assert world.settle() == "cooling_down"
    assert world.decisions == [(CAUSE, "switched_off")]
    assert len(world.backend.jobs) == 1


def test_too_few_labels_wait_and_their_arrival_resumes(world: World):
    world.alert()
    assert world.settle() == "waiting_for_labels"
    assert "0 new completed runs" in str(world.status["attempt"]["waiting_for"])
    world.arrive(5)
    assert world.settle() == "waiting_for_labels"
    world.restart()
    assert world.settle() == "waiting_for_labels"
    world.arrive()
    assert world.settle() == "running"
    assert world.kinds.count("waiting_for_labels") == 1


def test_a_retraining_waits_until_a_fleets_runs_have_all_arrived(world: World):
    world.archive.ids = [*OLD, *NEW[:40]]
    world.alert()
    for _ in range(20):
        world.inbox.on_runs(NEW[:40])
        assert world.settle() == "idle"
        world.clock.now += 0.2
    world.clock.now += 0.2
    assert world.settle() == "running"


def test_runs_that_never_stop_arriving_are_not_waited_for_longer_than_ten_seconds(world: World):
    world.archive.ids = [*OLD, *NEW[:40]]
    world.alert()
    world.inbox.on_runs(NEW[:40])
    started = world.clock.now
    while world.settle() == "idle":
        world.clock.now += 0.2
        world.inbox.on_runs(NEW[:40])
    assert world.clock.now - started == pytest.approx(10.0, abs=0.3)


def test_an_alert_that_ends_while_waiting_ends_the_wait(world: World):
    world.alert()
    world.settle()
    assert world.alert(firing=False) == "resolved"
    assert world.settle() == "idle"
    assert world.decisions == [(CAUSE, "resolved")]
    world.arrive()
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "queued"


def test_a_plan_without_enough_usable_runs_waits_for_more(world: World):
    world.arrive(40)
    world.alert()
    world.settle()
    world.report("waiting_for_labels", run=world.backend.jobs[-1].run, reason="3 usable runs")
    world.backend.end(succeeded=False, error="too few")
    assert world.settle() == "waiting_for_labels"
    assert world.settle() == "waiting_for_labels"
    assert "retraining_failed" not in world.kinds
    world.arrive(41)
    assert world.settle() == "running"


def test_a_rejected_challenger_changes_nothing_and_is_not_retried_until_runs_arrive(world: World):
    world.arrive(40)
    world.alert()
    world.settle()
    world.run(world.rejecting)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers == {"production": "1"}
    assert world.registry.tags("2")["decision_reason"] == "worse on old engines"
    assert world.decisions == [(CAUSE, "rejected")]
    world.clock.now += 31
    # It goes on waiting, so that there may be first aid.
    assert world.settle() == "waiting_for_labels"
    said = "40 new completed runs, 60 are needed; a challenger that learnt 40 was turned down"
    assert world.status["attempt"]["waiting_for"] == said
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "duplicate"
    assert world.settle() == "waiting_for_labels"
    world.arrive()
    assert world.settle() == "running"


def test_a_challenger_is_not_tried_again_for_one_more_label(world: World):
    world.turned_down(36)
    for count in (37, 50, 53):
        world.arrive(count)
        assert world.settle() == "waiting_for_labels"
    assert "54 are needed; a challenger that learnt 36 was turned down" in world.waits_for
    # An alert that ends and comes again changes nothing in that.
    world.alert(firing=False)
    assert world.settle() == "idle"
    world.alert(at="2027-01-15T09:00:00.000Z")
    assert world.settle() == "waiting_for_labels"
    assert len(world.backend.jobs) == 1
    world.arrive(54)
    assert world.settle() == "running"


def test_a_pipeline_that_failed_is_tried_with_one_more_label(world: World):
    world.arrive(40)
    world.alert()
    for _ in range(changes.MAX_FAILURES):
        assert world.settle() == "running"
        world.backend.end(succeeded=False, error="the disk is full")
        assert world.settle() == "cooling_down"
        world.clock.now += 31
    assert world.settle() == "waiting_for_labels"
    assert world.status["attempt"]["waiting_for"] == NOTHING_NEW
    world.arrive(41)
    assert world.settle() == "running"


def test_a_person_may_have_runs_tried_that_the_loop_does_not_try_again(world: World):
    world.turned_down(40)
    assert world.settle() == "waiting_for_labels"
    world.retrain("full")
    assert world.settle() == "running"
    assert world.status["queue"] == [CAUSE]
    world.run(world.rejecting)
    assert world.settle() == "cooling_down"
    world.clock.now += 31
    # What waited goes on waiting.
    assert world.settle() == "waiting_for_labels"
    assert world.status["cause"] == CAUSE
    assert len(world.backend.jobs) == 2


def test_an_alert_that_flutters_does_not_have_the_same_runs_tried_again(world: World):
    world.turned_down(40)
    assert world.settle() == "waiting_for_labels"
    for hour in (9, 10):
        world.alert(firing=False)
        world.alert(firing=False, at=f"2027-01-15T{hour:02}:00:00.000Z")
        assert world.settle() == "idle"
        assert world.alert(at=f"2027-01-15T{hour + 1:02}:00:00.000Z") == "queued"
        assert world.settle() == "waiting_for_labels"
    assert len(world.backend.jobs) == 1


def test_a_rejected_concept_drift_is_refused_until_runs_arrive(world: World):
    world.arrive(60)
    world.changed = NEW[20:]
    world.alert(drift="concept")
    world.settle()
    world.clock.now += world.settings.supersede_pause_s
    assert world.settle() == "running"
    world.run(world.rejecting)
    world.settle()
    world.clock.now += 31
    assert world.settle() == "idle"
    assert world.alert(drift="concept", at="2027-01-15T09:00:00.000Z") == "refused"
    assert "no new runs since" in world.store.tail(1)[0]["reason"]


def test_failures_of_the_old_fleet_are_no_labels_of_the_new_one(world: World):
    world.evidence.domains = dict.fromkeys(NEW[:45], 0)
    world.arrive(45)
    world.alert()
    assert world.settle() == "waiting_for_labels"
    said = str(world.status["attempt"]["waiting_for"])
    assert said.startswith("0 new completed runs")
    assert "; 45 others are of the fleet as it was before" in said
    world.arrive()
    assert world.settle() == "waiting_for_labels"
    del world.evidence.domains[NEW[44]]
    for run in NEW[:44:2]:
        del world.evidence.domains[run]
    world.arrive()
    assert world.settle() == "running"
    # They are learnt from all the same, as what they are; what is known, the version says that the alarm is about.
    assert unpack(world.backend.jobs[0].runs) == Runs(sorted(NEW), known=world.evidence.domains)
    assert set(world.evidence.asked) == {"1"}


def test_what_a_person_asks_for_learns_from_all_runs_alike(world: World):
    world.evidence.domains = dict.fromkeys(NEW, 0)
    world.arrive()
    world.settle()
    world.retrain("warm_start")
    assert unpack(world.backend.jobs[0].runs) == Runs(sorted(NEW))


def test_runs_that_arrive_while_a_challenger_is_rejected_open_its_cause_again(world: World):
    world.arrive(40)
    world.alert()
    world.settle()
    world.arrive()
    world.run(world.rejecting)
    assert world.settle() == "cooling_down"
    world.clock.now += 31
    assert world.settle() == "running"


def verifying(world: World) -> None:
    """A promotion that the watch has not spoken about."""
    world.arrive()
    world.alert()
    world.settle()
    world.run(world.approving)
    assert world.settle() == "verifying"


def test_a_recovery_that_the_watch_denies_after_enough_answers_is_rolled_back(world: World):
    verifying(world)
    world.report("verdict", model_version="2", verdict="drift", n=500, answered=999)
    assert world.settle() == "verifying"
    assert "after 1000 it is rolled back" in world.status["verification"]["says"]
    world.report("verdict", model_version="1", verdict="drift", n=500, answered=9999)
    assert world.settle() == "verifying"
    world.report("verdict", model_version="2", verdict="drift", n=500, answered=1000)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "1"
    assert world.registry.tags("2")["decision"] == "rolled_back"
    assert world.kinds[-2:] == ["recovery_failed", "rolled_back"]
    assert world.decisions == [(CAUSE, "rolled_back")]
    # The change is still there: the loop waits for more labels, and does not try the same ones again.
    world.clock.now += 31
    assert world.settle() == "waiting_for_labels"
    assert len(world.backend.jobs) == 1
    assert "90 are needed; a challenger that learnt 60 was turned down" in world.waits_for


def test_there_is_no_rollback_to_a_version_that_is_known_to_be_worse(world: World):
    verifying(world)
    world.evidence.standings["2", "1"] = True
    world.report("verdict", model_version="2", verdict="drift", n=500, answered=1000)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "2"
    assert world.kinds[-2:] == ["recovery_failed", "kept"]
    assert world.decisions == [(CAUSE, "kept")]
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "duplicate"
    # What the watch sees of the version that stays is a cause of its own.
    assert world.alert("2") == "queued"
    world.clock.now += 31
    world.settle()
    assert world.status["cause"] == "fleet_change:2"


def test_a_change_whose_version_was_kept_is_one_again_when_somebody_goes_back(world: World):
    verifying(world)
    world.evidence.standings["2", "1"] = True
    world.report("verdict", model_version="2", verdict="drift", n=500, answered=1000)
    assert world.settle() == "cooling_down"
    assert world.promote("1") == "2"
    assert world.store.state.settled[CAUSE].decision == "superseded"
    world.archive.ids.append("eng-new60")
    world.inbox.on_runs(["eng-new60"])
    world.clock.now += 31
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "duplicate"
    assert world.settle() == "running"


def test_a_version_that_completed_units_speak_against_is_rolled_back_whatever_the_watch_sees(world: World):
    verifying(world)
    world.evidence.standings["2", "1"] = False
    assert world.settle() == "verifying"
    world.report("verdict", model_version="2", verdict="no_drift", n=500, answered=1000)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "1"
    assert world.decisions == [(CAUSE, "rolled_back")]
    assert "recovery_verified" not in world.kinds


def test_what_a_person_ended_is_not_taken_up_again_with_the_same_runs(world: World):
    verifying(world)
    world.rollback()
    world.clock.now += 31
    world.settle()
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "refused"
    assert world.settle() == "idle"


@pytest.mark.parametrize("verdict", [None, "not_enough_data"])
def test_silence_is_no_reason_to_roll_back(world: World, verdict: str | None):
    verifying(world)
    for _ in range(30):
        world.clock.now += 86_400
        if verdict is not None:
            world.report("verdict", model_version="2", verdict=verdict, n=3, min_n=400, answered=10**6)
        assert world.settle() == "verifying"
    assert world.registry.pointers["production"] == "2"
    assert world.status["verification"]["says"].startswith("not enough data yet")


def test_what_nobody_can_verify_a_person_confirms(world: World):
    verifying(world)
    assert world.promote("2") == "1"
    assert world.phase == "cooling_down"
    assert world.decisions == [(CAUSE, "promoted")]


@pytest.mark.parametrize("recovers", [True, False])
def test_ten_rows_an_hour_are_verified_by_their_number(world: World, recovers: bool):
    """A simulated clock, a row every six minutes, a watch that repeats itself every five seconds of these."""
    verifying(world)
    needed = 400
    for answered in range(1, 1001):
        enough = answered >= needed
        verdict = ("no_drift" if recovers else "drift") if enough else "not_enough_data"
        for _ in range(3):
            world.clock.now += 120
            world.report("verdict", model_version="2", verdict=verdict, n=answered, min_n=needed, answered=answered)
            phase = world.settle()
        if phase != "verifying":
            break
    assert answered == (needed if recovers else 1000)
    assert world.decisions == [(CAUSE, "promoted" if recovers else "rolled_back")]
    assert world.registry.pointers["production"] == ("2" if recovers else "1")


@pytest.mark.parametrize("step", [400.0, -400.0, 86_400.0 * 365, -86_400.0 * 365])
def test_a_step_of_the_wall_clock_changes_no_wait_and_rolls_nothing_back(world: World, step: float):
    verifying(world)
    world.clock.wall += step
    assert world.settle() == "verifying"
    world.report("verdict", model_version="2", verdict="no_drift", n=500)
    assert world.settle() == "cooling_down"
    assert world.status["cooling_down_s"] == 30.0
    world.clock.wall -= step
    world.clock.now += 29
    assert world.settle() == "cooling_down"
    world.clock.now += 1.5
    assert world.settle() == "idle"
    assert [item["duration_s"] for item in world.status["history"]] == [0.0]


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_a_wait_lasts_no_longer_than_its_length_after_a_restart(world: World, boot: str):
    verifying(world)
    world.report("verdict", model_version="2", verdict="no_drift", n=500)
    assert world.settle() == "cooling_down"
    world.clock.now += 10
    if boot != world.clock.boot:
        # Another boot: its clock begins at nought, and the wall clock may be anything.
        world.clock.boot, world.clock.now, world.clock.wall = boot, 3.0, 0.0
    world.restart()
    world.settle()
    assert world.status["cooling_down_s"] == (20.0 if boot == "boot-1" else 30.0)
    world.clock.now += world.status["cooling_down_s"] + 0.1
    assert world.settle() == "idle"


def test_an_alert_that_ends_leaves_a_younger_one_of_its_cause_firing(world: World):
    earlier, later = "2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z"
    world.alert(at=earlier)
    assert world.settle() == "waiting_for_labels"
    assert world.alert(at=later) == "duplicate"
    assert world.alert(firing=False, at=earlier) == "resolved"
    assert world.status["firing"] == {CAUSE: later}
    assert world.settle() == "waiting_for_labels"
    assert world.alert(firing=False, at=earlier) == "resolved"
    assert world.alert(firing=False, at=later) == "resolved"
    assert world.status["firing"] == {}
    assert world.settle() == "idle"
    assert world.kinds.count("alert_firing") == world.kinds.count("alert_resolved") == 2


def test_a_failed_pipeline_is_retried_with_growing_pauses_and_then_given_up(world: World):
    world.arrive()
    world.alert()
    pauses = []
    for _ in range(changes.MAX_FAILURES):
        assert world.settle() == "running"
        world.backend.end(succeeded=False, error="the train step was killed")
        assert world.settle() == "cooling_down"
        pauses.append(world.status["cooling_down_s"])
        world.clock.now += pauses[-1]
    assert pauses == [5.0, 20.0, 30.0]
    assert world.settle() == "waiting_for_labels"
    assert len(world.backend.jobs) == changes.MAX_FAILURES
    assert world.decisions == [(CAUSE, "failed")]
    failures = [event for event in world.store.read() if event["kind"] == "retraining_failed"]
    assert [event["error"] for event in failures] == ["the train step was killed"] * 3
    assert "retry_in_s" not in failures[-1]


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (
            "step train: failed\nthe run ended as FAILED",
            "step train: DataError: run eng-7 is damaged\nstep train: failed",
        ),
        ("DataError: archive: run eng-7 is damaged", "DataError: archive: run eng-7 is damaged"),
        (
            "DriftloopError: run eng-7 is damaged\nthe Job failed",
            "DriftloopError: run eng-7 is damaged\nthe Job failed",
        ),
    ],
)
def test_a_failure_says_what_the_step_raised_once(world: World, ended: str, told: str):
    world.arrive()
    world.alert()
    world.settle()
    run = world.backend.jobs[-1].run
    world.report("step_started", run=run, step="train")
    world.report("step_failed", run=run, step="train", error="DataError: run eng-7 is damaged")
    world.backend.end(succeeded=False, error=ended)
    world.settle()
    [failure] = [event for event in world.store.read() if event["kind"] == "retraining_failed"]
    assert failure["error"].startswith(told)
    assert failure["error"].count("run eng-7 is damaged") == 1


def test_what_the_gate_approved_is_promoted_however_the_pipeline_ended(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.approving(world.backend.jobs[-1])
    world.backend.end(succeeded=False, error="killed after the gate's decision")
    assert world.settle() == "verifying"
    assert world.registry.pointers == {"production": "2", "previous": "1"}
    assert "retraining_failed" not in world.kinds


def test_an_approved_challenger_of_another_champion_is_not_promoted(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.approving(world.backend.jobs[-1])
    world.backend.end()
    other = world.registry.add(decision="promoted", parent_version="1")
    world.registry.pointers["production"] = other
    assert world.settle() == "cooling_down"
    assert world.decisions == [(CAUSE, "superseded")]
    assert world.registry.tags("2")["decision"] == "abandoned"
    assert world.registry.pointers["production"] == other


def test_a_challenger_that_cannot_be_fetched_is_never_promoted(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.registry.damaged = {"2"}
    world.run(world.approving)
    assert world.settle() == "cooling_down"
    (failed,) = [event for event in world.store.read() if event["kind"] == "retraining_failed"]
    assert (failed["step"], "digest" in failed["error"]) == ("promote", True)
    assert world.registry.tags("2")["decision"] == "abandoned"
    world.clock.now += changes.BACK_OFF_S
    assert world.settle() == "running"
    world.run(world.approving)
    assert world.settle() == "verifying"
    assert world.registry.pointers["production"] == "3"


def test_a_server_that_does_not_take_the_promoted_version_is_told_of_once(world: World):
    world.serves = "1"
    verifying(world)
    assert "serving_confirmed" not in world.kinds
    world.clock.now += 30
    world.restart()
    world.settle()
    world.clock.now += changes.CONFIRM_S / 2
    world.settle()
    world.settle()
    assert world.kinds.count("serving_not_confirmed") == 1
    assert world.phase == "verifying"


def test_an_alert_about_another_version_than_productions_is_refused(world: World):
    world.arrive()
    world.alert(version="7")
    assert world.settle() == "idle"
    assert world.store.tail(1)[0]["reason"] == "version 1 is in production"


def test_a_registry_that_is_down_is_waited_for(world: World):
    world.arrive()
    world.alert()
    world.registry.down = True
    with pytest.raises(RegistryUnavailable):
        world.worker.tick()
    assert world.phase == "idle"
    world.registry.down = False
    assert world.settle() == "running"
    world.run(world.approving)
    world.registry.down = True
    with pytest.raises(RegistryUnavailable):
        world.worker.tick()
    assert world.phase == "running"
    world.registry.down = False
    assert world.settle() == "verifying"


# Restarts in every phase.


def test_a_restart_while_queued_keeps_the_alert(world: World):
    world.arrive()
    world.alert()
    world.restart()
    assert world.settle() == "running"


def test_a_restart_while_training_runs_the_same_cause_again(world: World):
    world.arrive()
    world.alert()
    world.settle()
    first = world.backend.jobs[-1]
    orphan = world.train(first)
    world.restart()
    assert world.settle() == "running"
    assert world.backend.cleared == 1
    assert world.backend.jobs[-1].cause == first.cause
    assert world.backend.jobs[-1].run != first.run
    assert world.registry.tags(orphan)["decision"] == "abandoned"
    assert [event.get("resumed") for event in world.store.read() if event["kind"] == "retraining_started"] == [
        None,
        True,
    ]


def forgetting(world: World, job: Job, training: str = "warm_start") -> None:
    """A challenger that the gate rejects because of old engines."""
    version = world.train(job)
    world.report("challenger_registered", model_version=version, run=job.run, training=training)
    promotion.decide(world.registry, version, promotion.REJECTED, "worse on 9 old engines", job.cause, [gate.FORGOT])


def test_a_warm_start_that_forgot_old_engines_is_tried_once_in_full(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.run(lambda job: forgetting(world, job))
    assert world.settle() == "running"
    assert [job.mode for job in world.backend.jobs] == ["warm_start", "full"]
    assert world.kinds.count("retraining_in_full") == 1
    assert world.decisions == []
    world.run(world.approving)
    assert world.settle() == "verifying"


def test_a_training_in_full_that_is_rejected_too_is_the_end(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.run(lambda job: forgetting(world, job))
    world.settle()
    world.run(lambda job: forgetting(world, job, "full"))
    assert world.settle() == "cooling_down"
    assert world.decisions == [(CAUSE, "rejected")]
    assert len(world.backend.jobs) == 2


@pytest.mark.parametrize("why", ["new engines", "trained in full anyway", "by hand"])
def test_what_a_training_in_full_would_not_help_is_rejected_at_once(world: World, why: str):
    world.arrive()
    if why == "by hand":
        world.settle()
        world.retrain("warm_start")
    else:
        world.alert()
    world.settle()
    if why == "new engines":
        world.run(world.rejecting)
    else:
        world.run(lambda job: forgetting(world, job, "full" if "anyway" in why else "warm_start"))
    world.settle()
    assert [decision for _, decision in world.decisions] == ["rejected"]
    assert len(world.backend.jobs) == 1


def test_a_retrainer_that_dies_before_the_training_in_full_goes_on_with_it(world: World):
    world.arrive()
    world.alert()
    world.settle()
    forgetting(world, world.backend.jobs[-1])
    world.restart()
    assert world.settle() == "running"
    assert [job.mode for job in world.backend.jobs] == ["warm_start", "full"]


def test_a_pipeline_that_outlives_its_retrainer_is_taken_over(world: World):
    world.arrive()
    world.alert()
    world.settle()
    [job] = world.backend.jobs
    world.backend.outlives = True
    world.worker.stop()
    assert world.backend.running
    backend = world.backend
    world.restart()
    world.backend.running = backend.running
    assert world.settle() == "running"
    assert world.backend.jobs == [job], "the run was started anew"
    assert world.backend.cleared == 0
    assert world.kinds.count("retraining_started") == 1
    assert "retraining_adopted" in world.kinds
    world.run(world.approving)
    assert world.settle() == "verifying"


def test_the_time_until_the_first_step_is_told_once(world: World):
    world.arrive()
    world.alert()
    world.settle()
    [job] = world.backend.jobs
    for step, after in (("collect", 6.5), ("train", 2.5)):
        world.clock.now += after
        world.clock.wall -= 1000
        world.report("step_started", run=job.run, step=step)
    [event] = [event for event in world.store.read() if event["kind"] == "pipeline_started"]
    assert event["seconds"] == 6.5
    assert event["run"] == job.run


def test_a_restart_after_the_alias_moved_goes_on_to_verifying(world: World, monkeypatch: pytest.MonkeyPatch):
    world.arrive()
    world.alert()
    world.settle()

    def killed(*_: object, **__: object) -> None:
        world.registry.set_alias("production", "2")
        raise RuntimeError("kill -9")

    monkeypatch.setattr(promotion, "promote", killed)
    world.run(world.approving)
    with pytest.raises(RuntimeError):
        world.settle()
    monkeypatch.undo()
    world.restart()
    assert world.settle() == "verifying"
    assert len(world.backend.jobs) == 1
    assert world.registry.pointers == {"production": "2", "previous": "1"}
    assert world.registry.tags("2")["decision"] == "promoted"
    promoted = [event for event in world.store.read() if event["kind"] == "promoted"]
    assert [(event["model_version"], event["repaired"]) for event in promoted] == [("2", True)]


def test_a_restart_between_the_gates_decision_and_the_promotion_promotes(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.approving(world.backend.jobs[-1])
    world.restart()
    assert world.settle() == "verifying"
    assert len(world.backend.jobs) == 1
    assert world.kinds.count("promoted") == 1


def test_a_restart_after_a_rejection_records_it(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.rejecting(world.backend.jobs[-1])
    world.restart()
    assert world.settle() == "cooling_down"
    assert world.kinds.count("rejected") == 1
    assert world.decisions == [(CAUSE, "rejected")]


def test_a_restart_while_verifying_goes_on_verifying(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.run(world.approving)
    world.settle()
    world.restart()
    assert world.settle() == "verifying"
    world.report("verdict", model_version="2", verdict="no_drift", n=900)
    assert world.settle() == "cooling_down"


def test_a_verdict_that_came_just_before_the_end_counts(world: World):
    verifying(world)
    world.report("verdict", model_version="2", verdict="no_drift", n=900)
    world.restart()
    assert world.settle() == "cooling_down"
    assert world.decisions == [(CAUSE, "promoted")]


def test_a_promotion_by_somebody_else_while_verifying_supersedes(world: World):
    verifying(world)
    world.registry.set_alias("production", "1")
    world.restart()
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "1"
    assert world.decisions == [(CAUSE, "superseded")]


@pytest.mark.parametrize("after", ["what is to happen is written down", "the alias has moved"])
def test_a_restart_while_rolling_back_finishes_it(world: World, after: str, monkeypatch: pytest.MonkeyPatch):
    verifying(world)
    world.report("verdict", model_version="2", verdict="drift", n=500, answered=1000)

    def killed(*_: object, **__: object) -> None:
        if after == "the alias has moved":
            world.registry.set_alias("production", "1")
        raise RuntimeError("kill -9")

    monkeypatch.setattr(promotion, "rollback", killed)
    with pytest.raises(RuntimeError):
        world.settle()
    monkeypatch.undo()
    world.restart()
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "1"
    assert world.registry.tags("2")["decision"] == "rolled_back"
    assert world.decisions == [(CAUSE, "rolled_back")]
    assert [world.kinds.count(kind) for kind in ("recovery_failed", "rolled_back")] == [1, 1]


def test_a_restart_while_cooling_down_keeps_the_pause(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.run(world.rejecting)
    world.settle()
    world.restart()
    assert world.settle() == "cooling_down"
    world.clock.now += 31
    assert world.settle() == "waiting_for_labels"


def test_a_cause_that_kills_the_retrainer_again_and_again_is_given_up(world: World):
    world.arrive()
    world.alert()
    world.settle()
    for _ in range(MAX_RESTARTS):
        world.restart()
        assert world.settle() == "running"
    world.restart()
    assert world.settle() == "cooling_down"
    assert world.decisions == [(CAUSE, "failed")]


def test_aliases_are_repaired_from_production_at_start(world: World):
    world.registry.add(parent_version="1", decision="approved", promoted_over="1")
    world.registry.pointers = {"production": "2", "challenger": "2", "previous": "2"}
    world.restart()
    world.settle()
    assert world.registry.pointers == {"production": "2", "previous": "1"}


# By hand.


def test_a_retraining_by_hand_is_not_rolled_back_by_itself(world: World):
    world.settle()
    world.arrive()
    attempt = world.retrain("full")
    assert attempt.mode == "full"
    assert world.backend.jobs[-1].mode == "full"
    world.run(world.approving)
    assert world.settle() == "cooling_down"
    assert world.decisions == [(attempt.cause, "promoted")]


def test_a_retraining_by_hand_without_new_runs_is_refused(world: World):
    world.settle()
    with pytest.raises(Busy, match="0 new completed runs"):
        world.retrain("warm_start")


def test_a_rollback_by_hand_while_verifying_settles_the_cause(world: World):
    world.arrive()
    world.alert()
    world.settle()
    world.run(world.approving)
    world.settle()
    assert world.rollback() == ("2", "1")
    assert world.phase == "cooling_down"
    assert world.decisions == [(CAUSE, "rolled_back")]
    assert world.registry.tags("2")["decision"] == "rolled_back"
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "refused"


@pytest.mark.parametrize("go_back", [lambda loop: loop.rollback(), lambda loop: loop.promote("1")])
def test_after_going_back_by_hand_new_runs_open_the_cause_again(world: World, go_back: Callable[[World], object]):
    world.arrive(40)
    world.alert()
    world.settle()
    world.run(world.approving)
    world.settle()
    world.report("verdict", model_version="2", verdict="no_drift", n=500)
    world.settle()
    assert world.decisions == [(CAUSE, "promoted")]
    go_back(world)
    assert world.registry.pointers["production"] == "1"
    assert world.registry.tags("2")["cause"] == CAUSE
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "refused"
    world.arrive()
    assert world.status["queue"] == [CAUSE]


def test_without_a_version_before_there_is_no_rollback(world: World):
    world.settle()
    with pytest.raises(DriftloopError, match="no version to go back to"):
        world.rollback()


def test_a_promotion_by_hand_can_be_rolled_back(world: World):
    world.registry.add()
    world.settle()
    assert world.promote("2") == "1"
    assert world.registry.pointers == {"production": "2", "previous": "1"}
    assert world.promote("2") == "1"
    assert world.kinds.count("promoted") == 1
    assert world.rollback() == ("2", "1")
    assert world.registry.pointers["production"] == "1"


class Storm(RuleBasedStateMachine):
    """Alerts, runs, pipeline ends, verdicts, time and crashes in any order."""

    @initialize(
        seed=st.integers(0, 10_000_000),
        promotion=st.sampled_from(["automatic", "approve"]),
        after=st.sampled_from(["wait", "reject", "promote"]),
    )
    def begin(self, seed: int, promotion: str, after: str) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        asking = {"promotion": promotion, "after_deadline": after, "approval_deadline_s": 300.0}
        self.world = World(Path(self.temporary.name) / str(seed), **asking)
        self.acknowledged: set[tuple[str, str]] = set()

    def teardown(self) -> None:
        if hasattr(self, "temporary"):
            self.temporary.cleanup()

    def move(self) -> None:
        with contextlib.suppress(RegistryUnavailable):
            self.world.settle()

    @rule(calls=st.integers(0, 25))
    def the_retrainer_is_killed_in_the_middle_of_a_move(self, calls: int) -> None:
        world = self.world
        # Enough to do: what the pipeline decided, or what the watch says, is still to be carried out.
        world.registry.calls_until_kill = None if world.registry.down else calls
        with contextlib.suppress(KilledError):
            self.move()
        world.registry.calls_until_kill = None
        world.restart()
        self.move()

    @rule(
        version=st.sampled_from("123"), hour=st.integers(0, 3), drift=st.sampled_from(["fleet_change", "sensor_fault"])
    )
    def an_alert_fires(self, version: str, hour: int, drift: str) -> None:
        at = f"2027-01-15T0{hour}:00:00.000Z"
        self.world.alert(version, at=at, drift=drift)
        self.acknowledged.add((f"{drift}:{version}", at))
        self.move()

    @rule(version=st.sampled_from("123"), hour=st.integers(0, 3), told_by=st.sampled_from(["webhook", "watch"]))
    def an_alert_ends(self, version: str, hour: int, told_by: str) -> None:
        at = f"2027-01-15T0{hour}:00:00.000Z"
        if told_by == "webhook":
            self.world.alert(version, firing=False, at=at)
        else:
            ended = Alert(False, "fleet_change", version, at, ["sensor_11"])
            about = {"model_version": version, "cause": str(ended.cause), "drift": ended.drift}
            self.world.report("alert_resolved", id=ended.end_id, starts_at=at, features=ended.features, **about)
        assert at not in self.world.store.state.firing.get(f"fleet_change:{version}", [])
        self.move()

    @rule(count=st.integers(0, 60))
    def runs_arrive(self, count: int) -> None:
        if count > len(self.world.archive.ids) - len(OLD):
            self.world.arrive(count)
        self.move()

    @precondition(lambda self: self.world.backend.running and self.world.backend.outcome is None)
    @rule(
        how=st.sampled_from(["promote", "killed", "reject", "ask", "fail", "half", "nothing"]), calls=st.integers(0, 25)
    )
    def the_pipeline_ends(self, how: str, calls: int) -> None:
        world, job = self.world, self.world.backend.jobs[-1]
        if world.registry.down:
            return
        if how == "killed":
            # The worker dies somewhere between the gate's decision and the end of the promotion.
            world.run(world.approving)
            self.the_retrainer_is_killed_in_the_middle_of_a_move(calls)
        elif how == "promote":
            world.run(world.approving)
        elif how == "reject":
            world.run(world.rejecting)
        elif how == "ask":
            world.run(world.asking)
        elif how == "half":
            world.approving(job)
            world.registry.set_alias("production", world.registry.versions()[-1].version)
            world.backend.end(succeeded=False, error="killed")
        else:
            world.backend.end(succeeded=how == "nothing", error=how)
        self.move()

    @rule(word=st.sampled_from(["approve", "reject"]))
    def a_person_answers(self, word: Any) -> None:
        asked = self.world.status["approval"]
        if asked is not None:
            with contextlib.suppress(DriftloopError):
                by_hand.answer(self.world.worker, asked["id"], word)
            self.move()

    @rule(calls=st.integers(0, 40))
    def a_person_goes_back(self, calls: int) -> None:
        self.by_hand(self.world.rollback, calls)

    @rule(version=st.sampled_from("1234"))
    def two_people_go_back_from_a_version(self, version: str) -> None:
        # It may not be there, nor be in production.
        with contextlib.suppress(DriftloopError):
            self.world.rollback(version)
            production = self.world.registry.pointers["production"]
            self.world.rollback(version)
            assert self.world.registry.pointers["production"] == production != version
        self.move()

    @rule(version=st.sampled_from("1234"), calls=st.integers(0, 40))
    def a_person_promotes(self, version: str, calls: int) -> None:
        self.by_hand(lambda: self.world.promote(version), calls)

    def by_hand(self, act: Callable[[], object], calls: int) -> None:
        """Somebody acts, and the retrainer may be killed over it, after so many calls of the registry."""
        world = self.world
        world.registry.calls_until_kill = None if world.registry.down or calls > 25 else calls
        try:
            # There may be no such version, none to go back to, or nobody to ask.
            with contextlib.suppress(DriftloopError):
                act()
            self.move()
        except KilledError:
            world.registry.calls_until_kill = None
            world.restart()
            self.move()
        world.registry.calls_until_kill = None

    @rule(version=st.sampled_from("23"), verdict=st.sampled_from(["drift", "no_drift", "fleet_age", "not_enough_data"]))
    def the_watch_speaks(self, version: str, verdict: str) -> None:
        self.world.report("verdict", model_version=version, verdict=verdict, answered=2000)
        self.move()

    @rule(seconds=st.sampled_from([1.0, 40.0, 500.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.now += seconds
        self.move()

    @rule(seconds=st.sampled_from([-1e7, -400.0, 400.0, 1e7]))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.world.clock.wall += seconds
        self.move()

    @rule(down=st.booleans())
    def the_registry_goes_or_comes(self, down: bool) -> None:
        self.world.registry.down = down
        self.move()

    @rule()
    def the_retrainer_is_killed(self) -> None:
        self.world.restart()
        self.move()

    @invariant()
    def what_was_acknowledged_is_in_the_log(self) -> None:
        if not hasattr(self, "world"):
            return
        logged = {(e["cause"], e["starts_at"]) for e in self.world.store.read() if e["kind"] == "alert_firing"}
        assert self.acknowledged <= logged

    @invariant()
    def production_is_a_version_that_somebody_promoted(self) -> None:
        if not hasattr(self, "world"):
            return
        production = self.world.registry.known[self.world.registry.pointers["production"]]
        assert production.tags["decision"] in ("promoted", "approved")

    @invariant()
    def what_came_into_production_is_told_once(self) -> None:
        if hasattr(self, "world"):
            kinds = ("promoted", "rolled_back")
            told = Counter(event["model_version"] for event in self.world.store.read() if event["kind"] in kinds)
            moved = Counter(version for name, version in self.world.registry.moves if name == "production")
            # A move that a kill has cut off is told of by the next one, once the registry is there.
            assert told <= moved
            assert self.world.registry.down or told == moved

    @invariant()
    def a_pipeline_that_runs_is_of_the_version_that_serves(self) -> None:
        if hasattr(self, "world") and not self.world.registry.down and self.world.phase == "running":
            attempt = self.world.store.state.attempt
            assert attempt is not None
            assert attempt.champion == self.world.registry.pointers["production"]

    @invariant()
    def a_pipeline_runs_where_the_loop_says_so_and_nowhere_else(self) -> None:
        if hasattr(self, "world") and not self.world.registry.down:
            running = self.world.backend.running and self.world.backend.outcome is None
            assert running == (self.world.phase == "running")

    @invariant()
    def nothing_is_promoted_that_a_person_has_not_approved_where_that_is_wanted(self) -> None:
        if hasattr(self, "world") and self.world.settings.promotion == "approve":
            events = self.world.store.read()
            approved = {
                event["model_version"]
                for event in events
                if event["kind"] == "approval_answered" and event["answer"] == "approve"
            }
            # Half a promotion that somebody else made is found, and told of as repaired; a person needs no approval.
            by_itself = [e for e in events if e["kind"] == "promoted" and not e.get("repaired") and e.get("run")]
            told = {e["model_version"] for e in by_itself}
            assert told <= approved

    @invariant()
    def a_question_is_asked_once_and_closed_once(self) -> None:
        if hasattr(self, "world"):
            events = self.world.store.read()
            asked = [event["approval"] for event in events if event["kind"] == "approval_needed"]
            closed = [each.id for each in self.world.store.state.closed]
            assert len(asked) == len(set(asked))
            assert len(closed) == len(set(closed))
            assert set(closed) <= set(asked)

    @invariant()
    def no_sensor_fault_was_trained_on(self) -> None:
        if hasattr(self, "world"):
            assert all(job.cause.startswith("fleet_change") for job in self.world.backend.jobs)

    @invariant()
    def a_cause_is_never_both_queued_and_under_way(self) -> None:
        if hasattr(self, "world"):
            status = self.world.status
            causes = [*status["queue"], *([status["cause"]] if status["cause"] else [])]
            assert len(causes) == len(set(causes))


Storm.TestCase.settings = hypothesis_settings(max_examples=25, stateful_step_count=30, deadline=None)
TestStorm = Storm.TestCase
