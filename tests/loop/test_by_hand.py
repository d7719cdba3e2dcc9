"""What a person does by hand, whatever the loop is doing, and a kill in the middle of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftloop.errors import DataError, DriftloopError, RegistryUnavailable
from driftloop.loop import by_hand, first_aid
from driftloop.loop.by_hand import Busy
from driftloop.loop.judge import promotion

from .fakes import KilledError
from .test_worker import CAUSE, World
from .test_worker_first_aid import Aid

LATER = "2027-01-15T09:00:00.000Z"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 2 serves, 1 is before it."""
    return behind_another(World(tmp_path))


def behind_another(world: World) -> World:
    world.registry.add(decision="promoted", promoted_over="1")
    world.registry.pointers |= {"production": "2", "previous": "1"}
    world.settle()
    return world


def running(world: World) -> str:
    """A retraining of version 2 runs; its name."""
    world.arrive()
    assert world.alert("2") == "queued"
    assert world.settle() == "running"
    assert world.backend.running
    return world.backend.jobs[-1].run


def told(world: World, kind: str) -> list[dict[str, Any]]:
    return [event for event in world.store.read() if event["kind"] == kind]


def killed_after(world: World, act: Callable[[], object], calls: int) -> bool:
    """Whether the retrainer died over an act, at the call of the registry behind so many."""
    world.registry.calls_until_kill = calls
    try:
        act()
    except KilledError:
        return True
    finally:
        world.registry.calls_until_kill = None
    return False


def test_going_back_takes_effect_while_a_retraining_runs_and_that_is_ended(world: World):
    run = running(world)
    assert by_hand.rollback(world.worker, "2", "ann", "wild answers") == ("1", "2", False)
    assert world.registry.pointers["production"] == "1"
    assert world.settle() == "cooling_down"
    assert not world.backend.running
    (back,) = told(world, "rolled_back")
    assert (back["model_version"], back["from_version"], back["who"], back["reason"]) == (
        "1",
        "2",
        "ann",
        "wild answers",
    )
    (ended,) = told(world, "retraining_superseded")
    assert (ended["run"], ended["model_version"], ended["reason"]) == (run, "2", "version 1 is in production")
    assert world.decisions[-1] == ("fleet_change:2", "superseded")
    # Nothing starts from the version that was taken back.
    world.clock.now += 31
    assert world.settle() == "idle"
    assert len(world.backend.jobs) == 1
    assert world.alert("1", at=LATER) == "queued"
    assert world.settle() == "running"
    assert world.backend.jobs[-1].champion == "1"


def test_promoting_another_version_does_so_too(world: World):
    running(world)
    other = world.registry.add(decision="pending")
    assert world.promote(other) == "2"
    assert world.settle() == "cooling_down"
    assert (world.registry.pointers["production"], world.backend.running) == (other, False)
    assert world.decisions[-1] == ("fleet_change:2", "superseded")


def test_promoting_what_serves_ends_nothing(world: World):
    running(world)
    world.promote("2")
    assert world.settle() == "running"
    assert world.backend.running


def test_a_challenger_may_be_promoted_before_the_gate_has_judged_it_and_is_watched_like_any_other(world: World):
    running(world)
    version = world.train(world.backend.jobs[-1])
    assert by_hand.promote(world.worker, version, "ann") == (version, "2", False)
    assert world.settle() == "verifying"
    assert not world.backend.running
    assert [event["who"] for event in told(world, "promoted")] == ["ann"]
    assert world.registry.tags(version)["decision"] == "promoted"
    world.report("verdict", model_version=version, verdict="no_drift", n=900)
    assert world.settle() == "cooling_down"
    assert world.decisions[-1] == ("fleet_change:2", "promoted")


def test_a_challenger_that_a_person_took_back_is_not_promoted_when_its_pipeline_ends(world: World):
    running(world)
    version = world.train(world.backend.jobs[-1])
    world.promote(version)
    assert world.rollback() == (version, "2")
    world.backend.end()
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "2"
    assert world.decisions[-1] == ("fleet_change:2", "rolled_back")
    world.clock.now += 31
    assert world.settle() == "idle"


