"""First aid in the loop: while a change of the fleet waits for labels, and until they come."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftloop.loop import first_aid
from driftloop.loop.aiding import POLL_S
from driftloop.loop.first_aid import Outcome
from driftloop.protocol.windows import UnitWindow, WindowsUnavailable

from .fakes import FakeRegistry, KilledError
from .test_worker import CAUSE, World


class Aid:
    """Stands in for driftloop.loop.first_aid.give: says what it is told to, and moves the alias where that is so."""

    def __init__(self, world: World) -> None:
        self.world, self.kind, self.asked, self.killed = world, "waiting", 0, False

    def __call__(self, registry: FakeRegistry, champion: str, *rest: Any, asks: bool = False) -> Outcome:
        self.asked += 1
        if asks:
            return Outcome("made", "grown", registry.add(training="first_aid", parent_version=champion))
        if self.kind != "promoted":
            return Outcome(self.kind, "why")
        version = registry.add(training="first_aid", parent_version=champion, decision="promoted")
        registry.set_alias("production", version)
        if self.killed:
            raise KeyboardInterrupt
        rest[-1]({"kind": "promoted", "time": "2027-01-15T08:00:09.000Z", "reason": "grown"})
        return Outcome("promoted", "grown", version)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, first_aid=True)


@pytest.fixture
def aid(world: World, monkeypatch: pytest.MonkeyPatch) -> Aid:
    stand_in = Aid(world)
    monkeypatch.setattr(first_aid, "give", stand_in)
    return stand_in


def waiting(world: World) -> None:
    assert world.alert() == "queued"
    assert world.settle() == "waiting_for_labels"


def test_a_provisional_version_serves_until_labels_come_though_the_alert_ends(world: World, aid: Aid) -> None:
    waiting(world)
    assert world.worker.tick() == pytest.approx(POLL_S, rel=0.5)
    aid.kind = "promoted"
    world.settle()
    told = next(event for event in world.store.read() if event["kind"] == "first_aid_promoted")
    assert (told["model_version"], told["from_version"], told["time"]) == ("2", "1", "2027-01-15T08:00:09.000Z")
    world.serves = "2"
    world.settle()
    assert "serving_confirmed" in world.kinds
    world.alert(firing=False)
    world.restart()
    assert world.settle() == "waiting_for_labels"
    asked = aid.asked
    world.arrive()
    assert world.settle() == "running"
    assert aid.asked == asked
    assert world.backend.jobs[-1].champion == "2"
    assert world.backend.jobs[-1].cause == CAUSE


def test_a_refusal_is_told_once_and_the_wait_goes_on(world: World, aid: Aid) -> None:
    waiting(world)
    aid.kind = "refused"
    for _ in range(3):
        world.settle()
    assert world.kinds.count("first_aid_refused") == 1
    assert world.phase == "waiting_for_labels"
    assert aid.asked <= 3
    world.alert(firing=False)
    world.settle()
    assert world.decisions == [(CAUSE, "resolved")]


def test_a_kill_after_the_alias_has_moved_is_found_again(world: World, aid: Aid) -> None:
    waiting(world)
    aid.kind, aid.killed = "promoted", True
    with pytest.raises(KeyboardInterrupt):
        world.settle()
    world.restart()
    assert world.settle() == "waiting_for_labels"
    assert world.kinds.count("first_aid_promoted") == 1
    assert "first_aid_refused" not in world.kinds
    assert world.store.state.attempt is not None
    assert world.store.state.attempt.champion == "2"


def test_servers_that_do_not_answer_are_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise WindowsUnavailable("does not answer")

    monkeypatch.setattr(first_aid, "give", away)
    waiting(world)
    assert "first_aid_refused" not in world.kinds


def test_labels_that_are_there_need_no_first_aid(world: World, aid: Aid) -> None:
    world.arrive()
    world.alert()
    assert world.settle() == "running"
    assert aid.asked == 0


def test_switched_off_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = World(tmp_path, first_aid=False)
    stand_in = Aid(off)
    monkeypatch.setattr(first_aid, "give", stand_in)
    waiting(off)
    assert stand_in.asked == 0


def test_a_fleet_that_is_too_young_is_judged_again_when_it_has_aged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ages = {"a": 100, "b": 100}

    def windows() -> list[UnitWindow]:
        return [UnitWindow(unit, np.zeros((4, 24), dtype=np.float32), step) for unit, step in ages.items()]

    def judged(_: Any, __: str, read: Any, *___: Any, **____: Any) -> Outcome:
        steps = sum(one.step for one in read())
        asked.append(steps)
        return Outcome("waiting", "too young", young=True) if steps < 300 else Outcome("refused", "no")

    monkeypatch.setattr(first_aid, "give", judged)
    monkeypatch.setattr(world.worker._aider, "_windows", windows)
    waiting(world)
    for _ in range(5):
        world.settle()
    assert asked == [200]
    ages["a"] = 119
    world.settle()
    assert asked == [200]
    ages["b"] = 102
    world.settle()
    assert asked == [200, 221]
    ages["c"] = 100
    world.settle()
    assert asked == [200, 221, 321]
    assert world.kinds.count("first_aid_refused") == 1


def provisional(world: World, aid: Aid) -> None:
    """Version 2 is first aid for version 1, and the alert has ended."""
    waiting(world)
    aid.kind = "promoted"
    world.settle()
    world.alert(firing=False)
    assert world.settle() == "waiting_for_labels"
    assert world.registry.pointers["production"] == "2"


def test_a_rejected_retraining_leaves_the_provisional_version_waiting_for_more_labels(world: World, aid: Aid) -> None:
    provisional(world, aid)
    world.arrive(40)
    assert world.settle() == "running"
    world.run(world.rejecting)
    assert world.settle() == "cooling_down"
    # A late end of the alert takes nothing away.
    world.alert()
    world.alert(firing=False)
    world.restart()
    world.clock.now += 31
    assert world.settle() == "waiting_for_labels"
    assert (world.status["attempt"]["champion"], world.status["attempt"]["aided"]) == ("2", "2")
    assert len(world.backend.jobs) == 1
    world.arrive()
    assert world.settle() == "running"
    assert world.backend.jobs[-1].champion == "2"


@pytest.mark.parametrize("calls", [None, *range(24)])
def test_first_aid_that_turns_out_worse_by_labels_is_withdrawn(world: World, aid: Aid, calls: int | None) -> None:
    provisional(world, aid)
    asked = aid.asked
    world.evidence.standings["2", "1"] = False
    world.registry.calls_until_kill = calls
    with contextlib.suppress(KilledError):
        world.settle()
    world.registry.calls_until_kill = None
    world.restart()
    world.arrive(5)
    assert world.settle() == "waiting_for_labels"
    assert world.registry.pointers == {"production": "1"}
    assert world.registry.tags("2")["decision"] == "rolled_back"
    (told,) = [event for event in world.store.read() if event["kind"] == "first_aid_withdrawn"]
    assert (told["model_version"], told["from_version"], told["reason"]) == ("1", "2", "on 9 units ...")
    # It is not given again, the retraining stands though no alert fires, and starts from what had labels.
    assert aid.asked == asked
    world.arrive()
    assert world.settle() == "running"
    assert world.backend.jobs[-1].champion == "1"
    assert world.kinds.count("first_aid_promoted") == 1


def test_a_rollback_behind_first_aid_goes_to_what_had_labels_and_that_is_given_first_aid_again(
    world: World, aid: Aid
) -> None:
    provisional(world, aid)
    world.arrive()
    assert world.settle() == "running"
    world.run(world.approving)
    assert world.settle() == "verifying"
    world.evidence.standings["3", "1"] = False
    world.report("verdict", model_version="3", verdict="drift", n=500, answered=1000)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "1"
    assert world.alert(at="2027-01-15T09:00:00.000Z") == "queued"
    world.clock.now += 31
    assert world.settle() == "waiting_for_labels"
    assert world.registry.pointers["production"] == "4"
    assert world.kinds.count("first_aid_promoted") == 2
