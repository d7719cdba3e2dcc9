"""The shadow: what speaks against a challenger, what is shown, and what no traffic means."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftloop.errors import BundleError, RegistryUnavailable
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.loop import shadow as shadows
from driftloop.loop.changes import BACK_OFF_S
from driftloop.loop.judge.shadow import Difference, Report, Said, judge
from driftloop.loop.shadow import Shadow
from driftloop.model.answers import Model
from driftloop.protocol.windows import UnitWindow, WindowsUnavailable

from .fakes import FakeRegistry
from .test_worker import CAUSE, World

CAP = 125.0


def said(rul: Sequence[float], *, ms: float = 0.3, **changes: Sequence[float]) -> Said:
    values = np.array(rul, dtype=np.float64)
    made = Said(values, np.maximum(values - 5, 0), np.minimum(values + 5, CAP), np.full(len(values), ms / 1000.0))
    return made._replace(**{name: np.array(value, dtype=np.float64) for name, value in changes.items()})


def judged(champion: Said, challenger: Said, regime: Sequence[int] | None = None, **more: Any) -> Report:
    n = len(challenger.rul)
    at = np.array(regime or [0] * n, dtype=np.int64)
    return judge(champion, challenger, at, np.arange(n, dtype=np.int64) + 1, CAP, 0.5, **more)


def test_disagreement_is_shown_and_blocks_nothing() -> None:
    report = judged(said([100.0, 100.0, 50.0, 50.0]), said([60.0, 120.0, 50.0, 51.0]), [0, 0, 1, -1])
    assert (report.passed, report.reasons, report.answers) == (True, [], 4)
    assert report.differences == [
        Difference("all", "all", 4, -4.75, 15.25),
        Difference("regime", "-1", 1, 1.0, 1.0),
        Difference("regime", "0", 2, -10.0, 30.0),
        Difference("regime", "1", 1, 0.0, 0.0),
        Difference("age", "1 to 2", 2, -10.0, 30.0),
        Difference("age", "3 to 3", 1, 0.0, 0.0),
        Difference("age", "4 to 4", 1, 1.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("challenger", "why"),
    [
        (said([np.nan, 50.0]), "1 of 2 values of rul are not finite"),
        (said([50.0, 50.0], upper=[np.inf, 60.0]), "1 of 2 values of upper are not finite"),
        (said([-1.0, 50.0]), "1 of 2 values of rul are outside of 0 to 125"),
        (said([50.0, 50.0], upper=[126.0, 60.0]), "1 of 2 values of upper are outside of 0 to 125"),
        (said([50.0, 50.0], lower=[-0.5, 60.0]), "1 of 2 values of lower are outside of 0 to 125"),
    ],
)
def test_what_no_champion_may_say_blocks(challenger: Said, why: str) -> None:
    report = judged(said([50.0, 50.0]), challenger)
    assert not report.passed
    assert why in report.reasons


def test_answers_beyond_twice_the_time_block_where_there_are_enough_of_them() -> None:
    many, few = [50.0] * 20, [50.0] * 19
    assert judged(said(many, ms=0.3), said(many, ms=0.6)).passed
    slow = judged(said(many, ms=0.3), said(many, ms=0.61))
    assert slow.reasons == ["its answers are slower than 2 times the champion's (p99 0.61 ms against 0.30 ms)"]
    assert slow.p99_ms == {"champion": 0.3, "challenger": 0.61}
    assert judged(said(few, ms=0.3), said(few, ms=9.0)).passed


def test_a_champion_that_says_nothing_finite_is_no_fault_of_the_challenger() -> None:
    report = judged(said([np.nan, np.nan]), said([50.0, 60.0]))
    assert (report.passed, report.differences) == (True, [])


def test_without_traffic_that_is_said_and_nothing_blocks() -> None:
    report = judged(said([]), said([]))
    assert (report.passed, report.answers, report.note, report.p99_ms) == (True, 0, "no requests came", None)


# The thread that asks both.


class Session:
    """A model that answers the mean of the newest row, or what it is told to."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.asked = shift, 0

    def run(self, _: list[str], rows: dict[str, Any]) -> list[Any]:
        self.asked += 1
        rul = np.clip(rows["rows"][:, -1].mean(axis=1) + self.shift, 0, CAP)
        return [rul, rul, rul, np.zeros(len(rul), np.int64), np.zeros((len(rul), 21))]


