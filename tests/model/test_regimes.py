"""Operating regimes: how many are found, and that known ones stay."""

import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.model import regimes
from made_up import CONSTANT, CRUISE, SEA_LEVEL, fleet

SIX = ((0, 0, 100), (10, 0.25, 100), (20, 0.7, 100), (25, 0.62, 60), (35, 0.84, 100), (42, 0.84, 100))


def test_a_fleet_at_one_setting_has_one_regime():
    assert len(regimes.find(fleet(), SCHEMA)) == 1


def test_a_fleet_at_six_settings_has_six_regimes():
    found = regimes.find(fleet(settings=SIX), SCHEMA)
    assert len(found) == 6
    assert np.allclose(sorted(found.centres.tolist()), SIX, atol=0.01)


def test_the_order_of_the_runs_does_not_matter():
    runs = fleet(settings=SIX)
    one, other = regimes.find(runs, SCHEMA), regimes.find(runs[::-1], SCHEMA)
    for name in ("centres", "mean", "std", "varies"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_known_regimes_keep_id_and_statistics_and_new_ones_are_appended():
    known = regimes.find(fleet(name="a", settings=(CRUISE,)), SCHEMA)
    grown = regimes.extend(known, fleet(name="b", settings=(SEA_LEVEL, CRUISE)))
    assert len(grown) == 2
    for name in ("centres", "mean", "std", "varies"):
        assert np.array_equal(getattr(grown, name)[:1], getattr(known, name))
    assert np.allclose(grown.centres[1], SEA_LEVEL, atol=0.01)


def test_runs_without_a_new_setting_add_nothing():
    known = regimes.find(fleet(name="a", settings=(SEA_LEVEL, CRUISE)), SCHEMA)
    assert len(regimes.extend(known, fleet(name="b", settings=(CRUISE,)))) == 2


def test_a_constant_sensor_has_its_value_as_mean_and_does_not_vary():
    runs = fleet()
    found = regimes.find(runs, SCHEMA)
    for sensor in CONSTANT:
        assert found.mean[0, sensor] == np.float32(runs[0].rows[0, 3 + sensor])
        assert (found.std[0, sensor], found.varies[0, sensor]) == (1.0, 0.0)
    assert found.varies[0].sum() == 21 - len(CONSTANT)


def test_a_setting_flown_too_rarely_is_no_regime():
    run = fleet()[0]
    rows = np.tile(run.rows, (10, 1))
    rows[7, :3] = CRUISE
    assert len(regimes.find([Run("eng-x", rows)], SCHEMA)) == 1


def test_settings_away_from_every_regime_are_not_inside_one():
    found = regimes.find(fleet(settings=(SEA_LEVEL, CRUISE)), SCHEMA)
    nearest, inside = found.assign(np.array([SEA_LEVEL, CRUISE, (41.0, 0.7, 60.0)]))
    assert inside.tolist() == [True, True, False]
    assert np.allclose(found.centres[nearest[2]], CRUISE, atol=0.01)


def test_settings_without_clusters_are_one_regime():
    rng = np.random.default_rng(0)
    rows = np.hstack([rng.uniform(0, 1, (3000, 3)) * np.array([42.0, 0.84, 100.0]), rng.normal(size=(3000, 21))])
    found = regimes.find([Run("eng-x", rows)], SCHEMA)
    assert len(found) == 1
    assert np.allclose(found.std, 1, atol=0.1)


def test_settings_spread_over_a_range_have_a_bounded_number_of_regimes():
    rows = np.hstack([np.linspace(0, 1, 3000)[:, None] * np.array([42.0, 0.84, 100.0]), np.ones((3000, 21))])
    assert 2 <= len(regimes.find([Run("eng-x", rows)], SCHEMA)) <= regimes.MAX_LEADERS


def test_no_runs_have_no_regime():
    with pytest.raises(DataError, match="no operating regime"):
        regimes.find([], SCHEMA)
