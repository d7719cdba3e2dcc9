"""Which unit first: distribution, losses and slots, against sums by hand and against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftloop.errors import DriftloopError
from driftloop.units.plan.costs import Costs, best_steps, losses, rate
from driftloop.units.plan.remaining import survival
from driftloop.units.plan.slots import Unit, Wanted, make_plan

CAP = 125
COSTS = Costs(failure=5.0, planned=1.0)


def wanted(slots: tuple[int, ...], period: int = 10, **more: object) -> Wanted:
    return Wanted(costs=COSTS, mean_life=200.0, cap=CAP, period=period, slots=slots, **more)  # type: ignore[arg-type]


def unit(name: str, rul: float, half: float = 10.0, flags: tuple[str, ...] = ()) -> Unit:
    return Unit(name, rul, max(0.0, rul - half), min(CAP, rul + half), flags)


triples = st.tuples(*[st.floats(0, CAP)] * 3).map(sorted)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(triples)
def test_a_chance_of_survival_begins_at_one_and_never_grows(numbers: list[float]) -> None:
    low, middle, high = numbers
    chances = survival(middle, low, high, CAP, CAP)[0]
    assert chances[0] == 1
    assert (np.diff(chances) <= 1e-12).all()
    assert (chances >= 0).all()


def test_the_interval_holds_nine_tenths_and_the_prediction_is_the_median() -> None:
    chances = survival(60.0, 40.0, 90.0, CAP, CAP)[0]
    assert chances[60] == pytest.approx(0.5, abs=0.02)
    assert 1 - chances[40] == pytest.approx(0.05, abs=0.005)
    assert chances[91] == pytest.approx(0.05, abs=0.005)


def test_nothing_is_made_up_above_the_cap() -> None:
    chances = survival(124.0, 84.0, 125.0, CAP, 200)[0]
    assert chances[126] > 0.4, "an interval that ends at the cap says nothing of what lies above"


def test_a_loss_is_the_sum_by_hand() -> None:
    alive = np.array([[1.0, 0.8, 0.5]])
    found = losses(alive, COSTS, 0.1)
    expected = [1.0, 0.8 + 5 * 0.2 - 0.1 * 0.8, 0.5 + 5 * 0.5 - 0.1 * 1.3]
    np.testing.assert_allclose(found[0], expected)
    assert best_steps(alive, COSTS, 0.1)[0] == 0


def test_dearer_failures_are_planned_for_earlier() -> None:
    alive = survival(40.0, 25.0, 60.0, CAP, CAP)
    steps = [int(best_steps(alive, Costs(failure, 1.0), rate(COSTS, 200.0))[0]) for failure in (1.5, 5.0, 20.0, 100.0)]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[-1]


def test_the_unit_that_fails_first_goes_first_and_a_healthy_one_runs_on() -> None:
    plan = make_plan([unit("young", 120), unit("ill", 14), unit("older", 33)], wanted((1, 1, 1)))
    assert [(work.unit, work.period) for work in plan.work] == [("ill", 0), ("older", 1)]
    assert (plan.running, plan.unserved, plan.unknown) == (1, [], [])
    assert plan.expected.failures < plan.without.failures
    assert "left alone it fails within 30 steps with a chance of 99%" in plan.work[0].why


def test_of_two_equal_predictions_the_unsure_one_is_worked_on_and_the_sure_one_left_for_later() -> None:
    plan = make_plan([unit("sure", 45, 3), unit("unsure", 45, 35)], wanted((1, 1, 0, 1)))
    assert [(work.unit, work.period) for work in plan.work] == [("unsure", 0)]
    assert (plan.running, plan.unserved) == (1, [])


def test_who_gets_no_slot_is_named_with_what_it_would_have_saved() -> None:
    plan = make_plan([unit("a", 5), unit("b", 6), unit("c", 7)], wanted((1, 0)))
    assert len(plan.work) == 1
    assert len(plan.unserved) == 2
    assert all(work.saves > 0 and work.period is None for work in plan.unserved)


def test_units_that_nothing_is_known_of_get_no_slot_but_a_name() -> None:
    plan = make_plan([unit("lost", 60, 60, ("unseen_regime", "out_of_distribution")), unit("ill", 5)], wanted((2,)))
    assert (plan.unknown, [work.unit for work in plan.work]) == (["lost"], ["ill"])
    assert make_plan([unit("lost", 60, 60, ("stub",))], wanted((2,))).unknown == ["lost"]


def test_agreed_work_on_a_unit_that_nothing_is_known_of_stands_in_the_plan() -> None:
    lost = unit("lost", 60, 60, ("out_of_distribution",))
    for others in ([], [unit("ill", 5)]):
        plan = make_plan([lost, *others], wanted((1, 1), agreed={"lost": 0}))
        assert {work.unit: work.period for work in plan.work} == {"lost": 0, **({"ill": 1} if others else {})}
        assert "knows nothing" in next(work.why for work in plan.work if work.unit == "lost")
        assert plan.unknown == ["lost"]


def test_agreed_work_keeps_its_slot_and_the_slots_of_others_are_what_is_left() -> None:
    units = [unit("agreed", 80), unit("ill", 5), unit("ill too", 6)]
    plan = make_plan(units, wanted((2, 1), agreed={"agreed": 0}))
    assert {work.unit: work.period for work in plan.work}["agreed"] == 0
    assert sum(work.period == 0 for work in plan.work) == 2
    assert "agreed already" in next(work.why for work in plan.work if work.unit == "agreed")


def test_units_run_on_where_labels_are_wanted_and_it_costs_least() -> None:
    units = [unit(f"u{rul}", rul) for rul in (5, 12, 25, 38)]
    plan = make_plan(units, wanted((4, 4, 4, 4), run_on=1))
    without = {work.unit: work.saves for work in make_plan(units, wanted((4, 4, 4, 4))).work}
    assert [work.unit for work in plan.run_on] == [min(without, key=without.__getitem__)]
    assert {work.unit for work in plan.work} == without.keys() - {plan.run_on[0].unit}


def test_failures_and_planned_work_are_told_of_each_period() -> None:
    # Two of three are taken out; the third, which has no slot, fails in the third period.
    units = [unit("first", 4, half=3), unit("second", 15, half=3), unit("left", 25, half=3)]
    plan = make_plan(units, wanted((1, 1, 0), agreed={"first": 0, "second": 1}))
    told = plan.periods
    assert [one.removed for one in told] == pytest.approx([1, 1, 0], abs=0.1)
    assert [one.failures_without_plan for one in told] == pytest.approx([1, 1, 1], abs=0.1)
    assert [one.failures for one in told] == pytest.approx([0, 0, 1], abs=0.1)
    for expected, failures, removed in (
        (plan.expected, [one.failures for one in told], [one.removed for one in told]),
        (plan.without, [one.failures_without_plan for one in told], [0.0]),
    ):
        assert (sum(failures), sum(removed)) == pytest.approx((expected.failures, expected.planned))


def test_where_nothing_is_known_no_period_has_anything() -> None:
    plan = make_plan([], wanted((1, 2)))
    assert [(one.failures, one.failures_without_plan, one.removed) for one in plan.periods] == [(0, 0, 0)] * 2


def loss_of(units: list[Unit], asked: Wanted, periods: tuple[int, ...]) -> float:
    """What is saved by an assignment, by hand: -1 is no slot."""
    total = 0.0
    for one, period in zip(units, periods, strict=True):
        if period >= 0:
            alive = survival(one.rul, one.lower, one.upper, CAP, CAP)
            loss = losses(alive, COSTS, rate(COSTS, asked.mean_life))[0]
            total += loss[asked.period * len(asked.slots) :].min() - loss[period * asked.period]
    return total


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(triples, min_size=1, max_size=4), st.lists(st.integers(0, 2), min_size=1, max_size=3))
def test_no_other_assignment_saves_more(numbers: list[list[float]], slots: list[int]) -> None:
    units = [Unit(str(at), middle, low, high) for at, (low, middle, high) in enumerate(numbers)]
    asked = wanted(tuple(slots), period=20)
    plan = make_plan(units, asked)
    used = [sum(work.period == period for work in plan.work) for period in range(len(slots))]
    assert all(count <= most for count, most in zip(used, slots, strict=True))
    best = max(
        loss_of(units, asked, periods)
        for periods in itertools.product(range(-1, len(slots)), repeat=len(units))
        if all(periods.count(period) <= most for period, most in enumerate(slots))
    )
    assert sum(work.saves for work in plan.work) == pytest.approx(best, abs=1e-6)
    assert len(plan.work) + len(plan.unserved) + len(plan.run_on) + plan.running == len(units)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (wanted((1,) * 20), "sees 125 ahead"),
        (wanted((1,), period=0), "cannot be planned"),
        (wanted((-1,)), "slots are"),
        (wanted((1,), agreed={"nobody": 0}), "no such unit"),
        (wanted((1,), agreed={"u": 3}), "periods are 0 to 0"),
        (wanted((0,), agreed={"u": 0}), "1 unit is agreed for period 0, which has no slots"),
        (Wanted(costs=Costs(1, 2), mean_life=9, cap=CAP, period=5, slots=(1,)), "planned work costs 2"),
        (Wanted(costs=COSTS, mean_life=0, cap=CAP, period=5, slots=(1,)), "mean life"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_a_remedy(asked: Wanted, said: str) -> None:
    with pytest.raises(DriftloopError, match=said) as refused:
        make_plan([unit("u", 50)], asked)
    assert refused.value.remedy


def test_ten_thousand_units_are_planned() -> None:
    rng = np.random.default_rng(0)
    units = [unit(str(at), float(rul)) for at, rul in enumerate(rng.uniform(0, CAP, 10_000))]
    plan = make_plan(units, wanted((5,) * 10))
    assert len(plan.work) == 50
    assert plan.expected.failures < plan.without.failures
