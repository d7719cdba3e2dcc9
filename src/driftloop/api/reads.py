"""What one may look at: GET, for everybody with the role `view`."""

import itertools
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from driftloop import __version__
from driftloop.access.guard import of_scope
from driftloop.api import loop_view, models_view, platform_view, shapes, stream
from driftloop.api import units as in_service
from driftloop.api.fleets import Fleet, Fleets, in_registry
from driftloop.api.problems import Problem, responses
from driftloop.fleet import names
from driftloop.fleet.schema import Schema
from driftloop.model.registry import PRODUCTION, Version
from driftloop.protocol.events import Event
from driftloop.protocol.unit_list import Order, Sort, State

router = APIRouter(responses=responses(401, 403, 422, 429))

Name = Annotated[str, Path(description="name of a fleet", max_length=40, examples=["cmapss"])]
Offset = Annotated[int, Query(ge=0, le=10**7, description="where the page begins")]
Limit = Annotated[int, Query(ge=1, le=1000, description="the most that a page holds")]
Text = Annotated[str, Query(max_length=200, description="text that is looked for")]
Number = Annotated[int, Query(ge=0, le=2**53)]
_FLEET = responses(404, 503)
_RECENT_VERDICTS = 50


def fleets_of(request: Request) -> Fleets:
    """The fleets of the application."""
    found: Fleets = request.app.state.fleets
    return found


@router.get("/platform", response_model=shapes.Platform, summary="Processes, version and fleets", tags=["platform"])
def platform(request: Request) -> Any:
    """Every process with its state, memory and address; where no supervisor runs, as far as each answers."""
    fleets = fleets_of(request)
    known = fleets.all()
    started, found = platform_view.components(fleets.base, known)
    return {
        "version": __version__,
        "started": started,
        "components": found,
        "fleets": list(known),
        "telemetry": next((one["address"] for one in found if one["name"].rpartition("/")[2] == "units"), None),
    }


@router.get("/fleets", response_model=shapes.FleetList, summary="All fleets at a glance", tags=["fleets"])
def fleets(request: Request) -> Any:
    """State of the loop, version in production, units seen and the one that is due first."""
    return {"fleets": [_at_a_glance(fleet) for fleet in fleets_of(request).all().values()]}


@router.get(
    "/fleets/{fleet}", response_model=shapes.FleetInWhole, responses=_FLEET, summary="One fleet", tags=["fleets"]
)
def fleet(request: Request, fleet: Name) -> Any:
    """A fleet at a glance, and what its rows are."""
    found = fleets_of(request).get(fleet)
    schema = found.settings.schema
    columns = {
        kind: [{"name": c.name, "unit": c.unit, "description": c.description} for c in channels]
        for kind, channels in (("settings", schema.settings), ("sensors", schema.sensors))
    }
    cap = None if schema.cap == "auto" else schema.cap
    return {**_at_a_glance(found), **columns, "cap": cap, "least_units": dict(schema.least)}


def _columns(schema: Schema) -> str:
    """How many settings and sensors a row has, in words; no settings are not told of."""
    counts = ((schema.n_settings, "setting"), (schema.n_sensors, "sensor"))
    return " and ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count)


def _at_a_glance(fleet: Fleet) -> dict[str, Any]:
    schema, answered, status = fleet.settings.schema, fleet.model(), fleet.tail.state
    count, first_due, kept = in_service.at_a_glance(fleet)
    model = answered or {}
    stub = bool(model.get("stub", True))
    works = {"server": answered is not None, "retrainer": status is not None, "units": kept}
    metadata = model.get("metadata") or {}
    return {
        "name": fleet.name,
        "description": f"{_columns(schema)} for each {schema.step} of {names.one(schema.unit)}",
        "unit": schema.unit,
        "step": schema.step,
        "state": (status or {}).get("state") or loop_view.UNKNOWN,
        "waits_for": loop_view.waits_for(status or {}),
        "champion": None if stub else str(model["model_version"]),
        "provisional": metadata.get("training") == "first_aid",
        "verdict": fleet.tail.verdict or loop_view.UNKNOWN,
        "units": count,
        "first_due": first_due,
        "served": model.get("model_version"),
        "refused": model.get("refused"),
        "away": [part for part, well in {**works, "watch": not fleet.tail.silent}.items() if not well],
    }


