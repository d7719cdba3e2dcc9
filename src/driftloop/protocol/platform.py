"""The client of the public API, and of a prediction server: typed, from ordinary code and from asyncio.

Each question is written once, below; what may be asked again is asked again with a growing pause, what must happen once
is not. Everything raises DriftloopError with words for people.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from driftloop.errors import DriftloopError
from driftloop.protocol.client import Question, detail, unreachable
from driftloop.protocol.http import ONCE, PATIENT, exit_code, in_path

T = TypeVar("T")

PREFIX = "/api/v1"
Sort = Literal["low", "rul", "unit", "last_seen"]
Row = Sequence[float | None] | Mapping[str, float | None]
"""The values of one step, in the order of the fleet's columns or by their names; None is missing."""


class Due(msgspec.Struct, frozen=True):
    """The unit whose interval ends first; RUL in steps."""

    unit: str
    rul: float
    low: float
    high: float


class Fleet(msgspec.Struct, frozen=True):
    """A fleet at a glance."""

    name: str
    unit: str
    step: str
    state: str
    verdict: str
    units: int
    waits_for: str | None = None
    champion: str | None = None
    provisional: bool = False
    first_due: Due | None = None


class Unit(msgspec.Struct, frozen=True):
    """The newest answer of one unit; None what is not known of it yet."""

    unit: str
    flags: list[str]
    last_seen: str | None = None
    step: int | None = None
    rul: float | None = None
    low: float | None = None
    high: float | None = None
    version: str | None = None


class UnitPage(msgspec.Struct, frozen=True):
    """A page of units, of `total` in all."""

    total: int
    units: list[Unit]


class Answered(msgspec.Struct, frozen=True):
    """One answer of the past, None where the server refused to give one."""

    time: str
    rul: float | None
    low: float | None
    high: float | None
    flags: list[str]
    version: str
    step: int | None = None


class Sensor(msgspec.Struct, frozen=True):
    """Readings, oldest first, each with the band in which most readings of its regime lie."""

    name: str
    unit: str
    values: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


class UnitInWhole(msgspec.Struct, frozen=True):
    """One unit; `steps` are those of its sensors' readings."""

    unit: str
    flags: list[str]
    predictions: list[Answered]
    sensors: list[Sensor]
    steps: list[int]
    last_seen: str | None = None
    version: str | None = None


class Mark(msgspec.Struct, frozen=True):
    """A mark of the present or last recovery; None where it has not happened."""

    mark: str
    time: str | None = None
    event: int | None = None


class Loop(msgspec.Struct, frozen=True):
    """Where the loop is."""

    state: str
    marks: list[Mark]
    promotion: str
    since: str | None = None
    waits_for: str | None = None
    attempt: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    estimate: dict[str, Any] | None = None


class Model(msgspec.Struct, frozen=True):
    """A version."""

    version: str
    alias: list[str]
    created: str
    kind: str
    state: str
    figures: dict[str, float]
    reasons: list[str]
    parent: str | None = None


class Moved(msgspec.Struct, frozen=True):
    """What is in production now, and what was before."""

    model_version: str
    from_version: str | None = None


class Event(msgspec.Struct, frozen=True):
    """What the loop of a fleet saw or decided; `place` is what to go on from."""

    fleet: str
    seq: int
    time: str
    event: str
    who: str | None = None
    place: str = ""
    detail: dict[str, Any] = {}
    """Its other fields."""


class Prediction(msgspec.Struct, frozen=True):
    """Remaining useful life in steps after the newest row, with the ends of its interval."""

    rul: float
    lower: float
    upper: float
    flags: list[str]
    model_version: str
    request_id: str
    regime: int = 0


class _Predictions(msgspec.Struct):
    predictions: list[Prediction]


# The questions.


def fleets() -> Question[list[Fleet]]:
    """All fleets at a glance."""
    return _get("/fleets", list[Fleet], "fleets")


def units(fleet: str, sort: Sort, order: str, q: str, flag: str, offset: int, limit: int) -> Question[UnitPage]:
    """A page of units."""
    asked = {"sort": sort, "order": order, "q": q, "flag": flag, "offset": offset, "limit": limit}
    return _get(f"/fleets/{in_path(fleet)}/units?{urlencode(asked)}", UnitPage)


def unit(fleet: str, name: str) -> Question[UnitInWhole]:
    """One unit."""
    return _get(f"/fleets/{in_path(fleet)}/units/{in_path(name)}", UnitInWhole)