def test_what_the_ended_pipeline_registers_afterwards_is_abandoned(world: World):
    running(world)
    job = world.backend.jobs[-1]
    world.rollback()
    world.settle()
    # A pod that is being ended goes on for a while.
    world.approving(job)
    late = world.registry.versions()[-1].version
    world.registry.set_alias("challenger", late)
    world.clock.now += 31
    assert world.settle() == "idle"
    assert world.registry.tags(late)["decision"] == "abandoned"
    assert world.registry.pointers == {"production": "1"}


def test_what_runs_the_pipeline_may_be_away_and_the_alias_moves_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    running(world)
    stop = world.backend.stop

    def away() -> None:
        raise DriftloopError("cannot be reached", where="Kubeflow Pipelines")

    monkeypatch.setattr(world.backend, "stop", away)
    world.rollback()
    assert world.registry.pointers["production"] == "1"
    with pytest.raises(DriftloopError, match="cannot be reached"):
        world.worker.tick()
    assert world.phase == "running"
    monkeypatch.setattr(world.backend, "stop", stop)
    assert world.settle() == "cooling_down"
    assert not world.backend.running


def test_the_archive_may_be_away_too(world: World, monkeypatch: pytest.MonkeyPatch):
    running(world)

    def away() -> int:
        raise DataError("the object store does not answer")

    monkeypatch.setattr(world.archive, "total", away)
    assert world.rollback() == ("2", "1")
    assert told(world, "rolled_back")


@pytest.mark.parametrize("phase", ["running", "verifying"])
def test_it_is_not_asked_where_a_person_goes_back_so_it_may_be_as_slow_as_it_likes(
    world: World, phase: str, monkeypatch: pytest.MonkeyPatch
):
    running(world)
    if phase == "verifying":
        world.run(world.approving)
        assert world.settle() == phase

    def hangs() -> int:
        raise AssertionError("nobody may wait for the archive here")

    monkeypatch.setattr(world.archive, "total", hangs)
    gone = world.registry.pointers["production"]
    assert world.settle() == phase
    world.rollback(gone)
    assert world.registry.pointers["production"] != gone
    (back,) = told(world, "rolled_back")
    assert back["from_version"] == gone


def test_a_retrainer_that_has_started_and_cannot_reach_its_pipelines_goes_back_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    running(world)
    world.restart()

    def away(*_: object) -> bool:
        raise DriftloopError("cannot be reached", where="the Kubernetes API")

    monkeypatch.setattr(world.backend, "adopt", away)
    with pytest.raises(DriftloopError):
        world.worker.tick()
    assert world.rollback() == ("2", "1")
    assert world.registry.pointers["production"] == "1"


@pytest.mark.parametrize("outlives", [False, True])
@pytest.mark.parametrize("calls", range(24))
def test_a_kill_anywhere_in_going_back_leaves_it_done_and_told_or_not_done(world: World, calls: int, outlives: bool):
    running(world)
    world.backend.outlives = outlives
    died = killed_after(world, lambda: (world.rollback(), world.settle()), calls)
    backend = world.backend
    if died:
        world.restart()
        # A Job goes on without its retrainer; a process of this machine does not.
        world.backend.running = outlives and backend.running
        world.settle()
    back = world.registry.pointers["production"] == "1"
    assert back or died
    assert [event["from_version"] for event in told(world, "rolled_back")] == ["2"] * back
    assert [event["who"] for event in told(world, "rolled_back")] == ["token"] * back
    assert world.registry.tags("2")["decision"] == ("rolled_back" if back else "promoted")
    assert world.phase == ("cooling_down" if back else "running")
    assert world.backend.running is (not back)
    assert len(told(world, "retraining_superseded")) == back
    assert world.store.state.intent is None


@pytest.mark.parametrize("calls", range(0, 30, 2))
def test_a_kill_anywhere_in_a_promotion_of_the_challenger_tells_of_it_once(world: World, calls: int):
    running(world)
    version = world.train(world.backend.jobs[-1])
    if killed_after(world, lambda: (world.promote(version), world.settle()), calls):
        world.restart()
        world.settle()
    moved = world.registry.pointers["production"] == version
    assert [event["model_version"] for event in told(world, "promoted")] == [version] * moved
    assert world.phase == ("verifying" if moved else "running")


