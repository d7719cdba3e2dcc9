"""What follows when runs are taken back."""

from pathlib import Path

import msgspec
import pytest

from driftloop.errors import DriftloopError
from driftloop.loop.judge import withdrawal
from driftloop.model.bundle import SERVING_FILES, ManifestEntry, Metadata, write_metadata

from .fakes import FakeRegistry, metadata

OLD, WRONG, TRUE = ([f"{name}-{i}" for i in range(count)] for name, count in (("old", 10), ("wrong", 30), ("true", 30)))


class Registry(FakeRegistry):
    """Versions with manifests of their own; `superseded` runs are marked so."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Metadata] = {}

    def train(self, runs: list[str], superseded: list[str], parent: str | None) -> str:
        version = self.add()
        entries = [ManifestEntry(run, "0" * 64, "train", 0, 200, superseded=run in superseded) for run in runs]
        self.kept[version] = msgspec.structs.replace(metadata(OLD), manifest=entries, parent_version=parent)
        self.pointers["production"] = version
        return version

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:
        assert set(files) >= set(SERVING_FILES)
        if version not in self.kept:
            raise DriftloopError(f"there is no version {version}")
        folder.mkdir(parents=True, exist_ok=True)
        write_metadata(folder, self.kept[version])
        return folder


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.train(OLD, [], None)
    made.train(OLD + WRONG, OLD, "1")
    return made


def test_the_versions_that_know_withdrawn_runs_are_named_and_one_to_go_back_to(registry: Registry) -> None:
    found = withdrawal.affected(registry, WRONG[:7])
    assert found.plain() == {
        "versions": [{"model_version": "2", "runs": 7, "in_production": True}],
        "go_back_to": "1",
    }
    registry.pointers["production"] = "1"
    assert withdrawal.affected(registry, WRONG).go_back_to is None


def test_labels_that_were_superseded_because_of_withdrawn_runs_hold_again(registry: Registry) -> None:
    assert withdrawal.restored(registry, registry.kept["2"], []) == set()
    assert withdrawal.restored(registry, registry.kept["2"], WRONG) == set(OLD)


def test_a_few_wrong_runs_among_many_restore_nothing(registry: Registry) -> None:
    assert withdrawal.restored(registry, registry.kept["2"], WRONG[:10]) == set()


def test_labels_hold_again_although_other_models_were_trained_since(registry: Registry) -> None:
    registry.train(OLD + WRONG + TRUE, OLD, "2")
    assert withdrawal.restored(registry, registry.kept["3"], WRONG) == set(OLD)


def test_where_an_ancestor_is_gone_what_it_superseded_stays_so(registry: Registry) -> None:
    del registry.kept["1"]
    assert withdrawal.restored(registry, registry.kept["2"], WRONG) == set()
