"""The record in MLflow and the commands, against a real MLflow server."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from driftloop import cli
from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.model import bundle
from driftloop.model.bundle import BASELINE, CHECKPOINT, SERVING_FILES, read_metadata
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.settings import Settings, load
from driftloop.training import commands, configuration, record
from driftloop.training import train as training
from made_up import tiny_bundle, tiny_config


@pytest.fixture
def settings(
    mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Settings:
    """A platform with a registered model of its own, small networks, and nobody listening for events."""
    name = request.node.name.replace("[", "-").replace("]", "")
    for variable, value in {"MLFLOW_URL": mlflow_url, "MODEL_NAME": name, "ARCHIVE": str(tmp_path / "archive")}.items():
        monkeypatch.setenv(f"DRIFTLOOP_{variable}", value)
    monkeypatch.setenv("DRIFTLOOP_RETRAINER_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("CMAPSS_DIR", raising=False)
    small = tiny_config()
    for module in (training, configuration):
        monkeypatch.setattr(module, "TrainConfig", lambda **changes: replace(small, **changes))
    return load()


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry(settings.mlflow_url, settings.model) as found:
        yield found


def call(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(cli.build(arguments), [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_a_recorded_bundle_comes_back_byte_for_byte(
    champion: Path, settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    version = record.record(champion, settings, tags={"cause": "fleet_change:1", "mixture": "traffic"})
    fetched = registry.fetch(version, tmp_path / "fetched", (*SERVING_FILES, CHECKPOINT))
    for name in (*SERVING_FILES, CHECKPOINT):
        assert (fetched / name).read_bytes() == (champion / name).read_bytes()
    tags = registry.tags(version)
    assert tags["bundle_digest"] == bundle.digest(champion)
    assert (tags["decision"], tags["cause"], tags["mixture"]) == ("pending", "fleet_change:1", "traffic")
    assert (tags["training"], tags["data_source"]) == ("full", "simulated")
    assert registry.alias(PRODUCTION) is None


def test_mlflow_knows_the_model_with_signature_parameters_metrics_and_data(
    champion: Path, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = record.record(champion, settings)
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(settings.mlflow_url)
    model = mlflow.onnx.load_model(f"models:/{settings.model}/{version}")
    assert [graph_input.name for graph_input in model.graph.input] == ["rows"]
    info = mlflow.models.get_model_info(f"models:/{settings.model}/{version}")
    assert info.signature.inputs.input_names() == ["rows"]
    assert info.signature.outputs.input_names() == ["rul", "lower", "upper", "regime", "newest"]
    assert info.saved_input_example_info is not None
    run = mlflow.MlflowClient().get_run(registry.version(version).run_id)
    metadata = read_metadata(champion)
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in metadata.parameters.items()}
    assert run.data.metrics == pytest.approx(metadata.metrics)
    assert run.data.tags["mlflow.source.git.commit"] == metadata.git_commit
    manifest = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/training/manifest.json")
    assert [entry["sha256"] for entry in json.loads(manifest)] == [entry.sha256 for entry in metadata.manifest]
    answer = mlflow.pyfunc.load_model(f"models:/{settings.model}/{version}").predict(
        {"rows": np.asarray(metadata.example.rows, dtype=np.float32)}
    )
    np.testing.assert_allclose(answer["rul"], metadata.example.rul, atol=1e-4)


def test_a_registry_that_is_away_is_reported_as_such(champion: Path) -> None:
    with pytest.raises(RegistryUnavailable, match="could not be logged"):
        record.record(champion, load(mlflow_url="http://127.0.0.1:9"))


def test_train_promotes_a_champion_and_then_starts_from_it(
    settings: Settings, registry: Registry, old_runs: list[Run], new_runs: list[Run], tmp_path: Path
) -> None:
    archive = open_archive(settings.archive_location, SCHEMA)
    archive.add_all(old_runs)
    first = call("train", "--promote", "--seed", "3")
    assert (registry.alias(PRODUCTION), first["training"]) == (first["version"], "full")
    assert registry.tags(str(first["version"]))["decision"] == "promoted"

    archive.add_all(new_runs)
    second = call("train", "--mode", "warm_start", "--output", str(tmp_path / "kept"))
    assert registry.alias(PRODUCTION) == first["version"]
    metadata = read_metadata(tmp_path / "kept")
    assert (metadata.parent_version, metadata.regimes) == (first["version"], 2)
    assert {entry.domain for entry in metadata.manifest} == {0, 1}
    assert bundle.digest(tmp_path / "kept") == registry.tags(str(second["version"]))["bundle_digest"]


def test_train_without_registration_learns_from_the_runs_of_a_manifest(
    champion: Path, old_runs: list[Run], new_runs: list[Run], tmp_path: Path, settings: Settings
) -> None:
    open_archive(tmp_path / "runs", SCHEMA).add_all(old_runs + new_runs)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads((champion / "metadata.json").read_text())["manifest"]))
    answer = call(
        "train", "--no-register", "--runs-dir", str(tmp_path / "runs"), "--manifest", str(manifest),
        "--output", str(tmp_path / "bundle"),
    )  # fmt: skip
    assert answer["version"] is None
    assert read_metadata(tmp_path / "bundle").manifest == read_metadata(champion).manifest
    assert settings.model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-register"], "the model would be lost"),
        (["--no-register", "--promote", "--output", "x"], "cannot be promoted"),
        (["--no-register", "--mode", "warm_start", "--output", "x"], "needs the registry's production model"),
        (["--mode", "warm_start"], "holds no completed runs"),
        (["--manifest", "/nowhere.json"], "cannot be read"),
    ],
)
def test_train_says_what_is_wrong(settings: Settings, arguments: list[str], message: str) -> None:
    with pytest.raises(DriftloopError, match=message):
        CliRunner().invoke(cli.build(["train"]), ["train", *arguments], catch_exceptions=False)
    assert settings.model


def test_refresh_leaves_an_equal_baseline_alone_and_replaces_another(
    settings: Settings, registry: Registry, old_runs: list[Run], tmp_path: Path
) -> None:
    with pytest.raises(DriftloopError, match="nothing is in production"):
        call("baseline", "refresh")
    open_archive(settings.archive_location, SCHEMA).add_all(old_runs)
    folder = tiny_bundle(tmp_path / "model", runs=old_runs)
    good = (folder / BASELINE).read_bytes()
    (folder / BASELINE).write_bytes(good.replace(b'"min_n": 300', b'"min_n": 301'))
    first = record.record(folder, settings)
    registry.set_alias(PRODUCTION, first)

    assert call("baseline", "refresh", "--output", str(tmp_path / "b.json"))["changed"] is True
    assert (tmp_path / "b.json").read_bytes() == good
    assert registry.alias(PRODUCTION) == first
    changed = call("baseline", "refresh")
    assert (changed["changed"], registry.alias(PRODUCTION)) == (True, changed["version"])
    assert registry.tags(str(changed["version"]))["parent_version"] == first
    assert call("baseline", "refresh") == {"version": changed["version"], "changed": False, "output": None}


def test_people_are_told_the_figures(settings: Settings, old_runs: list[Run]) -> None:
    open_archive(settings.archive_location, SCHEMA).add_all(old_runs)
    result = CliRunner().invoke(cli.build(["train"]), ["train"], catch_exceptions=False)
    assert "early-stop RMSE" in result.output
    assert commands.baseline_app.info.help
