import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from driftloop.drift.baseline import (
    Baseline,
    baseline_bytes,
    decode_baseline,
    fit_mixture,
    read_baseline,
    read_binner,
    read_weights,
)
from driftloop.drift.calibration import GRID, least_n, new_limit
from driftloop.errors import BundleError
from made_up import (
    FEATURES,
    build_baseline,  # fmt: skip
)

from .engines import lives, stream, tally, trace


def test_a_baseline_survives_its_bytes(two_domains: Baseline):
    assert decode_baseline(baseline_bytes(two_domains)) == two_domains


def test_the_same_traces_in_any_order_give_the_same_bytes():
    traces = [trace(i) for i in range(8)] + [trace(i, 1, fleet=1) for i in range(8)]
    first = baseline_bytes(build_baseline(traces, replicates=40))
    assert baseline_bytes(build_baseline(traces[::-1], replicates=40)) == first


def test_a_baseline_built_again_with_its_own_weights_has_the_same_bytes():
    traces = [trace(i, domain) for domain in range(3) for i in range(4)]
    first = build_baseline(traces, [1 / 3, 1 / 7, 0.2], replicates=20)
    again = build_baseline(traces, first.weights, replicates=20)
    assert sum(first.weights) == pytest.approx(1, abs=1e-12)
    assert baseline_bytes(again) == baseline_bytes(first)


def test_distributions_add_up(two_domains: Baseline):
    for domain in two_domains.domains:
        assert domain.runs == 40
        assert sum(age.rows for age in domain.ages) == domain.rows
        assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in domain.probabilities.values())


def test_a_constant_sensor_has_three_bins_and_a_discrete_one_few(baseline: Baseline):
    by_name = {feature.name: feature for feature in baseline.features}
    assert (by_name["setting_3"].kind, by_name["setting_3"].bins) == ("constant", 3)
    assert by_name["sensor_5"].kind == "constant"
    assert by_name["setting_2"].bins == 6
    assert by_name["sensor_2"].bins == 10


def test_thresholds_are_given_for_every_size_and_feature(baseline: Baseline):
    assert [threshold.n for threshold in baseline.thresholds] == list(GRID)
    assert all(len(t.psi) == len(t.ks) == len(FEATURES) for t in baseline.thresholds)
    first, last = baseline.thresholds[0], baseline.thresholds[-1]
    assert np.median(first.psi) > np.median(last.psi)


def test_one_domain_has_no_power_to_state(baseline: Baseline):
    assert (baseline.min_n, baseline.power) == (300, None)


def test_with_two_domains_min_n_finds_an_admixture(two_domains: Baseline):
    assert two_domains.power is not None
    assert two_domains.power >= 0.95
    assert two_domains.min_n in GRID


def test_min_n_is_the_size_from_which_on_the_power_is_enough():
    assert least_n({50: 0.99, 100: 0.5, 200: 0.96, 300: 1.0}) == 200
    assert least_n({50: 0.1, 100: 0.2}) == 100


def test_how_many_new_requests_are_no_chance_is_as_computed_by_hand():
    # With 100 rows, of 10 requests: P(2 or more) = 10 * 9 / (111 * 110) = 0.0074, P(3) = 0.00054, P(4) = 0.000035.
    assert [int(new_limit(10, 100, exceedance)) for exceedance in (0.01, 0.007, 0.0005, 3e-5)] == [2, 3, 4, 5]
    assert new_limit([1, 10], 10**9, 0.5).tolist() == [2, 2], "one request never is enough"


@given(n=st.integers(0, 3000), rows=st.integers(100, 40_000), exceedance=st.floats(1e-8, 1e-2))
def test_new_requests_follow_the_predictive_beta_binomial_distribution(n: int, rows: int, exceedance: float):
    limit = int(new_limit(n, rows, exceedance))
    tail = betabinom(n, 1, rows + 1).sf
    assert tail(limit - 1) <= exceedance * (1 + 1e-6)
    assert limit == 2 or tail(limit - 2) > exceedance * (1 - 1e-6)


def test_new_bins_are_those_that_no_domain_is_in(two_domains: Baseline):
    counts = np.sum([age.counts for domain in two_domains.domains for age in domain.ages], axis=0)
    assert (two_domains.new == (counts == 0)).all()
    assert two_domains.binner.split(two_domains.new)["regime"].tolist() == [False, False, True]
    assert two_domains.rows == two_domains.binner.split(counts)["regime"].sum()


def test_gate_engines_are_refused():
    with pytest.raises(ValueError, match="eng-0"):
        build_baseline([dataclasses.replace(trace(0), role="gate")])


def test_weights_must_fit_the_domains():
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="weights"):
            build_baseline([trace(0), trace(1, 1)], weights, replicates=10)


@pytest.mark.parametrize("engines", [1, 2, 3])
def test_a_few_engines_are_enough_for_a_baseline(engines: int):
    made = build_baseline([trace(i) for i in range(engines)], replicates=20)
    assert all(np.isfinite(t.psi).all() for t in made.thresholds)


def test_the_mixture_of_traffic_is_found(two_domains: Baseline):
    rng = np.random.default_rng(5)
    old = stream(lives(two_domains, [trace(i) for i in range(100, 120)]), 2000, rng)
    new = stream(lives(two_domains, [trace(i, 1, fleet=1) for i in range(100, 120)]), 2000, rng)
    for share in (0.0, 0.25, 1.0):
        rows = np.where(rng.random(2000)[:, None] < share, new, old)
        assert fit_mixture(tally(two_domains, rows), two_domains) == pytest.approx([1 - share, share], abs=0.03)


def test_a_damaged_baseline_is_refused_with_its_name(tmp_path, baseline: Baseline):
    path = tmp_path / "baseline.json"
    with pytest.raises(BundleError, match=r"baseline\.json"):
        read_baseline(tmp_path)
    path.write_bytes(baseline_bytes(baseline)[:-20])
    with pytest.raises(BundleError, match=r"baseline\.json"):
        read_baseline(tmp_path)
    path.write_bytes(baseline_bytes(msgspec.structs.replace(baseline, weights=[])))
    with pytest.raises(BundleError, match="do not fit"):
        read_baseline(tmp_path)


def test_a_baseline_of_another_format_is_refused_but_its_bins_and_weights_are_read(tmp_path, two_domains: Baseline):
    path = tmp_path / "baseline.json"
    old = msgspec.to_builtins(two_domains)
    del old["format"]
    for threshold in old["thresholds"]:
        del threshold["shift"], threshold["covariance"]
    path.write_bytes(msgspec.json.encode(old))
    with pytest.raises(BundleError, match=r"format 1; .* reads 2 .*baseline refresh"):
        read_baseline(tmp_path)
    assert list(read_binner(tmp_path).features) == two_domains.features
    assert read_weights(tmp_path) == two_domains.weights
