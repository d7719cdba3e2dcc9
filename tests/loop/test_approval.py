"""A person is asked: what waits, what an answer does, what makes a question void; and kills between all of that."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from driftloop.loop import by_hand, first_aid
from driftloop.loop.by_hand import Busy, Late, Unknown
from driftloop.model.registry import DIGEST_TAG

from .fakes import NEW, KilledError
from .test_worker import CAUSE, World
from .test_worker_first_aid import Aid


def asking_world(folder: Path, **overrides: object) -> World:
    return World(folder, **{"promotion": "approve", "approval_deadline_s": 600.0, **overrides})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return asking_world(tmp_path)


def passed(world: World) -> str:
    """A challenger that the gate has passed; the question about it."""
    world.arrive()
    world.alert()
    world.settle()
    world.run(world.approving)
    assert world.settle() == "awaiting_approval"
    return str(world.status["approval"]["id"])


def answer(world: World, question: str, word: Any = "approve", reason: str = "") -> dict[str, str]:
    return by_hand.answer(world.worker, question, word, reason, "ann")


def of_kind(world: World, kind: str) -> list[dict[str, Any]]:
    return [event for event in world.store.read() if event["kind"] == kind]


def test_what_the_gate_passes_waits_and_is_promoted_when_a_person_approves(world: World) -> None:
    question = passed(world)
    shown = world.status["approval"]
    assert (shown["version"], shown["champion"], shown["kind"], shown["passed"]) == ("2", "1", "retraining", True)
    assert (shown["reasons"], shown["after_deadline"], shown["answer"]) == (["better"], "wait", None)
    assert world.registry.pointers["production"] == "1"
    (told,) = of_kind(world, "approval_needed")
    assert (told["approval"], told["model_version"], told["from_version"]) == (question, "2", "1")
    assert world.registry.tags("2")["approval"] == question

    given = answer(world, question, reason="looks right")
    assert (given["answer"], given["who"]) == ("approve", "ann")
    assert world.settle() == "verifying"
    assert world.registry.pointers["production"] == "2"
    (told,) = of_kind(world, "approval_answered")
    assert (told["who"], told["reason"], told["answer"]) == ("ann", "looks right", "approve")
    assert of_kind(world, "promoted")[0]["who"] == "ann"
    tags = world.registry.tags("2")
    assert (tags["approval_by"], tags["approval_reason"], tags["approval_answer"]) == ("ann", "looks right", "approve")
    assert world.status["approval"] is None
    with pytest.raises(Late, match=r"was approved by ann at .*: looks right"):
        answer(world, question, "reject")


def test_what_a_person_rejects_is_rejected_and_its_champion_stays(world: World) -> None:
    question = passed(world)
    answer(world, question, "reject", "worse on unit 7")
    assert world.settle() == "cooling_down"
    assert world.registry.pointers == {"production": "1"}
    assert world.registry.tags("2")["decision"] == "rejected"
    assert "worse on unit 7" in of_kind(world, "rejected")[0]["reason"]
    assert world.decisions == [(CAUSE, "rejected")]


def test_the_first_answer_counts(world: World) -> None:
    question = passed(world)
    answer(world, question)
    with pytest.raises(Late, match="was approved by ann"):
        answer(world, question, "reject")
    assert len(of_kind(world, "approval_answered")) == 1


def test_nobody_is_asked_what_nobody_asked(world: World) -> None:
    with pytest.raises(Unknown):
        answer(world, "7-abc")


def test_another_champion_makes_the_question_void(world: World) -> None:
    question = passed(world)
    world.promote(world.registry.add())
    assert world.settle() == "cooling_down"
    (told,) = of_kind(world, "approval_void")
    assert told["approval"] == question
    assert "version 3 is in production, not 1" in told["reason"]
    assert world.registry.tags("2")["decision"] == "abandoned"
    with pytest.raises(Late, match=r"is void since .*version 3 is in production"):
        answer(world, question)


def test_who_answers_before_the_worker_has_noticed_is_told_too(world: World) -> None:
    question = passed(world)
    world.registry.pointers["production"] = world.registry.add(decision="promoted")
    with pytest.raises(Late, match="version 3 is in production"):
        answer(world, question)
    assert of_kind(world, "approval_answered") == []


def test_another_bundle_makes_the_question_void(world: World) -> None:
    world.registry.known["1"].tags[DIGEST_TAG] = "0" * 64
    question = passed(world)
    world.registry.set_tag("2", DIGEST_TAG, "f" * 64)
    with pytest.raises(Late, match="the bundle of version 2 is another one"):
        answer(world, question)
    assert world.settle() == "cooling_down"
    assert world.registry.pointers["production"] == "1"


@pytest.mark.parametrize(
    ("after", "phase", "production"),
    [("wait", "awaiting_approval", "1"), ("reject", "cooling_down", "1"), ("promote", "verifying", "2")],
)
def test_what_follows_the_deadline_is_a_setting(tmp_path: Path, after: str, phase: str, production: str) -> None:
    world = asking_world(tmp_path, after_deadline=after)
    passed(world)
    world.clock.now += 599.0
    assert world.settle() == "awaiting_approval"
    assert of_kind(world, "approval_overdue") == []
    world.clock.now += 2.0
    assert world.settle() == phase
    assert world.registry.pointers["production"] == production
    assert len(of_kind(world, "approval_overdue")) == (after == "wait")
    assert [event["who"] for event in of_kind(world, "approval_answered")] == ["deadline"] * (after != "wait")
    world.settle()
    assert len(of_kind(world, "approval_overdue")) == (after == "wait")


def test_the_wall_clock_has_no_say_about_the_deadline(world: World) -> None:
    passed(world)
    world.clock.wall += 1e7
    assert world.settle() == "awaiting_approval"
    assert of_kind(world, "approval_overdue") == []


def test_a_question_survives_a_restart_and_another_boot(world: World) -> None:
    question = passed(world)
    before = world.status["approval"]
    world.clock.now += 100.0
    world.restart()
    assert world.settle() == "awaiting_approval"
    assert world.status["approval"] == before
    world.clock.boot = "boot-2"
    world.restart()
    world.settle()
    assert world.status["approval"]["deadline"] > before["deadline"]
    answer(world, question)
    assert world.settle() == "verifying"
    assert len(of_kind(world, "approval_needed")) == 1


@pytest.mark.parametrize("calls", range(0, 24))
@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_kill_between_the_answer_and_what_follows_loses_nothing(world: World, word: str, calls: int) -> None:
    question = passed(world)
    answer(world, question, word, "why")
    world.registry.calls_until_kill = calls
    with contextlib.suppress(KilledError):
        world.settle()
    world.registry.calls_until_kill = None
    world.restart()
    assert world.settle() == ("verifying" if word == "approve" else "cooling_down")
    assert world.registry.pointers["production"] == ("2" if word == "approve" else "1")
    assert len(of_kind(world, "promoted")) == (word == "approve")
    assert len(of_kind(world, "rejected")) == (word == "reject")
    assert world.registry.tags("2")["approval_answer"] == word
    assert world.registry.tags("2")["decision"] == ("promoted" if word == "approve" else "rejected")


@pytest.mark.parametrize("calls", range(0, 12))
def test_a_kill_while_it_is_asked_asks_once(world: World, calls: int) -> None:
    world.arrive()
    world.alert()
    world.settle()
    world.run(world.approving)
    world.registry.calls_until_kill = calls
    with contextlib.suppress(KilledError):
        world.settle()
    world.registry.calls_until_kill = None
    world.restart()
    assert world.settle() == "awaiting_approval"
    assert len(of_kind(world, "approval_needed")) == 1


def test_promoting_what_waits_approves_it(world: World) -> None:
    passed(world)
    assert world.promote("2") == "1"
    assert world.phase == "verifying"
    assert len(of_kind(world, "promoted")) == 1
    assert [event["answer"] for event in of_kind(world, "approval_answered")] == ["approve"]


def test_a_promotion_of_what_waits_by_who_saw_another_champion_approves_nothing(world: World) -> None:
    passed(world)
    with pytest.raises(Busy, match="version 1 is in production, not version 9"):
        by_hand.promote(world.worker, "2", from_version="9")
    assert world.phase == "awaiting_approval"
    assert of_kind(world, "approval_answered") == []


def test_a_retraining_by_hand_waits_for_the_answer(world: World) -> None:
    passed(world)
    with pytest.raises(Busy, match="a version waits for a person"):
        world.retrain("warm_start")


def test_what_cannot_be_promoted_after_all_fails_and_is_tried_again(world: World) -> None:
    question = passed(world)
    world.registry.damaged.add("2")
    answer(world, question)
    assert world.settle() == "cooling_down"
    assert of_kind(world, "retraining_failed")[0]["step"] == "promote"
    assert world.status["approval"] is None


# A gate with too few units asks in the same way, whatever the setting.


def few(world: World, count: int = len(NEW)) -> str:
    world.arrive(count)
    world.alert()
    world.settle()
    world.run(world.asking)
    assert world.settle() == "awaiting_approval"
    return str(world.status["approval"]["id"])


def test_a_challenger_with_too_few_gate_units_waits_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path)
    question = few(world)
    assert world.registry.pointers == {"production": "1", "challenger": "2"}
    assert (world.status["approval"]["passed"], world.status["approval"]["reasons"]) == (False, ["only 1 new"])
    world.restart()
    assert world.settle() == "awaiting_approval"
    assert world.registry.pointers == {"production": "1", "challenger": "2"}
    answer(world, question)
    assert world.settle() == "verifying"
    assert world.registry.tags("2")["decision"] == "promoted"


def test_what_could_not_be_judged_is_not_promoted_because_nobody_looked(tmp_path: Path) -> None:
    world = World(tmp_path, after_deadline="promote", approval_deadline_s=60.0)
    few(world)
    world.clock.now += 61.0
    assert world.settle() == "awaiting_approval"
    assert len(of_kind(world, "approval_overdue")) == 1


def test_new_runs_try_a_cause_again_that_waits_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path)
    question = few(world, 40)
    world.arrive(59)
    assert world.settle() == "awaiting_approval"
    world.arrive()
    world.clock.now += 60
    assert world.settle() == "running"
    assert [job.cause for job in world.backend.jobs] == [CAUSE, CAUSE]
    with pytest.raises(Late, match=r"is void since .*a retraining with 100 runs has started"):
        answer(world, question)
    world.run(world.approving)
    world.worker.tick()
    assert world.phase == "verifying"
    assert world.registry.tags("2")["decision"] == "abandoned"


# First aid that is asked about.


def aided(folder: Path, monkeypatch: pytest.MonkeyPatch, **overrides: object) -> World:
    world = asking_world(folder, first_aid=True, approve_first_aid=True, **overrides)
    monkeypatch.setattr(first_aid, "give", Aid(world))
    world.alert()
    assert world.settle() == "waiting_for_labels"
    return world


def test_first_aid_waits_for_a_person_where_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = aided(tmp_path, monkeypatch)
    assert (world.status["approval"]["kind"], world.status["approval"]["version"]) == ("first_aid", "2")
    assert world.registry.pointers["production"] == "1"
    world.restart()
    assert world.settle() == "waiting_for_labels"
    answer(world, world.status["approval"]["id"])
    assert world.settle() == "waiting_for_labels"
    assert world.registry.pointers["production"] == "2"
    assert of_kind(world, "first_aid_promoted")[0]["who"] == "ann"
    assert world.status["approval"] is None


def test_who_asks_for_first_aid_that_waits_for_a_person_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = aided(tmp_path, monkeypatch)
    with pytest.raises(Busy, match=r"a version waits for a person \(driftloop approve"):
        by_hand.first_aid(world.worker)


def test_rejected_first_aid_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = aided(tmp_path, monkeypatch)
    answer(world, world.status["approval"]["id"], "reject", "no")
    assert world.settle() == "waiting_for_labels"
    assert world.registry.pointers["production"] == "1"
    assert "was rejected by ann" in of_kind(world, "first_aid_refused")[0]["reason"]
    assert len(of_kind(world, "approval_needed")) == 1


def test_labels_end_the_question_about_first_aid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = aided(tmp_path, monkeypatch)
    question = world.status["approval"]["id"]
    world.arrive()
    assert world.settle() == "running"
    with pytest.raises(Late, match="is void"):
        answer(world, question)


def test_an_alert_that_ends_ends_the_question_about_first_aid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = aided(tmp_path, monkeypatch)
    world.alert(firing=False)
    assert world.settle() == "idle"
    assert world.status["approval"] is None
    assert len(of_kind(world, "approval_void")) == 1


def test_first_aid_may_stay_automatic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = asking_world(tmp_path, first_aid=True)
    stand_in = Aid(world)
    stand_in.kind = "promoted"
    monkeypatch.setattr(first_aid, "give", stand_in)
    world.alert()
    world.settle()
    assert world.registry.pointers["production"] == "2"


def test_without_a_deadline_it_waits_for_ever(tmp_path: Path) -> None:
    world = asking_world(tmp_path, approval_deadline_s=0.0, after_deadline="reject")
    passed(world)
    assert world.status["approval"]["deadline"] is None
    world.clock.now += 1e9
    assert world.settle() == "awaiting_approval"
