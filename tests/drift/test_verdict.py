import dataclasses

import msgspec
import numpy as np
import pytest

from driftloop.drift import verdict as verdict_module
from driftloop.drift.baseline import Baseline
from driftloop.drift.limits import thresholds_at
from driftloop.drift.sensors import COUNTED, Quality
from driftloop.drift.verdict import DRIFT, NO_DRIFT, Streak, judge, measure
from driftloop.errors import BundleError
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT, Cause
from made_up import FEATURES, build_baseline

from .engines import lives, stream, tally, trace

HEALTHY = [trace(i) for i in range(200, 240)]
OTHER = [trace(i, fleet=1) for i in range(200, 220)]


def judged(baseline: Baseline, traces, n: int = 500, seed: int = 0):
    return judge(tally(baseline, stream(lives(baseline, traces), n, np.random.default_rng(seed))), baseline)


def test_healthy_engines_never_seen_before_raise_no_alarm(baseline: Baseline):
    rows = stream(lives(baseline, HEALTHY), 40_000, np.random.default_rng(1))
    scores = [judge(tally(baseline, rows[end - 500 : end]), baseline).score for end in range(500, len(rows), 100)]
    assert max(scores) < 1, max(scores)


def of_ages(begin: int | None, end: int | None):
    """The healthy engines between two cycles of their lives."""
    part = slice(begin, end)
    return [
        dataclasses.replace(
            t, prediction=t.prediction[part], settings=t.settings[part], newest=t.newest[part], regime=t.regime[part]
        )
        for t in HEALTHY
    ]


@pytest.mark.parametrize(("begin", "end", "sign"), [(None, 40, 1), (-30, None, -1)])
def test_a_fleet_of_young_or_of_old_engines_is_no_drift_but_fleet_age(baseline: Baseline, begin, end, sign):
    verdict = judged(baseline, of_ages(begin, end))
    assert (verdict.verdict, verdict.kind, verdict.blamed) == ("fleet_age", None, [])
    assert sign * verdict.age_shift > 1
    assert max(f.psi_plain for f in verdict.features) > max(f.psi for f in verdict.features)


def test_healthy_engines_of_all_ages_are_hardly_ever_called_old_or_young(baseline: Baseline):
    rows = stream(lives(baseline, HEALTHY), 40_000, np.random.default_rng(2))
    said = [judge(tally(baseline, rows[end - 500 : end]), baseline).verdict for end in range(500, len(rows), 100)]
    assert said.count("fleet_age") <= 0.02 * len(said), said.count("fleet_age")
    assert "drift" not in said


def test_old_engines_of_another_fleet_are_drift_all_the_same(baseline: Baseline):
    old = [dataclasses.replace(t, settings=t.settings + 10) for t in of_ages(-30, None)]
    assert judged(baseline, old).verdict == "drift"


def test_many_windows_at_once_are_measured_as_each_alone(baseline: Baseline):
    rng = np.random.default_rng(3)
    engines = lives(baseline, HEALTHY)
    sizes = (0, 40, 77, 300, 512, 5000)
    flat = np.stack([baseline.binner.join(tally(baseline, stream(engines, n, rng))) for n in sizes])
    together = measure(flat, baseline)
    for i, counts in enumerate(flat):
        verdict = judge(baseline.binner.split(counts), baseline)
        assert verdict.n == together.n[i] == sizes[i]
        assert [f.score for f in verdict.features] == pytest.approx(together.score[i], abs=1e-4)
        assert verdict.age_shift == pytest.approx(together.age_shift[i], abs=1e-4)


def test_another_fleet_is_a_fleet_change(baseline: Baseline):
    verdict = judged(baseline, OTHER)
    assert (verdict.verdict, verdict.kind) == ("drift", "fleet_change")
    assert verdict.score > 1
    assert {"setting_1", "regime"} <= set(verdict.blamed)


def test_drift_of_sensors_is_said_from_50_requests_on_and_not_below(baseline: Baseline):
    biased = [trace(i, bias={2: 5.0, 3: 5.0}) for i in range(200, 240)]
    assert judged(baseline, biased, 49).verdict == "not_enough_data"
    assert judged(baseline, biased, 50).verdict == "drift"


