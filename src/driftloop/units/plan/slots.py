"""Which units are worked on in which slot: an assignment that costs least in expectation.

The time ahead is cut into periods, each with a number of slots; work in a period is done at its beginning. A slot goes
to a unit for what it saves against leaving the unit running past the last period. The sum of what is saved is
the largest there can be (linear assignment: Crouse, "On implementing 2D rectangular assignment algorithms", IEEE
Transactions on Aerospace and Electronic Systems 52, 2016, as scipy has it). Units of which the model knows nothing get
no slot; they are named, to be looked at.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DriftloopError
from driftloop.units.plan.costs import Costs, checked, losses, rate
from driftloop.units.plan.remaining import Floats, survival

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_PREDICTION = "no_prediction"
"""Flag of a unit whose rows nobody has answered yet."""
UNKNOWN = frozenset(
    {NO_PREDICTION, "stub", "unseen_regime", "out_of_distribution", "too_much_missing", "no_finite_answer"}
)
"""Flags of a prediction that says nothing."""
MOST_PERIODS = 1000
MOST_SLOTS = 1000
"""In all periods together."""
_WORTH = 1e-9
"""Share of a planned work's cost that a slot must save."""


class Unit(msgspec.Struct, frozen=True):
    """A unit in service and its newest prediction, in steps."""

    unit: str
    rul: float
    lower: float
    upper: float
    flags: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is asked for."""

    costs: Costs
    mean_life: float
    """Of units that were run until they failed, in steps."""
    cap: float
    """Of the model's labels: it sees no farther ahead."""
    period: int
    """Length of a period in steps."""
    slots: tuple[int, ...]
    """Of each period, the first one beginning now."""
    agreed: Mapping[str, int] = {}
    """Units whose work is agreed already, with their period; each takes a slot of it."""
    run_on: int = 0
    """Units that are to run until they fail, for the model to learn from: those for which it costs least."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A unit and what is planned for it, with the reason in figures."""

    unit: str
    rul: float
    lower: float
    upper: float
    period: int | None
    """None: it runs on."""
    risk_before: float
    """Chance that it fails before its slot; where it has none, before the end of the last period."""
    risk_if_left: float
    """Chance that it fails before the end of the last period where nothing is done."""
    saves: float
    """What the slot saves; where it has none, what the best slot would have."""
    why: str


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected until the end of the last period."""

    failures: float
    planned: float
    cost: float
    """Of failures and planned work."""


class InPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected in one period."""

    failures: float
    failures_without_plan: float
    removed: float
    """Units that are worked on before they have failed: nobody learns when they would have."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which unit in which slot, why, and what is left."""

    work: list[Work]
    """With a slot, by period, what saves most first."""
    unserved: list[Work]
    """Worth a slot, but there was none left, what would save most first."""
    run_on: list[Work]
    """Worth a slot, but chosen to run until they fail."""
    running: int
    """Units that are best left alone."""
    unknown: list[str]
    """Units of which the model knows nothing: look at them."""
    expected: Expected
    without: Expected
    """The same where nothing is planned."""
    periods: list[InPeriod]
    """The same period by period."""


def make_plan(units: Sequence[Unit], wanted: Wanted) -> Plan:
    """The plan that costs least in expectation; raises DriftloopError for what cannot be asked."""
    _check(units, wanted)
    unknown = sorted(unit.unit for unit in units if UNKNOWN & set(unit.flags))
    # What is agreed stands in the plan all the same, since it takes a slot.
    known = [unit for unit in units if not UNKNOWN & set(unit.flags) or unit.unit in wanted.agreed]
    periods, end = len(wanted.slots), wanted.period * len(wanted.slots)
    if not known:
        nothing, never = Expected(failures=0.0, planned=0.0, cost=0.0), [0.0] * periods
        return Plan(
            work=[],
            unserved=[],
            run_on=[],
            running=0,
            unknown=unknown,
            expected=nothing,
            without=nothing,
            periods=_by_period(never, never, never),
        )
    rul, lower, upper = np.array([(unit.rul, unit.lower, unit.upper) for unit in known]).T
    alive = survival(rul, lower, upper, wanted.cap, int(wanted.cap))
    loss = losses(alive, wanted.costs, rate(wanted.costs, wanted.mean_life))
    begins = np.arange(periods) * wanted.period
    gain = loss[:, end:].min(axis=1)[:, None] - loss[:, begins]
    free = _free(wanted)
    at = np.array([wanted.agreed.get(unit.unit, -1) for unit in known], dtype=np.int64)
    worth = gain.max(axis=1) > _WORTH * wanted.costs.planned
    kept = _run_on(gain, worth & (at < 0), wanted.run_on)
    at = _assign(gain, at, free, worth & ~kept, wanted.costs.planned)

    def work(index: int) -> Work:
        unit, period = known[index], int(at[index])
        left = float(1 - alive[index, end])
        slot = None if period < 0 else period
        before = left if slot is None else float(1 - alive[index, begins[slot]])
        saves = float(gain[index].max() if slot is None else gain[index, slot])
        return Work(
            unit=unit.unit,
            rul=unit.rul,
            lower=unit.lower,
            upper=unit.upper,
            period=slot,
            risk_before=before,
            risk_if_left=left,
            saves=saves,
            why=_why(slot, before, left, end, agreed=unit.unit in wanted.agreed)
            if not UNKNOWN & set(unit.flags)
            else "agreed already; the model knows nothing of this unit, so these chances are those of a wide guess",
        )

    def by_saving(chosen: Bools) -> list[Work]:
        return sorted(map(work, np.flatnonzero(chosen).tolist()), key=lambda one: (one.period or 0, -one.saves))

    failures, removed = _ends(alive, at, wanted)
    failures_without, _ = _ends(alive, np.full_like(at, -1), wanted)
    return Plan(
        work=by_saving(at >= 0),
        unserved=by_saving((at < 0) & worth & ~kept),
        run_on=by_saving(kept),
        running=int(((at < 0) & ~worth).sum()),
        unknown=unknown,
        expected=_expected(failures, removed, wanted.costs),
        without=_expected(failures_without, np.zeros(periods), wanted.costs),
        periods=_by_period(failures.tolist(), failures_without.tolist(), removed.tolist()),
    )