def test_what_the_registry_left_open_is_told_of_when_it_is_back(world: World, monkeypatch: pytest.MonkeyPatch):
    def cut_off(*_: object, **__: object) -> None:
        world.registry.set_alias("production", "1")
        raise RegistryUnavailable("no answer", where="MLflow")

    monkeypatch.setattr(promotion, "rollback", cut_off)
    with pytest.raises(RegistryUnavailable):
        world.rollback()
    monkeypatch.undo()
    assert told(world, "rolled_back") == []
    world.settle()
    (back,) = told(world, "rolled_back")
    assert (back["model_version"], back["repaired"]) == ("1", True)
    assert world.registry.tags("2")["decision"] == "rolled_back"
    # Asked again by somebody who got no answer, it says so instead of going on back.
    assert by_hand.rollback(world.worker, "2") == ("1", "2", True)


def test_what_a_person_moved_in_the_registry_itself_is_noticed_too(world: World):
    running(world)
    world.registry.set_alias("production", "1")
    assert world.settle() == "running"
    world.clock.now += 5.0
    assert world.settle() == "cooling_down"
    assert not world.backend.running


def test_a_registry_that_is_away_holds_no_running_pipeline_up(world: World):
    running(world)
    world.clock.now += 5.0
    world.registry.down = True
    assert world.settle() == "running"
    world.registry.down = False
    assert world.settle() == "running"


def test_how_a_pipeline_ended_is_not_forgotten_while_the_registry_is_away(world: World):
    running(world)
    world.backend.end(succeeded=False, error="no room on the disk")
    world.registry.down = True
    for _ in range(2):
        with pytest.raises(RegistryUnavailable):
            world.worker.tick()
    world.registry.down = False
    world.settle()
    assert told(world, "retraining_failed")[0]["error"] == "no room on the disk"


def test_going_back_twice_does_not_come_back_to_what_was_taken_back(world: World):
    other = world.registry.add(decision="pending")
    world.promote(other)
    world.promote("1")
    assert world.registry.tags("1")["promoted_over"] == other
    assert world.rollback() == ("1", other)
    # Version 1 was before version 2, which was before this one.
    assert world.rollback() == (other, "2")
    with pytest.raises(DriftloopError, match="no version to go back to"):
        world.rollback()
    assert world.registry.pointers["production"] == "2"


@pytest.fixture
def three(world: World) -> World:
    """Version 3 serves; a rollback from it goes to 2, and one from that to 1."""
    world.promote(world.registry.add(decision="pending"))
    world.settle()
    return world


def test_going_back_asked_for_twice_happens_once(three: World):
    assert by_hand.rollback(three.worker, "3", "ann") == ("2", "3", False)
    assert by_hand.rollback(three.worker, "3", "bob") == ("2", "3", True)
    assert three.registry.pointers["production"] == "2"
    assert [event["who"] for event in told(three, "rolled_back")] == ["ann"]


def test_so_does_one_that_the_loop_was_quicker_with(world: World):
    running(world)
    world.run(world.approving)
    assert world.settle() == "verifying"
    world.report("verdict", model_version="3", verdict="drift", n=900, answered=5000)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "2"
    assert by_hand.rollback(world.worker, "3", "ann") == ("2", "3", True)
    assert world.registry.pointers["production"] == "2"


def test_an_act_on_what_is_not_in_production_any_more_is_refused(three: World):
    four = three.registry.add(decision="pending")
    assert three.promote(four) == "3"
    for act in (
        lambda: by_hand.rollback(three.worker, "3"),
        lambda: by_hand.promote(three.worker, "1", from_version="3"),
    ):
        with pytest.raises(Busy, match=r"version 4 is in production, not version 3 \(look again: driftloop status\)"):
            act()
    assert three.registry.pointers["production"] == four
    with pytest.raises(DriftloopError, match="there is no version 9"):
        by_hand.rollback(three.worker, "9")


def test_a_promotion_asked_for_twice_happens_once(world: World):
    three = world.registry.add(decision="pending")
    assert by_hand.promote(world.worker, three, "ann", from_version="2") == (three, "2", False)
    assert by_hand.promote(world.worker, three, "bob", from_version="2") == (three, "2", True)
    assert [event["who"] for event in told(world, "promoted")] == ["ann"]


