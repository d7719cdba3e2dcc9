"""Readings taken away from held-out units, and what the two models' errors differ by."""

from dataclasses import replace

import numpy as np
import pytest

from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Channel, Schema
from driftloop_bench.fleet_benchmark import WHOLE, Asked, Damage, damages, difference, figures

SCHEMA = Schema(
    name="pumps",
    settings=(Channel(name="speed"),),
    sensors=tuple(Channel(name=name) for name in ("pressure", "flow")),
    use_settings="none",
)


def an_answer(network: float, boosting: float) -> Asked:
    """Forty units of ten rows; each model errs by its own number times that of the unit."""
    unit = np.repeat([f"p{at:02d}" for at in range(40)], 10)
    size = np.repeat(np.linspace(0.5, 1.5, 40), 10)
    true = np.tile(np.linspace(90.0, 0.0, 10), 40)
    rul = {"network": true + network * size, "boosting": true - boosting * size}
    return Asked(unit, true, rul, true - 20, true + 20)


def test_a_share_of_readings_is_taken_away_and_settings_stay():
    run = Run("p1", np.ones((2000, 3)))
    missing = np.isnan(Damage("missing", share=0.2).of(run, 1, seed=0).rows)
    assert not missing[:, 0].any()
    assert missing[:, 1:].mean() == pytest.approx(0.2, abs=0.02)
    again = Damage("missing", share=0.2).of(run, 1, seed=0)
    np.testing.assert_array_equal(missing, np.isnan(again.rows))
    assert not np.array_equal(missing, np.isnan(Damage("m", share=0.2).of(replace(run, run_id="p2"), 1, 0).rows))


def test_each_sensor_dies_in_turn():
    found = damages(SCHEMA)
    assert [damage.name for damage in found] == ["none", "missing 5%", "missing 20%", "dead pressure", "dead flow"]
    rows = found[-1].of(Run("p1", np.ones((5, 3))), 1, 0).rows
    assert np.isnan(rows).sum(axis=0).tolist() == [0, 0, 5]
    assert np.isfinite(WHOLE.of(Run("p1", np.ones((5, 3))), 1, 0).rows).all()


def test_the_difference_is_paired_by_unit_and_over_all_seeds():
    one, other = an_answer(4.0, 8.0), an_answer(6.0, 6.0)
    apart = difference([one, other])
    alone = [figures(asked)["network_minus_boosting"]["value"] for asked in (one, other)]
    assert apart["value"] == pytest.approx(np.mean(alone))
    assert apart["lower"] < apart["value"] < apart["upper"] < 0
    assert difference([other]) == pytest.approx({"value": 0.0, "lower": 0.0, "upper": 0.0}, abs=1e-9)