@router.get(
    "/fleets/{fleet}/units", response_model=shapes.UnitList, responses=_FLEET, summary="Units seen", tags=["units"]
)
def units(
    request: Request,
    fleet: Name,
    sort: Sort = "low",
    order: Order = "asc",
    q: Text = "",
    flag: Annotated[str, Query(max_length=100, description="only units with this flag, or with one of this kind")] = "",
    state: Annotated[State, Query(description="where rows are kept: what has become of the unit")] = "running",
    offset: Offset = 0,
    limit: Limit = 100,
) -> Any:
    """The newest answer of every unit that the servers remember, by default the one that is due first at the top."""
    found = fleets_of(request).get(fleet)
    return in_service.listed(found, sort=sort, order=order, q=q, flag=flag, state=state, offset=offset, limit=limit)


@router.get(
    "/fleets/{fleet}/units/{unit:path}",
    response_model=shapes.UnitInWhole,
    responses=_FLEET,
    summary="One unit",
    tags=["units"],
)
def unit(
    request: Request,
    fleet: Name,
    unit: Annotated[str, Path(max_length=200, examples=["engine-7"])],
    life: Annotated[int | None, Query(ge=1, le=10**9, description="where rows are kept: an earlier life of it")] = None,
) -> Any:
    """Its predictions over time, and its newest readings with the band of their regime."""
    return in_service.one(fleets_of(request).get(fleet), unit, life)


@router.get(
    "/fleets/{fleet}/loop", response_model=shapes.Loop, responses=_FLEET, summary="Where the loop is", tags=["loop"]
)
def loop(request: Request, fleet: Name) -> Any:
    """State, what it waits for, the marks of the present or last recovery, and how true answers have been."""
    found = fleets_of(request).get(fleet)
    status = found.ask("/status")
    events = found.ask("/events/search", kind=list(loop_view.KINDS), limit=500)["events"]
    return loop_view.loop(status, events)


@router.get(
    "/fleets/{fleet}/verdict",
    response_model=shapes.Verdict,
    responses=_FLEET,
    summary="What the watch says of the traffic",
    tags=["loop"],
)
def verdict(request: Request, fleet: Name) -> Any:
    """The newest verdict, the worst features against their thresholds, and who is blamed."""
    found = fleets_of(request).get(fleet)
    said: list[Event] = found.ask("/events/search", kind="verdict", limit=_RECENT_VERDICTS)["events"]
    same = list(itertools.takewhile(lambda event: event.get("verdict") == said[0].get("verdict"), said))
    newest, began = (said[0], same[-1]["time"]) if said else (None, None)
    shown = loop_view.verdict(newest, began, found.ask("/status").get("promise"))
    return {**shown, "as_of": newest and newest["time"], "silent": found.tail.silent}


@router.get(
    "/fleets/{fleet}/models",
    response_model=shapes.ModelList,
    responses=_FLEET,
    summary="All versions of the model",
    tags=["models"],
)
def models(request: Request, fleet: Name, offset: Offset = 0, limit: Limit = 100) -> Any:
    """The newest first, with lineage, figures and how each was decided."""
    found = fleets_of(request).get(fleet)
    versions: list[Version] = in_registry(found, lambda registry: registry.versions())[::-1]
    aliases: dict[str, str] = in_registry(found, lambda registry: registry.aliases())
    page = versions[offset : offset + limit]
    return {
        "total": len(versions),
        "models": [models_view.model(one, aliases, _figures(found, one)) for one in page],
    }


@router.get(
    "/fleets/{fleet}/models/{version}",
    response_model=shapes.ModelInWhole,
    responses=_FLEET,
    summary="One version",
    tags=["models"],
)
def model(
    request: Request,
    fleet: Name,
    version: Annotated[str, Path(pattern=r"^(production|[1-9][0-9]{0,17})$", examples=["production"])],
) -> Any:
    """A version, by its number or as `production`, with how it was judged."""
    found = fleets_of(request).get(fleet)
    aliases: dict[str, str] = in_registry(found, lambda registry: registry.aliases())
    if version == PRODUCTION:
        if PRODUCTION not in aliases:
            raise Problem(404, "version", "nothing is in production")
        version = aliases[PRODUCTION]
    which: Version = in_registry(found, lambda registry: registry.version(version))
    events: list[Event] = found.ask("/events/search", kind=["gate_decided", "shadow_ended"], limit=500)["events"]
    runs = which.tags.get("engines", "")
    return {
        **models_view.model(which, aliases, _figures(found, which)),
        **models_view.judged(version, events, found.settings.old_tolerance),
        "learnt_from": {"runs": int(runs) if runs.isdigit() else None},
    }


