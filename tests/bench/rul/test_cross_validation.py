"""Cross-validation: no test set, whole engines in each fold, random cut-offs, and figures as by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop import cli, settings
from driftloop.fleets.cmapss.source import simulated_fleet
from driftloop.model.accuracy import rmse
from driftloop_bench.rul import benchmark, cross_validation
from driftloop_bench.rul.benchmark import Data, Plan, SeedResult, load_data

from .conftest import SMALL


@pytest.fixture(scope="module")
def data(plan: Plan) -> Data:
    return load_data(plan, settings.load(), ("train",))


def test_no_test_engine_is_there(data: Data) -> None:
    assert all(fleet.train and not fleet.test for fleet in data.fleets.values())


def test_every_engine_is_held_out_once_and_never_learnt_from_then(data: Data) -> None:
    parts = cross_validation.folds(data, 3)
    for subset, fleet in data.fleets.items():
        held_out = [{run.run_id for run in part.fleets[subset].test} for part in parts]
        for part, ids in zip(parts, held_out, strict=True):
            assert not ids & {run.run_id for run in part.fleets[subset].train}
            assert len(ids) + len(part.fleets[subset].train) == len(fleet.train)
        assert sorted(run_id for ids in held_out for run_id in ids) == sorted(run.run_id for run in fleet.train)


def test_engines_are_cut_off_at_random_and_keep_what_they_had_left() -> None:
    run = simulated_fleet("FD001", 0, 1).train[0]
    cut = cross_validation.cut_off(run, np.random.default_rng(0))
    lengths = [len(one.rows) for one in cut]
    assert len(cut) == cross_validation.CUTS
    assert len(set(lengths)) > cross_validation.CUTS / 2
    assert cross_validation.FIRST <= min(lengths) <= max(lengths) <= len(run.rows)
    for one in cut:
        assert one.remaining == len(run.rows) - len(one.rows)
        np.testing.assert_array_equal(one.rows, run.rows[: len(one.rows)])


def test_figures_are_counted_as_by_hand(plan: Plan, data: Data) -> None:
    true = np.array([10.0, 60.0, 125.0, 190.0])
    one, two = (
        SeedResult(seed, subset, true + error, true - 5, np.array([125.0, 55, 125, 125]), true, true, true, {})
        for seed, subset, error in ((0, "FD001", 3.0), (0, "FD002", 0.0))
    )
    single = replace(plan, seeds=(0,))
    found = cross_validation.summarise(single, data, [one, two])
    assert found["subsets"]["FD001"]["rmse"]["network"]["all"]["value"] == pytest.approx(
        rmse(true + 3, np.minimum(true, 125)), abs=1e-4
    )
    assert found["subsets"]["FD001"]["rmse"]["network"]["below_cap"]["value"] == 3.0
    assert found["subsets"]["FD002"]["rmse"]["boosting"]["below_cap"]["value"] == 0.0
    assert found["subsets"]["FD001"]["coverage"] == 0.5
    bands = {(band["from"], band["to"]): band["coverage"] for band in found["intervals"]["bands"]}
    assert bands == {(0, 25): 1.0, (51, 75): 0.0, (125, 125): 0.5}


def test_the_command_compares_a_changed_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(benchmark, "QUICK_CONFIG", SMALL)
    changes = tmp_path / "changes.json"
    changes.write_text('{"lr": 0.002, "architecture": {"perceptron": 4}}')
    arguments = ["benchmark", "rul", "--quick", "--seeds", "1", "--subsets", "FD003", "--config", str(changes)]
    assert cli.main([*arguments, "--output", str(tmp_path / "no")]) != 0
    assert "not for trying configurations" in capsys.readouterr().err
    assert cli.main(["benchmark", "rul", "--quick", "--folds", "4", "--output", str(tmp_path / "no")]) != 0
    assert "only cross-validation has folds" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert cli.main([*arguments, "--cross-validate", "--json", "--output", str(tmp_path / "out")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out/rul-cross-validation.json").read_text())
    assert summary["config"]["lr"] == 0.002
    assert (summary["config"]["architecture"]["perceptron"], summary["config"]["architecture"]["window"]) == (4, 64)
    content = summary["subsets"]["FD003"]
    assert content["engines"] == benchmark.QUICK_ENGINES
    assert content["cut_offs"] == benchmark.QUICK_ENGINES * cross_validation.CUTS
    assert content["rmse"]["network"]["all"]["value"] > 0
    assert summary["folds"] == cross_validation.FOLDS
    more = [*arguments, "--cross-validate", "--folds", "2", "--output", str(tmp_path / "out")]
    assert cli.main(more) == 0
    assert json.loads((tmp_path / "out/rul-cross-validation.json").read_text())["folds"] == 2
    assert "gradient boosting" in capsys.readouterr().out
