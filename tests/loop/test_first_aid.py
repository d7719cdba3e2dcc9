"""First aid against a real registry: waits for windows, moves the alias last, keeps to labelled versions."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftloop.errors import RegistryUnavailable
from driftloop.fleet.roles import with_role
from driftloop.loop import first_aid
from driftloop.loop.judge import promotion
from driftloop.model import bundle
from driftloop.model.bundle import CHECKPOINT, FIRST_AID, SERVING_FILES
from driftloop.model.mlflow import Mlflow
from driftloop.model.registry import DIGEST_TAG, Registry
from driftloop.protocol.events import Event
from driftloop.protocol.windows import UnitWindow
from made_up import CRUISE, SEA_LEVEL, fleet, run, tiny_bundle

CAUSE = "drift/fleet_change/1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of sea level; of its rehearsal the slope is that of wear of one step a step."""
    folder = tiny_bundle(tmp_path_factory.mktemp("trained") / "bundle", runs=fleet(per_role=8, cycles=150), steps=300)
    metadata = bundle.read_metadata(folder)
    assert metadata.rehearsal is not None
    healthy = msgspec.structs.replace(metadata.rehearsal, slope=-1.0, at_cap=0.5)
    bundle.write_metadata(folder, msgspec.structs.replace(metadata, rehearsal=healthy))
    return folder


@pytest.fixture
def registry(mlflow_url: str, trained: Path) -> Iterator[Registry]:
    """Version 1 is the trained model, in production."""
    with (
        Registry(mlflow_url, f"first-aid-{time.monotonic_ns()}", timeout_s=30.0) as client,
        Mlflow(mlflow_url) as server,
    ):
        made = server.ask("POST", "runs/create", {"experiment_id": "0", "start_time": 1})["run"]["info"]
        source = f"{made['artifact_uri']}/model"
        for name in (*SERVING_FILES, CHECKPOINT):
            server.upload(
                f"{source.removeprefix('mlflow-artifacts:').lstrip('/')}/{name}", (trained / name).read_bytes()
            )
        client.create_version(source, made["run_id"], {DIGEST_TAG: bundle.digest(trained), "decision": "promoted"})
        client.set_alias("production", "1")
        yield client


def elsewhere() -> list[UnitWindow]:
    """Windows of units that are run where the model has never been, and of some that are not."""
    units = with_role(
        fleet(name="x", per_role=6, cycles=150, settings=(CRUISE, SEA_LEVEL)), "live", "gate", "calibrate"
    )
    return [UnitWindow(one.run_id, one.rows.astype(np.float32), len(one.rows)) for one in (*units, run("home"))]


def test_it_waits_for_windows_then_promotes_a_provisional_version(registry: Registry, tmp_path: Path) -> None:
    told: list[Event] = []
    waiting = first_aid.give(registry, "1", list, tmp_path, CAUSE, told.append)
    assert (waiting.kind, told) == ("waiting", [])
    given = first_aid.give(registry, "1", elsewhere, tmp_path, CAUSE, told.append)
    assert (given.kind, given.model_version) == ("promoted", "2"), given.reason
    assert registry.aliases() == {"production": "2", "previous": "1"}
    assert [event["kind"] for event in told] == ["promoted"]
    tags = registry.tags("2")
    assert (tags["provisional"], tags["training"], tags["parent_version"], tags["cause"]) == (
        "true",
        FIRST_AID,
        "1",
        CAUSE,
    )
    fetched = registry.fetch("2", tmp_path / "fetched", (*SERVING_FILES, CHECKPOINT))
    assert bundle.read_metadata(fetched).provisional
    assert first_aid.give(registry, "1", elsewhere, tmp_path, CAUSE, told.append).kind == "refused"


def test_what_was_made_for_earlier_champions_is_forgotten(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "first-aid-of-0").mkdir()
    first_aid.give(registry, "1", elsewhere, tmp_path, CAUSE, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == [first_aid.FOLDER]
    assert sorted(path.name for path in (tmp_path / first_aid.FOLDER / "1").iterdir()) == ["known", "made"]
    first_aid.give(registry, "2", list, tmp_path, CAUSE, lambda _: None)
    assert [path.name for path in (tmp_path / first_aid.FOLDER).iterdir()] == ["2"]


def test_a_kill_before_the_alias_moves_changes_nothing_and_it_is_given_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise RegistryUnavailable("killed")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "set_alias", killed)
        with pytest.raises(RegistryUnavailable):
            first_aid.give(registry, "1", elsewhere, tmp_path, CAUSE, lambda _: None)
    assert registry.alias("production") == "1"
    shutil.rmtree(tmp_path)
    assert first_aid.give(registry, "1", elsewhere, tmp_path, CAUSE, lambda _: None).model_version == "3"


def test_what_follows_a_provisional_version_goes_back_to_the_labelled_one(registry: Registry, tmp_path: Path) -> None:
    given = first_aid.give(registry, "1", elsewhere, tmp_path, CAUSE, lambda _: None)
    assert given.model_version == "2"
    labelled = registry.register_beside(
        "1", tmp_path / first_aid.FOLDER / "1" / "known", {"parent_version": "2", "decision": "pending"}
    )
    promotion.promote(registry, labelled, reason="labels", cause=CAUSE, report=lambda _: None, champion="2")
    assert registry.aliases() == {"production": "3", "previous": "1"}
    assert promotion.both_ends(registry) == ("3", "1")
