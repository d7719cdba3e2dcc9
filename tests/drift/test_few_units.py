"""How many units traffic rests on, and thresholds that fit them."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.drift.baseline import Baseline
from driftloop.drift.calibration import ENGINES, GRID
from driftloop.drift.few_units import BUCKETS, UNNAMED, Units, bucket, counts_of, units_in
from driftloop.drift.limits import thresholds_at
from driftloop.drift.verdict import judge
from made_up import build_baseline

from .engines import lives, stream, tally, trace


@given(st.text(max_size=200))
def test_any_name_has_a_bucket_and_always_the_same(name: str):
    assert 0 <= bucket(name) < BUCKETS
    assert bucket(name) == bucket(name)
    assert bucket(None) == UNNAMED


@pytest.mark.parametrize("units", [1, 2, 3, 5, 10, 40])
def test_units_are_counted_though_some_share_a_bucket(units: int):
    found = [
        float(units_in(counts_of([f"{fleet}-{at}" for at in range(units)] * 50))) for fleet in map(str, range(200))
    ]
    # What is unbiased is one over them.
    assert 1 / np.mean(1 / np.array(found)) == pytest.approx(units, rel=0.15), found[:9]


def test_one_unit_that_sends_nearly_everything_is_hardly_more_than_one():
    assert float(units_in(counts_of(["a"] * 990 + [f"other {at}" for at in range(10)]))) < 1.1


def test_who_names_no_unit_may_be_one_and_nothing_is_unknown():
    assert float(units_in(counts_of([None] * 500))) == 1
    assert np.isnan(units_in(np.zeros(BUCKETS + 1)))


def test_counts_of_servers_add_up():
    one, other = ["a", "b"] * 30, ["b", "c", None] * 20
    assert (counts_of(one) + counts_of(other) == counts_of(one + other)).all()


def test_thresholds_are_wider_the_fewer_units_send_and_the_same_from_ten_on(baseline: Baseline):
    for n in GRID:
        each = [thresholds_at(baseline, n, units) for units in (1, 2, 5, ENGINES, 40, None, np.nan)]
        for wider, narrower in itertools.pairwise(each):
            assert (wider.psi >= narrower.psi).all()
            assert (wider.ks >= narrower.ks).all()
            assert (wider.shift >= narrower.shift).all()
        assert (each[0].shift > each[3].shift).all()
        assert all((one.psi == each[3].psi).all() and (one.shift == each[3].shift).all() for one in each[4:])


def test_a_baseline_from_before_judges_as_it_did(baseline: Baseline):
    old = msgspec.structs.replace(baseline, few_units=msgspec.UNSET)
    assert (thresholds_at(old, 500, 2).psi == thresholds_at(baseline, 500).psi).all()


def of_its_own(number: int):
    """An engine that reads otherwise than the next one, in every sensor."""
    return trace(number, bias=dict(enumerate(np.random.default_rng(number).normal(size=21), start=1)))


def test_few_healthy_engines_raise_no_alarm_where_it_is_known_that_they_are_few():
    baseline = build_baseline([of_its_own(i) for i in range(60)], replicates=300)
    healthy, scores = lives(baseline, [of_its_own(i) for i in range(200, 230)]), []
    for seed in range(20):
        counts = tally(baseline, stream(healthy, 2000, np.random.default_rng(seed), 2))
        scores.append([judge(counts, baseline, units=units).score for units in (Units(), Units(2))])
    untold, told = np.max(scores, axis=0)
    assert told < min(1, untold / 1.5), (untold, told)


def test_two_engines_of_another_fleet_are_found_all_the_same(baseline: Baseline):
    other = lives(baseline, [trace(i, fleet=1) for i in range(200, 202)])
    found = judge(tally(baseline, stream(other, 100, np.random.default_rng(0), 2)), baseline, units=Units(2))
    assert (found.verdict, found.kind, found.units) == ("drift", "fleet_change", 2)


def test_where_settings_are_the_units_own_one_new_unit_is_no_new_fleet(baseline: Baseline):
    own = msgspec.structs.replace(baseline, setting_units=60)
    for units, least in ((1, 0.75), (2, 0.75), (3, 0.5), (ENGINES, 0.1)):
        assert thresholds_at(own, 500, units).new >= least * 500, units
    assert thresholds_at(own, 500, None).new == thresholds_at(own, 500, ENGINES).new
