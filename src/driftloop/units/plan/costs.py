"""What it costs to take a unit out now, later, or when it has failed: renewal reward (Ross, "Introduction to
Probability Models", chapter 7).

Each unit that ends is followed by another, so what counts is cost per step in the long run. A step of life that is
given away costs what a step costs on average; the least that can be is the cost of planned work over the mean life. Of
its multiples it costs least on units that are held out for the choice (docs/plan.md).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DriftloopError
from driftloop.units.plan.remaining import Floats


class Costs(NamedTuple):
    """What work costs, in one currency of the user's own."""

    failure: float
    """Of a unit that fails: the work, and what its failure does."""
    planned: float
    """Of planned work on a unit that still runs."""


def checked(costs: Costs) -> Costs:
    """The same costs; raises DriftloopError where planning could not pay."""
    if not 0 < costs.planned < costs.failure < np.inf:
        raise DriftloopError(
            f"planned work costs {costs.planned:g} and a failure {costs.failure:g}",
            where="costs",
            remedy="both are above 0, and a failure costs more than planned work; else let units run until they fail",
        )
    return costs


def rate(costs: Costs, mean_life: float) -> float:
    """What a step costs where nothing fails and no life is given away; `mean_life` is in steps."""
    return costs.planned / mean_life


def losses(survival: Floats, costs: Costs, per_step: float) -> Floats:
    """Expected loss of taking each unit out after s more steps, or at its failure before: `[n, horizon + 1]`.

    `survival` `[n, horizon + 1]` is as `remaining.survival` has it. A loss is cost minus what the steps that the unit
    runs on are worth at `per_step`; only differences between losses mean something.
    """
    run_on = np.zeros_like(survival)
    run_on[:, 1:] = np.cumsum(survival[:, 1:], axis=1)
    return np.asarray(costs.planned * survival + costs.failure * (1.0 - survival) - per_step * run_on)


def best_steps(survival: Floats, costs: Costs, per_step: float) -> NDArray[np.int64]:
    """After how many more steps each unit is best taken out, by what is known now: `[n]`; 0 is at once."""
    return np.asarray(losses(survival, costs, per_step).argmin(axis=1))
