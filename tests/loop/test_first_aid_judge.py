"""The judge without labels, on planted evidence and on a small real model that is spoilt on purpose."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.loop.judge import first_aid as judge
from driftloop.loop.judge.first_aid import Evidence
from driftloop.model import first_aid
from driftloop.model.bundle import Ages, Rehearsal
from driftloop.protocol.windows import UnitWindow

HEALTHY = Rehearsal(
    widening=[0.0] * 6, slope=-1.0, at_cap=0.4, units=20, ages=Ages([], [], []), short_at_cap=0.6, rows=(50.0, 150.0)
)
GOOD = Evidence(
    familiar_equal=True,
    finite=True,
    drift_before=50.0,
    drift_after=0.5,
    slopes=[-0.9] * 8,
    at_cap=0.4,
    units=30,
    rows=150.0,
)


def test_good_evidence_gives_first_aid() -> None:
    """Nothing stands against it."""
    assert judge.refusal(GOOD, HEALTHY) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"finite": False}, "not finite"),
        ({"familiar_equal": False}, "known"),
        ({"drift_after": 40.0}, "drift is left"),
        ({"slopes": [-0.9] * 4}, "4 units"),
        ({"slopes": [0.1] * 8}, "change by 0.10"),
        ({"slopes": [-2.5] * 8}, "change by -2.50"),
        ({"at_cap": 0.95}, "95%"),
    ],
)
def test_what_stands_against_it_is_said(change: dict[str, object], reason: str) -> None:
    """One reason each."""
    assert reason in str(judge.refusal(GOOD._replace(**change), HEALTHY))  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "usual"), [(20, 0.6), (50, 0.6), (100, 0.5), (150, 0.4), (256, 0.4)])
def test_along_short_windows_more_answers_may_be_at_the_cap(rows: float, usual: float) -> None:
    """As in healthy traffic, where a model that sees few rows cannot tell wear from chance either."""
    assert judge.usual_at_cap(HEALTHY, rows) == pytest.approx(usual)
    limit = usual + judge.SPREADS * np.sqrt(usual * (1 - usual) * (1 / HEALTHY.units + 1 / GOOD.units))
    assert judge.refusal(GOOD._replace(rows=rows, at_cap=limit - 0.01), HEALTHY) is None
    assert "at the cap" in str(judge.refusal(GOOD._replace(rows=rows, at_cap=limit + 0.01), HEALTHY))


def test_a_model_from_before_short_windows_were_rehearsed_is_judged_by_whole_ones() -> None:
    """Nothing else is known of it."""
    before = Rehearsal(widening=[0.0] * 6, slope=-1.0, at_cap=0.4, units=20, ages=Ages([], [], []))
    assert judge.usual_at_cap(before, 50.0) == 0.4


def test_where_a_window_begins_in_its_units_life() -> None:
    """By the step of its newest row, or since whoever sends less than others has no more; else nobody knows."""
    rows = np.zeros((60, 24), np.float32)
    seen = [
        UnitWindow("told", rows, 100),
        UnitWindow("cut", rows),
        UnitWindow("young", rows[:20]),
        UnitWindow("miscounted", rows, 10),
    ]
    assert judge.begins(seen) == {"told": 40, "young": 0, "miscounted": 0}


def test_a_fleet_may_be_only_too_young() -> None:
    """Age cures a share at the cap that is too high, and slopes that so few units may have by chance; nothing else."""
    young = GOOD._replace(at_cap=0.95)
    assert judge.only_young(young, HEALTHY)
    assert not judge.only_young(GOOD, HEALTHY)
    for change in ({"finite": False}, {"familiar_equal": False}, {"drift_after": 40.0}, {"slopes": [0.1] * 8}):
        assert not judge.only_young(young._replace(**change), HEALTHY)  # type: ignore[arg-type]
    unlike = GOOD._replace(slopes=[-1.5, -0.9, -0.2, -0.1, 0.4, 0.5])
    assert "change by -0.15" in str(judge.refusal(unlike, HEALTHY))
    assert judge.only_young(unlike, HEALTHY)
    assert judge.only_young(unlike._replace(at_cap=0.95), HEALTHY)
    assert not judge.only_young(unlike._replace(slopes=unlike.slopes * 100), HEALTHY)


def test_the_error_of_a_median_is_that_of_drawn_medians() -> None:
    """Of normal values; one value has no spread to tell it from."""
    drawn = np.random.default_rng(0).normal(0.0, 2.0, (4000, 25))
    found = np.mean([judge.median_error(each.tolist()) for each in drawn])
    assert found == pytest.approx(np.median(drawn, axis=1).std(), rel=0.1)
    assert judge.median_error([3.0]) == 0.0


def test_half_of_a_large_drift_may_be_left() -> None:
    """By a stated factor."""
    assert judge.refusal(GOOD._replace(drift_after=24.0), HEALTHY) is None


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=40), st.floats(0, 1))
def test_answers_that_rise_are_never_given(slopes: list[float], at_cap: float) -> None:
    """Whatever else the evidence is, the median unit must wear."""
    evidence = GOOD._replace(slopes=slopes, at_cap=at_cap)
    if np.median(slopes) > judge.SLOWEST * HEALTHY.slope:
        assert judge.refusal(evidence, HEALTHY) is not None


def test_slopes_are_those_of_units_with_enough_answers_below_the_cap() -> None:
    """A unit at the cap says nothing, one that is just below it neither."""
    falling = np.concatenate([np.full(30, 125.0), np.arange(100, 60, -1.0)])
    assert first_aid.slopes([falling, np.full(60, 125.0), falling[:35]], 125) == [pytest.approx(-1.0)]
    assert first_aid.at_cap([np.full(5, 125.0), np.full(5, 10.0)], 125) == 0.5


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[first_aid.Known, first_aid.Aided]:
    """A model that learnt enough to see wear, and its first aid."""
    from driftloop.fleet.roles import with_role
    from made_up import CRUISE, SEA_LEVEL, fleet, tiny_bundle

    folder = tiny_bundle(tmp_path_factory.mktemp("judged") / "bundle", runs=fleet(per_role=8, cycles=150), steps=300)
    known = first_aid.read(folder)
    elsewhere = fleet(name="x", per_role=6, cycles=150, settings=(CRUISE, SEA_LEVEL))
    aided = first_aid.give(known, [*with_role(elsewhere, "live", "gate", "calibrate"), *fleet(name="y", per_role=1)])
    assert aided is not None
    return known, aided


def test_a_real_model_passes(planted: tuple[first_aid.Known, first_aid.Aided]) -> None:
    """Known answers are equal, and most of the drift is gone."""
    known, aided = planted
    evidence = judge.gather(known, aided)
    assert evidence.familiar_equal
    assert evidence.finite
    assert evidence.drift_after < evidence.drift_before / 2
    assert judge.refusal(evidence, HEALTHY) is None


def test_one_whose_sensors_are_turned_round_does_not(planted: tuple[first_aid.Known, first_aid.Aided]) -> None:
    """Its answers rise as units wear."""
    from driftloop.model import answers, grafting

    known, aided = planted
    count = len(known.regimes)
    turned = replace(aided.regimes, std=np.concatenate([aided.regimes.std[:count], -aided.regimes.std[count:]]))
    content = grafting.appended(known.content, turned, np.zeros(6, np.float32))
    model = replace(aided.model, session=answers.open_session(content))
    spoilt = replace(
        aided, content=content, model=model, traces=[first_aid.trace_of(model, run) for run in aided.strange]
    )
    assert judge.refusal(judge.gather(known, spoilt), HEALTHY) is not None