def test_a_promotion_sent_again_after_somebody_went_back_from_it_is_refused(world: World):
    three = world.registry.add(decision="pending")
    by_hand.promote(world.worker, three, "ann", from_version="2")
    by_hand.rollback(world.worker, three, "bob", "wild answers")
    world.promote("1")
    with pytest.raises(Busy, match="version 1 is in production, not version 2"):
        by_hand.promote(world.worker, three, "ann", from_version="2")
    assert world.registry.pointers["production"] == "1"


def test_a_rollback_that_was_decided_leaves_what_somebody_else_has_moved_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    running(world)
    world.run(world.approving)
    assert world.settle() == "verifying"
    other = world.registry.add(decision="promoted", promoted_over="2")
    both_ends = promotion.both_ends

    def moved_meanwhile(registry: Any) -> tuple[str, str]:
        registry.pointers["production"] = other
        return both_ends(registry)

    monkeypatch.setattr(promotion, "both_ends", moved_meanwhile)
    world.report("verdict", model_version="3", verdict="drift", n=900, answered=5000)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == other


def test_a_promotion_that_was_not_confirmed_yet_is_no_more_waited_for(world: World):
    running(world)
    world.serves = "2"
    world.run(world.approving)
    world.settle()
    assert world.store.state.confirming is not None
    world.rollback()
    world.clock.now += 61
    world.settle()
    assert told(world, "serving_not_confirmed") == []


def test_one_retraining_at_a_time_by_hand_too(world: World):
    running(world)
    for act in (lambda: world.retrain("full"), lambda: by_hand.first_aid(world.worker)):
        with pytest.raises(Busy, match=r"a retraining of version 2 is running, for fleet_change:2 \(wait for it"):
            act()


# Where first aid serves.


@pytest.fixture
def aided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 2 is first aid for version 1, which the alert is about."""
    world = World(tmp_path, first_aid=True)
    aid = Aid(world)
    monkeypatch.setattr(first_aid, "give", aid)
    world.alert()
    world.settle()
    aid.kind = "promoted"
    assert world.settle() == "waiting_for_labels"
    assert world.registry.pointers["production"] == "2"
    return world


@pytest.mark.parametrize("fires", [True, False])
@pytest.mark.parametrize("phase", ["waiting_for_labels", "running", "awaiting_approval"])
def test_going_back_from_first_aid_leaves_the_retraining_one_of_the_version_before(
    aided: World, phase: str, fires: bool
):
    world = aided
    if not fires:
        # Under first aid the watch sees no drift.
        world.alert(firing=False)
    if phase != "waiting_for_labels":
        world.arrive()
        assert world.settle() == "running"
    if phase == "awaiting_approval":
        world.run(world.asking)
        assert world.settle() == phase
    assert by_hand.rollback(world.worker, "2", "ann", "wild answers") == ("1", "2", False)
    waits = "waiting_for_labels" if phase == "waiting_for_labels" else "running"
    assert world.settle() == (waits if fires else "idle")
    if not fires:
        # The version before sees the change again.
        assert world.alert(at=LATER) == "queued"
        assert world.settle() == waits
    assert world.status["attempt"]["champion"] == "1"
    assert world.registry.pointers["production"] == "1"
    assert world.kinds.count("first_aid_promoted") == 1
    if phase == "waiting_for_labels":
        world.arrive()
        assert world.settle() == "running"
    assert world.backend.jobs[-1].champion == "1"
    world.run(world.approving)
    assert world.settle() == "verifying"
    assert world.decisions == [(CAUSE, "superseded")]


def test_a_retraining_that_waits_its_turn_behind_first_aid_follows_it_back(aided: World):
    world = aided
    world.arrive(40)
    assert world.settle() == "running"
    world.run(world.rejecting)
    assert world.settle() == "cooling_down"
    world.rollback()
    world.clock.now += 31
    assert world.settle() == "waiting_for_labels"
    assert world.status["attempt"]["champion"] == "1"
    assert world.registry.pointers["production"] == "1"
    assert world.kinds.count("first_aid_promoted") == 1
