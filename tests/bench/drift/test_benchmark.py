"""The drift benchmark on a small simulated fleet, with a made-up model that answers from the rows alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop.drift.baseline_build import REFERENCE_ROLES, Trace
from driftloop.drift.source import Window
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss import simulator
from driftloop.fleets.cmapss.source import engine_id
from driftloop_bench.drift import command as drift_command
from driftloop_bench.drift import detectors as drift_detectors
from driftloop_bench.drift import run as drift_run
from driftloop_bench.drift import scenarios as drift_scenarios
from driftloop_bench.drift import summary as drift_summary
from driftloop_bench.drift.champions import HELD_OUT, Champion, Lives, held_out, resplit
from driftloop_bench.drift.faults import Fault, faulty, noise_within_regimes, varying_sensors
from driftloop_bench.drift.run import Plan, changed, episodes, healthy, run
from driftloop_bench.drift.scenarios import OLD, YOUNG, Scenario, World, aged_fleet, traffic
from driftloop_bench.drift.traffic import Engines, engines, requests, snapshots, windows
from driftloop_bench.experiment.traffic import spread_within_regimes
from made_up import FEATURES, build_baseline

PLAN = Plan(
    requests=4_000, splits=1, streams=2, subsets=("FD001", "FD002"), sensors=1, compared=1, calibrated=2_000, seed=3
)


def simulated(subset: str, count: int = 60) -> list[Run]:
    lives = simulator.simulate(subset, seed=1, engines=count, splits=("train",)).train
    return [Run(engine_id(subset, unit), rows) for unit, rows in enumerate(lives, start=1)]


class Made(Champion):
    """Answers from the newest row alone: sensors standardised by FD001's, RUL read off one of them."""

    asked: list[str]

    def answers(self, runs, name: str) -> Lives:
        self.asked.append(name)
        return made_up(runs)


def made_up(runs: list[Run]) -> Lives:
    rows = np.concatenate([run.rows for run in runs]).astype(np.float32)
    newest = (rows[:, 3:] - MEAN) / STD
    prediction = np.clip(70 - 25 * newest[:, 3], 0, 125)
    regime = np.round(rows[:, 0] / 10).astype(np.int64)
    return Lives(prediction, rows[:, :3], newest, regime, np.array([len(run.rows) for run in runs]))


FLEETS = {subset: simulated(subset) for subset in ("FD001", "FD002")}
_OWN = np.concatenate([run.rows for run in FLEETS["FD001"]])[:, 3:].astype(np.float32)
MEAN, STD = _OWN.mean(axis=0), np.maximum(_OWN.std(axis=0), 1e-3)


def make(subset: str, runs: list[Run], split: int, folder: Path, *, steps: int | None = None) -> Made:  # noqa: ARG001
    chosen = with_role(resplit(runs, split), *REFERENCE_ROLES)
    reference = made_up(chosen)
    traces = [
        Trace(run.run_id, 0, run.role, life.prediction, life.settings, life.newest, life.regime)
        for run, life in zip(chosen, reference.each(), strict=True)
    ]
    champion = Made(subset, split, folder, None, build_baseline(traces, replicates=300), reference)
    object.__setattr__(champion, "asked", [])
    return champion


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(make("FD001", FLEETS["FD001"], 0, tmp_path_factory.mktemp("champion")), FLEETS, 0)


def test_engines_of_one_place_fly_every_cycle_once_until_they_fail_and_are_replaced():
    fleet = Engines(start=np.array([0, 100, 250]), length=np.array([100, 150, 60]))
    rows = requests(fleet, 1000, np.random.default_rng(0), places=1)
    jumps = np.flatnonzero(np.diff(rows) != 1)
    ends = fleet.start + fleet.length - 1
    assert len(jumps) >= 5
    assert set(rows[jumps]) <= set(ends), "an engine left before its last cycle"
    assert set(rows[jumps + 1]) <= set(fleet.start), "a follower did not begin at its first cycle"


