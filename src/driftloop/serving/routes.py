"""The routes: predictions, and what a platform asks of a server."""

import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from driftloop import exposition
from driftloop.access.guard import Needs
from driftloop.access.roles import PROBES
from driftloop.fleet.schema import Channel, Schema
from driftloop.model.bundle import Metadata
from driftloop.model.follower import RefusedVersion
from driftloop.protocol import answers as sent_answers
from driftloop.protocol import windows as sent_windows
from driftloop.protocol.problems import Problem, Refusal, RequestRefused
from driftloop.protocol.roles import Role
from driftloop.serving import bodies, metrics, openapi
from driftloop.serving.bands import bands
from driftloop.serving.batching import Batcher, Overloaded
from driftloop.serving.engine import Slot
from driftloop.serving.explaining import explanation
from driftloop.serving.follow import Follower
from driftloop.serving.recent import Recent
from driftloop.serving.requests import BatchAnswer, Limits, Prediction, Window, numbered
from driftloop.serving.ring import Ring

log = logging.getLogger(__name__)

PREDICT = "/predict"
VERSION_KEY = "driftloop.model_version"
"""Where a request's scope keeps the version that answered it."""
_LONG_BODY = 64 * 1024
_NOT_SHOWN = frozenset({"manifest", "example", "fleet", "rehearsal"})
"""Of a model's metadata: long, or shown elsewhere."""
_WINDOWS_A_PAGE = 64
"""Of 256 rows of 24 columns 1.5 MiB."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Parts:
    """What the routes work with."""

    slot: Slot
    batcher: Batcher[Window, Prediction]
    metrics: metrics.Metrics
    limits: Limits
    follower: Follower
    ring: Ring
    recent: Recent


class Health(msgspec.Struct):
    """The process answers."""

    status: str


class Refused(msgspec.Struct):
    """A production version that is not served: `kind` is `unusable` or `other_fleet`."""

    version: str
    kind: str
    reason: str


class Readiness(msgspec.Struct, omit_defaults=True):
    """Predictions are answered, by this model version; `refused` where another one is in production."""

    ready: bool
    model_version: str
    refused: Refused | None = None


class ColumnInfo(msgspec.Struct):
    """One column of a row: a setting or a sensor, and whether its values may be missing."""

    name: str
    kind: str
    unit: str
    description: str
    may_be_missing: bool


class FleetInfo(msgspec.Struct):
    """What a row is; `digest` tells fleets apart, `columns` are in the order of a row."""

    name: str
    digest: str
    unit: str
    step: str
    columns: list[ColumnInfo]


class ModelInfo(msgspec.Struct):
    """The model that serves; `metadata` without its training manifest and example, null for the stub.

    `refused` where another version is in production and cannot be served.
    """

    model_version: str
    loaded_at: str
    digest: str
    stub: bool
    window: int
    parent_version: str | None
    mean_life: float | None
    """Of the completed runs that it knows, in steps."""
    metadata: dict[str, Any] | None
    fleet: FleetInfo
    refused: Refused | None


class PlainRoute(APIRoute):
    """A route whose function takes the request and gives the response, with nothing in between.

    Decoding and checking is msgspec's job here (driftloop.serving.requests).
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's function itself."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


router = APIRouter(route_class=PlainRoute)
_OPENLY = frozenset({"/predict", "/explain", "/model"})


def needs(openly: bool) -> Needs:
    """The role that each request needs; `openly` predictions are for everybody who reaches the server."""

    def role(_: str, path: str) -> Role | None:
        if path in PROBES or (openly and path in _OPENLY):
            return None
        return "predict" if path in {"/predict", "/explain"} else "view"

    return role


