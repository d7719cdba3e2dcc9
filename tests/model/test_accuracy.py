"""Errors of predictions and their uncertainty, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.model.accuracy import (
    coverage,
    engine_bootstrap,
    interval_scores,
    paired_engine_bootstrap,
    phm08_costs,
    phm08_score,
    rmse,
    training_bootstrap,
    training_difference,
)


def test_rmse_is_the_root_of_the_mean_square():
    assert rmse([3.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]) == pytest.approx(math.sqrt(10 / 4))


def test_the_phm08_score_punishes_late_predictions_more():
    assert phm08_score([10.0], [0.0]) == pytest.approx(math.e - 1)
    assert phm08_score([0.0], [13.0]) == pytest.approx(math.e - 1)
    assert phm08_score([10.0, 0.0, 5.0], [0.0, 13.0, 5.0]) == pytest.approx(2 * (math.e - 1))
    assert phm08_score([10.0, 0.0, 5.0, 5.0], [0.0, 13.0, 5.0, 5.0], per_engine=True) == pytest.approx((math.e - 1) / 2)


@pytest.mark.parametrize("call", [rmse, phm08_score])
def test_no_predictions_or_unequal_lengths_are_refused(call):
    with pytest.raises(ValueError, match="no predictions"):
        call([], [])
    with pytest.raises(ValueError, match="equally long"):
        call([1.0], [1.0, 2.0])


def test_the_bootstrap_of_one_engine_has_no_width():
    estimate = engine_bootstrap([1.0, 2.0], [0.0, 0.0], ["a", "a"])
    assert estimate.value == estimate.lower == estimate.upper == pytest.approx(math.sqrt(2.5))


def test_the_bootstrap_of_two_engines_has_three_outcomes():
    # Twice a, twice b, or one of each, with probabilities 1/4, 1/4 and 1/2.
    estimate = engine_bootstrap([1.0, 3.0, 3.0], [0.0, 0.0, 0.0], ["a", "b", "b"], level=0.6)
    assert estimate.value == pytest.approx(math.sqrt(19 / 3))
    assert (estimate.lower, estimate.upper) == pytest.approx((1.0, 3.0))
    narrow = engine_bootstrap([1.0, 3.0, 3.0], [0.0, 0.0, 0.0], ["a", "b", "b"], level=0.1)
    assert narrow.lower == narrow.upper == pytest.approx(math.sqrt(19 / 3))


def test_a_model_twice_as_wrong_everywhere_has_ratio_two_in_every_draw():
    rng = np.random.default_rng(0)
    error, engines = rng.normal(size=200), np.repeat(np.arange(20), 10)
    pair = paired_engine_bootstrap(2 * error, error, np.zeros(200), engines)
    assert (pair.ratio.value, pair.ratio.lower, pair.ratio.upper) == pytest.approx((2.0, 2.0, 2.0))
    assert pair.difference.value == pytest.approx(math.sqrt(np.mean(error**2)))
    assert pair.engines == 20


def test_a_model_compared_with_itself_does_not_differ():
    error = np.random.default_rng(0).normal(size=50)
    pair = paired_engine_bootstrap(error, error, np.zeros(50), np.arange(50))
    assert (pair.difference.lower, pair.difference.upper) == (0.0, 0.0)
    assert (pair.ratio.lower, pair.ratio.upper) == (1.0, 1.0)


def test_models_without_error_do_not_divide_by_zero():
    assert paired_engine_bootstrap([1.0], [1.0], [1.0], ["a"]).ratio.upper == 1.0
    assert paired_engine_bootstrap([2.0], [1.0], [1.0], ["a"]).ratio.upper == math.inf


def test_the_bootstrap_repeats_with_its_seed():
    error, engines = np.random.default_rng(1).normal(size=60), np.repeat(np.arange(12), 5)
    assert engine_bootstrap(error, np.zeros(60), engines) == engine_bootstrap(error, np.zeros(60), engines)


def test_the_paired_bound_holds_as_often_as_it_says():
    rng = np.random.default_rng(5)
    below = 0
    for trial in range(200):
        scale = np.repeat(rng.uniform(0.5, 1.5, 40), 5)
        a, b = scale * rng.normal(size=200), scale * rng.normal(size=200)
        below += (
            paired_engine_bootstrap(a, b, np.zeros(200), np.repeat(np.arange(40), 5), draws=300, seed=trial).ratio.upper
            < 1.0
        )
    assert below / 200 < 0.10  # nominally 0.05


def test_an_engine_with_many_windows_weighs_no_more_in_coverage():
    true = np.zeros(11)
    upper = np.array([1.0] * 10 + [-1.0])
    assert coverage(np.full(11, -2.0), upper, true, ["a"] * 10 + ["b"]) == 0.5


@given(st.lists(st.floats(-200, 200), min_size=1, max_size=30), st.integers(1, 5))
def test_the_interval_holds_the_extremes_and_the_value_lies_between_them(errors, engines):
    names = np.arange(len(errors)) % engines
    estimate = engine_bootstrap(errors, np.zeros(len(errors)), names, draws=50, level=1.0)
    per_engine = [rmse(np.array(errors)[names == e], np.zeros((names == e).sum())) for e in np.unique(names)]
    assert min(per_engine) - 1e-6 <= estimate.lower <= estimate.upper <= max(per_engine) + 1e-6


def test_a_figure_over_trainings_is_the_mean_of_their_figures() -> None:
    costs = np.array([[1.0, 9.0, 4.0, 2.0], [16.0, 0.0, 0.0, 0.0]])
    found = training_bootstrap(costs, root=True)
    assert found.value == pytest.approx((np.sqrt(16 / 4) + np.sqrt(16 / 4)) / 2)
    assert found.lower < found.value < found.upper
    assert training_bootstrap(costs, total=True).value == pytest.approx(16.0)
    assert training_bootstrap(costs).value == pytest.approx(4.0)


def test_the_bootstrap_over_engines_has_the_standard_error_of_a_mean() -> None:
    costs = np.random.default_rng(0).normal(10.0, 2.0, (1, 400))
    found = training_bootstrap(costs, draws=4000)
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * costs.std() / np.sqrt(400), rel=0.06)


def test_a_model_that_errs_more_on_every_engine_is_surely_worse() -> None:
    squares = np.random.default_rng(0).uniform(1.0, 4.0, (3, 50))
    found = training_difference(squares * 1.21, squares)
    assert 0 < found.lower < found.value < found.upper
    assert found.value == pytest.approx(0.1 * np.sqrt(squares.mean(axis=1)).mean())


def test_the_parts_of_the_phm08_score() -> None:
    assert phm08_costs([0.0, 13.0, 20.0], [13.0, 3.0, 20.0]) == pytest.approx([np.e - 1, np.e - 1, 0.0])


def test_an_interval_costs_its_width_and_what_it_misses_by():
    found = interval_scores([0.0, 0.0, 5.0, 2.0], [10.0, 10.0, 5.0, 3.0], [10.0, 12.0, 5.0, 1.0])
    assert found == pytest.approx([10.0, 10.0 + 20.0 * 2.0, 0.0, 1.0 + 20.0 * 1.0])
    assert interval_scores([0.0], [1.0], [3.0], nominal=0.5) == pytest.approx([1.0 + 4.0 * 2.0])


@given(st.floats(1.0, 100.0), st.floats(0.05, 0.95))
def test_the_best_interval_has_the_nominal_coverage(width: float, nominal: float):
    labels = np.linspace(0.0, width, 2001)
    tail = (1.0 - nominal) / 2.0 * width
    best = interval_scores(tail, width - tail, labels, nominal=nominal).mean()
    for other in (tail * 0.5, tail + 0.25 * (width - 2.0 * tail)):
        assert interval_scores(other, width - other, labels, nominal=nominal).mean() > best