def test_all_places_age_at_once_in_random_order():
    fleet = Engines(start=np.arange(0, 4000, 200), length=np.full(20, 200))
    rows = requests(fleet, 4000, np.random.default_rng(1), places=20)
    first, last = rows[:2000], rows[2000:]
    assert len(set(first[:200] // 200)) > 8, "requests come from many engines at once"
    for engine in set(first // 200):
        cycles = first[first // 200 == engine] % 200
        # In service twice at a time at most by chance; each time cycle by cycle.
        assert (np.diff(cycles) <= 1).mean() > 0.4
    assert abs(np.mean(first % 200) - np.mean(last % 200)) < 40, "the mix of ages stays what it was"


def test_a_fleet_of_old_engines_flies_its_last_cycles_only_and_a_young_one_never_does(world: World):
    lives = world.lives("FD001")
    left = np.concatenate([np.arange(n, 0, -1) for n in lives.length])
    for cycles in OLD:
        rows = requests(aged_fleet(lives, cycles), 2000, np.random.default_rng(0))
        assert left[rows].max() <= cycles
        assert left[rows].min() == 1
    for cycles in YOUNG:
        assert left[requests(aged_fleet(lives, cycles), 2000, np.random.default_rng(0))].min() > cycles


@pytest.mark.parametrize("split", [0, 1, 2])
def test_no_engine_of_the_traffic_is_in_the_baseline(split: int):
    runs = FLEETS["FD001"]
    known = {run.run_id for run in with_role(resplit(runs, split), *REFERENCE_ROLES)}
    unknown = held_out(runs, split)
    assert unknown
    assert all(run.role in HELD_OUT for run in unknown)
    assert not known & {run.run_id for run in unknown}
    assert len(known) + len(unknown) == len(runs)


def test_splits_hold_out_different_engines():
    rows = [{run.rows.tobytes() for run in held_out(FLEETS["FD001"], split)} for split in (0, 1)]
    assert rows[0] != rows[1]


@pytest.mark.parametrize(("step", "size"), [(10, 500), (70, 500), (500, 500)])
def test_windows_are_those_of_the_watch(world: World, step: int, size: int):
    binner = world.champion.baseline.binner
    stream = traffic(None, world, 0, 2100, np.random.default_rng(0))
    binned = drift_detectors.bins(stream, binner)
    quick = windows(snapshots(binned, step, binner.total), step, size)
    window = Window(binner, size)
    window.add({"server": {}})
    for at in range(len(quick)):
        counts = binner.split(np.bincount(binned[: (at + 1) * step].ravel(), minlength=binner.total))
        window.add({"server": {(name, i): int(n) for name, part in counts.items() for i, n in enumerate(part)}})
        assert np.array_equal(window.newest().bins, quick[at])


def test_an_obvious_shift_is_found_at_once_and_healthy_traffic_says_nothing(world: World):
    calm = healthy(world, 5000, 20, 0)
    assert (calm["alarms"], calm["requests"]) == (0, 5000)
    found = changed(world, Scenario("fleet", 1.0, "FD002"), PLAN, 0)
    assert max(found["delays"]) <= 60
    assert set(found["kinds"]) == {"fleet_change"}
    assert found["fleet_age"] == [0.0] * PLAN.streams


@pytest.mark.parametrize("sensor", [2, 11])
def test_a_biased_sensor_is_found_and_blamed_first(world: World, sensor: int):
    found = changed(world, Scenario("bias", 2.0, sensor=sensor), PLAN, 0)
    assert max(found["delays"]) <= 300
    assert set(found["first"]) == {f"sensor_{sensor}"}
    assert set(found["settled_kinds"]) == {"sensor_fault"}


@pytest.mark.parametrize("cycles", [60, 150])
def test_a_fleet_that_is_only_older_or_younger_is_fleet_age_and_no_drift(world: World, cycles: int):
    found = changed(world, Scenario("age", float(cycles)), PLAN, 0)
    assert found["delays"] == [None] * PLAN.streams
    assert np.median(found["fleet_age"]) > 0.5
    assert "drift" not in "".join(found["settled_kinds"]).replace("no_drift", "")


def test_the_delay_of_a_hand_made_stream(world: World):
    own = world.lives("FD001").taken(np.zeros(1200, dtype=np.int64) + np.arange(1200) % 900)
    foreign = world.lives("FD002").taken(np.arange(1200) % 900)
    stream = drift_detectors.Lives(
        *(np.concatenate([a[:1000], b[:200]]) for a, b in zip(_columns(own), _columns(foreign), strict=True)),
        length=np.array([1200]),
    )
    seen = drift_detectors.seen(world.champion, stream, 10)
    alarm = drift_detectors.first_alarm(world.champion, seen, 10, 1000)
    scores = drift_detectors.measure(seen.newest, world.champion.baseline).score.max(axis=1)
    expected = next(end for end in range(1010, 1210, 10) if scores[end // 10 - 1] > 1)
    assert alarm is not None
    assert alarm.delay == expected - 1000
    assert alarm.verdict.verdict == "drift"
    late = drift_detectors.first_alarm(world.champion, drift_detectors.seen(world.champion, stream, 600), 600, 600)
    assert late is not None
    assert late.delay == 600


def test_a_sensor_fault_is_reported_when_three_checks_in_a_row_have_said_so(world: World):
    stream = traffic(Scenario("bias", 2.0, sensor=11), world, 1000, 1000, np.random.default_rng(1))
    baseline = world.champion.baseline
    seen = drift_detectors.seen(world.champion, stream, 10)
    alarm = drift_detectors.first_alarm(world.champion, seen, 10, 1000)
    assert alarm is not None
    kinds = [drift_detectors.verdict_at(seen, baseline, at).kind for at in range(100, 100 + alarm.delay // 10)]
    assert kinds[-3:] == ["sensor_fault"] * 3
    assert all(kinds[i : i + 3] != ["sensor_fault"] * 3 for i in range(len(kinds) - 3))
    # Five checks from a scrape to the next: the third comes two fifths of the way.
    scrapes = drift_detectors.seen(world.champion, stream, 500)
    late = drift_detectors.first_alarm(world.champion, scrapes, 500, 1000, checks=5)
    assert late is not None
    assert late.delay == 500 + 200


def test_scores_are_those_of_the_verdicts(world: World):
    stream = traffic(Scenario("fleet", 0.1, "FD002"), world, 1000, 1500, np.random.default_rng(2))
    seen = drift_detectors.seen(world.champion, stream, 100)
    scores, _ = drift_detectors.scored(seen, world.champion.baseline)
    verdicts = [drift_detectors.verdict_at(seen, world.champion.baseline, at) for at in range(len(scores))]
    assert scores == pytest.approx([verdict.score for verdict in verdicts], abs=1e-4)
    assert max(scores) > 1


def test_one_corrupted_request_is_no_drift(world: World):
    stream = traffic(Scenario("corrupt", 1.0, "FD002"), world, 500, 500, np.random.default_rng(3))
    assert (stream.settings[:, 0] > 5).sum() == 1
    assert changed(world, Scenario("corrupt", 1.0, "FD002"), PLAN, 0)["delays"] == [None] * PLAN.streams


def test_a_wrong_altitude_changes_nothing_else():
    runs = FLEETS["FD001"][:3]
    for before, after in zip(runs, faulty(runs, Fault("altitude", 0, 10.0), 0), strict=True):
        assert after.rows[:, 0] - before.rows[:, 0] == pytest.approx(10)
        assert (after.rows[:, 1:] == before.rows[:, 1:]).all()


def test_a_ramp_grows_from_nothing_by_one_sigma_in_1000_requests(world: World):
    rng = [np.random.default_rng(4) for _ in range(2)]
    sensor = 12
    calm, ramp = (
        traffic(scenario, world, 100, 2000, generator)
        for scenario, generator in zip((None, Scenario("ramp", 1.0, sensor=sensor)), rng, strict=True)
    )
    grown = (ramp.newest - calm.newest)[:, sensor - 1]
    sigma = spread_within_regimes(np.concatenate([run.rows for run in world.runs("FD001")]))[sensor - 1]
    assert not grown[:101].any()
    assert grown[1100] * STD[sensor - 1] == pytest.approx(sigma, rel=0.01)
    assert np.all(np.delete(ramp.newest - calm.newest, sensor - 1, axis=1) == 0)


def test_faults_change_their_sensor_alone_and_by_what_they_say():
    runs = FLEETS["FD001"][:10]
    rows = np.concatenate([run.rows for run in runs])
    sigma = spread_within_regimes(rows)
    for fault in (Fault("bias", 4, 2.0), Fault("gain", 4, 1.1), Fault("stuck", 4), Fault("noise", 4, 2.0)):
        changed_rows = np.concatenate([run.rows for run in faulty(runs, fault, 0)])
        difference = changed_rows - rows
        assert not np.delete(difference, 6, axis=1).any()
        if fault.kind == "bias":
            assert difference[:, 6] == pytest.approx(2 * sigma[3])
        elif fault.kind == "gain":
            assert changed_rows[:, 6] == pytest.approx(1.1 * rows[:, 6])
        elif fault.kind == "stuck":
            assert len(set(changed_rows[:, 6])) == 1
        else:
            assert difference[:, 6].std() == pytest.approx(2 * noise_within_regimes(runs)[3], rel=0.1)


def test_sensors_that_hardly_vary_are_not_made_to_fail():
    assert varying_sensors(FLEETS["FD001"]) == [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21]


def test_a_regime_that_loses_requests_has_fewer_of_them(world: World):
    lives = world.lives("FD001")
    regime = np.arange(len(lives.regime)) % 6
    regime[::7] = 2
    world.memory["FD002-test"] = replace(lives, regime=regime)
    spread = World(replace_subset(world, "FD002-test"), FLEETS, 0, world.memory)
    stream = traffic(Scenario("regimes", 1.0, "FD002", champion="FD002"), spread, 500, 500, np.random.default_rng(0))
    assert 2 in stream.regime[:500]
    assert 2 not in stream.regime[500:]


def replace_subset(world: World, subset: str) -> Made:
    own = world.champion
    champion = Made(subset, own.split, own.folder, own.model, own.baseline, own.reference)
    object.__setattr__(champion, "asked", [])
    return champion


def test_alerts_are_counted_as_the_watch_raises_them():
    assert episodes(np.array([0.5, 1.2, 0.9, 1.1, 0.7, 1.3, 1.3])) == 2
    assert episodes(np.array([0.2, 0.3])) == 0


def test_a_stopped_benchmark_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drift_run, "champion", make)
    asked: list[str] = []
    plan = replace(PLAN, requests=2_000, streams=1)
    # What other detectors are shown takes most of the time, and two of ten scenarios stop and go on as well.
    monkeypatch.setattr(drift_run, "COMPARED", (drift_run.COMPARED[0], drift_run.COMPARED[-1]))
    whole = changed

    def stops(world: World, scenario: Scenario, *rest) -> dict:
        if scenario.family == "noise":
            raise KeyboardInterrupt
        return whole(world, scenario, *rest)

    monkeypatch.setattr(drift_run, "changed", stops)
    with pytest.raises(KeyboardInterrupt):
        run(plan, FLEETS, tmp_path, lambda what, *_: asked.append(what))
    finished = {path.name for path in tmp_path.rglob("*.json")}
    assert finished
    asked.clear()
    monkeypatch.setattr(drift_run, "changed", whole)
    pieces = run(plan, FLEETS, tmp_path, lambda what, *_: asked.append(what))
    assert not {f"{name}.json" for name in asked} & finished
    assert {f"{name}.json" for name in pieces} == {path.name for path in tmp_path.rglob("*.json")}
    asked.clear()
    assert run(plan, FLEETS, tmp_path, lambda what, *_: asked.append(what)) == pieces
    assert asked == ["done"]

    summary = drift_summary.summarise(plan, pieces, data_source="simulated", commit=None)
    written = drift_command.write(summary, tmp_path / "results")
    assert all(path.stat().st_size > 1000 for path in written)
    assert json.loads(written[0].read_text())["healthy"]["all"]["requests"] == 2_000
    page = written[1].read_text()
    assert "SIMULATED DATA" in page
    assert "100% FD002" in page
    assert {row["method"] for row in summary["detectors"]} == {
        *drift_detectors.WINDOWED,
        *drift_detectors.STREAMED,
    }


def test_quantiles_of_delays_count_what_was_missed():
    assert drift_summary.quantile([10, 20, 30, None], 0.5) == 20
    assert drift_summary.quantile([10, 20, 30, None], 0.75) == 30
    assert drift_summary.quantile([10, 20, 30, None], 0.9) is None


def test_corrupted_requests_are_few_and_all_others_stay(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drift_scenarios, "CORRUPTED", 0.01)
    stream = traffic(None, world, 0, 20_000, np.random.default_rng(0))
    soiled = drift_scenarios.corrupted(stream, world, "FD002", np.random.default_rng(1))
    other = (soiled.newest != stream.newest).any(axis=1)
    assert 120 < other.sum() < 280
    foreign = {tuple(row) for row in world.lives("FD002").newest}
    assert all(tuple(row) in foreign for row in soiled.newest[other])
    for one, same in zip(_columns(stream), _columns(soiled), strict=True):
        assert (one[~other] == same[~other]).all()


def test_a_robust_threshold_puts_up_with_corrupted_requests_and_its_lack_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(drift_scenarios, "CORRUPTED", 0.01)
    make_one, default, _ = drift_detectors.STREAMED["Page-Hinkley"]
    found = {}
    for grid in ((50.0, 1e12), (50.0, 60.0)):
        monkeypatch.setitem(drift_detectors.STREAMED, "Page-Hinkley", (make_one, default, grid))
        found[grid] = drift_run.compare(world, "Page-Hinkley", PLAN)
    high, low = found.values()
    assert high["robust"] == 1e12
    assert {delay for delays in high["robust_delays"].values() for delay in delays} == {None}
    assert low["robust"] is None
    assert "robust_delays" not in low
    rows = drift_summary.detector_table([drift_summary.detector(low)])[2]
    assert ["Page-Hinkley, robust", "none of the grid"] in [row[:2] for row in rows]
    ours = drift_run.compare(world, "ours", PLAN)
    assert ours["default"] == 1.0
    assert ours["robust"] >= ours["calibrated"] > 0


def test_poisson_bounds_are_the_textbook_ones():
    assert drift_summary.upper_rate(0) == pytest.approx(2.996, abs=1e-3)
    assert drift_summary.upper_rate(2) == pytest.approx(6.296, abs=1e-3)


def test_our_evidently_is_evidentlys(world: World):
    import pandas
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    known = drift_detectors.reference(world.champion, 1500)
    stream = traffic(Scenario("fleet", 0.5, "FD002"), world, 0, 500, np.random.default_rng(0))
    columns = list(FEATURES[:-1])
    definition = DataDefinition(numerical_columns=columns)

    def dataset(rows: np.ndarray) -> Dataset:
        return Dataset.from_pandas(pandas.DataFrame(rows, columns=columns), data_definition=definition)

    snapshot = Report([DataDriftPreset(columns=columns)]).run(
        dataset(drift_detectors.values(stream)), dataset(known.rows)
    )
    metrics = json.loads(snapshot.json())["metrics"]
    theirs = {m["config"]["column"]: float(m["value"]) for m in metrics if m["config"].get("column")}
    ours = drift_detectors.evidently_distances(known, drift_detectors.values(stream))
    assert dict(zip(columns, ours, strict=True)) == pytest.approx(theirs, rel=1e-3)
    said = drift_detectors.evidently(world.champion, known, stream, 500, 0)
    assert (said[0] >= 0.1) == (sum(value >= 0.1 for value in theirs.values()) >= 12.5)


@pytest.mark.parametrize("method", ["plain KS"])
def test_the_ks_distance_is_scipys(world: World, method: str):
    from scipy.stats import ks_2samp

    known = drift_detectors.reference(world.champion, 1500)
    stream = traffic(None, world, 0, 500, np.random.default_rng(0))
    series, limit = drift_detectors.WINDOWED[method]
    value = series(world.champion, known, stream, 500, 0)[0]
    rows = drift_detectors.values(stream)
    p_values = [ks_2samp(known.rows[:, i], rows[:, i], method="asymp").pvalue for i in range(25) if known.varies[i]]
    assert (value > limit) == (min(p_values) < 0.05)
    assert engines(world.lives("FD001")).length.min() >= 1


def _columns(lives: Lives) -> tuple[np.ndarray, ...]:
    return lives.prediction, lives.settings, lives.newest, lives.regime