@router.post(
    PREDICT,
    summary="Remaining useful life of one window or a batch",
    responses=openapi.refusals(400, 413, 415, 422, 503),
)
async def predict(request: Request) -> Response:
    """Answered by msgspec alone; openapi.install describes it."""
    parts: Parts = request.app.state.parts
    try:
        windows, many = await _windows(request, parts, packed=True)
        for window in windows:
            if window.request_id is None:
                window.request_id = os.urandom(8).hex()
        predictions = await parts.batcher.ask(windows)
    except RequestRefused as error:
        return refusal(error.status, error.problems)
    except Overloaded as error:
        return refusal(503, [Problem("server", str(error))])
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:
        # Logged with its traceback where it happened.
        return refusal(503, [Problem("server", "the model could not answer")])
    version = predictions[0].model_version
    request.scope[VERSION_KEY] = version
    answer = BatchAnswer(predictions, version) if many else predictions[0]
    return Response(_encode(answer), media_type="application/json")


@router.post(
    "/explain",
    summary="What drives the prediction of one window",
    responses=openapi.refusals(400, 413, 415, 422, 503),
)
async def explain(request: Request) -> Response:
    """By how many steps each sensor moves the RUL; openapi.install describes it."""
    parts: Parts = request.app.state.parts
    try:
        windows, many = await _windows(request, parts)
        if many:
            return refusal(422, [Problem("windows", "is a batch; one window is explained at a time: send its rows")])
        found = await run_in_threadpool(explanation, parts.slot.engine, windows[0].rows)
    except RequestRefused as error:
        return refusal(error.status, error.problems)
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:
        log.exception("a window could not be explained")
        return refusal(503, [Problem("server", "the model could not answer")])
    request.scope[VERSION_KEY] = found.model_version
    return _json(found)


@router.get("/healthz", summary="Whether the process answers", responses={200: openapi.documents("Health")})
async def healthz(_: Request) -> Response:
    """Says nothing about the model; see /readyz."""
    return _json(Health("ok"))


@router.get(
    "/readyz",
    summary="Whether predictions are answered",
    responses={200: openapi.documents("Readiness"), **openapi.refusals(503)},
)
async def readyz(request: Request) -> Response:
    """Ready as soon as a model is served, or the stub where none is in production."""
    parts: Parts = request.app.state.parts
    if not parts.batcher.alive:
        return refusal(503, [Problem("server", "is not answering predictions")])
    problem = parts.follower.production.problem
    if problem is not None:
        return refusal(503, [Problem("model", problem)])
    return _json(Readiness(True, parts.slot.engine.version, _refused(parts)))


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    responses={200: {"description": "Counted over all workers.", "content": {"text/plain": {}}}},
)
async def metrics_(request: Request) -> Response:
    """Requests, latency, predictions, and traffic on the bins of the model's baseline."""
    parts: Parts = request.app.state.parts
    return Response(await run_in_threadpool(parts.metrics.render), headers={"Content-Type": exposition.CONTENT_TYPE})


@router.get("/model", summary="The model that serves", responses={200: openapi.documents("ModelInfo")})
async def model(request: Request) -> Response:
    """Version, digest and where the model comes from."""
    parts: Parts = request.app.state.parts
    parts.follower.hurry()
    engine = parts.slot.engine
    metadata: Metadata | None = engine.metadata
    shown = None
    if metadata is not None:
        shown = {k: v for k, v in msgspec.to_builtins(metadata).items() if k not in _NOT_SHOWN}
    return _json(
        ModelInfo(
            model_version=engine.version,
            loaded_at=engine.loaded_at,
            digest=engine.digest,
            stub=metadata is None,
            window=engine.window,
            parent_version=metadata.parent_version if metadata else None,
            mean_life=_mean_life(metadata) if metadata else None,
            metadata=shown,
            fleet=fleet_info(engine.reader.form.schema),
            refused=_refused(parts),
        )
    )


@router.get(sent_windows.PATH, include_in_schema=False)
async def windows_(request: Request) -> Response:
    """The newest whole window of each unit that this process remembers, a page at a time."""
    parts: Parts = request.app.state.parts
    found, after = await run_in_threadpool(parts.ring.windows, request.query_params.get("after", ""), _WINDOWS_A_PAGE)
    schema = parts.slot.engine.reader.form.schema
    page = sent_windows.Page(schema.digest, schema.n_columns, [sent_windows.sent(one) for one in found], after)
    return Response(sent_windows.encode(page), media_type=sent_windows.CONTENT_TYPE)