def window(unit: str, value: float = 50.0, step: int | None = 40, age_s: float = 0.0) -> UnitWindow:
    return UnitWindow(unit, np.full((300, 24), value, dtype=np.float32), step, age_s)


class Shadows:
    """A shadow over models and windows in the test's hands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
        self.registry, self.models = FakeRegistry(), {"1": Session(), "2": Session(-3.0)}
        self.registry.add()
        self.registry.add()
        self.windows: list[UnitWindow] = []
        self.fault: Exception | None = None
        monkeypatch.setattr(shadows, "open_model", lambda path: Model(self.models[path.name], 256, SCHEMA, int(CAP)))
        chosen = {"answers": 3, "seconds": 60.0, **limits}
        self.shadow = Shadow(self.registry, folder, self.read, **chosen)

    def read(self) -> list[UnitWindow]:
        if self.fault is not None:
            raise self.fault
        return list(self.windows)

    def report(self) -> Report:
        tick = threading.Event()
        while True:
            found = self.shadow.report("1", "2")
            if found is not None:
                return found
            tick.wait(0.01)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shadows:
    return Shadows(tmp_path, monkeypatch)


def test_both_models_answer_the_newest_requests_and_it_ends_when_there_are_enough(world: Shadows) -> None:
    world.windows = [window(f"u{i}", step=10 * i) for i in range(5)]
    report = world.report()
    assert (report.answers, report.passed) == (3, True)
    assert report.differences[0] == Difference("all", "all", 3, -3.0, 3.0)
    assert [each.group for each in report.differences if each.by == "age"] == ["0 to 0", "10 to 10", "20 to 20"]
    assert (world.models["1"].asked, world.models["2"].asked) == (6, 6)


def test_a_request_counts_once_and_old_ones_not_at_all(world: Shadows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "LOOK_S", 0.01)
    monkeypatch.setattr(shadows, "EARLIER", 0)
    world.windows = [window("a"), window("old", age_s=1e6)]
    looks = iter(range(100))

    def grow() -> list[UnitWindow]:
        at = next(looks)
        return [*world.windows, *([window("a", step=41)] * (at > 2)), *([window("b")] * (at > 4))]

    world.shadow._read = grow  # type: ignore[assignment]
    assert world.report().answers == 3
    assert next(looks) == 6


def test_what_units_had_sent_before_is_asked_behind_the_newest_of_all_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows, "LOOK_S", 0.01)
    monkeypatch.setattr(shadows, "EARLIER", 2)
    world = Shadows(tmp_path, monkeypatch, answers=8)
    rows = np.repeat(np.arange(10.0, 60.0, 10.0, dtype=np.float32)[:, None], 24, axis=1)
    asked: list[float] = []
    run = world.models["1"].run

    def ask(names: list[str], given: dict[str, Any]) -> list[Any]:
        asked.append(float(given["rows"][0, -1, 0]))
        return run(names, given)

    world.models["1"].run = ask  # type: ignore[method-assign]
    young = UnitWindow("young", rows[:2] + 1, 2)
    looks = iter([[UnitWindow("a", rows[:-1], 40), young]])
    later = [UnitWindow("a", rows, 41), young, window("b")]
    world.shadow._read = lambda: next(looks, later)  # type: ignore[assignment]
    report = world.report()
    assert asked[::2] == [40.0, 21.0, 30.0, 11.0, 20.0, 50.0, 50.0, 50.0]
    assert [each.group for each in report.differences if each.by == "age"] == ["1 to 38", "39 to 40", "40 to 41"]


def test_time_ends_it_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Shadows(tmp_path, monkeypatch, seconds=0.05)
    assert world.report().note == "no requests came"
    world.windows = [UnitWindow("a", np.ones((1, 24), dtype=np.float32), 1)]
    assert world.report().answers == 1
    world.fault = WindowsUnavailable("refuses the token")
    found = world.report()
    assert (found.passed, found.note) == (True, "requests cannot be read: refuses the token")


def test_a_bundle_that_cannot_be_used_blocks_and_a_registry_that_is_away_does_not(world: Shadows) -> None:
    world.registry.damaged.add("2")
    report = world.report()
    assert not report.passed
    assert "has another digest" in report.reasons[0]
    world.registry.damaged.clear()
    world.registry.down = True
    with pytest.raises(RegistryUnavailable):
        world.report()
    world.registry.down = False
    world.windows = [window(f"u{i}") for i in range(3)]
    assert world.report().passed


def test_a_challenger_that_fails_to_answer_blocks(world: Shadows) -> None:
    world.windows = [window("a")]

    def broken(*_: Any) -> None:
        raise BundleError("no such node")

    world.models["2"].run = broken  # type: ignore[method-assign]
    assert not world.report().passed


# In the loop.


def shadowed(folder: Path, monkeypatch: pytest.MonkeyPatch, challenger: Session, **overrides: object) -> World:
    world = World(folder, shadow_answers=1, **overrides)
    models = {"1": Session(), "2": challenger}
    monkeypatch.setattr(shadows, "open_model", lambda path: Model(models[path.name], 256, SCHEMA, int(CAP)))
    world.windows = [window("a")]
    world.arrive()
    world.alert()
    world.settle()
    return world


def until(world: World, phase: str) -> None:
    tick = threading.Event()
    while world.settle() != phase:
        tick.wait(0.01)


def test_a_challenger_is_promoted_after_its_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = shadowed(tmp_path, monkeypatch, Session(-3.0))
    world.run(world.approving)
    until(world, "verifying")
    (told,) = [event for event in world.store.read() if event["kind"] == "shadow_ended"]
    assert (told["model_version"], told["answers"], told["passed"]) == ("2", 1, True)
    assert told["differences"][0]["mean"] == -3.0
    assert world.kinds.index("shadow_ended") < world.kinds.index("promoted")
    assert world.registry.tags("2")["shadow"] == "passed"


def test_what_the_shadow_blocks_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Session()
    monkeypatch.setattr(broken, "shift", np.nan)
    world = shadowed(tmp_path, monkeypatch, broken)
    world.run(world.approving)
    until(world, "cooling_down")
    assert world.registry.pointers == {"production": "1"}
    assert world.decisions == [(CAUSE, "rejected")]
    assert "in the shadow: 1 of 1 values of rul are not finite" in world.registry.tags("2")["decision_reason"]


def test_one_that_cannot_be_asked_is_trained_anew_without_waiting_for_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenger = Session()
    world = shadowed(tmp_path, monkeypatch, challenger)

    def damaged(*_: Any) -> None:
        raise BundleError("has digest 0, not 1", where="model.onnx")

    monkeypatch.setattr(challenger, "run", damaged)
    world.run(world.approving)
    until(world, "cooling_down")
    assert world.registry.pointers == {"production": "1"}
    (failed,) = [event for event in world.store.read() if event["kind"] == "retraining_failed"]
    assert (failed["step"], failed["failures"]) == ("shadow", 1)
    assert "has digest 0, not 1" in failed["error"]
    assert "rejected" not in world.kinds
    world.clock.now += BACK_OFF_S + 1
    until(world, "running")
    assert len(world.backend.jobs) == 2


def test_a_person_is_shown_what_the_shadow_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = shadowed(tmp_path, monkeypatch, Session(-3.0), promotion="approve")
    world.run(world.approving)
    until(world, "awaiting_approval")
    world.restart()
    assert world.status["approval"]["shadow"]["answers"] == 1


def test_it_begins_while_the_gate_still_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    challenger = Session(-3.0)
    world = shadowed(tmp_path, monkeypatch, challenger)
    job = world.backend.jobs[-1]
    world.train(job)
    world.report("challenger_registered", model_version="2", run=job.run)
    world.settle()
    tick = threading.Event()
    while not challenger.asked:
        tick.wait(0.01)
    assert world.phase == "running"


def test_a_retrainer_that_dies_in_the_shadow_begins_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = shadowed(tmp_path, monkeypatch, Session(-3.0))
    world.windows = []
    world.run(world.approving)
    assert world.settle() == "running"
    assert world.status["step"] == "shadow"
    world.restart()
    world.windows = [window("a")]
    until(world, "verifying")
    assert world.kinds.count("shadow_ended") == 1
    assert world.kinds.count("promoted") == 1