def _check(units: Sequence[Unit], wanted: Wanted) -> None:
    checked(wanted.costs)
    periods, end = len(wanted.slots), wanted.period * len(wanted.slots)
    if wanted.period < 1 or not 1 <= periods <= MOST_PERIODS:
        raise DriftloopError(
            f"{periods} periods of {wanted.period} steps cannot be planned",
            where="period",
            remedy=f"ask for 1 to {MOST_PERIODS} periods of at least one step",
        )
    if end > wanted.cap:
        raise DriftloopError(
            f"{periods} periods of {wanted.period} steps are {end} steps, and the model sees {wanted.cap:g} ahead",
            where="period",
            remedy="ask for fewer or shorter periods",
        )
    if min(wanted.slots) < 0 or sum(wanted.slots) > MOST_SLOTS:
        raise DriftloopError(
            f"the slots are {list(wanted.slots)[:20]}",
            where="slots",
            remedy=f"give each period 0 or more slots, and all together at most {MOST_SLOTS}",
        )
    if not wanted.mean_life > 0:
        raise DriftloopError(
            f"the mean life is {wanted.mean_life:g} steps",
            where="mean life",
            remedy="give the mean life of units that ran until they failed, in steps",
        )
    names = {unit.unit for unit in units}
    for unit, period in wanted.agreed.items():
        if unit not in names or not 0 <= period < periods:
            raise DriftloopError(
                f"work on {unit[:60]!r} in period {period} is agreed, but "
                + ("there is no such unit in service" if unit not in names else f"periods are 0 to {periods - 1}"),
                where="agreed",
                remedy="correct or leave out what is agreed",
            )


def _free(wanted: Wanted) -> Ints:
    """The slots of each period that no agreed work takes; raises DriftloopError where it takes more than there are."""
    free = np.array(wanted.slots, dtype=np.int64)
    np.subtract.at(free, np.array(list(wanted.agreed.values()), dtype=np.int64), 1)
    for period in np.flatnonzero(free < 0).tolist():
        slots = wanted.slots[period]
        agreed = slots - free[period]
        raise DriftloopError(
            f"{agreed} unit{' is' if agreed == 1 else 's are'} agreed for period {period}, which has {slots or 'no'} "
            f"slot{'' if slots == 1 else 's'}",
            where="agreed",
            remedy="add slots, or move a unit",
        )
    return free


def _run_on(gain: Floats, worth: Bools, count: int) -> Bools:
    """Of the units that are worth a slot the `count` for which running on costs least."""
    chosen = np.zeros(len(gain), dtype=np.bool_)
    candidates = np.flatnonzero(worth)
    chosen[candidates[np.argsort(gain[candidates].max(axis=1), kind="stable")[:count]]] = True
    return chosen


def _assign(
    gain: Floats,
    at: Ints,
    free: Ints,
    worth: Bools,
    planned: float,
) -> Ints:
    """The period of each unit, those that are agreed as they are."""
    from scipy.optimize import linear_sum_assignment

    period_of = np.repeat(np.arange(len(free)), free)
    candidates = np.flatnonzero(worth & (at < 0))
    found = at.copy()
    if len(period_of) and len(candidates):
        # A slot that saves nothing stays empty: it counts as one that saves 0.
        saved = np.maximum(gain[candidates][:, period_of], 0.0)
        rows, columns = linear_sum_assignment(saved, maximize=True)
        for row, column in zip(rows, columns, strict=True):
            if saved[row, column] > _WORTH * planned:
                found[candidates[row]] = period_of[column]
    return found


def _ends(alive: Floats, at: Ints, wanted: Wanted) -> tuple[Floats, Floats]:
    """In each period the failures to expect, and the units that are worked on before they have failed."""
    bounds = np.arange(len(wanted.slots) + 1) * wanted.period
    until = np.where(at >= 0, bounds[np.maximum(at, 0)], bounds[-1])
    unit = np.arange(len(at))
    # Of a unit that was worked on nothing is known any more.
    reached = alive[unit[:, None], np.minimum(bounds[None, :], until[:, None])]
    removed = np.zeros(len(wanted.slots))
    np.add.at(removed, at[at >= 0], alive[unit, until][at >= 0])
    return -np.diff(reached, axis=1).sum(axis=0), removed


def _expected(failures: Floats, removed: Floats, costs: Costs) -> Expected:
    failed, planned = float(failures.sum()), float(removed.sum())
    return Expected(failures=failed, planned=planned, cost=failed * costs.failure + planned * costs.planned)


def _by_period(
    failures: Sequence[float], failures_without: Sequence[float], removed: Sequence[float]
) -> list[InPeriod]:
    return [
        InPeriod(failures=failed, failures_without_plan=without, removed=out)
        for failed, without, out in zip(failures, failures_without, removed, strict=True)
    ]


def _why(period: int | None, before: float, left: float, end: int, *, agreed: bool) -> str:
    """The reason in words."""
    if period is None:
        return f"fails within {end} steps with a chance of {left:.0%}"
    first = "agreed already; " if agreed else ""
    return f"{first}left alone it fails within {end} steps with a chance of {left:.0%}, before this slot {before:.0%}"
