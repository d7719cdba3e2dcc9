"""The benchmark's protocol: who takes part in what, where engines are cut, what is resumed, what is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop import cli, settings
from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.fleets.cmapss.source import simulated_fleet
from driftloop.model.accuracy import phm08_score, rmse
from driftloop.training import train as training
from driftloop_bench import boosting
from driftloop_bench.rul import benchmark
from driftloop_bench.rul import report as benchmark_report
from driftloop_bench.rul.benchmark import Data, Plan, SeedResult, load_data, make_plan

from .conftest import SMALL


@pytest.fixture(scope="module")
def data(plan: Plan) -> Data:
    return load_data(plan, settings.load())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def results(plan: Plan, data: Data, cache: Path) -> list[SeedResult]:
    return benchmark.run(plan, data, cache)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_engine_takes_two_parts_and_none_is_left_out(data: Data, seed: int) -> None:
    parts = benchmark.split(data.fleets, seed)
    fit, calibrate = ({run.run_id for run in part} for part in (parts.fit, parts.calibrate))
    assert not fit & calibrate
    assert fit | calibrate == {run.run_id for fleet in data.fleets.values() for run in fleet.train}
    assert not (fit | calibrate) & {run.run_id for fleet in data.fleets.values() for run in fleet.test}


def test_every_subset_gives_its_share_of_calibrating_engines(data: Data) -> None:
    calibrate = {run.run_id for run in benchmark.split(data.fleets, 0).calibrate}
    for fleet in data.fleets.values():
        expected = max(1, round(benchmark.CALIBRATE_SHARE * len(fleet.train)))
        assert len(calibrate & {run.run_id for run in fleet.train}) == expected


def test_seeds_split_differently_and_alike_each_time(data: Data) -> None:
    ids = [{run.run_id for run in benchmark.split(data.fleets, seed).calibrate} for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


def test_test_engines_change_nothing_but_their_own_answers(plan: Plan, data: Data, results: list[SeedResult]) -> None:
    one = replace(plan, seeds=(0,))
    fleet = data.fleets["FD001"]
    other = [Run(run.run_id, run.rows * 1.01, run.remaining) for run in fleet.test]
    fleets = {**data.fleets, "FD001": replace(fleet, test=other)}
    arrays = benchmark._measure(one, fleets, 0, lambda *_: None)
    before = next(result for result in results if (result.subset, result.seed) == ("FD002", 0))
    np.testing.assert_array_equal(arrays["FD002/rul"], before.rul)
    np.testing.assert_array_equal(arrays["FD002/boosting"], before.boosting)
    assert not np.array_equal(arrays["FD001/boosting"], results[0].boosting)


def test_each_test_engine_is_asked_once_after_its_last_row(data: Data, results: list[SeedResult]) -> None:
    for result in results:
        test = data.fleets[result.subset].test
        assert len(result.rul) == len(result.boosting) == len(test)
        np.testing.assert_array_equal(result.true, [run.remaining for run in test])


def test_results_are_ordered_by_subset_and_seed(results: list[SeedResult]) -> None:
    order = [(result.subset, result.seed) for result in results]
    assert order == [("FD001", 0), ("FD001", 1), ("FD002", 0), ("FD002", 1)]


def test_a_run_that_was_stopped_goes_on_where_it_was(
    plan: Plan, data: Data, cache: Path, results: list[SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = max(cache.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    last.unlink()
    fitted = []
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda *given: (fitted.append(given[5].seed), fit(*given))[1])
    again = benchmark.run(plan, data, cache)
    assert len(fitted) == 1
    for old, new in zip(results, again, strict=True):
        np.testing.assert_array_equal(old.rul, new.rul)
        np.testing.assert_array_equal(old.upper, new.upper)
        np.testing.assert_array_equal(old.boosting, new.boosting)


def test_another_configuration_is_not_taken_from_the_cache(plan: Plan, data: Data) -> None:
    names = {
        benchmark._digest(changed, data, 0, ("FD001",))
        for changed in (
            plan,
            replace(plan, config=replace(SMALL, steps=11)),
            replace(plan, boosting=replace(plan.boosting, leaves=7)),
        )
    }
    names.add(benchmark._digest(plan, replace(data, hashes={"FD001": "other"}), 0, ("FD001",)))
    names.add(benchmark._digest(plan, data, 1, ("FD001",)))
    assert len(names) == 5


def test_a_damaged_file_of_a_seed_is_computed_anew(data: Data, tmp_path: Path) -> None:
    one = replace(make_plan("FD001", 1, quick=True), config=SMALL)
    first = benchmark.run(one, data, tmp_path)
    kept = next(tmp_path.glob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(benchmark.run(one, data, tmp_path)[0].rul, first[0].rul)


def test_a_model_for_each_subset_learns_from_that_subset_alone(plan: Plan, data: Data, tmp_path: Path) -> None:
    apart = benchmark.run(replace(plan, per_subset=True, seeds=(0,)), data, tmp_path)
    alone = benchmark.run(replace(plan, subsets=("FD002",), seeds=(0,)), data, tmp_path / "alone")
    np.testing.assert_array_equal(apart[1].rul, alone[0].rul)


def test_the_summary_agrees_with_figures_computed_by_hand(plan: Plan, data: Data, results: list[SeedResult]) -> None:
    summary = benchmark_report.summarise(plan, data, results)
    mine = [result for result in results if result.subset == "FD002"]
    true = mine[0].true
    for label, labels in (("capped", np.minimum(true, 125)), ("raw", true)):
        found = summary["subsets"]["FD002"][label]
        errors = [rmse(result.rul, labels) for result in mine]
        assert found["network"]["rmse"]["of_seeds"] == pytest.approx(errors, abs=1e-4)
        assert found["network"]["rmse"]["value"] == pytest.approx(np.mean(errors), abs=1e-4)
        assert found["network"]["rmse"]["sd"] == pytest.approx(np.std(errors, ddof=1), abs=1e-4)
        mean = (mine[0].rul + mine[1].rul) / 2
        assert found["network_ensemble"]["rmse"]["value"] == pytest.approx(rmse(mean, labels), abs=1e-4)
        scores = [phm08_score(result.boosting, labels) for result in mine]
        assert found["boosting"]["score"]["value"] == pytest.approx(np.mean(scores), abs=1e-3)
        assert found["boosting"]["score_per_engine"]["value"] == pytest.approx(np.mean(scores) / len(true), abs=1e-4)
        low, high = found["network"]["rmse"]["interval"]
        assert low < found["network"]["rmse"]["value"] < high
    near = true <= 50
    found = summary["subsets"]["FD002"]["near"]["50"]
    assert found["engines"] == near.sum() > 0
    errors = [rmse(result.rul[near], true[near]) for result in mine]
    assert found["rmse"]["network"]["of_seeds"] == pytest.approx(errors, abs=1e-4)
    assert f"| {np.mean(errors):.2f} ± " in benchmark_report.markdown(summary)


def test_no_engine_near_the_end_is_no_figure() -> None:
    assert benchmark_report._near_the_end({"network": np.ones((2, 3))}, np.zeros(3, bool)) == {"engines": 0, "rmse": {}}


def test_coverage_width_and_bands_are_counted_as_by_hand() -> None:
    true = np.array([10.0, 20.0, 60.0, 125.0, 190.0])
    lower, upper = true * 0 + [5.0, 21.0, 60.0, 100.0, 100.0], true * 0 + [15.0, 30.0, 70.0, 125.0, 125.0]
    one = SeedResult(0, "FD001", true, lower, upper, true, true, true, {})
    found = benchmark_report._intervals([one])["network"]
    assert found["FD001"]["coverage"] == 0.8
    assert found["FD001"]["width"] == pytest.approx((10 + 9 + 10 + 25 + 25) / 5)
    # One label of five is missed, by one cycle, which costs 2 / 0.1.
    assert found["FD001"]["score"] == pytest.approx((10 + 9 + 10 + 25 + 25 + 20) / 5)
    # Exact two-sided binomial test of 4 in 5 at 0.9: P(at most 4) = 1 - 0.9**5, both tails' outcomes not likelier.
    assert found["FD001"]["p_values"] == [pytest.approx(1 - 0.9**5, abs=1e-4)]
    bands = {(band["from"], band["to"]): (band["predictions"], band["coverage"]) for band in found["bands"]}
    assert bands == {(0, 25): (2, 0.5), (51, 75): (1, 1.0), (125, 125): (2, 1.0)}


def test_features_know_nothing_of_later_rows_and_agree_with_numpy() -> None:
    run = simulated_fleet("FD002", 3, 1).train[0]
    known = boosting.regimes.find([run], SCHEMA)
    config = boosting.BoostingConfig(widths=(5, 20))
    end = 50
    whole = boosting.features(run, known, config, np.array([end]))
    cut = Run(run.run_id, run.rows[: end + 1])
    np.testing.assert_array_equal(whole, boosting.features(cut, known, config, np.array([end])))
    regime, _ = known.assign(run.rows[:, :3])
    z = ((run.rows[:, 3:] - known.mean[regime]) / known.std[regime] * known.varies[regime])[end - 19 : end + 1]
    columns = whole[0, 1 + 21 + 3 * 21 :]
    assert len(columns) == 5 * 21
    np.testing.assert_allclose(columns[:21], z.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(columns[21:42], z.std(axis=0), atol=1e-4)
    np.testing.assert_allclose(columns[42:63], np.polyfit(np.arange(20), z, 1)[0], atol=1e-4)
    # Of 20 rows at most, all stand for what the engine was like, and the newest ten for what it is like.
    np.testing.assert_allclose(columns[63:84], z.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(columns[84:], z[-10:].mean(axis=0) - z.mean(axis=0), atol=1e-4)
    assert np.isfinite(boosting.features(run, known, config, np.array([0]))).all()
    # Rolling features alone leave out the first column and the last two groups.
    rolling = boosting.features(run, known, replace(config, history=False), np.array([end]))
    np.testing.assert_array_equal(rolling, whole[:, 1 : -2 * 21])


def test_unknown_and_missing_subsets_are_refused() -> None:
    with pytest.raises(DataError, match="FD009"):
        make_plan("FD001,FD009", 1)
    with pytest.raises(DataError, match="no subset"):
        make_plan(" , ", 1)


def test_the_command_writes_what_a_referee_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(benchmark, "QUICK_CONFIG", SMALL)
    arguments = ["benchmark", "rul", "--quick", "--seeds", "2", "--subsets", "FD003", "--json"]
    assert cli.main([*arguments, "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert "SIMULATED DATA" in shown.err
    assert summary == json.loads((tmp_path / "out/rul.json").read_text())
    assert summary["data_source"] == "simulated"
    assert summary["seeds"] == [0, 1]
    assert set(summary["data_sha256"]) == {"FD003"}
    assert summary["config"]["steps"] == 10
    assert {"torch", "numpy", "scikit-learn"} <= set(summary["environment"]["packages"])
    assert summary["environment"]["cpu"]
    assert summary["cost"]["inference_us"]["mean"] > 0
    assert "| network, ensemble |" in (tmp_path / "out/rul.md").read_text()
    predictions = json.loads((tmp_path / "out/rul-predictions.json").read_text())
    assert [len(one["rul"]) for one in predictions] == [benchmark.QUICK_ENGINES] * 2
    for name in ("rul-predicted.png", "rul-error-by-band.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