@router.get(sent_answers.PATH, include_in_schema=False)
async def answers_(request: Request) -> Response:
    """The newest answer of each unit that this process remembers, or with `unit` all that it remembers of one, with
    `explained` what drives its newest answer too."""
    parts: Parts = request.app.state.parts
    unit = request.query_params.get("unit")
    if unit is None:
        return _json(sent_answers.Newest(await run_in_threadpool(parts.recent.newest)))
    explained = "explained" in request.query_params
    return _json(await run_in_threadpool(_of_unit, parts, unit, explained=explained))


@router.post(sent_answers.BANDS, include_in_schema=False)
async def bands_(request: Request) -> Response:
    """The sensors of rows of one unit, each reading with the band of its row's regime; nothing is counted or kept."""
    parts: Parts = request.app.state.parts
    try:
        windows, _ = await _windows(request, parts)
    except RequestRefused as error:
        return refusal(error.status, error.problems)
    except ClientDisconnect:
        return Response(status_code=400)
    rows = np.array(windows[0].rows, dtype=np.float32)
    return _json(sent_answers.Bands(await run_in_threadpool(bands, parts.slot.engine, rows)))


def _of_unit(parts: Parts, unit: str, *, explained: bool) -> sent_answers.OfUnit:
    window, engine = parts.ring.of(unit), parts.slot.engine
    if window is None:
        return sent_answers.OfUnit(unit, parts.recent.of(unit), [])
    if window.rows.shape[1] != engine.reader.form.schema.n_columns:
        return sent_answers.OfUnit(unit, parts.recent.of(unit), [], window.step)
    drivers = explanation(engine, window.rows.tolist()) if explained else None
    return sent_answers.OfUnit(unit, parts.recent.of(unit), bands(engine, window.rows), window.step, drivers)


def refusal(status: int, problems: list[Problem], headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that is not served."""
    headers = {**(headers or {}), **({"Retry-After": "1"} if status == 503 else {})}
    return Response(_encode(Refusal(problems)), status_code=status, headers=headers, media_type="application/json")


def _json(value: msgspec.Struct) -> Response:
    return Response(_encode(value), media_type="application/json")


def _refused(parts: Parts) -> Refused | None:
    found: RefusedVersion | None = parts.follower.production.refused
    return Refused(found.version, found.kind, found.reason) if found is not None else None


def _mean_life(metadata: Metadata) -> float | None:
    lives = [entry.cycles for entry in metadata.manifest if not entry.superseded]
    return sum(lives) / len(lives) if lives else None


def fleet_info(schema: Schema) -> FleetInfo:
    """What a server says of its fleet."""
    columns = [
        ColumnInfo(channel.name, kind, channel.unit, _described(channel), channel.missing == "hold")
        for kind, channels in (("setting", schema.settings), ("sensor", schema.sensors))
        for channel in channels
    ]
    return FleetInfo(schema.name, schema.digest, schema.unit, schema.step, columns)


def _described(channel: Channel) -> str:
    """A column's description, and of one of words their numbers."""
    return "; ".join(text for text in (channel.description, numbered(channel)) if text)


async def _windows(request: Request, parts: Parts, *, packed: bool = False) -> tuple[list[Window], bool]:
    """The windows of a body, and whether it is a batch; raises RequestRefused. MessagePack is taken where `packed`."""
    reader = parts.slot.engine.reader
    body, is_msgpack = await bodies.read(request, parts.limits.max_body_bytes, msgpack=packed)
    if is_msgpack:
        return await run_in_threadpool(reader.decode_packed, body, parts.limits), True
    decode = reader.decode
    if len(body) <= _LONG_BODY:
        return decode(body, parts.limits)
    return await run_in_threadpool(decode, body, parts.limits)
