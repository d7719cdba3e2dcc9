"""The service over HTTP: rows and life events in; units, their history and what is predicted of them out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from driftloop import __version__, durable, exposition
from driftloop.access.audit import Audit
from driftloop.access.doors import LOOKING, Door
from driftloop.access.guard import Guard, asker, behind
from driftloop.access.roles import PROBES
from driftloop.errors import JsonError
from driftloop.protocol import bodies
from driftloop.protocol import problems as forms
from driftloop.protocol.problems import Problem, refusal
from driftloop.protocol.roles import Role
from driftloop.protocol.unit_list import Order, Sort, State
from driftloop.settings import Settings, load
from driftloop.units import changing, life_events, problems, telemetry, views
from driftloop.units.metrics import Metrics
from driftloop.units.rows import CSV, JSON, LINES, name_of
from driftloop.units.service import Service
from driftloop.units.telemetry import Manner
from driftloop.units.views import MOST_STEPS

if TYPE_CHECKING:
    from driftloop.units.streams import Streams

EventNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="of a life event; no database has larger ones")]
MAX_SMALL_BODY = 64 * 1024
_LONG_BODY = 64 * 1024
_encode = msgspec.json.Encoder().encode
_RESPONSES: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 409, 413, 415, 422, 503), problems.RESPONSE)
_EVENT = bodies.documented(life_events.PostedEvent, {"kind": "failed", "note": "bearing", "id": "ticket-4711"})
_NAME = bodies.documented(changing.PostedName, {"name": "engine-17"})


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application of one fleet."""
    service = Service(settings or load())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        streams = _streams(service)
        if streams is not None:
            streams.start()
        try:
            yield
        finally:
            if streams is not None:
                await run_in_threadpool(streams.stop)
            await run_in_threadpool(service.stop)

    app = FastAPI(
        title="driftloop units", version=__version__, summary="The fleet in service.", lifespan=lifespan,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.service = service
    problems.handle(app)
    config = service.settings
    door = Door(config)
    _add_telemetry(app, service, door)
    _add_units(app, service)
    _add_answers(app, service)
    _add_changes(app, service)
    _add_status(app, service)
    audit = Audit(config.access_folder, "units")
    app.add_middleware(Guard, door=door, audit=audit, needs=needs, refuse=_refuse)
    return app


def _streams(service: Service) -> "Streams | None":
    """The streams, where a broker is named; their packages are loaded for nobody else."""
    if not service.settings.units_stream:
        return None
    from driftloop.units.streams import Streams

    service.streams = streams = Streams(service)
    return streams


def needs(method: str, path: str) -> Role | None:
    """The role that each request needs: nothing for what probes and Prometheus ask. A gateway that sends rows needs to
    be no more than one who predicts."""
    if path in PROBES:
        return None
    if path == "/telemetry":
        return "predict"
    if method in LOOKING:
        return "view"
    return "admin" if method == "DELETE" and "/events/" not in path else "operate"


def _refuse(status: int, field: str, what: str, headers: dict[str, str]) -> Response:
    answer = problems.content(status, [Problem(field, what)])
    answer.headers.update(headers)
    return answer


def _check_sender(request: Request, door: Door) -> None:
    """Refuse rows of whom nothing but this machine vouches for, where there are credentials: rows can end a life."""
    if asker(request).how == "loopback" and door.credentials:
        raise refusal(401, "Authorization", "must be `Bearer ` and a token of the role predict")


async def _body(request: Request, limit: int) -> bytes:
    body = await bodies.read(request, limit)
    if body is None:
        raise refusal(413, "body", f"has more than {limit} bytes")
    return body


async def _posted(request: Request, kind: Any) -> Any:
    try:
        return durable.decode_json(await _body(request, MAX_SMALL_BODY) or b"{}", kind)
    except JsonError as error:
        raise forms.of_json(error) from error


def _json(value: Any, status: int = 200) -> Response:
    return Response(_encode(value), status, media_type=JSON)


def _add_telemetry(app: FastAPI, service: Service, door: Door) -> None:
    @app.post(
        "/telemetry",
        summary="Keep rows; each says what became of it, and is on disk",
        responses=_RESPONSES,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {"schema": {"type": ["object", "array"]}},
                    LINES: {"schema": {"type": "string"}},
                    CSV: {"schema": {"type": "string"}},
                },
            }
        },
    )
    async def telemetry_(
        request: Request,
        backfill: Annotated[bool, Query(description="rows of the past, which are no traffic")] = False,
        jump: Annotated[bool, Query(description="keep rows whose time is far off, too")] = False,
    ) -> Response:
        _check_sender(request, door)
        body, kind = await _body(request, service.settings.units_body_bytes), request.headers.get("content-type", "")
        if len(body) <= _LONG_BODY:
            rows = service.reader.read(body, kind)
        else:
            rows = await run_in_threadpool(service.reader.read, body, kind)
        taken = await asyncio.wrap_future(service.committer.submit(service.take(rows, Manner(backfill, jump))))
        service.count(taken)
        return _taken(taken)


def _taken(taken: telemetry.Taken) -> Response:
    """200 where a row was kept or known, 409 or 422 where every one was refused."""
    shown = taken.shown()
    if not taken.problems or len(taken.problems) < len(taken.results):
        return _json(shown)
    status = 409 if all("stored" in problem for problem in taken.problems) else 422
    said = [Problem(f"rows[{one['row']}].{one['field']}", str(one["message"])) for one in taken.problems[:20]]
    return problems.content(status, said, shown)


