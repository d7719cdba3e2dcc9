"""The server's application: its parts put together, started and stopped."""

import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftloop import __version__, documentation, logs
from driftloop.access.audit import Audit
from driftloop.access.doors import Door
from driftloop.access.guard import Guard, plainly
from driftloop.model.follower import Source
from driftloop.model.registry import Registry
from driftloop.protocol.answers import Explanation
from driftloop.protocol.problems import Problem
from driftloop.serving import metrics, openapi
from driftloop.serving.answering import Answerer
from driftloop.serving.batching import Batcher
from driftloop.serving.engine import MOST_AT_ONCE, Slot, StubEngine
from driftloop.serving.follow import Follower
from driftloop.serving.inference_log import InferenceLog
from driftloop.serving.recent import Recent
from driftloop.serving.requests import Form, Limits
from driftloop.serving.ring import Ring
from driftloop.serving.routes import (
    PREDICT,
    VERSION_KEY,
    Health,
    ModelInfo,
    Parts,
    Readiness,
    needs,
    predict,
    refusal,
    router,
)
from driftloop.settings import Settings, load

log = logging.getLogger(__name__)

MOST_WAITING = 2048
"""Windows that may wait for the model, under a second's work; more are told to come again."""
START_PATIENCE_S = 1.0
"""How long the start waits for the registry's first answer."""
_TURN_S = 0.0005
"""Longest time for which the threads that count and log keep the interpreter's lock while the event loop wants it. A
request gives the lock up several times on its way, and at Python's 5 ms waits that long for it each time."""
_ENDPOINTS = frozenset({"/predict", "/explain", "/healthz", "/readyz", "/metrics", "/model"})


def create_app(settings: Settings | None = None, source: Source | None = None) -> FastAPI:
    """The application; `source` stands in for the registry that the settings name."""
    settings = settings or load()
    folder = metrics.multiprocess_dir()
    if folder is not None:
        metrics.forget_dead_workers(folder)
    schema = settings.schema
    slot, counted = Slot(StubEngine(schema)), metrics.Metrics(schema, multiprocess_dir=folder)
    counted.serving(slot.engine)
    inference_log = InferenceLog(
        settings.state_dir / "inference",
        most_bytes=settings.inference_log_bytes,
        files=settings.inference_log_files,
        dropped=counted.log_dropped,
        failed=counted.log_failed,
    )
    ring = Ring(units=settings.ring_units, rows=settings.ring_rows, most_bytes=settings.ring_bytes)
    recent = Recent()
    answerer = Answerer(slot, counted, inference_log, ring, recent)
    limits = Limits(settings.max_batch, settings.max_cycles, settings.max_body_bytes)
    source = source or Registry(settings.mlflow_url, settings.model)
    bundles = settings.state_dir / "serving" / "bundles"
    follower = Follower(source, slot, counted, bundles, settings.follow_interval_s, schema)
    batcher = Batcher(answerer, most_at_once=MOST_AT_ONCE, most_waiting=MOST_WAITING)
    parts = Parts(slot, batcher, counted, limits, follower, ring, recent)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        turn_s = sys.getswitchinterval()
        sys.setswitchinterval(_TURN_S)
        counted.start()
        inference_log.start()
        ring.start()
        recent.start()
        parts.batcher.start()
        await run_in_threadpool(follower.start, START_PATIENCE_S)
        # What is there now stays. Each search for garbage among it stopped every request for some 60 ms, at 4,000
        # requests/s so often that one of a hundred waited for it.
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
        # In the order of the flow, so that the last answers are still counted and logged.
        await run_in_threadpool(follower.stop)
        await parts.batcher.stop()
        await run_in_threadpool(inference_log.stop)
        await run_in_threadpool(ring.stop)
        await run_in_threadpool(recent.stop)
        await run_in_threadpool(counted.stop)
        sys.setswitchinterval(turn_s)

    app = FastAPI(
        title="driftloop",
        version=__version__,
        description=openapi.described(schema),
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        exception_handlers={HTTPException: _refuse, Exception: _failed},
        # Looked for with every request, where the package is installed; nothing here is set up for it.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.parts = parts
    app.include_router(router)
    app.router.routes += documentation.routes("/docs")
    app.add_middleware(Shortcut)
    app.add_middleware(
        Guard,
        door=Door(settings),
        audit=Audit(settings.access_folder, "server"),
        needs=needs(settings.predict_openly),
        refuse=plainly,
    )
    app.add_middleware(Observed, parts=parts)
    if settings.log_format == "json":
        app.add_middleware(logs.Requests)
    openapi.install(app, limits, Form(schema), Health, Readiness, ModelInfo, Explanation)
    return app


class Shortcut:
    """Answers predictions without a search for their route, which takes a fifth of an answer's CPU; behind the door, as
    the routes are. Everything else goes on to these, `/predict` by another method too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST":
            response = await predict(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Observed:
    """Counts and times every request, with the model version that answered it."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app, self._parts = app, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note the status of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # Answered like GET; the HTTP server leaves the body away.
            scope = {**scope, "method": "GET"}
        started, status = perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            endpoint = scope["path"] if scope["path"] in _ENDPOINTS else "other"
            version = scope.get(VERSION_KEY) or self._parts.slot.engine.version
            logs.note(scope, model_version=version)
            self._parts.metrics.requested(version, endpoint, status, perf_counter() - started)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    field = {404: "path", 405: "method"}.get(error.status_code, "request")
    return refusal(error.status_code, [Problem(field, str(error.detail))], dict(error.headers or {}))


async def _failed(_: Request, __: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn writes the traceback.
    return refusal(500, [Problem("server", "failed; its log says how")])