@pytest.mark.parametrize(("n", "foreign"), [(10, 2), (49, 3), (500, 5), (2000, 7)])
def test_a_few_requests_with_new_settings_are_a_fleet_change_and_one_fewer_are_nothing(
    baseline: Baseline, n: int, foreign: int
):
    assert 11_000 < baseline.rows < 12_000
    rng = np.random.default_rng(4)
    own, other = (stream(lives(baseline, traces), n, rng) for traces in (HEALTHY, OTHER))
    for count, kind in ((foreign, "fleet_change"), (foreign - 1, None), (1, None)):
        rows = np.where((np.arange(n) < count)[:, None], other, own)
        verdict = judge(tally(baseline, rows), baseline)
        assert (verdict.kind, verdict.n) == (kind, n)
        assert (verdict.score > 1) == (kind is not None)


def test_new_settings_that_no_sensor_shows_are_misreported(baseline: Baseline):
    rng = np.random.default_rng(5)
    rows = stream(lives(baseline, HEALTHY), 500, rng)
    altered = [dataclasses.replace(t, settings=t.settings + np.array([10, 0, 0]), regime=t.regime + 1) for t in HEALTHY]
    wrong = stream(lives(baseline, altered), 500, rng)
    verdict = judge(tally(baseline, np.where((rng.random(500) < 0.05)[:, None], wrong, rows)), baseline)
    assert (verdict.verdict, verdict.kind, verdict.blamed[0]) == ("drift", "sensor_fault", "regime")


def test_the_longer_window_has_the_say_where_it_scores_more(baseline: Baseline):
    rng = np.random.default_rng(6)
    calm, other = (tally(baseline, stream(lives(baseline, t), n, rng)) for t, n in ((HEALTHY, 500), (OTHER, 2000)))
    longer = {name: calm[name] + other[name] for name in calm}
    assert judge(calm, baseline, longer) == judge(longer, baseline)
    assert judge(other, baseline, calm) == judge(other, baseline)
    quiet = tally(baseline, stream(lives(baseline, HEALTHY), 2000, rng))
    assert judge(quiet, baseline).score < 0.8
    assert judge(calm, baseline, quiet) == judge(calm, baseline)


def test_the_quick_window_has_the_say_where_it_alone_sees_drift(baseline: Baseline):
    rng = np.random.default_rng(7)
    calm, other = (tally(baseline, stream(lives(baseline, t), n, rng)) for t, n in ((HEALTHY, 500), (OTHER, 100)))
    assert judge(calm, baseline, calm, quick=other) == judge(other, baseline)
    assert judge(other, baseline, calm, quick=calm) == judge(other, baseline)
    # Thresholds that were made for two windows promise nothing about a third one.
    before = msgspec.structs.replace(baseline, windows=2)
    assert judge(calm, before, calm, quick=other) == judge(calm, before)


