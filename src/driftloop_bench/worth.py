"""What a maintenance plan is worth: the long-run cost per step of following it, beside simpler policies.

Renewal reward: each unit is followed by another, so a policy costs the sum of what it spent over the sum of the steps
that its units ran. A policy sees a unit's predictions row by row, by a model that has not seen the unit, and takes it
out at the first row at which it says "now". Of a unit that was cut off while it still ran (a test engine of C-MAPSS)
the last row decides: the policy says after how many more steps the unit is to be taken out, and it fails if its life is
shorter. Whatever a policy may choose (an age, a threshold, a factor) is chosen on other units than it is judged on; the
plan chooses nothing.

- `failure`: run until it fails.
- `age`: the best fixed age.
- `point`: as soon as the predicted RUL is at most a threshold, the best one.
- `plan`: when the predictive distribution says so (driftloop.units.plan), with a slot always free.
- `tuned`: the same, but a step of life costs the best of FACTORS times what the plan takes. It tells whether the plan's
  own rate, which is the same for all fleets, is a good one for this fleet.
- `foresight`: at the last step before the failure. Nothing can be cheaper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.fleets.cmapss.files import SUBSETS
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.training import configuration
from driftloop.training import train as training
from driftloop.training.network import RulNetwork
from driftloop.units.plan.costs import Costs, best_steps, checked, rate
from driftloop.units.plan.remaining import survival
from driftloop_bench.fleet_benchmark import deal, others
from driftloop_bench.rul import benchmark

if TYPE_CHECKING:
    from driftloop.settings import Settings

Floats = NDArray[np.float64]
POLICIES = ("failure", "age", "point", "plan", "tuned", "foresight")
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
"""Of what a step costs where nothing fails and no life is given away."""
DRAWS = 2000
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Life:
    """A unit as a policy sees it: answers after each observed row, `[rows]` in steps, and how long it really lived."""

    unit: str
    answers: Floats
    """`[rows, 3]`: RUL, lower, upper."""
    life: int
    """Rows from its first one to its failure."""


@dataclass(frozen=True, eq=False)
class Part:
    """Units to judge on, and others to choose on, for one model."""

    name: str
    judge: list[Life]
    choose: list[Life]
    """Failed units that the model has not seen."""
    lives: NDArray[np.int64]
    """Of the failed units that are known when the policies are made, in steps."""
    cap: int


@dataclass(frozen=True, eq=False)
class Ends:
    """How units ended under a policy, `[units]`."""

    failed: NDArray[np.bool_]
    steps: Floats

    def spent(self, costs: Costs) -> Floats:
        """What each unit cost."""
        return np.where(self.failed, costs.failure, costs.planned)


def cmapss_parts(seed: int, settings: "Settings", tell: Tell) -> list[Part]:
    """NASA's test engines, a part for each subset, by one network that learnt from all training engines but those that
    calibrate it, on which the policies' own choices are made."""
    plan = benchmark.make_plan(",".join(SUBSETS), 1)
    data = benchmark.load_data(plan, settings)
    split = benchmark.split(data.fleets, seed)
    tell(f"seed {seed}: training")
    config = replace(plan.config, seed=seed)
    network = training.fit(split.fit, [], split.calibrate, SCHEMA, RUL_CAP, config).network
    subset_of = {run.run_id: subset for subset, fleet in data.fleets.items() for run in fleet.train}
    choose = _lives(network, split.calibrate)
    parts = []
    for subset, fleet in data.fleets.items():
        tell(f"seed {seed}: asking about {subset}")
        known = [len(run.rows) for run in split.fit if subset_of[run.run_id] == subset]
        judge = _lives(network, fleet.test)
        own = [life for life in choose if subset_of[life.unit] == subset]
        parts.append(Part(subset, judge, own, np.array(known), RUL_CAP))
    return parts


def fleet_parts(runs: Sequence[Run], schema: Schema, folds: int, seed: int, tell: Tell) -> list[Part]:
    """Any fleet by cross-validation over units, a part for each fold; raises DataError for too few units."""
    dealt = deal(runs, folds, seed)
    cap = training.cap_of(schema, [run for units in dealt for run in units])
    config = replace(configuration.default(schema), seed=seed)
    told: list[list[Life]] = []
    for fold, units in enumerate(dealt):
        tell(f"seed {seed}: fold {fold + 1} of {folds}")
        told.append(_lives(training.fit(others(dealt, fold), [], [], schema, cap, config).network, units))
    parts = []
    for fold in range(folds):
        choose = [life for at, lives in enumerate(told) if at != fold for life in lives]
        parts.append(Part(schema.name, told[fold], choose, np.array([life.life for life in choose]), cap))
    return parts


def _lives(network: RulNetwork, runs: Sequence[Run]) -> list[Life]:
    answers = training.answers(network, training.Windows(network, runs, 1)).astype(np.float64)
    ends = np.cumsum([len(run.rows) for run in runs])
    return [
        Life(run.run_id, found, len(run.rows) + int(run.remaining))
        for run, found in zip(runs, np.split(answers, ends[:-1]), strict=True)
    ]


