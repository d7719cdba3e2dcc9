"""What drives a prediction, on models whose contributions are known exactly."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop.model import drivers

SETTINGS, SENSORS, STEPS = 2, 4, 6
MEAN = np.array([10.0, -3.0, 0.5, 700.0])
SPREAD = np.array([2.0, 0.5, 0.1, 30.0])


def model(rul: Callable[[np.ndarray], np.ndarray]) -> drivers.Ask:
    """A model whose RUL is a function of the normalised sensors `[n, steps, sensors]`; a setting moves the mean."""

    def ask(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = MEAN + windows[:, :, :1] * SPREAD
        normalised = (windows[:, :, SETTINGS:] - mean) / SPREAD
        return rul(normalised), normalised[:, -1].astype(np.float32)

    return ask


def window(seed: int = 0) -> np.ndarray:
    """A window of readings around their means."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((STEPS, SETTINGS + SENSORS))
    rows[:, 0] = rng.integers(0, 3, STEPS)
    rows[:, SETTINGS:] = MEAN + rows[:, :1] * SPREAD + SPREAD * rng.normal(size=(STEPS, SENSORS))
    return rows.astype(np.float32)


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows[:, SETTINGS:] - MEAN - rows[:, :1] * SPREAD) / SPREAD


def test_a_linear_model_gives_each_sensor_its_own_part() -> None:
    weights = np.array([-5.0, 3.0, 0.0, 1.5])
    rows = window()
    found = drivers.drivers(model(lambda z: 80 + z.mean(axis=1) @ weights), rows, SETTINGS)
    assert found.reference == pytest.approx(80, abs=1e-2)
    np.testing.assert_allclose(found.contributions, weights * normalised(rows).mean(axis=0), atol=2e-2)
    assert found.contributions[2] == 0, "a sensor that changes nothing gets nothing"


def test_two_sensors_that_act_together_share_alike() -> None:
    rows = window(1)
    rows[:, SETTINGS:] = MEAN + rows[:, :1] * SPREAD + SPREAD * np.array([2.0, 3.0, 0.0, 0.0])
    found = drivers.drivers(model(lambda z: 60 - z[:, -1, 0] * z[:, -1, 1]), rows.astype(np.float32), SETTINGS)
    np.testing.assert_allclose(found.contributions, [-3, -3, 0, 0], atol=2e-2)


def test_the_parts_add_up_where_the_model_bends() -> None:
    rows = window(2)
    found = drivers.drivers(
        model(lambda z: np.clip(100 - 40 * np.maximum(z[:, -2:, 0].mean(1) - 0.2, 0) - z[:, -1, 3] ** 2, 0, 90)),
        rows,
        SETTINGS,
    )
    assert found.contributions.sum() + found.unexplained == pytest.approx(found.rul - found.reference, abs=1e-6)
    assert abs(found.unexplained) <= max(drivers.LEAST_LEFT, 0.05 * abs(found.rul - found.reference))


def test_a_missing_reading_adds_nothing_and_spoils_nothing() -> None:
    rows = window(3)
    rows[2, SETTINGS + 1] = np.nan
    found = drivers.drivers(model(lambda z: 50 - np.nan_to_num(z).mean(axis=1)[:, 1]), rows, SETTINGS)
    expected = -np.nan_to_num(normalised(rows)).mean(axis=0)[1]
    np.testing.assert_allclose(found.contributions, [0, expected, 0, 0], atol=2e-2)


def test_a_sensor_that_was_constant_in_training_keeps_its_reading() -> None:
    rows = window(4)

    def ask(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rul, newest = model(lambda z: 50 - z[:, -1, 0])(windows)
        newest[:, 2] = 0
        return rul, newest

    reference = drivers.average(ask, rows, SETTINGS)
    np.testing.assert_array_equal(reference[:, SETTINGS + 2], rows[:, SETTINGS + 2])
    np.testing.assert_array_equal(reference[:, :SETTINGS], rows[:, :SETTINGS])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_a_smooth_model_leaves_nothing_over(seed: int, bends: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(SENSORS, bends)), rng.normal(size=bends) * 10
    found = drivers.drivers(model(lambda z: 60 + np.tanh(z.mean(axis=1) @ first) @ second), window(seed), SETTINGS)
    assert abs(found.unexplained) <= drivers.LEAST_LEFT + 0.02 * abs(found.rul - found.reference)
