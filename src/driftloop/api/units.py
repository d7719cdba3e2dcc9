"""Units in service: from the service that keeps their rows, where it knows any, else from what the servers remember."""

from typing import Any

import msgspec

from driftloop.api import units_view
from driftloop.api.fleets import Fleet
from driftloop.api.problems import Problem
from driftloop.errors import JsonError
from driftloop.protocol import unit_list
from driftloop.protocol.answers import Band
from driftloop.protocol.http import in_path
from driftloop.protocol.unit_list import Order, Sort, State

_MOST_ROWS = 500


def listed(
    fleet: Fleet,
    *,
    sort: Sort,
    order: Order,
    q: str,
    flag: str,
    state: State = "running",
    offset: int,
    limit: int,
) -> dict[str, Any]:
    """A page of the units that are meant; raises Problem where nobody answers."""
    asked = {"sort": sort, "order": order, "q": q, "flag": flag, "state": state, "offset": offset, "limit": limit}
    kept, problem = _kept(fleet, "/units", **asked)
    if kept is not None and (kept["total"] or _any(fleet)):
        return kept
    if state not in ("running", "all"):
        # Servers remember answers, and nobody's end.
        return {"total": 0, "units": [], "flags": {}, **_said(problem)}
    try:
        known = map(units_view.entry, fleet.newest().values())
    except Problem as error:
        raise problem or error from error
    chosen = unit_list.choose(known, sort=sort, order=order, q=q, flag=flag)
    return {
        "total": len(chosen.units),
        "units": [units_view.unit(one) for one in chosen.units[offset : offset + limit]],
        "flags": chosen.flags,
        **_said(problem),
    }


def at_a_glance(fleet: Fleet) -> tuple[int | None, dict[str, Any] | None, bool]:
    """How many units there are, None where nobody says so; which is due first; and whether whoever keeps them
    answers."""
    try:
        page = listed(fleet, sort="low", order="asc", q="", flag="", offset=0, limit=1)
    except Problem as error:
        return None, None, error.field != "units"
    first = next(iter(page["units"]), None)
    due = None if first is None or first["rul"] is None else {n: first[n] for n in ("unit", "rul", "low", "high")}
    return page["total"], due, "problem" not in page


def one(fleet: Fleet, unit: str, life: int | None = None) -> dict[str, Any]:
    """One unit, in its newest life or in another; raises Problem where nobody has seen it, or could say so."""
    asked = {"life": life} if life is not None else {}
    kept, problem = _kept(fleet, f"/units/{in_path(unit)}", **asked)
    if kept is not None:
        return {**kept, "sensors": _with_bands(fleet, kept["sensors"])}
    remembered = fleet.of_unit(unit)
    if not remembered.answers:
        raise problem or Problem(404, "unit", f"no server remembers unit {unit[:60]!r}; it was not seen, or long ago")
    return {**units_view.in_whole(remembered), **_said(problem)}


def drivers(fleet: Fleet, unit: str) -> dict[str, Any]:
    """What drives the newest prediction of one unit; raises Problem where nobody has rows of it, or could say so."""
    kept, problem = _kept(fleet, f"/units/{in_path(unit)}/window")
    if kept is not None:
        if not kept["rows"]:
            # Servers may remember rows of the life before.
            raise Problem(404, "unit", f"no readings of unit {unit[:60]!r} have come in this life")
        return {"unit": unit, "step": kept["step"], **fleet.explain(kept["rows"])}
    found = fleet.of_unit(unit, explained=True)
    if found.drivers is None:
        unseen = f"no server remembers rows of unit {unit[:60]!r}; it was not seen, or long ago"
        raise problem or Problem(404, "unit", unseen)
    return {"unit": unit, "step": found.step, **msgspec.to_builtins(found.drivers)}


def _with_bands(fleet: Fleet, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The columns of a unit's rows with the bands that the served model knows; as they are where it knows none."""
    rows = list(zip(*(column["values"] for column in columns), strict=True))[-_MOST_ROWS:]
    if not rows:
        return columns
    try:
        known = {band.name: band for band in fleet.bands(rows)}
    except (Problem, JsonError):
        return columns
    return [_with_band(column, known.get(column["name"])) for column in columns]


def _with_band(column: dict[str, Any], band: Band | None) -> dict[str, Any]:
    if band is None or all(value is None for value in band.low):
        return column
    before = [None] * (len(column["values"]) - len(band.low))
    return {**column, "low": [*before, *band.low], "high": [*before, *band.high]}


def _any(fleet: Fleet) -> bool:
    """Whether the service keeps any unit at all."""
    everything, _ = _kept(fleet, "/units", state="all", limit=1)
    return everything is not None and everything["total"] > 0


def _kept(fleet: Fleet, path: str, **parameters: Any) -> tuple[dict[str, Any] | None, Problem | None]:
    """What the service answers, None where there is none, or it knows nothing of this; and why it does not answer,
    where it ought to."""
    try:
        return fleet.kept(path, **parameters), None
    except Problem as error:
        return None, error if error.status >= 500 else None


def _said(problem: Problem | None) -> dict[str, str]:
    """What is told beside units that only servers remember, where the service ought to have answered."""
    if problem is None:
        return {}
    said = f"The service that keeps the units {problem.what}. This is what the prediction servers remember."
    return {"problem": said}
