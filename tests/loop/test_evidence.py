"""What completed runs say: of which domain they are, and which of two versions is the better one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftloop.errors import RegistryUnavailable
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.loop.evidence import Evidence
from driftloop.loop.judge import belonging, standing
from driftloop.loop.judge.belonging import Reader
from driftloop.model import bundle
from driftloop.model.bundle import SERVING_FILES, ManifestEntry
from made_up import CRUISE, SEA_LEVEL, fleet, tiny_bundle

from .fakes import FakeRegistry

KNOWN = fleet(per_role=8, cycles=150)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of sea level."""
    return tiny_bundle(tmp_path_factory.mktemp("good") / "bundle", runs=KNOWN, steps=300)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fleet's, hardly trained; the units of the gate it does not know."""
    half = [run for run in KNOWN if run.role != "gate"]
    return tiny_bundle(tmp_path_factory.mktemp("bad") / "bundle", runs=half, steps=1)


class Registry(FakeRegistry):
    """Versions with bundles."""

    def __init__(self, *folders: Path) -> None:
        super().__init__()
        self.folders = {self.add(): folder for folder in folders}
        self.fetched: list[str] = []

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:
        assert set(files) == set(SERVING_FILES)
        self.version(version)
        self.fetched.append(version)
        shutil.copytree(self.folders[version], folder, dirs_exist_ok=True)
        return folder


class Archive:
    """Runs in memory."""

    def __init__(self, *runs: Run) -> None:
        self.runs = {run.run_id: run for run in runs}

    def failed_ids(self) -> list[str]:
        return sorted(self.runs)

    def read(self, run_id: str) -> Run:
        return self.runs[run_id]


def knows(good: Path, runs: list[Run], tmp_path: Path) -> dict[str, int]:
    return Evidence(Registry(good), tmp_path, Archive(*runs)).known("1", [run.run_id for run in runs])


def test_units_of_the_known_fleet_are_told_from_those_of_a_new_one(good: Path, tmp_path: Path) -> None:
    same, other = fleet(name="s", per_role=3, cycles=150), fleet(name="o", per_role=3, cycles=150, settings=(CRUISE,))
    assert knows(good, [*same, *other], tmp_path) == {run.run_id: 0 for run in same}
    mixed = fleet(name="m", per_role=3, cycles=150, settings=(SEA_LEVEL, CRUISE))
    assert knows(good, [*same, *mixed], tmp_path) == {run.run_id: 0 for run in same}


def moved(by: float) -> Callable[[Run], Run]:
    """Another unit whose sensors that vary read so much more, from the first row to the last."""

    def move(run: Run) -> Run:
        rows = run.rows.copy()
        varying = np.setdiff1d(np.arange(21), (0, 4, 9, 15, 17, 18))
        rows[:, 3 + varying] += by * np.where(varying % 2, 1.0, -1.0)
        return Run(f"{run.run_id}-moved", rows)

    return move


def test_a_change_of_sensors_is_seen_in_each_unit(good: Path, tmp_path: Path) -> None:
    same = fleet(name="s", per_role=3, cycles=150)
    changed = [moved(1.5)(run) for run in fleet(name="c", per_role=3, cycles=150)]
    assert knows(good, [*same, *changed], tmp_path) == {run.run_id: 0 for run in same}


