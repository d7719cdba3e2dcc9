"""Bundles that are damaged in the registry: never promoted, never served, never trained from."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from driftloop.fleet.runs import Run
from driftloop.model import bundle
from driftloop.model.bundle import BASELINE, CHECKPOINT, MODEL, SERVING_FILES
from driftloop.model.registry import DIGEST_TAG, PRODUCTION
from driftloop.training import record
from live_platform import Platform

from .conftest import Prepare
from .story import Story


def flip(folder: Path) -> None:
    """Change one byte of the model."""
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / MODEL).write_bytes(content)


def truncate(folder: Path) -> None:
    """Lose the second half of the model."""
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content[: len(content) // 2])


def take_another_baseline(folder: Path) -> None:
    """Keep the model, but with what healthy traffic looks like to another one."""
    text = (folder / BASELINE).read_text()
    (folder / BASELINE).write_text(text.replace('"min_n":', '"min_n": 1, "was":', 1))


def lose_the_metadata(folder: Path) -> None:
    """Lose one of the three files."""
    (folder / bundle.METADATA).unlink()


@pytest.mark.parametrize("damage", [flip, truncate, take_another_baseline, lose_the_metadata])
def test_a_bundle_changed_after_its_registration_is_refused(
    damage: Callable[[Path], None], prepared: Prepare, healthy_fleet: Sequence[Run], tmp_path: Path
) -> None:
    platform = prepared()
    with Story(platform, healthy_fleet) as story:
        version = register_copy(platform, tmp_path / "copy")
        damage(stored(platform, version))
        done = platform.run("promote", version)
        assert done.returncode != 0
        assert platform.production() == "1"
        refused_by_the_server(platform, version)
        # The watch goes on with the version that it can use, and the server with the one that it has.
        seen = len(platform.of_kind("verdict", model_version="1"))
        platform.wait(lambda: len(platform.of_kind("verdict", model_version="1")) > seen, "another verdict")
        put_back(platform)
        abandon(platform, version)
        story.check(moved=False)


def test_a_model_that_was_registered_broken_is_not_served(
    prepared: Prepare, healthy_fleet: Sequence[Run], tmp_path: Path
) -> None:
    platform = prepared()
    with Story(platform, healthy_fleet) as story:
        version = register_copy(platform, tmp_path / "copy")
        truncate(stored(platform, version))
        platform.registry.set_tag(version, DIGEST_TAG, bundle.digest(stored(platform, version)))
        refused_by_the_server(platform, version)
        put_back(platform)
        abandon(platform, version)
        story.check(moved=False)


def test_a_challenger_damaged_before_its_promotion_is_never_promoted(
    prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    platform = prepared()
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post([run for run in changed_fleet if run.role != "live"])
        registered = platform.wait(lambda: platform.of_kind("challenger_registered"), "the challenger")
        flip(stored(platform, registered[0]["model_version"]))
        decision = story.settled()
        assert decision["decision"] == "promoted"
        assert decision["model_version"] != registered[0]["model_version"]
        failures = platform.of_kind("retraining_failed")
        # The shadow may have opened the bundle before it was damaged.
        assert len(failures) == 1
        assert failures[0]["step"] in ("shadow", "promote")
        assert "digest" in failures[0]["error"]
        story.check(moved=True)


def register_copy(platform: Platform, folder: Path) -> str:
    """Register the champion's bundle once more; returns the version."""
    platform.registry.fetch("1", folder, (*SERVING_FILES, CHECKPOINT))
    version = record.record(folder, platform.settings)
    shutil.rmtree(folder)
    return version


def stored(platform: Platform, version: str) -> Path:
    """Where MLflow keeps a version's files."""
    source = platform.registry.version(version).source
    return platform.state / "mlflow" / "artifacts" / source.partition("mlflow-artifacts:/")[2].lstrip("/")


def refused_by_the_server(platform: Platform, version: str) -> None:
    """Point production at a version behind the platform's back; the server must not follow."""
    platform.registry.set_alias(PRODUCTION, version)
    platform.wait(lambda: platform.metric("driftloop_bundle_refused") == 1, "the server to refuse the bundle")
    assert platform.served() == "1"


def put_back(platform: Platform) -> None:
    """Point production at the champion again."""
    platform.registry.set_alias(PRODUCTION, "1")
    platform.wait(lambda: platform.metric("driftloop_bundle_refused") == 0, "the server to be content again")


def abandon(platform: Platform, version: str) -> None:
    """Record what became of a version that a test registered by hand."""
    platform.registry.set_tags(version, {"decision_reason": "damaged by a test", "decision": "abandoned"})
