"""From the archive to the data of a retraining: which labels are of the change, for the loop and for the step."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet.archive import open_archive
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.loop import dataset, steps
from driftloop.loop.facts import Look
from driftloop.loop.jobs.local import Runs
from driftloop.loop.judge.plan import Plan
from driftloop.loop.state import Attempt
from driftloop.model.bundle import CHECKPOINT, SERVING_FILES
from driftloop.settings import Settings
from made_up import CRUISE, fleet, tiny_bundle

from .fakes import FakeBackend, FakeRegistry

KNOWN = fleet(per_role=8, cycles=150)
OLD_FLEET = fleet(name="s", per_role=3, cycles=150)
NEW_FLEET = fleet(name="o", per_role=6, cycles=150, settings=(CRUISE,))
ATTEMPT = Attempt("fleet_change:1", "1", "2026-01-31T12:00:00.000Z")


class Registry(FakeRegistry):
    """Version 1 is a model of sea level."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.pointers["production"] = self.add()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:
        self.version(version)
        assert set(files) <= {*SERVING_FILES, CHECKPOINT}
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return folder


class Told:
    """A retrainer that takes every event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, *_: object) -> "Told":
        return self

    def __enter__(self) -> "Told":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def report(self, event: dict[str, Any]) -> bool:
        self.events.append(event)
        return True


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on KNOWN."""
    return tiny_bundle(tmp_path_factory.mktemp("champion") / "bundle", runs=KNOWN, steps=300)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What the step says."""
    made = Told()
    monkeypatch.setattr(steps, "Client", made)
    return made


Collect = Callable[..., tuple[Look, Plan]]


@pytest.fixture
def collect(champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collect:
    """Archives runs, and makes the loop's job and the step's plan of them."""

    def made(*arrived: Run) -> tuple[Look, Plan]:
        monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
        registry = Registry(champion)
        monkeypatch.setattr(steps, "Registry", lambda *_: registry)
        settings = Settings(state_dir=tmp_path)
        archive = open_archive(settings.archive_location, SCHEMA)
        archive.add_all([*KNOWN, *arrived])
        look = Look(settings, tmp_path / "loop", registry, archive, FakeBackend(), list)
        job = look.runs_for(ATTEMPT)
        steps.collect("r1", "fleet_change:1", "1", job.packed(), str(tmp_path / "data"), str(tmp_path / "bundle"))
        return look, dataset.read(tmp_path / "data")

    return made


def test_labels_of_the_old_fleet_are_learnt_as_what_they_are(collect: Collect) -> None:
    look, plan = collect(*OLD_FLEET, *NEW_FLEET)
    assert look.labels_for(ATTEMPT) == (None, len(NEW_FLEET))
    assert look.runs_for(ATTEMPT) == Runs(
        sorted(run.run_id for run in [*OLD_FLEET, *NEW_FLEET]), known={run.run_id: 0 for run in OLD_FLEET}
    )
    assert {run.run_id for run in plan.new} == {run.run_id for run in NEW_FLEET}
    assert {run.run_id for run in plan.old} == {run.run_id for run in [*KNOWN, *OLD_FLEET]}
    domains = {entry.run_id: entry.domain for entry in plan.manifest}
    assert {domains[run.run_id] for run in NEW_FLEET} == {1}
    assert {domains[run.run_id] for run in [*KNOWN, *OLD_FLEET]} == {0}
    # The gate judges units of the old fleet that failed since with the old ones.
    judged = {run.run_id for run in with_role(plan.old, "gate")}
    assert judged == {run.run_id for run in with_role([*KNOWN, *OLD_FLEET], "gate")}


def test_labels_of_the_old_fleet_alone_are_not_enough(collect: Collect, told: Told) -> None:
    many = fleet(name="s", per_role=6, cycles=150)
    with pytest.raises(DriftloopError, match="0 new completed runs, 20 are needed"):
        collect(*many)
    assert [event["kind"] for event in told.events if event["kind"] == "waiting_for_labels"]
