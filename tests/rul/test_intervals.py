"""Conformal offsets: worked examples, and coverage of engines that were not there."""

import numpy as np
import pytest

from driftloop.rul.intervals import conformal_offset


def test_with_nine_engines_ninety_percent_need_the_largest_score():
    assert conformal_offset(np.arange(9.0), np.arange(9)) == 8.0


def test_with_nineteen_engines_the_second_largest_score_is_enough():
    assert conformal_offset(np.arange(19.0), np.arange(19)) == 17.0


def test_with_too_few_engines_the_interval_is_the_whole_range():
    assert conformal_offset(np.arange(8.0), np.arange(8)) == 125.0


def test_each_engine_weighs_the_same_whatever_its_number_of_windows():
    # 19 engines, one of them with a thousand windows of a large score: two engines' weight lies above 0.
    scores = np.concatenate([np.zeros(18), np.full(1000, 50.0)])
    engines = np.concatenate([np.arange(18), np.full(1000, 18)])
    assert conformal_offset(scores, engines) == 0.0
    assert np.quantile(scores, 0.9) == 50.0


def test_intervals_that_are_too_wide_are_narrowed():
    assert conformal_offset(np.full(30, -4.0), np.arange(30)) == -4.0


@pytest.mark.parametrize("engines", [10, 25, 60])
def test_a_new_engine_is_covered_as_often_as_promised(engines):
    rng = np.random.default_rng(engines)
    covered = []
    for _ in range(400):
        level = rng.normal(0, 3, engines + 1)  # what the windows of one engine share
        sizes = rng.integers(5, 40, engines + 1)
        scores = [rng.normal(mean, 1, size) for mean, size in zip(level, sizes, strict=True)]
        known, new = scores[:-1], scores[-1]
        offset = conformal_offset(np.concatenate(known), np.repeat(np.arange(engines), sizes[:-1]), largest=1e9)
        covered.append((new <= offset).mean())
    # Coverage lies between 0.90 and 0.90 + 1/(K+1); the standard error of 400 engines is about 0.015.
    assert 0.90 - 0.04 <= np.mean(covered) <= 0.90 + 1 / (engines + 1) + 0.04
