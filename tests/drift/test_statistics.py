import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.drift.statistics import EPSILON, ks, psi, shares, tail_quantile

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(lambda c: sum(c) > 0)


def test_psi_equals_the_value_computed_by_hand():
    # (0.5-0.25) ln(0.5/0.25) + (0.5-0.75) ln(0.5/0.75) = 0.25 ln 2 + 0.25 ln 1.5
    assert psi([0.5, 0.5], [0.25, 0.75])[0] == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5), abs=1e-12)


def test_an_empty_bin_counts_as_the_stated_epsilon():
    expected = (1 - 0.5) * math.log(1 / 0.5) + (EPSILON - 0.5) * math.log(EPSILON / 0.5)
    assert psi([1.0, 0.0], [0.5, 0.5])[0] == pytest.approx(expected, abs=1e-12)


def test_psi_saturates_near_twice_the_logarithm_of_epsilon():
    assert psi([1.0, 0.0], [0.0, 1.0])[0] == pytest.approx(2 * math.log(1 / EPSILON), rel=0.01)


def test_ks_is_the_largest_gap_between_the_cumulative_shares():
    assert ks([0.5, 0.5, 0.0], [0.2, 0.2, 0.6])[0] == pytest.approx(0.6)


def test_features_side_by_side_are_kept_apart():
    offsets = np.array([0, 2])
    actual, expected = [0.5, 0.5, 0.1, 0.9, 0.0], [0.25, 0.75, 0.1, 0.9, 0.0]
    assert psi(actual, expected, offsets).tolist() == [psi([0.5, 0.5], [0.25, 0.75])[0], 0.0]
    assert ks(actual, expected, offsets) == pytest.approx([0.25, 0.0])


@given(counts, st.data())
def test_psi_is_never_negative_and_ks_lies_between_0_and_1(live: list[int], data: st.DataObject):
    base = data.draw(st.lists(st.integers(0, 1000), min_size=len(live), max_size=len(live)).filter(sum))
    assert psi(shares(live), shares(base))[0] >= 0
    assert -1e-12 <= ks(shares(live), shares(base))[0] <= 1 + 1e-12


@given(counts, st.randoms(use_true_random=False), st.data())
def test_psi_does_not_depend_on_the_order_of_the_bins(live: list[int], random, data: st.DataObject):
    base = data.draw(st.lists(st.integers(0, 1000), min_size=len(live), max_size=len(live)).filter(sum))
    order = list(range(len(live)))
    random.shuffle(order)
    shuffled = psi(shares([live[i] for i in order]), shares([base[i] for i in order]))[0]
    assert psi(shares(live), shares(base))[0] == pytest.approx(shuffled)


@given(counts)
def test_equal_distributions_have_no_distance(live: list[int]):
    assert psi(shares(live), shares(np.multiply(live, 3)))[0] == pytest.approx(0, abs=1e-9)
    assert ks(shares(live), shares(np.multiply(live, 3)))[0] == pytest.approx(0, abs=1e-9)


def test_psi_and_ks_grow_with_the_shift():
    values = np.random.default_rng(3).normal(size=20_000)
    edges = np.quantile(values, np.arange(1, 10) / 10)
    base = np.bincount(np.searchsorted(edges, values), minlength=10)
    for statistic in (psi, ks):
        distances = [
            statistic(shares(np.bincount(np.searchsorted(edges, values + d), minlength=10)), shares(base))[0]
            for d in (0.0, 0.25, 0.5, 1.0, 2.0)
        ]
        assert np.all(np.diff(distances) > 0), distances


def test_shares_of_nothing_are_zero():
    assert shares([0, 0, 2, 2], np.array([0, 2])).tolist() == [0, 0, 0.5, 0.5]


def test_the_tail_of_an_exponential_sample_is_extrapolated_beyond_the_sample():
    sample = np.random.default_rng(4).exponential(size=20_000)
    assert tail_quantile(sample, 1e-5) == pytest.approx(math.log(1e5), rel=0.15)


def test_a_quantile_inside_the_sample_is_the_samples():
    sample = np.arange(1001.0)
    assert tail_quantile(sample, 0.25) == pytest.approx(750)


def test_the_tail_of_a_constant_is_the_constant():
    assert tail_quantile(np.ones(100), 1e-6) == 1.0
