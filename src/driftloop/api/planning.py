"""Which unit first, and why: what drives a prediction, and a maintenance plan."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request

from driftloop.api import plan_shapes as shapes
from driftloop.api import units as in_service
from driftloop.api.fleets import Fleet
from driftloop.api.problems import Problem, responses
from driftloop.api.reads import Name, fleets_of
from driftloop.errors import DriftloopError
from driftloop.units.plan.costs import Costs
from driftloop.units.plan.slots import MOST_PERIODS, NO_PREDICTION, Plan, Unit, Wanted, make_plan

router = APIRouter(responses=responses(401, 403, 404, 422, 429, 503), tags=["plan"])

_PAGE = 1000
_USUAL_PERIOD = 10
Cost = Annotated[float, Query(gt=0, le=1e12, allow_inf_nan=False)]


@router.get(
    "/fleets/{fleet}/drivers/{unit:path}",
    response_model=shapes.Drivers,
    summary="What drives the prediction of one unit",
)
def drivers(request: Request, fleet: Name, unit: Annotated[str, Path(max_length=200, examples=["engine-7"])]) -> Any:
    """By how many steps each sensor moves the RUL, compared with an average unit under the same settings."""
    return in_service.drivers(fleets_of(request).get(fleet), unit)


@router.get("/fleets/{fleet}/plan", response_model=shapes.Plan, summary="Which unit in which slot, and why")
def plan(
    request: Request,
    fleet: Name,
    failure: Annotated[Cost, Query(description="what a failure costs, in any currency")] = 5.0,
    planned: Annotated[Cost, Query(description="what planned work on a unit costs")] = 1.0,
    period: Annotated[
        int | None,
        Query(ge=1, le=10**6, description="length of a period in steps; by default 10, or as many as the model sees"),
    ] = None,
    slots: Annotated[
        list[int] | None,
        Query(description="units that can be worked on in each period, the first beginning now; once for each period"),
    ] = None,
    agreed: Annotated[
        list[str] | None, Query(max_length=1000, description="work that is agreed already: `PERIOD:UNIT`")
    ] = None,
    run_on: Annotated[int, Query(ge=0, le=1000, description="units that run until they fail, to learn from")] = 0,
    mean_life: Annotated[
        float | None, Query(gt=0, le=1e9, description="of units that ran until they failed; by default the model's")
    ] = None,
) -> Any:
    """The assignment of units to slots that costs least in expectation, by the predictive distribution of each unit."""
    found = fleets_of(request).get(fleet)
    asked = wanted(found, Costs(failure, planned), period, slots or [1] * 6, agreed or [], run_on, mean_life)
    try:
        made = make_plan(in_service_now(found), asked)
    except DriftloopError as error:
        raise Problem(422, error.where or "plan", f"{error.what} ({error.remedy})") from error
    except ImportError as error:
        raise Problem(503, "plan", "needs scipy, which is not installed here; install driftloop[units]") from error
    return shown(made, asked, found.settings.new_units)


def in_service_now(fleet: Fleet) -> list[Unit]:
    """Every unit in service with its newest prediction, by name; one without any is of those that nobody knows."""
    found: list[Unit] = []
    while True:
        page = in_service.listed(fleet, sort="unit", order="asc", q="", flag="", offset=len(found), limit=_PAGE)
        found += map(_unit, page["units"])
        if not page["units"] or len(found) >= page["total"]:
            return found


def _unit(said: dict[str, Any]) -> Unit:
    if said["rul"] is None:
        return Unit(said["unit"], 0.0, 0.0, 0.0, (NO_PREDICTION,))
    return Unit(said["unit"], said["rul"], said["low"], said["high"], tuple(said["flags"]))


def wanted(
    fleet: Fleet,
    costs: Costs,
    period: int | None,
    slots: list[int],
    agreed: list[str],
    run_on: int,
    mean_life: float | None,
) -> Wanted:
    """What a plan is asked for; raises Problem where the model lacks what a plan needs."""
    if len(slots) > MOST_PERIODS:
        raise Problem(422, "slots", f"are of {len(slots)} periods; at most {MOST_PERIODS} are planned")
    model = fleet.model()
    if model is None:
        raise Problem(503, "server", "does not answer, so nobody knows what the model sees")
    cap = (model.get("metadata") or {}).get("cap")
    life = mean_life or model.get("mean_life")
    if cap is None or life is None:
        raise Problem(409, "model", "no trained model is served yet, so there is nothing to plan by; train one first")
    return Wanted(
        costs=costs,
        mean_life=life,
        cap=cap,
        period=period or fitting(cap, len(slots)),
        slots=tuple(slots),
        agreed=_agreements(agreed),
        run_on=run_on,
    )


def fitting(cap: float, periods: int) -> int:
    """The usual length of a period, or less, so that the model sees to the end of the last one."""
    return max(1, min(_USUAL_PERIOD, int(cap // periods)))


def _agreements(said: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for unit, period in map(_agreement, said):
        if found.setdefault(unit, period) != period:
            raise Problem(422, "agreed", f"has {unit[:60]} in the periods {found[unit]} and {period}; name one of them")
    return found


def _agreement(text: str) -> tuple[str, int]:
    period, colon, unit = text.partition(":")
    if not (colon and unit and period.isdecimal()):
        raise Problem(422, "agreed", f"is {text[:60]!r}; write PERIOD:UNIT, such as 0:engine-17")
    return unit, int(period[:9])


def shown(made: Plan, asked: Wanted, needed: int) -> dict[str, Any]:
    """The plan with its periods, and what it does to learning: `needed` failed units make a retraining."""
    return {
        **msgspec.to_builtins(made),
        "costs": asked.costs._asdict(),
        "mean_life": asked.mean_life,
        "periods": [
            {
                "period": at,
                "begins": at * asked.period,
                "ends": (at + 1) * asked.period,
                "slots": count,
                **msgspec.to_builtins(expected),
            }
            for at, (count, expected) in enumerate(zip(asked.slots, made.periods, strict=True))
        ],
        "learning": {
            "failures": made.expected.failures,
            "failures_without_plan": made.without.failures,
            "needed": needed,
            "steps_until_enough": until_enough([one.failures for one in made.periods], asked.period, needed),
        },
    }


def until_enough(failures: list[float], period: int, needed: int) -> float | None:
    """Steps until so many units have failed, by the failures of each period, and behind the last by their mean; None
    where none fails. What ends by planned work is censored: its label is never known."""
    until = 0.0
    for at, one in enumerate(failures):
        if until + one >= needed:
            return (at + (needed - until) / one) * period
        until += one
    return None if until <= 0 else len(failures) * period * needed / until
