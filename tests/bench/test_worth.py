"""What a plan is worth, on lives that end as written here."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from driftloop.errors import DriftloopError
from driftloop.units.plan.costs import Costs
from driftloop_bench import worth
from driftloop_bench.commands import app
from driftloop_bench.worth import Life, Part

COSTS, CAP = Costs(5.0, 1.0), 125


def life(name: str, length: int, error: float = 0.0, seen: int | None = None, half: float = 3.0) -> Life:
    """A life of `length` rows whose first `seen` rows are answered, `error` steps too high."""
    rows = length if seen is None else seen
    rul = np.clip(length - np.arange(1, rows + 1) + error, 0, CAP).astype(np.float64)
    return Life(name, np.stack([rul, np.maximum(rul - half, 0), np.minimum(rul + half, CAP)], axis=1), length)


def part(judge: list[Life], choose: list[Life] | None = None, lives: tuple[int, ...] = (150, 200, 250)) -> Part:
    return Part("made-up", judge, choose or judge, np.array(lives), CAP)


def test_running_to_failure_and_foresight_are_the_two_ends() -> None:
    units = part([life("a", 100), life("b", 300)])
    failure, foresight = worth.ends("failure", units, COSTS), worth.ends("foresight", units, COSTS)
    assert (failure.failed.tolist(), failure.steps.tolist()) == ([True, True], [100.0, 300.0])
    assert (foresight.failed.tolist(), foresight.spent(COSTS).tolist()) == ([False, False], [1.0, 1.0])


def test_the_best_age_is_that_of_the_known_lives_and_not_of_those_judged() -> None:
    found = worth.ends("age", part([life("short", 90), life("long", 400)], lives=(150, 150, 150)), COSTS)
    assert (found.failed.tolist(), found.steps.tolist()) == ([True, False], [90.0, 150.0])


def test_exact_predictions_make_the_plan_nearly_foresight() -> None:
    units = part([life(str(at), length) for at, length in enumerate((130, 170, 220, 260))])
    shown = worth.figures([[units]], COSTS)
    assert shown["plan"]["failed_share"] == 0
    assert shown["plan"]["way_from_age_to_foresight"]["value"] > 0.9
    assert shown["foresight"]["way_from_age_to_foresight"]["value"] == 1
    order = [shown[policy]["cost_per_1000_steps"]["value"] for policy in ("foresight", "plan", "age", "failure")]
    assert order == sorted(order)


def test_a_threshold_is_chosen_on_other_units_than_those_judged() -> None:
    """The others are answered right, so the threshold is small, and those judged fail for it."""
    judged = [life(str(at), 150 + 10 * at, error=12) for at in range(4)]
    found = worth.ends("point", part(judged, [life(f"other {at}", 200, half=1) for at in range(4)]), COSTS)
    assert found.failed.all()


def test_the_last_row_of_a_unit_that_was_cut_off_decides() -> None:
    right, too_high = life("right", 200, seen=150), life("too high", 200, error=40, seen=150)
    found = worth.ends("plan", part([right, too_high]), COSTS)
    assert found.failed.tolist() == [False, True]
    assert 150 < found.steps[0] <= 200
    assert found.steps[1] == 200


def test_trainings_are_added_up_unit_by_unit() -> None:
    good, bad = [life("a", 200), life("b", 150)], [life("a", 200, error=60), life("b", 150, error=60)]
    shown = worth.figures([[part(good)], [part(bad)]], COSTS)
    assert (shown["units"], shown["trainings"]) == (2, 2)
    assert shown["plan"]["failed_share"] == 0.5
    # Two units planned near their ends, two failed.
    assert shown["plan"]["cost_per_1000_steps"]["value"] == pytest.approx(1000 * 12 / 700, rel=0.03)


def test_costs_by_which_planning_cannot_pay_are_refused() -> None:
    with pytest.raises(DriftloopError, match="costs more than planned work"):
        worth.figures([[part([life("a", 100)])]], Costs(1.0, 1.0))


def test_the_command_refuses_such_costs_before_it_trains() -> None:
    refused = CliRunner().invoke(app, ["plan", "--failure", "1", "--json"])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, DriftloopError)
    assert "planned work costs 1" in json.dumps(str(refused.exception))