def ends(policy: str, part: Part, costs: Costs) -> Ends:
    """How the units of `part` end under a policy."""
    life = np.array([each.life for each in part.judge])
    if policy == "failure":
        return Ends(np.ones(len(life), dtype=np.bool_), life.astype(np.float64))
    if policy == "foresight":
        return Ends(np.zeros(len(life), dtype=np.bool_), life.astype(np.float64))
    if policy == "age":
        ages = np.unique(part.lives)
        age = ages[np.argmin([_cost(_aged(part.lives, each), costs) for each in ages])]
        return _aged(life, int(age))
    if policy == "point":
        limits = range(part.cap)
        best = limits[int(np.argmin([_cost(_run(part.choose, _at_most(limit)), costs) for limit in limits]))]
        return _run(part.judge, _at_most(best))
    factor = 1.0
    if policy == "tuned":
        tried = by_factor(part, costs)
        factor = min(tried, key=tried.__getitem__)
    return _run(part.judge, _planned(part, costs, factor))


def by_factor(part: Part, costs: Costs) -> dict[float, float]:
    """What plans cost per step by which a step of life costs FACTORS times as much, on the units to choose on."""
    return {factor: _cost(_run(part.choose, _planned(part, costs, factor)), costs) for factor in FACTORS}


def _planned(part: Part, costs: Costs, factor: float) -> Callable[[Floats], NDArray[np.int64]]:
    per_step = factor * rate(costs, float(part.lives.mean()))

    def steps(answers: Floats) -> NDArray[np.int64]:
        rul, lower, upper = answers.T
        return best_steps(survival(rul, lower, upper, part.cap, part.cap), costs, per_step)

    return steps


def _at_most(limit: int) -> Callable[[Floats], Floats]:
    return lambda answers: np.round(answers[:, 0] - limit)


def _aged(lives: NDArray[np.int64], age: int) -> Ends:
    return Ends(lives < age, np.minimum(lives, age).astype(np.float64))


def _run(lives: Sequence[Life], policy: Callable[[Floats], NDArray[Any]]) -> Ends:
    """`policy` says after each row `[rows]` after how many more steps a unit is to be taken out; 0 or less is now."""
    out = []
    for each in lives:
        steps = policy(each.answers)
        now = np.flatnonzero(steps <= 0)
        out.append(now[0] + 1 if len(now) else len(steps) + steps[-1])
    planned, life = np.array(out), np.array([each.life for each in lives])
    return Ends(planned > life, np.minimum(planned, life).astype(np.float64))


def _cost(found: Ends, costs: Costs) -> float:
    return float(found.spent(costs).sum() / found.steps.sum())


def figures(parts: Sequence[Sequence[Part]], costs: Costs, seed: int = 0) -> dict[str, Any]:
    """Costs per 1,000 steps of each policy over the units of the same fleet, and by how much of the way from the best
    fixed age to perfect foresight it comes, with 95 % bootstrap intervals over units.

    `parts` has an entry for each training, with that training's parts; each holds the same units.
    """
    checked(costs)
    units = sorted({life.unit for part in parts[0] for life in part.judge})
    spent = {policy: np.zeros(len(units)) for policy in POLICIES}
    steps = {policy: np.zeros(len(units)) for policy in POLICIES}
    failed = dict.fromkeys(POLICIES, 0.0)
    for part in (part for training_ in parts for part in training_):
        at = np.searchsorted(units, [life.unit for life in part.judge])
        for policy in POLICIES:
            found = ends(policy, part, costs)
            np.add.at(spent[policy], at, found.spent(costs))
            np.add.at(steps[policy], at, found.steps)
            failed[policy] += float(found.failed.sum()) / len(units) / len(parts)
    chosen = np.random.default_rng(seed).multinomial(len(units), np.full(len(units), 1 / len(units)), size=DRAWS)
    weights = np.concatenate([np.ones((1, len(units)), dtype=np.int64), chosen])
    rates = {policy: 1000 * (weights @ spent[policy]) / (weights @ steps[policy]) for policy in POLICIES}
    shown: dict[str, Any] = {"units": len(units), "trainings": len(parts), "costs": costs._asdict()}
    for policy in POLICIES:
        way = (rates["age"] - rates[policy]) / np.maximum(rates["age"] - rates["foresight"], 1e-12)
        shown[policy] = {
            "cost_per_1000_steps": _with_range(rates[policy]),
            "failed_share": failed[policy],
            "way_from_age_to_foresight": _with_range(way),
        }
    tried = [by_factor(part, costs) for training_ in parts for part in training_]
    shown["on_other_units"] = {str(at): 1000 * float(np.mean([one[at] for one in tried])) for at in FACTORS}
    rivals = ("failure", "age", "point")
    shown["plan"]["cheaper_than"] = {rival: float((rates["plan"] < rates[rival])[1:].mean()) for rival in rivals}
    return shown


def _with_range(values: Floats) -> dict[str, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "lower": float(low), "upper": float(high)}
