"""What one may do: POST and DELETE, for everybody with the role `operate`, handed on to the fleet's retrainer.

The retrainer is told for whom, and writes it into its events as `who`; what it refuses is refused here in its words. A
`reason` that it does not take stands in the audit log.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from msgspec import Meta

from driftloop.access.guard import asker, reason_of_act
from driftloop.api import outcomes
from driftloop.api.bodies import body_of, bytes_of
from driftloop.api.fleets import Fleet
from driftloop.api.problems import responses
from driftloop.api.reads import Name, fleets_of
from driftloop.protocol.bodies import documented
from driftloop.protocol.http import in_path

router = APIRouter(responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503))

Reason = Annotated[str, Meta(max_length=500)]
Version = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,17}$", examples=["1"])]
Question = Annotated[str, Path(min_length=1, max_length=200, examples=["7-0123abcd"])]
Cause = Annotated[str, Path(min_length=1, max_length=200, examples=["fleet_change:1"])]
Answer = Annotated[Literal["approve", "reject"], Path(examples=["approve"])]
Entry = Annotated[str, Path(min_length=1, max_length=64, examples=["monthly"])]

MODES = {"warm": "warm_start", "full": "full"}


class Reasoned(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why, for whoever reads it later."""

    reason: Reason = ""


R = TypeVar("R", bound=Reasoned)


class Retrain(Reasoned):
    """From the champion's weights (`warm`), or from nothing (`full`)."""

    mode: Literal["warm", "full"] = "warm"


_SEEN = r"^[1-9][0-9]{0,17}$"


class Promote(Reasoned):
    """Why, and which version was seen in production: where another one is there by now, it is refused."""

    from_version: Annotated[str, Meta(pattern=_SEEN)] | None = None


class Rollback(Reasoned):
    """From which version, that which was seen in production, and why."""

    from_version: Annotated[str, Meta(pattern=_SEEN)]


class Mute(Reasoned):
    """For how many seconds, or until when."""

    for_s: Annotated[float, Meta(gt=0)] | None = None
    until: Annotated[str, Meta(max_length=40)] | None = None


class Withdraw(Reasoned):
    """Runs by id, or by the SHA-256 of their rows, and why."""

    runs: list[str] = []
    sha256: list[str] = []


class Runs(msgspec.Struct):
    """Completed runs: each with `run_id`, `rows` (oldest first, values in the order of the fleet's columns), and where
    it applies `censored` (taken out before it failed) or `confirmed` (it did fail, whatever its rows look like)."""

    runs: list[dict[str, Any]]
    only_check: bool = False


class Schedule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is done by the clock: `every_s` or `cron`, and the act."""

    name: str
    act: str
    every_s: float | None = None
    cron: str | None = None
    mode: Literal["warm", "full"] | None = None
    days: float | None = None
    above: float | None = None


def _fleet(request: Request, name: str) -> Fleet:
    return fleets_of(request).get(name)


async def _given(request: Request, kind: type[R]) -> R:
    """The body of an act, whose reason stands in the audit log."""
    found = await body_of(request, kind)
    reason_of_act(request, found.reason)
    return found


async def _hand_on(request: Request, fleet: str, method: str, path: str, body: Any) -> dict[str, Any]:
    """Have the retrainer do it, for whoever asks."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    who = asker(request).name
    return await run_in_threadpool(lambda: _fleet(request, fleet).act(method, path, content, who))


@router.post(
    "/fleets/{fleet}/loop/retrain",
    response_model=outcomes.Attempt,
    summary="Retrain now",
    tags=["loop"],
    openapi_extra=documented(Retrain, {"mode": "warm", "reason": "new engines have failed"}, required=False),
)
async def retrain(request: Request, fleet: Name) -> Any:
    """Start a retraining of the version in production on the completed runs that it does not know."""
    wanted = await _given(request, Retrain)
    return await _hand_on(request, fleet, "POST", "/retrain", {"mode": MODES[wanted.mode]})


@router.post(
    "/fleets/{fleet}/loop/first-aid",
    response_model=outcomes.Done,
    summary="Give the champion first aid",
    tags=["loop"],
    openapi_extra=documented(Reasoned, {"reason": "a new regime, and no labels for weeks"}, required=False),
)
async def first_aid(request: Request, fleet: Name) -> Any:
    """Grow the served model's regimes from traffic, without labels."""
    await _given(request, Reasoned)
    return await _hand_on(request, fleet, "POST", "/first-aid", {})


@router.post(
    "/fleets/{fleet}/models/{version}/promote",
    response_model=outcomes.Moved,
    summary="Put a version into production",
    tags=["models"],
    openapi_extra=documented(
        Promote, {"reason": "looked at it with the fleet's engineer", "from_version": "2"}, required=False
    ),
)
async def promote(request: Request, fleet: Name, version: Version) -> Any:
    """Move the alias `production` to a version; the servers follow within a second."""
    given = await _given(request, Promote)
    seen = {} if given.from_version is None else {"from_version": given.from_version}
    return await _hand_on(request, fleet, "POST", "/promote", {"version": version, "reason": given.reason, **seen})


