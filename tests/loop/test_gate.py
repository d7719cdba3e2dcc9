import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop.loop.judge.gate import LEAST_UNITS, Evaluation, compare, decide


def evaluation(champion: float, challenger: float, *, engines: int = 12, windows: int = 10) -> Evaluation:
    """Errors of constant size: the bootstrap has nothing to vary, so every bound is the difference itself."""
    true = np.linspace(10, 120, engines * windows)
    names = [f"engine {i // windows}" for i in range(engines * windows)]
    return Evaluation(true + champion, true - challenger, true, names)


def test_a_challenger_that_is_better_on_new_and_equal_on_old_engines_is_approved():
    decision = decide(evaluation(10, 10), evaluation(20, 12), old_tolerance=0.15, seed=0)
    assert decision.approved
    assert decision.figures["new"].rmse_champion == pytest.approx(20)
    assert decision.figures["new"].upper == pytest.approx(-8)
    assert decision.figures["old"].difference == pytest.approx(0)
    assert decision.reason == (
        "better on 12 new engines (RMSE 12.00 against 20.00): upper bound -8.00, allowed below 0; "
        "not worse on 12 old engines (RMSE 10.00 against 10.00): upper bound +0.00, allowed +1.50"
    )


def test_an_equally_good_challenger_is_rejected():
    decision = decide(evaluation(10, 10), evaluation(20, 20), old_tolerance=0.15, seed=0)
    assert not decision.approved
    assert decision.reasons[0].startswith("not shown to be better on 12 new engines")


@pytest.mark.parametrize(("challenger", "approved"), [(11.4, True), (11.6, False)])
def test_old_engines_may_get_worse_by_the_tolerance_and_no_more(challenger: float, approved: bool):
    decision = decide(evaluation(10, challenger), evaluation(20, 12), old_tolerance=0.15, seed=0)
    assert decision.approved is approved
    assert ("not shown to be no worse" in decision.reasons[1]) is not approved
    assert decision.findings == ["better", "kept" if approved else "forgot"]


def test_one_lucky_engine_is_not_enough():
    true = np.full(100, 60.0)
    names = [f"engine {i // 10}" for i in range(100)]
    champion, challenger = true + 10.0, true + 10.5
    challenger[:10] = 60.0
    group = Evaluation(champion, challenger, true, names)
    figures = compare(group, seed=0)
    assert figures.difference < 0 < figures.upper
    assert not decide(evaluation(10, 10), group, old_tolerance=0.15, seed=0).approved


def test_without_old_gate_engines_nothing_is_promoted():
    decision = decide(None, evaluation(20, 12), old_tolerance=0.15, seed=0)
    assert not decision.approved
    assert "no old engine" in decision.reason


def test_where_the_labels_of_old_engines_no_longer_hold_the_new_ones_decide():
    decision = decide(None, evaluation(20, 12), old_tolerance=0.15, seed=0, superseded=True)
    assert decision.approved
    assert "no longer hold" in decision.reason
    assert not decide(None, evaluation(20, 20), old_tolerance=0.15, seed=0, superseded=True).approved


def test_answers_that_are_not_finite_are_rejected():
    broken = evaluation(20, 12)
    broken.challenger[3] = np.nan
    decision = decide(evaluation(10, 10), broken, old_tolerance=0.15, seed=0)
    assert not decision.approved
    assert decision.reason == "the challenger's answers on new engines are not finite"


def test_the_same_errors_give_the_same_decision():
    rng = np.random.default_rng(0)
    group = evaluation(20, 12)
    noisy = Evaluation(group.champion + rng.normal(size=120), group.challenger, group.true, group.engines)
    assert decide(noisy, noisy, old_tolerance=0.1, seed=3) == decide(noisy, noisy, old_tolerance=0.1, seed=3)


