"""The concept watch on a small real model, a real archive and feedback log; registry and retrainer are the test's."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from driftloop import fleets
from driftloop.drift import outcomes
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.loop.feedback import FeedbackLog, Outcome
from driftloop.loop.judge import concept
from driftloop.loop.judge.concept import ConceptWatch
from driftloop.loop.store import Store
from driftloop.model import bundle
from driftloop.model.bundle import SERVING_FILES
from driftloop.protocol.alerts import Alert
from made_up import CRUISE, fleet, run, tiny_bundle

SHIFT = 22
"""Cycles that engines fail earlier, at the same readings, after the labels have changed."""


class Retrainer:
    """Records what it is told."""

    def __init__(self) -> None:
        self.phase, self.firing = "idle", {}
        self.store: Store
        self.alerts: list[Alert] = []

    def on_alert(self, alert: Alert, **kept: Any) -> str:
        self.alerts.append(alert)
        with self.store.change() as change:
            change.kept.update(kept)
        return "queued"


class Registry:
    """One bundle under any version number; `production` is which."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.production = folder, "1"

    def alias(self, _: str) -> str:
        return self.production

    def fetch(self, _: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            shutil.copy(self.folder / name, folder / name)
        return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", runs=fleet(per_role=10), steps=200)


class World:
    def __init__(self, folder: Path, trained: Path) -> None:
        self.folder, self.archive, self.registry = folder, open_archive(folder / "archive", SCHEMA), Registry(trained)
        self.archive.add_all(fleet(per_role=10))
        self.retrainer = Retrainer()
        self.restart()

    def restart(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.store = self.retrainer.store = Store(self.folder / "loop.db", 1000)
        self.feedback = FeedbackLog(self.store)
        self.watch = ConceptWatch(
            self.folder / "concept",
            self.registry,
            self.archive,
            self.feedback,
            self.store,  # type: ignore[arg-type]
            fleets.load("cmapss"),
        )

    def look(self) -> str:
        self.watch.look(self.retrainer)  # type: ignore[arg-type]
        return self.watch.report.verdict

    def arrive(self, name: str, count: int, *, shift: int = 0, **kind: Any) -> list[str]:
        """Completed runs of engines that the model does not know; with `shift` they failed earlier."""
        runs = [run(f"eng-{name}{i}", cycles=60 + i % 7, **kind) for i in range(count)]
        runs = [Run(one.run_id, one.rows[: len(one.rows) - shift]) for one in runs]
        self.archive.add_all(runs)
        self.feedback.add_runs(one.run_id for one in runs)
        return [one.run_id for one in runs]

    @property
    def verdicts(self) -> list[str]:
        return [event["verdict"] for event in self.store.read() if event["kind"] == "concept_verdict"]


@pytest.fixture
def world(tmp_path: Path, trained: Path) -> World:
    return World(tmp_path, trained)


def test_the_models_own_runs_say_nothing(world: World):
    assert world.watch.promise() == {}
    assert world.look() == "not_enough_data"
    promise = world.watch.promise()["promise"]
    assert promise["model_version"] == "1"
    assert promise["requests_per_false_alarm"] > 0
    assert world.watch.status()["engines"] == 0
    assert world.feedback.engines()  # what was archived before is known all the same


def test_healthy_engines_are_no_drift_and_start_nothing(world: World):
    world.arrive("healthy", outcomes.LEAST - 1)
    assert world.look() == "not_enough_data"
    world.arrive("more", 25)
    assert world.look() == "no_drift"
    status = world.watch.status()
    assert status["engines"] == 25 + outcomes.LEAST - 1
    assert 0 < status["figures"]["rmse"]["value"] < status["figures"]["rmse"]["upper"]
    assert status["figures"]["bias"]["lower"] < status["figures"]["bias"]["value"] < status["figures"]["bias"]["upper"]
    assert world.retrainer.alerts == []
    assert world.verdicts == ["not_enough_data", "no_drift"]


def test_shifted_labels_with_the_same_inputs_raise_the_alert(world: World):
    world.arrive("healthy", 15)
    assert world.look() == "no_drift"
    changed = world.arrive("changed", 20, shift=SHIFT)
    assert world.look() == "drift"
    alert = world.retrainer.alerts[0]
    assert (alert.firing, str(alert.cause)) == (True, "concept:1")
    assert "bias" in alert.features
    assert "contradict model version 1: " in alert.summary
    found = world.watch.changed_runs()
    assert set(changed[3:]) <= set(found)
    assert len(set(found) - set(changed)) <= 3


def test_an_alert_outlives_a_restart_and_ends_with_the_version(world: World):
    world.arrive("changed", 20, shift=SHIFT)
    world.look()
    first = world.retrainer.alerts[0]
    world.restart()
    later = world.arrive("later", 2, shift=SHIFT)
    assert set(later) <= set(world.watch.changed_runs())
    world.look()
    assert [alert.starts_at for alert in world.retrainer.alerts] == [first.starts_at] * 2
    world.registry.production = "2"
    world.look()
    assert not world.retrainer.alerts[2].firing
    assert str(world.retrainer.alerts[2].cause) == "concept:1"


def test_an_unchanged_world_is_not_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch):
    world.arrive("healthy", 15)
    world.look()
    monkeypatch.setattr(outcomes, "judge", lambda *_: pytest.fail("judged again"))
    world.look()


def test_a_changed_fleet_is_left_to_the_drift_watch(world: World):
    world.arrive("other", 20, settings=(CRUISE,))
    assert world.look() == "input_drift"
    assert world.retrainer.alerts == []
    assert world.watch.changed_runs() == []


def test_while_an_alert_about_the_inputs_fires_labels_raise_none(world: World):
    world.arrive("changed", 20, shift=SHIFT)
    world.retrainer.firing = {"sensor_fault:1": ["2027-01-15T08:00:00.000Z"]}
    assert world.look() == "input_drift"
    world.retrainer.firing = {"sensor_fault:0": ["2027-01-15T08:00:00.000Z"]}
    assert world.look() == "drift"
    # One that comes later takes the alert back.
    world.retrainer.firing = {"fleet_change:1": ["2027-01-15T09:00:00.000Z"]}
    assert world.look() == "input_drift"
    assert [alert.firing for alert in world.retrainer.alerts] == [True, False]


def test_while_the_loop_is_busy_nothing_is_judged(world: World):
    world.arrive("changed", 20, shift=SHIFT)
    world.retrainer.phase = "running"
    assert world.look() == "not_enough_data"
    assert world.retrainer.alerts == []
    world.retrainer.phase = "waiting_for_labels"
    assert world.look() == "drift"


def test_outcomes_without_rows_are_judged_for_the_version_that_answered(world: World):
    truth = [float(rul) for rul in range(0, 60, 5)]

    def feed(name: str, version: str, off: float) -> None:
        for i in range(12):
            world.feedback.add(
                [
                    Outcome(f"{name}{i}", f"cycle {rul:g}", version, rul + off, rul + off - 20, rul + off + 20, rul)
                    for rul in truth
                ]
            )

    feed("good", "1", 2.0)
    feed("of-another-version", "7", 60.0)
    assert world.look() == "no_drift"
    assert world.watch.status()["engines"] == 12
    feed("bad", "1", 45.0)
    assert world.look() == "drift"
    assert world.watch.changed_runs() == []  # nothing to learn from has arrived


def test_superseded_engines_are_no_reference(world: World, trained: Path, tmp_path: Path):
    metadata = bundle.read_metadata(trained)
    stale = [bundle.ManifestEntry(e.run_id, e.sha256, e.role, e.domain, e.cycles, True) for e in metadata.manifest]
    folder = world.registry.fetch("1", tmp_path / "stale")
    bundle.write_metadata(folder, bundle.msgspec.structs.replace(metadata, manifest=stale))
    world.registry.folder = folder
    world.arrive("changed", 20, shift=SHIFT)
    assert world.look() == "not_enough_data"
    assert world.watch.status()["reference"] == 0


def test_the_registry_is_asked_where_something_is_new_and_else_now_and_then(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    watch, loop, clock = world.watch, world.retrainer, [100.0]
    monkeypatch.setattr(concept.time, "monotonic", lambda: clock[0])
    assert [watch._is_due(loop), watch._is_due(loop)] == [True, False]
    world.feedback.add_runs(["eng-new"])
    assert [watch._is_due(loop), watch._is_due(loop)] == [True, False]
    loop.firing = {"fleet_change:1": ["now"]}
    assert [watch._is_due(loop), watch._is_due(loop)] == [True, False]
    loop.phase = "running"
    assert [watch._is_due(loop), watch._is_due(loop)] == [True, False]
    watch.on_withdrawn()
    clock[0] += concept.FOLLOW_S
    assert [watch._is_due(loop), watch._is_due(loop)] == [True, False]