def _figures(fleet: Fleet, version: Version) -> dict[str, float]:
    return {} if version.run_id is None else fleet.figures(version.run_id)


@router.get(
    "/fleets/{fleet}/runs",
    response_model=shapes.RunList,
    responses=_FLEET,
    summary="Completed runs in the archive",
    tags=["runs"],
)
def runs(
    request: Request,
    fleet: Name,
    role: Annotated[str, Query(max_length=40)] = "",
    q: Text = "",
    offset: Offset = 0,
    limit: Limit = 100,
) -> Any:
    """Which runs there are, what each is for, which were taken back, and what was turned away lately."""
    found = fleets_of(request).get(fleet)
    known: list[dict[str, Any]] = found.ask("/archive/runs")["runs"]
    gone = {one["run_id"]: one for one in found.ask("/archive/withdrawn")["runs"]}
    turned_away: list[Event] = found.ask("/events/search", kind="runs_refused", limit=50)["events"]
    names = {one["run_id"] for one in known}
    everything = [*known, *({"run_id": name, "role": ""} for name in gone if name not in names)]
    wanted = [
        one for one in everything if (not role or one["role"] == role) and q.casefold() in one["run_id"].casefold()
    ]
    return {
        "total": len(wanted),
        "roles": Counter(one["role"] for one in known),
        "runs": [_run(one, gone.get(one["run_id"])) for one in wanted[offset : offset + limit]],
        "refused": [{"time": e["time"], "count": e["count"], "runs": e.get("runs", [])} for e in turned_away],
    }


def _run(one: dict[str, Any], gone: dict[str, Any] | None) -> dict[str, Any]:
    withdrawn = None if gone is None else {"time": gone["time"], "reason": gone["reason"]}
    return {**one, "rows": one.get("rows"), "censored": one.get("censored"), "withdrawn": withdrawn}


@router.get(
    "/fleets/{fleet}/events", response_model=shapes.EventList, responses=_FLEET, summary="The log", tags=["events"]
)
def events(
    request: Request,
    fleet: Name,
    after: Number = 0,
    before: Number = 0,
    q: Text = "",
    event: Annotated[
        list[str] | None,
        Query(max_length=64, description="kinds of events; with `-` before it, all but this", examples=[["-verdict"]]),
    ] = None,
    limit: Limit = 100,
) -> Any:
    """What the loop saw and decided, the newest first; older ones with `before`."""
    asked = {"after": after, "before": before, "q": q, "limit": limit, **({"kind": event} if event else {})}
    found = [loop_view.public(one) for one in fleets_of(request).get(fleet).ask("/events/search", **asked)["events"]]
    return {
        "events": found,
        "first": found[-1]["seq"] if found else None,
        "last": found[0]["seq"] if found else None,
    }


@router.get(
    "/events/stream",
    summary="Everything that happens, as it happens",
    tags=["events"],
    response_class=StreamingResponse,
    responses={200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}, **_FLEET},
)
def events_stream(
    request: Request,
    fleet: Annotated[str, Query(max_length=40, description="only this fleet")] = "",
    last_event_id: Annotated[str, Header(max_length=2000)] = "",
    after: Annotated[str, Query(max_length=2000, description="an id, where the header cannot be set")] = "",
) -> StreamingResponse:
    """Server-sent events: `event` for each event of the log, `state` when loop or verdict have changed. With the last
    id, which a browser sends by itself, it goes on behind it and misses nothing."""
    fleets = fleets_of(request)
    chosen = {fleet: fleets.get(fleet)} if fleet else fleets.all()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    door, asking = request.app.state.door, of_scope(request.scope)
    content = stream.follow(chosen, last_event_id or after, lambda: door.admits(asking, "view"))
    return StreamingResponse(content, media_type="text/event-stream", headers=headers)