def _add_units(app: FastAPI, service: Service) -> None:
    @app.get("/units", responses=_RESPONSES)
    def units(
        sort: Sort = "low",
        order: Order = "asc",
        q: Annotated[str, Query(description="part of a name")] = "",
        flag: Annotated[str, Query(description="or a kind of flags, such as held")] = "",
        state: State = "running",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """The units, a page at a time."""
        page = views.listed(
            service.keeper, sort=sort, order=order, q=q, flag=flag, state=state, offset=offset, limit=limit
        )
        return _json(page)

    @app.get("/units/{unit}", responses=_RESPONSES)
    def unit(
        unit: str,
        life: Annotated[int | None, Query(ge=1, description="by default the newest")] = None,
        steps: Annotated[int, Query(ge=1, le=MOST_STEPS)] = 500,
    ) -> Response:
        """One unit: its newest steps, what was predicted, its life events."""
        return _json(views.unit(service.keeper, unit, life_number=life, steps=steps))

    @app.get("/units/{unit}/window", responses=_RESPONSES)
    def window(unit: str) -> Response:
        """The newest steps of a unit that were sent to the server, as many as its model looks at, oldest first."""
        if not service.predictor.window:
            raise refusal(503, "server", str(service.predictor.problem))
        return _json(views.window(service.keeper, unit, service.predictor.window))


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.get("/predictions", responses=_RESPONSES)
    def predictions(
        after: Annotated[int, Query(ge=0, le=2**62, description="`next` of the page before; 0: from the oldest")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    ) -> Response:
        """Answers of all units in the order in which they were made, a page at a time: what streams tell."""
        with service.store.read() as connection:
            found = views.answers_after(connection, after, limit)
        if not found:
            views.check_place(service.keeper, after)
        return _json({"predictions": [one for _, one in found], "next": found[-1][0] if found else after})


def _add_changes(app: FastAPI, service: Service) -> None:
    @app.post("/units/{unit}/events", responses=_RESPONSES, status_code=201, openapi_extra=_EVENT)
    async def post_event(unit: str, request: Request) -> Response:
        """Tell of an installation, a failure, a removal or an overhaul."""
        event = await _posted(request, life_events.PostedEvent)
        name, actor = name_of(unit), behind(request)
        done = await run_in_threadpool(
            service.change,
            lambda connection: life_events.post(connection, service.keeper, name, event, actor, service.clock()),
        )
        return _json(done, 201)

    @app.delete("/units/{unit}/events/{number}", responses=_RESPONSES)
    async def withdraw_event(unit: str, number: EventNumber, request: Request, reason: str = "") -> Response:
        """Take a wrong event back; what learnt from it is named where the retrainer answers at once."""
        actor = behind(request)

        def act() -> dict[str, Any]:
            done = service.change(
                lambda connection: life_events.withdraw(
                    connection, service.keeper, unit, number, reason[:500], actor, service.clock()
                )
            )
            service.deliver_now()
            found = views.life_events_of(service.keeper, unit)
            return next((one for one in found if one["id"] == number), done)

        return _json(await run_in_threadpool(act))

    @app.post("/units/{unit}/rename", responses=_RESPONSES, openapi_extra=_NAME)
    async def rename(unit: str, request: Request) -> Response:
        """Call a unit otherwise."""
        posted = await _posted(request, changing.PostedName)
        return _json(
            await run_in_threadpool(
                service.change, lambda connection: changing.rename(connection, service.keeper, unit, posted.name)
            )
        )

    @app.post("/units/{unit}/split", responses=_RESPONSES, openapi_extra=_NAME)
    async def split(unit: str, request: Request) -> Response:
        """Make a unit of its own of the rows that contradicted this one's."""
        posted = await _posted(request, changing.PostedName)
        return _json(
            await run_in_threadpool(
                service.change,
                lambda connection: changing.split(connection, service.keeper, unit, posted.name, service.clock()),
            )
        )

    @app.delete("/units/{unit}", responses=_RESPONSES)
    async def erase(unit: str, reason: str = "") -> Response:
        """Delete everything of a unit, and take its archived runs back."""
        return _json(
            await run_in_threadpool(
                service.change, lambda connection: changing.erase(connection, service.keeper, unit, reason[:500])
            )
        )


def _add_status(app: FastAPI, service: Service) -> None:
    metrics = Metrics(service)

    @app.get("/status")
    def status() -> Response:
        """How it stands."""
        return _json(service.status())

    @app.get("/metrics", response_class=Response)
    def metrics_() -> Response:
        """For Prometheus."""
        return Response(metrics.exposition(), headers={"Content-Type": exposition.CONTENT_TYPE})

    @app.get("/healthz", responses=_RESPONSES)
    def healthz() -> Response:
        """Whether the process works."""
        if not service.alive:
            raise refusal(503, "service", "a thread of it has ended; see its log")
        return _json({"status": "ok"})

    @app.get("/readyz", responses=_RESPONSES)
    def readyz() -> Response:
        """Whether rows are taken; they are also while the prediction server is away."""
        if not service.alive:
            raise refusal(503, "service", "is not taking rows")
        return _json({"status": "ready"})
