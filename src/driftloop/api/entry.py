"""Who is asking, and how people come in: by name and password, with a cookie that scripts cannot read."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from msgspec import Meta

from driftloop.access.audit import Audit
from driftloop.access.doors import Asking, Door, TurnedAway, same_site
from driftloop.access.guard import asker, of_scope
from driftloop.api import shapes
from driftloop.api.bodies import body_of
from driftloop.api.problems import Problem, responses
from driftloop.errors import DriftloopError
from driftloop.protocol.bodies import documented

router = APIRouter(responses=responses(401, 403, 429), tags=["access"])


class Login(msgspec.Struct, forbid_unknown_fields=True):
    """Name and password of a person."""

    name: Annotated[str, Meta(max_length=200)]
    password: Annotated[str, Meta(max_length=1024)]


@router.get("/me", response_model=shapes.Me, summary="Who is asking")
def me(request: Request) -> Any:
    """Name, role and how the platform knows; `csrf` goes into the header X-CSRF-Token of every change."""
    who = asker(request)
    return {"name": who.name, "role": who.role, "how": who.how, "csrf": who.csrf}


@router.post(
    "/login",
    status_code=204,
    summary="Log in",
    responses=responses(400, 413, 422),
    openapi_extra=documented(Login, {"name": "anna", "password": "a long enough password"}),
)
async def login(request: Request) -> Response:
    """Begin a session, whose cookie comes with the answer; the one that this browser had before ends."""
    door: Door = request.app.state.door
    asking = of_scope(request.scope)
    if not same_site(asking.headers):
        raise Problem(403, "Origin", "is another page than this address's")
    given = await body_of(request, Login)
    # One after the other: a thousand at once would take all threads, and none would have failed before the others.
    async with request.app.state.logging_in:
        value = await run_in_threadpool(_begin, door, request.app.state.audit, asking, given)
    answer = Response(status_code=204)
    name, https = door.cookie_name(asking), door.by_https(asking)
    answer.set_cookie(name, value, httponly=True, samesite="strict", secure=https, path="/")
    return answer


@router.post("/logout", status_code=204, summary="Log out")
def logout(request: Request) -> Response:
    """End the session of this browser."""
    door: Door = request.app.state.door
    asking = of_scope(request.scope)
    assert door.sessions is not None
    door.sessions.end(door.session_of(asking))
    answer = Response(status_code=204)
    # Without the same words a browser does not take it as the same cookie.
    https = door.by_https(asking)
    answer.delete_cookie(door.cookie_name(asking), path="/", httponly=True, samesite="strict", secure=https)
    return answer


def _begin(door: Door, audit: Audit, asking: Asking, given: Login) -> str:
    """The cookie of a new session; raises Problem where name or password are not right, or too many were not."""
    address = door.proxies.client(asking.peer, asking.headers)
    try:
        door.slow(address)
    except TurnedAway as error:
        raise Problem(error.status, "password", error.what, error.headers) from error
    person = door.people.check(given.name, given.password)
    # A name that nobody has may be a password in the wrong field.
    known = given.name if door.people.find(given.name) is not None else None
    outcome = "done: 204" if person is not None else "refused: 401"
    role = person.role if person is not None else None
    audit.write(who=known, role=role, how="password", address=address, act="log in", outcome=outcome)
    if person is None:
        door.failures.failed(address)
        raise Problem(401, "password", "name or password are not right")
    door.failures.succeeded(address)
    assert door.sessions is not None
    try:
        if before := door.session_of(asking):
            door.sessions.end(before)
        return door.sessions.begin(person)
    except DriftloopError as error:
        raise Problem(503, "access", str(error)) from error
