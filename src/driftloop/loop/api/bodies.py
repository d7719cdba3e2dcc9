"""The bodies of the retrainer's requests: read with a bound, decoded once, refused with the name of the field."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from driftloop import durable
from driftloop.errors import DataError, DriftloopError, ExitCode, JsonError, RegistryUnavailable
from driftloop.fleet.objects import RUN_ID, check_run
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.loop.asking import Word
from driftloop.loop.by_hand import Busy, Late, Unknown
from driftloop.loop.schedules import Act
from driftloop.loop.store import StoreUnavailable
from driftloop.protocol import bodies, problems
from driftloop.protocol.problems import Problem, RequestRefused, refusal
from driftloop.training.modes import Mode

MAX_SMALL_BODY = 256 * 1024
"""Bytes of every body but an archive's."""
MAX_RUNS = 1000
"""Runs in one call."""
MAX_OUTCOMES = 1000
"""Outcomes in one call."""

_KIND = re.compile(r"[a-z][a-z_]{0,63}")
_TEXTS = ("cause", "id", "run", "model_version")
_LONGEST = 500
_Reason = Annotated[str, msgspec.Meta(max_length=_LONGEST)]

T = TypeVar("T")


class _PostedRun(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A run: its id, and how it ended."""

    run_id: str
    censored: bool = False
    """The unit was taken out before it failed."""
    confirmed: bool = False
    """Somebody knows that the unit failed, whatever its rows look like."""


class PostedRun(_PostedRun, forbid_unknown_fields=True, kw_only=True):
    """A completed run: its id, and its rows, first step first."""

    rows: list[list[float]]


class PostedGappyRun(_PostedRun, forbid_unknown_fields=True, kw_only=True):
    """A completed run whose values may be missing (null)."""

    rows: list[list[float | None]]


class PostedRuns(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /archive/runs."""

    runs: Annotated[list[PostedRun], msgspec.Meta(min_length=1, max_length=MAX_RUNS)]
    only_check: bool = False
    """Say what would be refused, and archive nothing."""


class PostedGappyRuns(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /archive/runs for a fleet whose values may be missing."""

    runs: Annotated[list[PostedGappyRun], msgspec.Meta(min_length=1, max_length=MAX_RUNS)]
    only_check: bool = False


class PostedUnits(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /archive/roles: units whose roles must be known before their runs are archived."""

    run_ids: Annotated[
        list[Annotated[str, msgspec.Meta(pattern=RUN_ID)]], msgspec.Meta(min_length=1, max_length=10_000)
    ]
    least: dict[str, Annotated[int, msgspec.Meta(ge=0)]] = {}
    """Least units in a role, where the fleet's numbers do not do."""


class PostedWithdrawal(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /archive/withdraw: runs by id or by the SHA-256 of their rows, and why."""

    runs: list[str] = []
    sha256: list[str] = []
    reason: _Reason = ""


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Cycles = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
_VERSION, _SCHEDULE = "^[1-9][0-9]{0,17}$", "^[a-z0-9][a-z0-9_.-]{0,63}$"
_CAUSE = "^[a-z_-]{1,40}(:[0-9A-Za-z_.:-]{1,100})?$"
_IN_WORDS = {
    _VERSION: "must be the number of a version",
    _SCHEDULE: "must be a name of lower-case letters, digits and . _ -, at most 64",
    _CAUSE: "must be a cause, such as fleet_change:3, or a kind of causes",
}
"""What msgspec says of a text that does not match, for people."""
_Version = Annotated[str, msgspec.Meta(pattern=_VERSION)]


class AnsweredPrediction(msgspec.Struct):
    """What POST /predict answered; its other fields are passed over."""

    model_version: _Version
    rul: _Cycles
    lower: _Cycles
    upper: _Cycles
    request_id: _Name | None = None
    engine_id: _Name | None = None
    cycle: int | None = None


class PostedOutcome(msgspec.Struct, forbid_unknown_fields=True):
    """The true RUL at one prediction: the answer itself, or else its request id, or engine and cycle."""

    true_rul: _Cycles
    prediction: AnsweredPrediction | None = None
    engine_id: _Name | None = None
    cycle: int | None = None
    request_id: _Name | None = None


class PostedFeedback(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /feedback."""

    outcomes: Annotated[list[PostedOutcome], msgspec.Meta(min_length=1, max_length=MAX_OUTCOMES)]


class RetrainRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /retrain."""

    mode: Mode = "warm_start"


class PromoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /promote."""

    version: _Version
    reason: _Reason = ""
    from_version: _Version | None = None
    """What the asker saw in production: the promotion is refused where that is another one by now."""


class PostedAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /approvals/{question}."""

    answer: Word
    reason: _Reason = ""


class PostedSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /schedules."""

    name: Annotated[str, msgspec.Meta(pattern=_SCHEDULE)]
    act: Act
    every_s: Annotated[float, msgspec.Meta(ge=1, le=366 * 86_400)] | None = None
    cron: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    mode: Mode = "warm_start"
    days: Annotated[float, msgspec.Meta(gt=0, le=3660)] | None = None
    above: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None


class PostedMute(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /mute: a cause, or a kind of causes, and for how long, in seconds or until a time."""

    cause: Annotated[str, msgspec.Meta(pattern=_CAUSE)]
    for_s: Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400)] | None = None
    until: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    reason: _Reason = ""

    def seconds(self, now: str) -> float:
        """For how long from now; raises RequestRefused."""
        if (self.for_s is None) == (self.until is None):
            raise refusal(422, "for_s", "either for_s or until is needed")
        if self.for_s is not None:
            return self.for_s
        try:
            left = (durable.parse_time(self.until or "") - durable.parse_time(now)).total_seconds()
        except (ValueError, OverflowError) as error:
            raise refusal(422, "until", "must be an RFC 3339 time with a time zone") from error
        if not 0 < left <= 366 * 86_400:
            raise refusal(422, "until", "must lie ahead, within a year")
        return left


class FirstAidRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /first-aid: an empty object."""


class RollbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /rollback."""

    from_version: _Version
    """What the asker saw in production: asked twice, a rollback happens once."""
    reason: _Reason = ""


async def read(request: Request, limit: int) -> bytes:
    """The body, but no more than `limit` bytes of it."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise refusal(413, "body", f"has {announced} bytes, {limit} are allowed")
    body = await bodies.read(request, limit)
    if body is None:
        raise refusal(413, "body", f"has more than {limit} bytes")
    return body


def decode(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; RequestRefused naming the field."""
    try:
        return durable.decode_json(body, kind)
    except JsonError as error:
        words = next((said for pattern, said in _IN_WORDS.items() if pattern in error.message), None)
        if words is not None:
            raise refusal(422, error.field, words) from error
        raise problems.of_json(error) from error


class Arrived(NamedTuple):
    """The runs of POST /archive/runs, and of which somebody says that they failed."""

    runs: list[Run]
    confirmed: frozenset[str]
    only_check: bool


def posted_runs(schema: Schema) -> type[PostedRuns] | type[PostedGappyRuns]:
    """What the body of POST /archive/runs is for a fleet."""
    return PostedGappyRuns if any(channel.missing == "hold" for channel in schema.channels) else PostedRuns


def runs(body: bytes, schema: Schema) -> Arrived:
    """The runs of POST /archive/runs, each one that the archive will take; RequestRefused naming the field."""
    posted: PostedRuns | PostedGappyRuns = decode(body, posted_runs(schema))
    arrived: Sequence[PostedRun | PostedGappyRun] = posted.runs
    found = [_run(one, f"runs[{i}]", schema) for i, one in enumerate(arrived)]
    return Arrived(found, frozenset(one.run_id for one in arrived if one.confirmed), posted.only_check)


def _run(posted: PostedRun | PostedGappyRun, field: str, schema: Schema) -> Run:
    """A posted run that the archive will take; RequestRefused naming the field."""
    given: Sequence[Sequence[float | None]] = posted.rows
    for i, row in enumerate(given):
        if len(row) != schema.n_columns:
            raise refusal(422, f"{field}.rows[{i}]", f"has {len(row)} numbers, not {schema.n_columns}")
    rows = np.array(given, dtype=np.float64).reshape(-1, schema.n_columns)
    run = Run(posted.run_id, rows, censored=posted.censored)
    try:
        check_run(run, schema)
    except DataError as error:
        raise refusal(422, f"{field}.{error.field or 'rows'}", error.what) from error
    return run


def event(body: bytes) -> dict[str, Any]:
    """The event of POST /events, its `kind` and its time checked; RequestRefused naming the field."""
    found = decode(body, dict[str, Any])
    kind = found.get("kind")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise refusal(422, "kind", "must be a word of lower-case letters and underscores")
    if "seq" in found:
        raise refusal(422, "seq", "is given by the log")
    for name in _TEXTS:
        if found.get(name) is not None and (not isinstance(found[name], str) or len(found[name]) > _LONGEST):
            raise refusal(422, name, f"must be text of at most {_LONGEST} characters")
    if "time" in found:
        try:
            found["time"] = durable.format_time(durable.parse_time(found["time"]))
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise refusal(422, "time", "must be an RFC 3339 time with a time zone") from error
    return found


def schema_of(body: Any) -> dict[str, Any]:
    """The JSON schema of a body, with its definitions inside."""
    if body is None:
        kind = {"type": "string", "pattern": f"^{_KIND.pattern}$"}
        return {"type": "object", "required": ["kind"], "properties": {"kind": kind}}
    schema = msgspec.json.schema(body)
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return inline(definitions[part["$ref"].rpartition("/")[2]])
            return {key: inline(value) for key, value in part.items()}
        return [inline(item) for item in part] if isinstance(part, list) else part

    resolved: dict[str, Any] = inline(schema)
    return resolved


RESPONSES: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 409, 413, 422, 503), problems.RESPONSE)
UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: problems.RESPONSE}


def handle_errors(app: FastAPI) -> None:
    """Answer every expected error in the one form that `problems` describes."""

    def answer(error: RequestRefused) -> JSONResponse:
        return JSONResponse(problems.content(error.problems), status_code=error.status)

    @app.exception_handler(RequestRefused)
    async def _(_: Request, error: RequestRefused) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RegistryUnavailable)
    async def _(_: Request, error: RegistryUnavailable) -> JSONResponse:
        return answer(refusal(503, "registry", str(error)))

    @app.exception_handler(StoreUnavailable)
    async def _(_: Request, error: StoreUnavailable) -> JSONResponse:
        return answer(refusal(503, "store", str(error)))

    @app.exception_handler(Busy)
    async def _(_: Request, error: Busy) -> JSONResponse:
        return answer(refusal(409, "state", str(error)))

    @app.exception_handler(Late)
    async def _(_: Request, error: Late) -> JSONResponse:
        return answer(refusal(409, "id", str(error)))

    @app.exception_handler(Unknown)
    async def _(_: Request, error: Unknown) -> JSONResponse:
        return answer(refusal(404, "id", str(error)))

    @app.exception_handler(DriftloopError)
    async def _(_: Request, error: DriftloopError) -> JSONResponse:
        return answer(refusal(404 if error.exit_code == ExitCode.MISSING else 409, "version", str(error)))

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(RequestRefused(422, [Problem(str(e["loc"][-1]), str(e["msg"])) for e in error.errors()]))
