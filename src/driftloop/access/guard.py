"""The door as a part of an application: every request passes it, and every act is told to the audit log."""

import contextlib
from collections.abc import Callable, Collection

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftloop.access.audit import Audit
from driftloop.access.doors import LOOKING, Asking, Door, TurnedAway, Who
from driftloop.errors import DriftloopError
from driftloop.logs import note
from driftloop.protocol import problems
from driftloop.protocol.client import ACTOR
from driftloop.protocol.problems import Problem
from driftloop.protocol.roles import Role

WHO = "driftloop.who"
"""Where a request's scope keeps who is asking."""
_REASON = "driftloop.reason"
_ACTS = ("operate", "admin")
_BETWEEN = {"cookie": "; "}
"""What joins the lines of a header that comes more than once, if not a comma."""

Needs = Callable[[str, str], Role | None]
"""The role that a method and path need; None for what everybody may."""
Refuse = Callable[[int, str, str, dict[str, str]], Response]
"""The answer to who is turned away: status, field, what, headers."""


class Guard:
    """Lets in who may do what they ask for; `quiet` are paths by which the platform's processes report to each other,
    all day long, and which are no acts."""

    def __init__(
        self, app: ASGIApp, *, door: Door, audit: Audit, needs: Needs, refuse: Refuse, quiet: Collection[str] = ()
    ) -> None:
        self._app, self._door, self._audit = app, door, audit
        self._needs, self._refuse, self._quiet = needs, refuse, frozenset(quiet)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        needed = self._needs(scope["method"], scope["path"])
        if needed is None:
            await self._app(scope, receive, send)
            return
        asking = of_scope(scope)
        is_act = needed in _ACTS and asking.method not in LOOKING
        try:
            who = self._door.admit(asking, needed)
            told = is_act and not (scope["path"] in self._quiet and who.is_platform)
            if told:
                await run_in_threadpool(self._audit.check)
        except TurnedAway as error:
            if is_act and error.status != 429:
                await self._tell(scope, error.who, f"refused: {error.status}", asking)
            await self._refuse(error.status, error.field, error.what, error.headers)(scope, receive, send)
            return
        except DriftloopError as error:
            await self._refuse(503, "access", str(error), {})(scope, receive, send)
            return
        scope[WHO] = who
        note(scope, who=who.name, role=who.role)
        if not told:
            await self._app(scope, receive, send)
            return
        await self._act(scope, receive, send, who, asking)

    async def _act(self, scope: Scope, receive: Receive, send: Send, who: Who, asking: Asking) -> None:
        """Pass an act on; it is in the audit log before whoever asked for it has the answer."""
        told = False

        async def telling(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start" and not told:
                told = True
                status = message["status"]
                outcome = "done" if status < 400 else "refused" if status < 500 else "failed"
                await self._tell(scope, who, f"{outcome}: {status}", asking)
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            if not told:
                await self._tell(scope, who, "failed: without an answer", asking)

    async def _tell(self, scope: Scope, who: Who | None, outcome: str, asking: Asking) -> None:
        actor = asking.headers.get(ACTOR.lower()) if who is not None and who.is_platform else None
        with contextlib.suppress(DriftloopError):
            await run_in_threadpool(
                self._audit.write,
                who=who.name if who else None,
                role=who.role if who else None,
                how=who.how if who else None,
                address=who.address if who else self._door.proxies.client(asking.peer, asking.headers),
                act=f"{scope['method']} {scope['path']}",
                outcome=outcome,
                actor=printable(actor) if actor else None,
                reason=scope.get(_REASON),
            )


def plainly(status: int, field: str, what: str, headers: dict[str, str]) -> Response:
    """The answer of server and retrainer, in the one form of their refusals."""
    return JSONResponse(problems.content([Problem(field, what)]), status_code=status, headers=headers)


def of_scope(scope: Scope) -> Asking:
    """What of a request tells who is asking."""
    client = scope.get("client")
    headers: dict[str, str] = {}
    repeated = set()
    # ASGI gives names in lower case.
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]):
        if name in headers:
            repeated.add(name)
            headers[name] += _BETWEEN.get(name, ", ") + value
        else:
            headers[name] = value
    https = scope.get("scheme") == "https"
    return Asking(scope["method"], headers, client[0] if client else "", frozenset(repeated), https)


def asker(request: Request) -> Who:
    """Who was let in with this request."""
    found: Who = request.scope[WHO]
    return found


def reason_of_act(request: Request, reason: str) -> None:
    """Let the audit log have the reason that was given for an act."""
    request.scope[_REASON] = reason or None


def behind(request: Request, longest: int = 200) -> str:
    """For whom a request is: the person that a process of the platform names, or else who asks."""
    who: Who | None = request.scope.get(WHO)
    if who is not None and not who.is_platform and who.how != "loopback":
        return who.name[:longest]
    return printable(request.headers.get(ACTOR, ""))[:longest]


def printable(header: str) -> str:
    """A header's text: its bytes are UTF-8, and what cannot be printed is left out."""
    text = header.encode("latin-1", errors="replace").decode(errors="replace")
    return "".join(letter for letter in text if letter.isprintable()).strip()
