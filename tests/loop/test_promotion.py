"""Promotion, rollback, repair and what is forgotten, each cut short at every step."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftloop.errors import BundleError, DriftloopError, RegistryUnavailable
from driftloop.loop.judge import promotion, retention

from .fakes import FakeRegistry


class Dying(FakeRegistry):
    """A registry whose caller dies at its n-th change."""

    def __init__(self, changes: int) -> None:
        super().__init__()
        self.left = changes

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def set_alias(self, name: str, version: str) -> None:
        self._change()
        super().set_alias(name, version)

    def delete_alias(self, name: str) -> None:
        self._change()
        super().delete_alias(name)

    def set_tag(self, version: str, key: str, value: str) -> None:
        self._change()
        super().set_tag(version, key, value)


def three(registry: FakeRegistry) -> FakeRegistry:
    """Version 2 in production, 1 before it, 3 the challenger."""
    registry.add(decision="promoted")
    registry.add(decision="promoted", parent_version="1", promoted_over="1")
    registry.add(parent_version="2")
    registry.pointers = {"production": "2", "previous": "1", "challenger": "3"}
    return registry


def ignore(_: dict[str, Any]) -> None:
    pass


def after_a_death(registry: Dying, act: Callable[[FakeRegistry], object]) -> dict[str, str]:
    """The aliases after `act` died somewhere and a restart repaired what was left."""
    with pytest.raises(KeyboardInterrupt):
        act(registry)
    registry.left = 1000
    promotion.repair(registry)
    return registry.pointers


def test_a_challenger_replaces_no_other_version_than_the_one_it_was_compared_with() -> None:
    registry = three(FakeRegistry())
    other = registry.add()
    registry.pointers["production"] = other
    with pytest.raises(DriftloopError, match="compared with version 2, but 4 is in production"):
        promotion.promote(registry, "3", reason="better", cause=None, report=ignore, champion="2")
    assert registry.pointers["production"] == other
    registry.pointers["production"] = "2"
    assert promotion.promote(registry, "3", reason="better", cause=None, report=ignore, champion="2") == "2"
    # A step that is run again finds its own work done.
    assert promotion.promote(registry, "3", reason="better", cause=None, report=ignore, champion="2") == "2"


@pytest.mark.parametrize("changes", range(8))
def test_a_promotion_that_dies_anywhere_is_done_or_not_done(changes: int):
    registry = three(Dying(changes))

    def act(_: FakeRegistry) -> None:
        promotion.promote(registry, "3", reason="better", cause="c", report=ignore)

    pointers = after_a_death(registry, act)
    assert pointers in (
        {"production": "2", "previous": "1", "challenger": "3"},
        {"production": "3", "previous": "2"},
    )
    assert (registry.tags("3").get("decision") == "promoted") is (pointers["production"] == "3")


@pytest.mark.parametrize("changes", range(4))
def test_a_rollback_that_dies_anywhere_is_done_or_not_done(changes: int):
    registry = three(Dying(changes))

    def act(_: FakeRegistry) -> None:
        promotion.rollback(registry, *promotion.both_ends(registry), reason="worse", cause="c", report=ignore)

    pointers = after_a_death(registry, act)
    assert pointers["production"] in ("1", "2")
    assert pointers.get("previous") == {"1": None, "2": "1"}[pointers["production"]]


def test_a_damaged_bundle_is_never_promoted(monkeypatch: pytest.MonkeyPatch):
    registry = three(FakeRegistry())

    def fetch(*_: object) -> Path:
        raise BundleError("was damaged")

    monkeypatch.setattr(registry, "fetch", fetch)
    with pytest.raises(BundleError):
        promotion.promote(registry, "3", reason="better", cause="c", report=ignore)
    assert registry.pointers["production"] == "2"
    assert registry.moves == []


def test_nothing_is_promoted_while_the_registry_is_away():
    registry = three(FakeRegistry())
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        promotion.promote(registry, "3", reason="better", cause="c", report=ignore)


def test_a_previous_version_that_was_deleted_is_forgotten():
    registry = three(FakeRegistry())
    del registry.known["1"]
    promotion.repair(registry)
    assert registry.pointers == {"production": "2", "challenger": "3"}


def test_old_versions_go_but_never_one_with_an_alias():
    registry = three(FakeRegistry())
    for _ in range(5):
        registry.add(decision="rejected")
    assert retention.prune_versions(registry, 2) == ["4", "5", "6"]
    assert sorted(registry.known) == ["1", "2", "3", "7", "8"]
    assert retention.prune_versions(registry, 2) == []


def test_old_pipeline_runs_go_but_never_the_one_in_use(tmp_path: Path):
    for i, name in enumerate(["a", "b", "c", "d"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text("x")
        os.utime(tmp_path / name, (1_000_000 + i, 1_000_000 + i))
    assert retention.prune_folders(tmp_path, 1, in_use="b") == ["a", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "d"]
    assert retention.prune_folders(tmp_path / "none", 1) == []