@settings(max_examples=40, deadline=None)
@given(st.floats(1, 50), st.floats(0.01, 60), st.floats(1, 50), st.floats(0.01, 60), st.floats(0, 1))
def test_whatever_is_approved_is_better_on_new_and_within_tolerance_on_old(
    old_champion: float, old_challenger: float, new_champion: float, new_challenger: float, tolerance: float
):
    decision = decide(
        evaluation(old_champion, old_challenger),
        evaluation(new_champion, new_challenger),
        old_tolerance=tolerance,
        seed=0,
    )
    if decision.approved:
        assert new_challenger < new_champion
        assert old_challenger <= old_champion * (1 + tolerance) + 1e-6


@pytest.mark.parametrize("engines", range(1, LEAST_UNITS))
def test_too_few_new_engines_for_a_bound_ask_a_person_instead_of_approving(engines: int):
    decision = decide(evaluation(10, 10), evaluation(20, 12, engines=engines), old_tolerance=0.15, seed=0)
    assert (decision.approved, decision.undecided) == (False, True)
    assert decision.findings == ["better", "kept", "too_few"]
    assert decision.reasons[-1] == (
        f"only {engines} new in the gate role, and fewer than 3 bound nothing: a person must decide"
    )


def test_the_least_number_of_units_decides_by_itself():
    decision = decide(evaluation(10, 10), evaluation(20, 12, engines=LEAST_UNITS), old_tolerance=0.15, seed=0)
    assert (decision.approved, decision.undecided) == (True, False)


def test_two_units_that_disagree_are_a_persons_to_judge():
    true = np.full(20, 60.0)
    names = ["a"] * 10 + ["b"] * 10
    challenger = np.concatenate([true[:10] + 2, true[10:] + 11])
    decision = decide(evaluation(10, 10), Evaluation(true + 10, challenger, true, names), old_tolerance=0.15, seed=0)
    assert decision.undecided
    assert decision.figures["new"].difference < 0 < decision.figures["new"].upper


def test_nobody_is_asked_about_a_challenger_that_is_worse_or_not_finite_on_few_units():
    worse = decide(evaluation(10, 10), evaluation(20, 25, engines=1), old_tolerance=0.15, seed=0)
    assert (worse.approved, worse.undecided, worse.findings) == (False, False, ["not_better", "kept"])
    forgot = decide(evaluation(10, 20), evaluation(20, 12, engines=1), old_tolerance=0.15, seed=0)
    assert (forgot.approved, forgot.undecided, forgot.findings) == (False, False, ["better", "forgot"])
    broken = evaluation(20, 12, engines=1)
    broken.challenger[3] = np.inf
    assert decide(evaluation(10, 10), broken, old_tolerance=0.15, seed=0).findings == ["not_finite"]


def test_few_old_units_bound_what_was_kept_as_little_as_new_ones_what_was_gained():
    decision = decide(evaluation(10, 10, engines=2), evaluation(20, 12), old_tolerance=0.15, seed=0)
    assert decision.undecided
    assert "only 2 old in the gate role" in decision.reason
    seems_worse = decide(evaluation(10, 20, engines=2), evaluation(60, 20), old_tolerance=0.15, seed=0)
    assert seems_worse.undecided
    assert seems_worse.findings == ["better", "forgot", "too_few"]


def test_without_a_new_gate_unit_a_person_is_asked_unless_old_ones_speak_against_it():
    decision = decide(evaluation(10, 10), None, old_tolerance=0.15, seed=0)
    assert (decision.approved, decision.undecided) == (False, True)
    assert decision.reason.endswith("no new one in the gate role, and fewer than 3 bound nothing: a person must decide")
    assert not decide(evaluation(10, 20), None, old_tolerance=0.15, seed=0).undecided


def test_where_labels_no_longer_hold_few_new_units_ask_too():
    assert decide(None, evaluation(20, 12, engines=1), old_tolerance=0.15, seed=0, superseded=True).undecided
    assert not decide(None, evaluation(20, 12, engines=1), old_tolerance=0.15, seed=0).undecided