def loop(fleet: str) -> Question[Loop]:
    """Where the loop is."""
    return _get(f"/fleets/{in_path(fleet)}/loop", Loop)


def models(fleet: str, limit: int) -> Question[list[Model]]:
    """The newest versions."""
    return _get(f"/fleets/{in_path(fleet)}/models?limit={limit}", list[Model], "models")


def model(fleet: str, version: str) -> Question[Model]:
    """One version, or the one in `production`."""
    return _get(f"/fleets/{in_path(fleet)}/models/{in_path(version)}", Model)


def events(fleet: str, before: int, limit: int, q: str, kinds: Sequence[str]) -> Question[list[Event]]:
    """The newest events before a number, the newest first."""
    asked = urlencode({"before": before, "limit": limit, "q": q, "event": list(kinds)}, doseq=True)

    def read(content: dict[str, Any]) -> list[Event]:
        return [event({"fleet": fleet, **one}) for one in content["events"]]

    return Question(
        "GET", f"{PREFIX}/fleets/{in_path(fleet)}/events?{asked}", read, None, PATIENT, unreachable, _refused
    )


def plan(fleet: str, asked: Mapping[str, Any]) -> Question[dict[str, Any]]:
    """Which unit in which slot; `asked` are the parameters of the request."""
    return _get(f"/fleets/{in_path(fleet)}/plan?{urlencode(asked, doseq=True)}", dict[str, Any])


def drivers(fleet: str, name: str) -> Question[dict[str, Any]]:
    """What drives the prediction of one unit."""
    return _get(f"/fleets/{in_path(fleet)}/drivers/{in_path(name)}", dict[str, Any])


def retrain(fleet: str, mode: Literal["warm", "full"], reason: str) -> Question[dict[str, Any]]:
    """Start a retraining."""
    return _act(fleet, "loop/retrain", {"mode": mode, "reason": reason}, dict[str, Any])


def promote(fleet: str, version: str, reason: str) -> Question[Moved]:
    """Put a version into production."""
    return _act(fleet, f"models/{in_path(version)}/promote", {"reason": reason}, Moved)


def rollback(fleet: str, reason: str) -> Question[Moved]:
    """Put the version before production back."""
    return _act(fleet, "models/rollback", {"reason": reason}, Moved)


def answer(fleet: str, approval: str, word: Literal["approve", "reject"], reason: str) -> Question[dict[str, Any]]:
    """Answer what waits for a person."""
    return _act(fleet, f"approvals/{in_path(approval)}/{word}", {"reason": reason}, dict[str, Any])


def predict(windows: Sequence[Mapping[str, Any]]) -> Question[list[Prediction]]:
    """Predictions for windows, in their order; asking twice changes nothing."""
    body = msgspec.json.encode({"windows": windows})

    def read(content: dict[str, Any]) -> list[Prediction]:
        return msgspec.convert(content, _Predictions).predictions

    return Question("POST", "/predict", read, body, PATIENT, unreachable, _refused)


def window(
    rows: Sequence[Row], unit: str | None = None, step: int | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """A window as POST /predict takes it: rows of one unit, oldest first."""
    named = {"engine_id": unit, "cycle": step, "request_id": request_id}
    return {"rows": rows, **{name: value for name, value in named.items() if value is not None}}


def event(content: Mapping[str, Any], place: str = "") -> Event:
    """An event as it came."""
    known = {name: content.get(name) for name in ("fleet", "seq", "time", "event", "who")}
    rest = {name: value for name, value in content.items() if name not in known}
    return msgspec.convert({**known, "place": place, "detail": rest}, Event)


def _get(path: str, kind: type[T], part: str = "") -> Question[T]:
    def read(content: dict[str, Any]) -> T:
        return msgspec.convert(content[part] if part else content, kind)

    return Question("GET", PREFIX + path, read, None, PATIENT, unreachable, _refused)


def _act(fleet: str, path: str, body: Mapping[str, Any], kind: type[T]) -> Question[T]:
    def read(content: dict[str, Any]) -> T:
        return msgspec.convert(content, kind)

    where = f"{PREFIX}/fleets/{in_path(fleet)}/{path}"
    return Question("POST", where, read, msgspec.json.encode(body), ONCE, unreachable, _refused)


def _refused(answered: httpx.Response, where: str) -> DriftloopError:
    remedies = {401: "give a token: `driftloop tokens add NAME --role ROLE`", 403: "ask for a role that may do this"}
    remedy = remedies.get(answered.status_code)
    return DriftloopError(detail(answered), where=where, remedy=remedy, exit_code=exit_code(answered))