@router.post(
    "/fleets/{fleet}/models/rollback",
    response_model=outcomes.Moved,
    summary="Go back to the version before",
    tags=["models"],
    openapi_extra=documented(Rollback, {"from_version": "1", "reason": "worse on the older engines"}),
)
async def rollback(request: Request, fleet: Name) -> Any:
    """Put the version before `from_version` back. Asked again it does nothing and says `already`; 409 where another
    version is in production that nobody went back to."""
    given = await _given(request, Rollback)
    return await _hand_on(request, fleet, "POST", "/rollback", given)


@router.post(
    "/fleets/{fleet}/approvals/{id}/{answer}",
    response_model=outcomes.Done,
    summary="Approve or reject the version that waits for a person",
    tags=["loop"],
    openapi_extra=documented(Reasoned, {"reason": "the gate's figures are convincing"}, required=False),
)
async def answer(request: Request, fleet: Name, id: Question, answer: Answer) -> Any:
    """Answer the question that GET /loop shows as `approval`; 409 says what became of it where somebody was first."""
    given = await _given(request, Reasoned)
    body = {"answer": answer, "reason": given.reason}
    return await _hand_on(request, fleet, "POST", f"/approvals/{in_path(id)}", body)


@router.post(
    "/fleets/{fleet}/causes/{cause}/mute",
    response_model=outcomes.Done,
    summary="Tell nobody of a cause for a while",
    tags=["loop"],
    openapi_extra=documented(Mute, {"for_s": 3600, "reason": "the test stand is being rebuilt"}),
)
async def mute(request: Request, fleet: Name, cause: Cause) -> Any:
    """Mute a cause, such as `fleet_change:3`, or a kind of causes, such as `sensor_fault`."""
    given = await _given(request, Mute)
    asked = {"cause": cause, "for_s": given.for_s, "until": given.until, "reason": given.reason}
    body = {name: value for name, value in asked.items() if value is not None}
    return await _hand_on(request, fleet, "POST", "/mute", body)


@router.delete(
    "/fleets/{fleet}/causes/{cause}/mute", response_model=outcomes.Done, summary="Tell of a cause again", tags=["loop"]
)
async def unmute(request: Request, fleet: Name, cause: Cause) -> Any:
    """End the muting of a cause."""
    return await _hand_on(request, fleet, "DELETE", f"/mute/{in_path(cause)}", b"")


@router.get(
    "/fleets/{fleet}/schedules",
    response_model=outcomes.ScheduleList,
    summary="What is done by the clock",
    tags=["loop"],
)
def schedules(request: Request, fleet: Name) -> Any:
    """Schedules and watches, each with when it is due next."""
    return _fleet(request, fleet).ask("/schedules")


@router.post(
    "/fleets/{fleet}/schedules",
    response_model=outcomes.Done,
    summary="Add a schedule or a watch, or change the one of its name",
    tags=["loop"],
    openapi_extra=documented(Schedule, {"name": "monthly", "act": "retrain", "cron": "0 3 1 * *", "mode": "full"}),
)
async def add_schedule(request: Request, fleet: Name) -> Any:
    """Retrain, or watch for what lasts too long, by the clock: every so many seconds, or as cron has it (UTC)."""
    given = await body_of(request, Schedule)
    mode = {} if given.mode is None else {"mode": MODES[given.mode]}
    return await _hand_on(request, fleet, "POST", "/schedules", {**msgspec.to_builtins(given), **mode})


@router.delete(
    "/fleets/{fleet}/schedules/{id}", response_model=outcomes.Done, summary="Cancel a schedule", tags=["loop"]
)
async def cancel_schedule(request: Request, fleet: Name, id: Entry) -> Any:
    """Cancel a schedule or a watch by its name."""
    return await _hand_on(request, fleet, "DELETE", f"/schedules/{in_path(id)}", b"")


@router.post(
    "/fleets/{fleet}/runs",
    response_model=outcomes.Archived,
    summary="Archive completed runs",
    tags=["runs"],
    openapi_extra=documented(
        Runs, {"runs": [{"run_id": "pump-7", "rows": [[0.0] * 24] * 30, "confirmed": True}], "only_check": True}
    ),
)
async def archive(request: Request, fleet: Name) -> Any:
    """Keep completed runs, all or none, and tell the loop; with `only_check`, say what would be refused."""
    body = await bytes_of(request, _fleet(request, fleet).settings.max_archive_bytes)
    return await _hand_on(request, fleet, "POST", "/archive/runs", body)


@router.post(
    "/fleets/{fleet}/runs/withdraw",
    response_model=outcomes.Withdrawn,
    summary="Take runs back",
    tags=["runs"],
    openapi_extra=documented(Withdraw, {"runs": ["pump-7"], "reason": "the wrong file"}),
)
async def withdraw(request: Request, fleet: Name) -> Any:
    """Take runs back, and say which versions have learnt from them."""
    given = await _given(request, Withdraw)
    return await _hand_on(request, fleet, "POST", "/archive/withdraw", given)
