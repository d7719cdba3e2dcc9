"""What admins do: give programs access, take it back, and read who has done what."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from msgspec import Meta

from driftloop.access import audit
from driftloop.access.doors import Door
from driftloop.access.tokens import RATE, Tokens
from driftloop.api import shapes
from driftloop.api.bodies import body_of
from driftloop.api.problems import Problem, responses
from driftloop.errors import DriftloopError, JsonError
from driftloop.protocol.bodies import documented
from driftloop.protocol.roles import Role

router = APIRouter(responses=responses(401, 403, 422, 429, 503), tags=["access"])


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """A token that is wanted: its name and role, in how many days it ends, and its requests in a second."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    role: Role
    days: Annotated[float, Meta(gt=0, le=36_500)] | None = 90.0
    rate: Annotated[float, Meta(gt=0, le=1e6)] = RATE


Name = Annotated[str, Path(max_length=64, examples=["planner"])]


def _tokens(request: Request) -> Tokens:
    door: Door = request.app.state.door
    return door.tokens


@router.get("/tokens", response_model=shapes.TokenList, summary="Named tokens")
def tokens(request: Request) -> Any:
    """Names, roles and ends; nobody is told a token again."""
    return {"tokens": _tokens(request).list()}


@router.post(
    "/tokens",
    status_code=201,
    response_model=shapes.NewToken,
    summary="Make a token",
    responses=responses(400, 409, 413, 415, 422),
    openapi_extra=documented(NewToken, {"name": "planner", "role": "view", "days": 30}),
)
async def add_token(request: Request) -> Any:
    """Make a token for a program; it is told in this answer, and never again."""
    wanted = await body_of(request, NewToken)

    def add() -> str:
        return _tokens(request).add(wanted.name, wanted.role, days=wanted.days, rate=wanted.rate)

    return {"name": wanted.name, "role": wanted.role, "token": await run_in_threadpool(add)}


@router.delete("/tokens/{name}", status_code=204, summary="Take a token back", responses=responses(404))
def revoke_token(request: Request, name: Name) -> None:
    """Refuse a token with its next request."""
    try:
        _tokens(request).revoke(name)
    except JsonError:
        raise
    except DriftloopError as error:
        raise Problem(404, "name", error.what) from error


@router.get("/audit", response_model=shapes.AuditLog, summary="Who has done what", responses=responses(503))
def audit_log(
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**53, description="number of the newest entry you have")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """The newest acts, or those behind `after`, oldest first; each with who, what, from where and the outcome."""
    log: audit.Audit = request.app.state.audit
    try:
        return {"entries": audit.read(log.path, after=after, limit=limit)}
    except JsonError as error:
        raise Problem(503, "audit", str(error)) from error
