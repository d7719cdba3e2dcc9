"""The estimate of the error from answers alone: exact on small tables, honest about what it cannot know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.drift.live_error import (
    GROWN,
    LEAST_ANSWERS,
    PRIOR,
    LiveErrors,
    Outcomes,
    estimate,
    fit,
)
from driftloop.model.bundle import ErrorTable


def table(square: list[float], inside: list[float] | None = None, units: int = 10) -> ErrorTable:
    return ErrorTable(units, square, inside or [0.9] * len(square), [square, square])


ERRORS = LiveErrors(table([4.0, 100.0], [1.0, 0.5]), 2)


def said(answers: list[float], regimes: list[float], errors: LiveErrors | None = ERRORS, drift: bool = False):  # type: ignore[no-untyped-def]
    return estimate(errors, np.array(answers), np.array(regimes), 20, drift)


def test_answers_weigh_the_errors_of_their_bins() -> None:
    found = said([300.0, 100.0], [200.0, 200.0, 0.0])
    assert found.known
    assert found.rmse == pytest.approx(np.sqrt(0.75 * 4 + 0.25 * 100), abs=1e-3)
    assert (found.low, found.high) == (found.rmse, found.rmse)
    assert (found.coverage, found.answers) == (0.875, 400)


def test_answers_in_grown_regimes_are_weighed_by_the_rehearsal_with_a_wider_range() -> None:
    errors = LiveErrors(ERRORS.known, 2, table([16.0, 400.0], [0.8, 0.8]))
    found = said([400.0, 0.0], [0.0, 0.0, 400.0, 0.0], errors)
    assert (found.rmse, found.coverage) == (4.0, 0.8)
    assert (found.low, found.high) == (pytest.approx(4.0 * GROWN[0]), pytest.approx(4.0 * GROWN[1]))
    half = said([400.0, 0.0], [200.0, 0.0, 200.0, 0.0], errors)
    assert half.rmse == pytest.approx(np.sqrt(0.5 * 4 + 0.5 * 16), abs=1e-3)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (said([300.0, 100.0], [400.0, 0.0, 0.0], None), "train it anew"),
        (said([LEAST_ANSWERS - 1.0, 0.0], [99.0, 0.0, 0.0]), "not enough data: 99 answers, 100 are needed"),
        (said([400.0, 0.0], [360.0, 0.0, 40.0]), "10% of the answers are in regimes that nobody knows"),
        (said([400.0, 0.0], [200.0, 0.0, 200.0, 0.0]), "first aid was not rehearsed"),
        (said([400.0, 0.0], [400.0, 0.0, 0.0], drift=True), "the watch sees drift"),
    ],
)
def test_what_it_cannot_know_it_says(found, why: str) -> None:  # type: ignore[no-untyped-def]
    assert (found.known, found.rmse, found.low, found.high, found.coverage) == (False, None, None, None, None)
    assert why in found.why


def outcomes(errors: list[float], bins: list[int], units: list[int]) -> Outcomes:
    return Outcomes(np.array(bins), np.array(errors), np.abs(np.array(errors)) < 5, np.array(units))


def test_a_table_is_the_mean_square_of_each_bin_drawn_a_little_to_the_mean_of_all() -> None:
    found = fit(outcomes([1.0, 3.0, 10.0], [0, 0, 1], [1, 1, 2]), 3, seed=0)
    mean = (1 + 9 + 100) / 3
    assert found.units == 2
    wanted = [(10 + PRIOR * mean) / (2 + PRIOR), (100 + PRIOR * mean) / (1 + PRIOR), mean]
    assert found.square == pytest.approx(wanted, abs=1e-3)
    assert found.inside[0] == pytest.approx((2 + PRIOR * 2 / 3) / (2 + PRIOR), abs=1e-4)
    assert fit(outcomes([1.0, 3.0, 10.0], [0, 0, 1], [1, 1, 2]), 3, seed=0) == found


@given(
    errors=st.lists(st.floats(-50, 50), min_size=30, max_size=60),
    answers=st.lists(st.floats(0, 1000), min_size=4, max_size=4).filter(lambda counts: sum(counts) > 200),
    seed=st.integers(0, 3),
)
def test_the_estimate_lies_between_the_smallest_and_the_largest_error_and_in_its_range(
    errors: list[float], answers: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = len(errors)
    found = fit(outcomes(errors, rng.integers(0, 4, n).tolist(), rng.integers(0, 7, n).tolist()), 4, seed)
    result = estimate(LiveErrors(found, 1), np.array(answers), np.array([500.0, 0.0]), 20, False)
    assert result.known
    assert result.low <= result.rmse <= result.high
    assert min(map(abs, errors)) - 0.1 <= result.rmse <= max(map(abs, errors)) + 0.1
