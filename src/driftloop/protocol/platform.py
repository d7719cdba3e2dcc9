"""What a program may ask the public API, a prediction server, and the service that keeps units.

Each question is written once, here, with the words and defaults of the methods of driftloop.client. What may be asked
again is asked again with a growing pause, what must happen once is not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from driftloop.errors import DriftloopError
from driftloop.protocol.client import Question, detail, unreachable
from driftloop.protocol.http import ONCE, PATIENT, exit_code, in_path
from driftloop.protocol.platform_answers import (
    About,
    Drivers,
    Event,
    Fleet,
    FleetInWhole,
    Kept,
    Loop,
    MaintenancePlan,
    Model,
    Prediction,
    RunPage,
    UnitInWhole,
    UnitPage,
    Verdict,
)

T = TypeVar("T")

PREFIX = "/api/v1"
Sort = Literal["low", "rul", "unit", "last_seen"]
Order = Literal["asc", "desc"]
Row = Sequence[float | None] | Mapping[str, float | None]
"""The values of one step, in the order of the fleet's columns or by their names; None is missing."""
TelemetryRow = Mapping[str, float | str | None]
"""One row of one unit by the names of its columns: `unit`, the time, and values."""


class _Predictions(msgspec.Struct):
    predictions: list[Prediction]


def about() -> Question[About]:
    """Version, processes and fleets."""
    return get("/platform", About)


def fleets() -> Question[list[Fleet]]:
    """All fleets at a glance."""
    return get("/fleets", list[Fleet], "fleets")


def fleet(fleet: str) -> Question[FleetInWhole]:
    """One fleet, and what its rows are."""
    return get(_of(fleet), FleetInWhole)


def units(
    fleet: str, *, sort: Sort = "low", order: Order = "asc", q: str = "", flag: str = "", offset: int = 0,
    limit: int = 100,
) -> Question[UnitPage]:  # fmt: skip
    """A page of units, by default those that are due first; `q` is a part of the name."""
    asked = {"sort": sort, "order": order, "q": q, "flag": flag, "offset": offset, "limit": limit}
    return get(f"{_of(fleet)}/units?{urlencode(asked)}", UnitPage)


def unit(fleet: str, name: str) -> Question[UnitInWhole]:
    """One unit: its predictions over time, and its newest readings."""
    return get(f"{_of(fleet)}/units/{in_path(name)}", UnitInWhole)


def drivers(fleet: str, name: str) -> Question[Drivers]:
    """What drives the prediction of one unit."""
    return get(f"{_of(fleet)}/drivers/{in_path(name)}", Drivers)


def plan(
    fleet: str, *, failure: float = 5.0, planned: float = 1.0, period: int | None = None,
    slots: Sequence[int] = (1, 1, 1, 1, 1, 1), agreed: Sequence[str] = (), run_on: int = 0,
    mean_life: float | None = None,
) -> Question[MaintenancePlan]:  # fmt: skip
    """Which unit to work on in which slot: costs of a failure and of planned work, the length of a period in steps
    (by default 10, or as many as the model sees), the slots of each, work that is agreed already (`PERIOD:UNIT`), and
    how many units are to run on until they fail."""
    asked: dict[str, Any] = {"failure": failure, "planned": planned, "slots": list(slots), "agreed": list(agreed)}
    given = {"run_on": run_on, "period": period, "mean_life": mean_life}
    asked |= {name: value for name, value in given.items() if value is not None}
    return get(f"{_of(fleet)}/plan?{urlencode(asked, doseq=True)}", MaintenancePlan)


def loop(fleet: str) -> Question[Loop]:
    """Where the loop is, and what it waits for."""
    return get(f"{_of(fleet)}/loop", Loop)


def verdict(fleet: str) -> Question[Verdict]:
    """What the watch says of the traffic."""
    return get(f"{_of(fleet)}/verdict", Verdict)


def models(fleet: str, limit: int = 100) -> Question[list[Model]]:
    """The newest versions of the model, the newest first."""
    return get(f"{_of(fleet)}/models?limit={limit}", list[Model], "models")


def model(fleet: str, version: str = "production") -> Question[Model]:
    """One version, by default the one in production."""
    return get(f"{_of(fleet)}/models/{in_path(version)}", Model)


