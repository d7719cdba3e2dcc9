"""What one may do to units in service: tell what has happened to one, take that back, call it otherwise.

For everybody with the role `operate`, handed on to the service that keeps the units; it is told for whom, and refuses
in its own words.
"""

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from msgspec import Meta

from driftloop.access.guard import asker, reason_of_act
from driftloop.api import outcomes, shapes
from driftloop.api.acts import Reasoned
from driftloop.api.bodies import body_of
from driftloop.api.problems import responses
from driftloop.api.reads import Name, fleets_of
from driftloop.protocol import life_events
from driftloop.protocol.bodies import documented
from driftloop.protocol.http import in_path

router = APIRouter(responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503), tags=["units"])

Unit = Annotated[str, Path(min_length=1, max_length=200, examples=["engine-7"])]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, examples=[12])]


class LifeEvent(life_events.LifeEvent, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What has happened to a unit, by default now."""

    time: Annotated[str, Meta(max_length=40)] | None = None


class NewName(msgspec.Struct, forbid_unknown_fields=True):
    """What a unit is to be called."""

    name: Annotated[str, Meta(max_length=200)]


async def _hand_on(request: Request, fleet: str, method: str, unit: str, path: str, body: Any) -> dict[str, Any]:
    """Have the service that keeps units do it, for whoever asks."""
    content, who = b"" if body is None else msgspec.json.encode(body), asker(request).name
    where = f"/units/{in_path(unit)}/{path}"
    return await run_in_threadpool(lambda: fleets_of(request).get(fleet).change_units(method, where, content, who))


@router.post(
    "/fleets/{fleet}/units/{unit}/events",
    response_model=shapes.LifeEvent,
    status_code=201,
    summary="Tell what has happened to a unit",
    openapi_extra=documented(LifeEvent, {"kind": "failed", "note": "bearing", "id": "ticket-4711"}),
)
async def tell(request: Request, fleet: Name, unit: Unit) -> Any:
    """Installed, failed, removed while healthy, or overhauled. An end closes the unit's run, which is archived; where
    it failed, every answer gets its label. The same `id` again changes nothing."""
    event = await body_of(request, LifeEvent)
    return await _hand_on(request, fleet, "POST", unit, "events", event)


@router.delete(
    "/fleets/{fleet}/units/{unit}/events/{id}",
    response_model=shapes.LifeEvent,
    summary="Take back what has not happened",
    openapi_extra=documented(Reasoned, {"reason": "it was the gauge"}, required=False),
)
async def withdraw(request: Request, fleet: Name, unit: Unit, id: Number) -> Any:
    """Withdraw a life event: its life goes on, the run that was archived is withdrawn, and what learnt from it is
    named."""
    given = await body_of(request, Reasoned)
    reason_of_act(request, given.reason)
    return await _hand_on(request, fleet, "DELETE", unit, f"events/{id}?{urlencode({'reason': given.reason})}", None)


@router.post(
    "/fleets/{fleet}/units/{unit}/rename",
    response_model=outcomes.Renamed,
    summary="Call a unit otherwise",
    openapi_extra=documented(NewName, {"name": "engine-17"}),
)
async def rename(request: Request, fleet: Name, unit: Unit) -> Any:
    """Give a unit another name, which none has yet; runs that are archived keep their ids."""
    return await _hand_on(request, fleet, "POST", unit, "rename", await body_of(request, NewName))


@router.post(
    "/fleets/{fleet}/units/{unit}/split",
    response_model=outcomes.Split,
    summary="Make two units of one name two",
    openapi_extra=documented(NewName, {"name": "engine-17-b"}),
)
async def split(request: Request, fleet: Name, unit: Unit) -> Any:
    """Make a unit of its own of the rows that contradicted those of this one."""
    return await _hand_on(request, fleet, "POST", unit, "split", await body_of(request, NewName))