def test_a_quick_window_that_is_nearly_drift_keeps_an_alert_from_ending(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(8)
    slightly = [trace(i, bias={2: 0.8}) for i in range(200, 240)]
    calm, quick = (tally(baseline, stream(lives(baseline, t), n, rng)) for t, n in ((HEALTHY, 500), (slightly, 100)))
    monkeypatch.setattr(verdict_module, "ENDS_BELOW", judge(quick, baseline).score)
    assert judge(calm, baseline).score < judge(quick, baseline).score <= 1
    verdict = judge(calm, baseline, quick=quick)
    assert (verdict.verdict, verdict.n, verdict.score) == (NO_DRIFT, 500, judge(quick, baseline).score)


def test_of_two_sensors_that_explain_everything_the_one_that_changed_more_is_at_fault(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verdict_module, "left_without", lambda *_: (0.0, None))
    verdict = judged(baseline, [trace(i, bias={2: 1.0, 3: 3.0}) for i in range(200, 240)], 700)
    assert (verdict.kind, verdict.blamed) == ("sensor_fault", ["sensor_3"])


def test_a_sensor_fault_alarms_once_confirmed_and_a_fleet_change_at_once():
    streak = Streak()
    said = [None, "sensor_fault", "sensor_fault", None, *["sensor_fault"] * 3, "fleet_change"]
    alarms = []
    for kind in said:
        streak = streak.then(kind)
        alarms.append(streak.alarms)
    assert alarms == [False] * 6 + [True, True]


def test_no_drift_needs_min_n_requests(baseline: Baseline):
    assert judged(baseline, HEALTHY, baseline.min_n - 1).verdict == "not_enough_data"
    assert judged(baseline, HEALTHY, baseline.min_n).verdict == "no_drift"


def test_nothing_at_all_is_not_enough_data(baseline: Baseline):
    verdict = judge(baseline.binner.split(np.zeros(baseline.binner.total, dtype=np.int64)), baseline)
    assert (verdict.verdict, verdict.n, verdict.score) == ("not_enough_data", 0, 0.0)


@pytest.mark.parametrize("sensor", [2, 3, 11])
@pytest.mark.parametrize("bias", [1.0, -3.0])
def test_a_biased_sensor_is_a_sensor_fault_and_blamed_alone(baseline: Baseline, sensor: int, bias: float):
    verdict = judged(baseline, [trace(i, bias={sensor: bias}) for i in range(200, 240)], 700)
    assert (verdict.kind, verdict.blamed) == ("sensor_fault", [f"sensor_{sensor}"])


@pytest.mark.parametrize("sensor", [2, 7])
def test_a_noisy_sensor_is_a_sensor_fault_though_its_mean_is_as_ever(baseline: Baseline, sensor: int):
    noisy = []
    for i, t in enumerate(HEALTHY):
        newest = t.newest.copy()
        newest[:, sensor - 1] += 2 * np.random.default_rng(i).normal(size=len(newest))
        noisy.append(dataclasses.replace(t, newest=newest))
    verdict = judged(baseline, noisy, 700)
    assert (verdict.kind, verdict.blamed) == ("sensor_fault", [f"sensor_{sensor}"])


def test_a_stuck_sensor_is_a_sensor_fault_and_named(baseline: Baseline):
    stuck = []
    for t in HEALTHY:
        newest = t.newest.copy()
        newest[:, 10] = 0.3
        stuck.append(dataclasses.replace(t, newest=newest))
    verdict = judged(baseline, stuck)
    assert (verdict.kind, verdict.blamed, verdict.stuck) == ("sensor_fault", ["sensor_11"], ["sensor_11"])


def test_two_biased_sensors_are_not_one_sensors_fault(baseline: Baseline):
    verdict = judged(baseline, [trace(i, bias={2: 3.0, 3: 3.0}) for i in range(200, 240)], 700)
    assert (verdict.verdict, verdict.kind) == ("drift", "fleet_change")
    assert set(verdict.blamed[:2]) == {"sensor_2", "sensor_3"}


def test_a_shift_among_known_domains_is_no_drift_and_reported(two_domains: Baseline):
    verdict = judged(two_domains, HEALTHY)
    assert verdict.verdict == "no_drift"
    assert verdict.mixture["0"] == pytest.approx(1, abs=0.03)
    assert max(feature.psi_plain for feature in verdict.features) > 1


def varied(number: int):
    """A healthy engine whose sensors 6 and 8 are its own: between engines of `trace` they hardly differ."""
    own = np.random.default_rng([number, 7]).normal()
    t = trace(number)
    newest = t.newest.copy()
    newest[:, [5, 7]] += 3.0 * np.array([own, -own])
    return dataclasses.replace(t, newest=newest)


def test_a_known_domain_that_sent_nothing_when_the_baseline_was_made_may_come_back():
    traces = [varied(i) for i in range(40)] + [trace(i, 1, fleet=1) for i in range(40)]
    baseline = build_baseline(traces, [0.0, 1.0], replicates=300)
    back = lives(baseline, [varied(i) for i in range(200, 240)])
    rng = np.random.default_rng(3)
    rows = [stream(back, 500, rng) for _ in range(60)]
    said = [judge(tally(baseline, each), baseline) for each in rows]
    assert {each.verdict for each in said} <= {"no_drift", "fleet_age"}, max(each.score for each in said)
    # What no engine of either domain does is drift as ever.
    biased = [dataclasses.replace(t, newest=t.newest + 3.0 * np.eye(21)[11]) for t in map(varied, range(200, 220))]
    assert judged(baseline, biased).verdict == DRIFT


def test_the_score_grows_with_the_share_of_foreign_engines(baseline: Baseline):
    rng = np.random.default_rng(6)
    own, other = (stream(lives(baseline, traces), 500, rng) for traces in (HEALTHY, OTHER))
    where = rng.random(500)
    scores = [
        judge(tally(baseline, np.where(where[:, None] < share, other, own)), baseline).score
        for share in (0.0, 0.1, 0.25, 0.5, 1.0)
    ]
    assert np.all(np.diff(scores) > 0), scores


def test_every_feature_is_reported_with_its_thresholds(baseline: Baseline):
    verdict = judged(baseline, HEALTHY)
    assert [feature.feature for feature in verdict.features] == list(FEATURES)
    assert all(f.threshold_psi > 0 and f.threshold_ks > 0 for f in verdict.features)
    assert verdict.score == pytest.approx(max(f.score for f in verdict.features), abs=1e-3)


def test_thresholds_are_interpolated_between_sizes_and_held_outside(baseline: Baseline):
    below, first, between, second = (thresholds_at(baseline, n)[0] for n in (1, 50, 70, 100))
    assert below == pytest.approx(first)
    assert first == pytest.approx(np.array(baseline.thresholds[0].psi))
    assert np.all((between - first) * (between - second) <= 1e-12)


def test_counts_on_other_bins_are_refused(baseline: Baseline):
    counts = baseline.binner.split(np.zeros(baseline.binner.total, dtype=np.int64))
    with pytest.raises(BundleError, match="sensor_2 "):
        judge({**counts, "sensor_2": np.zeros(2, dtype=np.int64)}, baseline)


def test_healthy_checks_alarm_no_more_often_than_the_thresholds_promise():
    # One false alarm in 20 checks instead of one in 20,000, so that a few hundred checks can tell.
    often = build_baseline([trace(i) for i in range(60)], replicates=400, requests_per_false_alarm=2000)
    engines = lives(often, [trace(i) for i in range(300, 400)])
    rng = np.random.default_rng(8)
    alarms = sum(judge(tally(often, stream(engines, 300, rng, 10)), often).verdict == "drift" for _ in range(300))
    # 15 are promised; 27 is its 99.8 % quantile.
    assert alarms <= 27, alarms


# Readings that are missing, out of range or stuck.


def with_quality(baseline: Baseline) -> Baseline:
    """The baseline of a fleet of 60 units whose readings are judged, and are all there."""
    columns = list(baseline.binner.names[1:-1])
    return msgspec.structs.replace(baseline, quality=Quality(columns, 60, 10_000, []))


def missing(baseline: Baseline, column: str, requests: int, of: int) -> np.ndarray:
    counts = np.zeros((len(baseline.binner.names) - 2, len(COUNTED)), dtype=np.int64)
    counts[:, 0] = of
    counts[baseline.binner.names.index(column) - 1, [0, 1]] = of - requests, requests
    return counts.ravel()


def test_a_sensor_that_is_missing_is_a_fault_although_what_is_held_looks_healthy(baseline: Baseline):
    judged = with_quality(baseline)
    counts = tally(baseline, stream(lives(baseline, HEALTHY), 500, np.random.default_rng(4)))
    column = baseline.binner.names[8]
    fine = judge(counts, judged, counts, missing(baseline, column, 0, 500), missing(baseline, column, 0, 500))
    assert (fine.verdict, fine.faults) == (NO_DRIFT, [])
    found = judge(counts, judged, counts, *[missing(baseline, column, 500, 500)] * 2)
    assert (found.verdict, found.kind, found.blamed) == (DRIFT, SENSOR_FAULT, [column])
    assert [(fault.feature, fault.kind, fault.share) for fault in found.faults] == [(column, "missing", 1.0)]
    assert found.score > 1
    assert not Cause(SENSOR_FAULT, "1").learnable


def test_a_changed_fleet_with_a_dead_sensor_is_a_changed_fleet_and_the_fault_is_told(baseline: Baseline):
    judged = with_quality(baseline)
    counts = tally(baseline, stream(lives(baseline, OTHER), 500, np.random.default_rng(5)))
    column = baseline.binner.names[8]
    found = judge(counts, judged, quality=missing(baseline, column, 500, 500))
    assert found.kind == FLEET_CHANGE
    assert [fault.feature for fault in found.faults] == [column]


def test_the_longer_window_has_the_say_about_readings_too(baseline: Baseline):
    judged = with_quality(baseline)
    counts = tally(baseline, stream(lives(baseline, HEALTHY), 500, np.random.default_rng(6)))
    column = baseline.binner.names[8]
    few, many = missing(baseline, column, 0, 500), missing(baseline, column, 450, 500)
    assert judge(counts, judged, counts, few, many).blamed == [column]
    assert judge(counts, baseline, counts, few, many).faults == []
