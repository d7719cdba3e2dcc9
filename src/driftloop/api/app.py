"""The console's application: the public API and the pages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftloop import __version__, documentation
from driftloop.access.audit import Audit
from driftloop.access.doors import LOOKING, Door
from driftloop.access.guard import Guard
from driftloop.api import acts, admin, entry, planning, problems, reads, unit_acts
from driftloop.api.fleets import Fleets
from driftloop.console import pages
from driftloop.protocol.roles import Role
from driftloop.settings import Settings, from_environment

PREFIX = "/api/v1"
COMPRESSED_FROM = 1024
"""Bytes of an answer from which on it is compressed, for who takes that."""
_OF_ADMINS = frozenset({f"{PREFIX}/tokens", f"{PREFIX}/audit"})

HEADERS = {
    **documentation.NOTHING_FROM_ELSEWHERE,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for the platform of these settings."""
    base = settings or from_environment()
    fleets = Fleets(base)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(fleets.close)

    app = FastAPI(
        title="driftloop",
        version=__version__,
        summary="What a platform knows and what may be done with it.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    # Such a redirect would name the address that the request names, and http behind a proxy that speaks https.
    app.router.redirect_slashes = False
    app.state.fleets = fleets
    app.state.logging_in = asyncio.Semaphore(1)
    app.state.door, app.state.audit = Door(base, sessions=True), Audit(base.access_folder, "console")
    problems.install(app)
    for router in (entry.router, reads.router, acts.router, unit_acts.router, planning.router, admin.router):
        app.include_router(router, prefix=PREFIX)

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    app.router.routes += documentation.routes("/api/docs")
    app.include_router(pages.router())
    # Events that are streamed are never held back for it.
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESSED_FROM, compresslevel=5)
    app.add_middleware(Guard, door=app.state.door, audit=app.state.audit, needs=needs, refuse=problems.refuse)
    app.add_middleware(Headers)
    return app


def needs(method: str, path: str) -> Role | None:
    """The role that each request needs; pages are empty until the API fills them, and for everybody."""
    if not path.startswith("/api/") or path == f"{PREFIX}/login":
        return None
    if path in _OF_ADMINS or path.startswith(f"{PREFIX}/tokens/"):
        return "admin"
    return "view" if method in LOOKING or path == f"{PREFIX}/logout" else "operate"


class Headers:
    """Adds what tells browsers to load and run nothing from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name for name, _ in message["headers"]}
                more = [header for header in self._headers if header[0] not in named]
                if scope["path"].startswith("/api/") and b"cache-control" not in named:
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, adding)
