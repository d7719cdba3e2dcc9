"""Adaptation beyond growing does to readings what it says."""

import numpy as np
import pytest

from driftloop.fleet.runs import Run
from driftloop.model.answers import Model
from driftloop.model.bundle import Ages
from driftloop.model.regimes import Regimes
from driftloop_bench.first_aid import variants
from driftloop_bench.first_aid.variants import Rows, Variant

AGES = Ages([50], [[0.0, 0.0], [2.0, -1.0]], [[1.0, 1.0], [5.0, 2.0]])


def rows(shift: float = 0.0, scale: float = 1.0, *, turned: float = 0.0, step: int = 0, seed: int = 0) -> Rows:
    """Two sensors in two regimes, 2,000 rows at one age."""
    values = np.random.default_rng(seed).normal(size=(2000, 2))
    values[:, 1] = turned * values[:, 0] + np.sqrt(1 - turned**2) * values[:, 1]
    regime = np.arange(2000) % 2
    return Rows(values * scale + shift + regime[:, None], regime, np.full(2000, step))


def test_statistics_found_anew_are_those_of_the_rows_in_each_regime() -> None:
    seen = rows(3.0, 2.0)
    found = variants._anew(seen, None)(seen.values, seen.regime)
    for regime in (0, 1):
        np.testing.assert_allclose(found[seen.regime == regime].mean(axis=0), 0.0, atol=1e-9)
        np.testing.assert_allclose(found[seen.regime == regime].std(axis=0), 1.0, rtol=1e-9)


def test_by_age_they_are_what_is_usual_at_that_age() -> None:
    seen = rows(3.0, 2.0, step=80)
    found = variants._anew(seen, AGES)(seen.values, seen.regime)
    np.testing.assert_allclose(found[seen.regime == 1].mean(axis=0), [2.0, -1.0], atol=1e-9)
    np.testing.assert_allclose(found[seen.regime == 1].std(axis=0), 1.0, rtol=1e-9)


def test_a_regime_that_hardly_any_row_shows_stays_as_it_is() -> None:
    seen = rows(3.0)
    few = Rows(seen.values, np.where(np.arange(2000) < 5, 1, 0), seen.step)
    values = np.array([[7.0, 8.0], [7.0, 8.0]])
    found = variants._anew(few, None)(values, np.array([1, 2]))
    np.testing.assert_array_equal(found, values)


def test_coral_turns_the_covariance_into_the_usual_one() -> None:
    """Exactly so with 1 on both diagonals, which keeps few rows from saying too much."""
    seen, usual = rows(1.0, 6.0, turned=0.9), rows(0.0, 6.0, turned=-0.5, seed=1)
    change = variants._coral(seen, usual)
    found = change(seen.values, seen.regime)
    np.testing.assert_allclose(found.mean(axis=0), usual.values.mean(axis=0), atol=1e-9)
    at = np.zeros(2, dtype=np.int64)
    turn = change(np.eye(2), at) - change(np.zeros((2, 2)), at)
    before, after = (np.cov(part.values.T) + np.eye(2) for part in (seen, usual))
    np.testing.assert_allclose(turn.T @ before @ turn, after, rtol=1e-9)


def test_quantile_maps_put_each_sensor_where_it_usually_is() -> None:
    seen, usual = rows(-4.0, 3.0), rows(1.0, 0.5, seed=1)
    found = variants._quantiles(seen, usual, None)(seen.values, seen.regime)
    shares = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(np.quantile(found, shares, axis=0), np.quantile(usual.values, shares, axis=0), atol=0.03)


def test_quantile_maps_by_age_look_at_units_of_that_age_alone() -> None:
    young, old = rows(0.0, 1.0), rows(9.0, 1.0, step=80, seed=1)
    usual = Rows(*(np.concatenate(pair) for pair in zip(vars(young).values(), vars(old).values(), strict=True)))
    seen = rows(5.0, 1.0, step=80, seed=2)
    found = variants._quantiles(seen, usual, AGES)(seen.values, seen.regime)
    assert found.mean(axis=0) == pytest.approx(old.values.mean(axis=0), abs=0.1)


def test_readings_are_changed_as_the_network_sees_them_and_constant_ones_stay() -> None:
    """Twice the normalised value is twice as far from the regime's mean; settings are never touched."""
    regimes = Regimes(
        np.array([[0.0], [10.0]], np.float32),
        np.array([[1.0, 5.0], [2.0, 5.0]], np.float32),
        np.array([[0.5, 1.0], [2.0, 1.0]], np.float32),
        np.array([[1.0, 0.0], [1.0, 0.0]], np.float32),
        np.array([1.0]),
    )
    variant = Variant(Model(None, 10, None, 125), regimes, lambda values, _: values * 2)  # type: ignore[arg-type]
    run = Run("u", np.array([[0.0, 2.0, 5.0], [10.0, 6.0, 4.0]]))
    np.testing.assert_allclose(variant.moved([run])[0].rows, [[0.0, 3.0, 5.0], [10.0, 10.0, 4.0]])
