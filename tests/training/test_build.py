"""The bundle: its files belong together, can be served, and come out the same again."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftloop.drift.baseline import read_baseline
from driftloop.errors import BundleError, DataError
from driftloop.fleet.archive import Archive, open_archive
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run, windows
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.model import answers, bundle
from driftloop.model.bundle import BASELINE, CHECKPOINT, MODEL, ManifestEntry, read_metadata, write_metadata
from driftloop.training import build
from made_up import fleet, tiny_bundle, tiny_config, train

CREATED = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def archive(old_runs: list[Run], tmp_path: Path) -> Archive:
    found = open_archive(tmp_path / "archive", SCHEMA)
    found.add_all(old_runs)
    return found


def test_a_bundle_has_its_four_files_and_nothing_else(champion: Path) -> None:
    assert sorted(path.name for path in champion.iterdir()) == sorted([MODEL, BASELINE, CHECKPOINT, bundle.METADATA])


def test_metadata_tell_where_the_model_came_from(champion: Path, old_runs: list[Run]) -> None:
    metadata = read_metadata(champion)
    assert [(entry.run_id, entry.sha256, entry.role, entry.domain) for entry in metadata.manifest] == [
        (run.run_id, run.sha256, run.role, 0) for run in old_runs
    ]
    assert (metadata.window, metadata.regimes, metadata.training) == (15, 1, "full")
    assert metadata.metrics["early_stop_rmse"] > 0
    assert metadata.parameters["perceptron"] == 16


def test_the_example_is_what_the_model_answers(champion: Path) -> None:
    example, model = read_metadata(champion).example, answers.open_model(champion)
    rul, lower, upper = model.session.run(
        ["rul", "lower", "upper"], {"rows": np.asarray(example.rows, dtype=np.float32)}
    )
    assert (rul.tolist(), lower.tolist(), upper.tolist()) == (example.rul, example.lower, example.upper)
    assert len({round(value) for value in example.rul}) > 1


def test_the_same_training_gives_the_same_digest(champion: Path, old_runs: list[Run], tmp_path: Path) -> None:
    assert bundle.digest(tiny_bundle(tmp_path, runs=old_runs)) == bundle.digest(champion)


def test_runs_outside_the_manifest_are_refused(old_runs: list[Run], new_runs: list[Run], tmp_path: Path) -> None:
    trained = train(old_runs, tiny_config(steps=2))
    with pytest.raises(ValueError, match="not in the manifest"):
        build.build_bundle(
            trained, old_runs + new_runs, build.first_manifest(old_runs), tmp_path, data_source="simulated"
        )


def test_new_runs_become_the_next_domain(champion: Path, old_runs: list[Run], new_runs: list[Run]) -> None:
    known = read_metadata(champion).manifest
    grown = build.extended_manifest(known, old_runs + new_runs[::-1])
    assert grown[: len(known)] == known
    assert [(entry.run_id, entry.domain) for entry in grown[len(known) :]] == [(run.run_id, 1) for run in new_runs]
    third = build.extended_manifest(grown, fleet(name="c"))
    assert {entry.domain for entry in third} == {0, 1, 2}


def test_a_baseline_knows_the_domains_and_the_given_weights(
    old_runs: list[Run], new_runs: list[Run], tmp_path: Path
) -> None:
    runs = old_runs + new_runs
    manifest = build.extended_manifest(build.first_manifest(old_runs), runs)
    trained = train(runs, tiny_config(steps=4))
    folder = build.build_bundle(trained, runs, manifest, tmp_path, [0.2, 0.8], data_source="simulated", created=CREATED)
    baseline = read_baseline(folder)
    assert [domain.domain for domain in baseline.domains] == [0, 1]
    assert baseline.weights == [0.2, 0.8]


def test_traces_have_every_cycle_of_the_engines_that_made_the_model(champion: Path, old_runs: list[Run]) -> None:
    model = answers.open_model(champion)
    found = answers.traces(model, [*old_runs, *fleet(name="stranger")], read_metadata(champion).manifest)
    assert [(trace.run_id, len(trace.prediction)) for trace in found] == [
        (run.run_id, len(run.rows)) for run in with_role(old_runs, "train", "early_stop", "calibrate")
    ]


def test_evaluation_is_the_model_window_by_window(champion: Path, old_runs: list[Run]) -> None:
    model, runs = answers.open_model(champion), old_runs[:3]
    found = answers.evaluate(model, runs, stride=4)
    at = 0
    for run in runs:
        rows, labels = windows(run, model.window, RUL_CAP, 4)
        part = slice(at, at + len(rows))
        np.testing.assert_array_equal(found.true[part], labels)
        assert set(found.engine[part]) == {run.run_id}
        assert found.cycle[part][-1] == len(run.rows)
        for i in range(len(rows)):
            cycle = found.cycle[part][i]
            alone = model.session.run(["rul"], {"rows": run.rows[None, :cycle].astype(np.float32)})[0]
            np.testing.assert_allclose(found.rul[part][i], alone[0], atol=1e-3)
        at += len(rows)
    assert at == len(found.rul)


def test_nothing_to_evaluate_on_and_a_damaged_model_are_refused(champion: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        answers.evaluate(answers.open_model(champion), [])
    (tmp_path / MODEL).write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot be loaded"):
        answers.open_session(tmp_path / MODEL)


def test_a_rebuilt_baseline_has_the_same_bytes(champion: Path, archive: Archive) -> None:
    before = (champion / BASELINE).read_bytes()
    assert build.rebuild_baseline(champion, archive) == before
    assert build.rebuild_baseline(champion, archive) == before
    assert (champion / BASELINE).read_bytes() == before


def test_a_baseline_is_not_rebuilt_from_other_data(champion: Path, old_runs: list[Run], tmp_path: Path) -> None:
    other = open_archive(tmp_path / "other", SCHEMA)
    other.add_all([Run(run.run_id, run.rows + 1.0) for run in old_runs])
    with pytest.raises(DataError, match="not what the manifest says"):
        build.rebuild_baseline(champion, other)
    with pytest.raises(DataError, match="no such run"):
        build.rebuild_baseline(champion, open_archive(tmp_path / "empty", SCHEMA))


def test_a_baseline_can_be_rebuilt_where_it_is_missing(champion: Path, archive: Archive, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (MODEL, bundle.METADATA):
        (copy / name).write_bytes((champion / name).read_bytes())
    assert build.rebuild_baseline(copy, archive) == (champion / BASELINE).read_bytes()


def test_the_manifest_survives_being_written(champion: Path, tmp_path: Path) -> None:
    metadata = read_metadata(champion)
    write_metadata(tmp_path, metadata)
    assert read_metadata(tmp_path) == metadata
    assert msgspec.json.decode(json.dumps(msgspec.to_builtins(metadata.manifest)), type=list[ManifestEntry])