def runs(fleet: str, *, role: str = "", q: str = "", offset: int = 0, limit: int = 100) -> Question[RunPage]:
    """A page of the completed runs in the archive; `q` is a part of the id."""
    asked = {"role": role, "q": q, "offset": offset, "limit": limit}
    return get(f"{_of(fleet)}/runs?{urlencode(asked)}", RunPage)


def events(
    fleet: str, *, before: int = 0, limit: int = 100, q: str = "", kinds: Sequence[str] = ()
) -> Question[list[Event]]:
    """The newest events, the newest first; `kinds` such as `promoted`, or `-verdict` for all but these."""
    asked = urlencode({"before": before, "limit": limit, "q": q, "event": list(kinds)}, doseq=True)

    def read(content: dict[str, Any]) -> list[Event]:
        return [event({"fleet": fleet, **one}) for one in content["events"]]

    return Question("GET", f"{PREFIX}{_of(fleet)}/events?{asked}", read, None, PATIENT, unreachable, refused)


def schedules(fleet: str) -> Question[list[dict[str, Any]]]:
    """What is done by the clock, each with when it is due next."""
    return get(f"{_of(fleet)}/schedules", list[dict[str, Any]], "schedules")


def predict(rows: Sequence[Row], unit: str | None = None, step: int | None = None) -> Question[Prediction]:
    """Remaining useful life after the newest of these rows of one unit, oldest first."""
    return predict_many([window(rows, unit, step)]).then(lambda found: found[0])


def predict_many(windows: Sequence[Mapping[str, Any]]) -> Question[list[Prediction]]:
    """The same of several, each made by `window`: answered together, by one version."""
    # Asking twice changes nothing.
    body = msgspec.json.encode({"windows": windows})

    def read(content: dict[str, Any]) -> list[Prediction]:
        return msgspec.convert(content, _Predictions).predictions

    return Question("POST", "/predict", read, body, PATIENT, unreachable, refused)


def send(rows: Sequence[TelemetryRow], *, jump: bool = False) -> Question[Kept]:
    """Keep rows of one or many units; an answer means that they are on disk. A row that is sent again is known.

    With `jump`, a row's time may be far off: a counter that jumps or begins anew, a clock years behind.
    """
    return keep({"rows": rows}, jump=jump)


def keep(rows: Mapping[str, Any] | msgspec.Raw, *, backfill: bool = False, jump: bool = False) -> Question[Kept]:
    """Keep rows as POST /telemetry takes them, as history where `backfill` says so."""
    path = f"/telemetry?{urlencode({'backfill': str(backfill).lower(), 'jump': str(jump).lower()})}"

    def read(content: dict[str, Any]) -> Kept:
        return msgspec.convert(content, Kept)

    # One that keeps no row says of each why.
    return Question("POST", path, read, msgspec.json.encode(rows), PATIENT, unreachable, refused, also=b'"results"')


def of_units(
    method: Literal["GET", "POST", "DELETE"], path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
) -> Question[dict[str, Any]]:
    """Whatever else the service that keeps units answers: a person asks, and what is changed is changed once."""
    where = f"{path}?{urlencode(query)}" if query else path
    content = None if body is None else msgspec.json.encode(body)
    return Question(method, where, lambda answer: answer, content, ONCE, unreachable, refused)


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


def get(path: str, kind: type[T], part: str = "") -> Question[T]:
    """What a path of the API says, or a part of it."""

    def read(content: dict[str, Any]) -> T:
        return msgspec.convert(content[part] if part else content, kind)

    return Question("GET", PREFIX + path, read, None, PATIENT, unreachable, refused)


def act(method: Literal["POST", "DELETE"], path: str, body: Mapping[str, Any] | None, kind: type[T]) -> Question[T]:
    """Something that must happen once."""

    def read(content: dict[str, Any]) -> T:
        return msgspec.convert(content, kind)

    content = None if body is None else msgspec.json.encode(body)
    return Question(method, PREFIX + path, read, content, ONCE, unreachable, refused)


def refused(answered: httpx.Response, where: str) -> DriftloopError:
    """What is raised where somebody answers and refuses."""
    remedies = {
        401: "give a token, or set DRIFTLOOP_TOKEN_FILE: `driftloop tokens add NAME --role ROLE` makes one",
        403: "ask for a role that may do this",
    }
    remedy = remedies.get(answered.status_code)
    return DriftloopError(detail(answered), where=where, remedy=remedy, exit_code=exit_code(answered))


def _of(fleet: str) -> str:
    return f"/fleets/{in_path(fleet)}"