def test_a_change_that_shows_in_no_unit_alone_makes_all_of_them_new(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = fleet(name="s", per_role=2, cycles=150)
    real = belonging._unexplained

    def weak(flat: np.ndarray, baseline: object) -> tuple[np.ndarray, np.ndarray]:
        score, weights = real(flat, baseline)  # type: ignore[arg-type]
        # Alone nothing is seen; together it is.
        return (np.zeros_like(score) if flat.ndim > 1 else np.asarray(1.5)), weights

    monkeypatch.setattr(belonging, "_unexplained", weak)
    assert knows(good, same, tmp_path) == {}


def test_a_provisional_domain_has_no_labels_yet(good: Path, tmp_path: Path) -> None:
    same = fleet(name="s", per_role=2, cycles=150)
    aided = shutil.copytree(good, tmp_path / "aided")
    metadata = bundle.read_metadata(aided)
    entries = [msgspec.structs.replace(entry, domain=7) for entry in metadata.manifest]
    bundle.write_metadata(aided, msgspec.structs.replace(metadata, manifest=entries))
    reader = Reader(aided)
    assert reader.known({run.run_id: reader.counts(run) for run in same}) == {}


def test_what_a_version_knows_is_read_once_and_a_version_that_cannot_be_read_knows_nothing(
    good: Path, tmp_path: Path
) -> None:
    same = fleet(name="s", per_role=2, cycles=150)
    registry = Registry(good)
    evidence = Evidence(registry, tmp_path / "kept", Archive(*same))
    ids = [run.run_id for run in same]
    assert evidence.known("1", ids) == evidence.known("1", ids) == dict.fromkeys(ids, 0)
    assert registry.fetched == ["1"]
    damaged = shutil.copytree(good, tmp_path / "damaged")
    (damaged / "baseline.json").write_text("{")
    assert knows(damaged, same, tmp_path / "other") == {}
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        Evidence(registry, tmp_path / "away", Archive(*same)).known("1", ids)


# Which of two versions is the better one.


def test_units_completed_since_tell_the_better_version_from_the_worse(good: Path, bad: Path, tmp_path: Path) -> None:
    since = fleet(name="s", per_role=2, cycles=150)
    evidence = Evidence(Registry(good, bad), tmp_path, Archive(*KNOWN, *since))
    found = evidence.compare("2", "1", only_since=True)
    assert found is not None
    assert not found.better
    assert found.why.startswith(f"on {len(since)} units completed since version 2 has an RMSE of ")
    again = evidence.compare("1", "2")
    assert again is not None
    assert again.better
    assert evidence.compare("1", "1") is None


def test_without_any_the_units_that_the_gate_kept_apart_tell(good: Path, bad: Path, tmp_path: Path) -> None:
    evidence = Evidence(Registry(good, bad), tmp_path, Archive(*KNOWN))
    assert evidence.compare("1", "2", only_since=True) is None
    found = evidence.compare("1", "2")
    assert found is not None
    assert found.better
    assert f"on {len(with_role(KNOWN, 'gate'))} units kept apart by the gate" in found.why


def test_too_few_units_tell_nothing_and_neither_does_a_version_that_is_gone(
    good: Path, bad: Path, tmp_path: Path
) -> None:
    few = fleet(name="s", per_role=1, cycles=150)[:2]
    registry = Registry(good, bad)
    evidence = Evidence(registry, tmp_path, Archive(*few))
    assert evidence.compare("1", "2") is None
    more = Evidence(registry, tmp_path, Archive(*KNOWN, *fleet(name="s", per_role=2, cycles=150)))
    del registry.known["2"]
    assert more.compare("1", "2") is None
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        Evidence(registry, tmp_path / "away", Archive(*KNOWN)).compare("1", "2")


def test_the_same_units_are_looked_at_once(good: Path, bad: Path, tmp_path: Path) -> None:
    registry, archive = Registry(good, bad), Archive(*KNOWN)
    evidence = Evidence(registry, tmp_path, archive)
    assert evidence.compare("1", "2") == evidence.compare("1", "2")
    assert registry.fetched == ["1", "2"]
    archive.runs |= {run.run_id: run for run in fleet(name="s", per_role=1, cycles=150)}
    assert evidence.compare("1", "2") is not None
    assert registry.fetched == ["1", "2", "1", "2"]


def entry(run_id: str, role: str = "gate", domain: int = 1, *, superseded: bool = False) -> ManifestEntry:
    return ManifestEntry(run_id, "0" * 64, role, domain, 200, superseded=superseded)


def test_units_that_either_version_learnt_from_say_nothing() -> None:
    mine = [entry("old", domain=0), entry("apart"), entry("learnt", "train"), entry("stale", superseded=True)]
    found = standing.groups(mine, [entry("theirs")], ["apart", "learnt", "new", "old", "stale", "theirs"])
    assert found == {standing.SINCE: ["new"], standing.KEPT_APART: ["apart"]}
    known_to_both = standing.groups(mine, [entry("apart")], ["apart", "new"])
    assert known_to_both[standing.KEPT_APART] == []
