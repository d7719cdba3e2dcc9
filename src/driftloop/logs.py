"""What a process says of itself, as lines of JSON for whoever collects them (DRIFTLOOP_LOG_FORMAT=json).

Each line has `time`, `level`, `where`, `msg`, the process (`component`, `fleet`, `release`), and what else is known:
the request on whose way it was said (`request_id`), and whatever came with it as `extra`, such as `cause`. Every
request is a line of its own, but those of probes and of Prometheus.
"""

import json
import logging
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from driftloop import __version__
from driftloop.access.roles import PROBES
from driftloop.durable import format_seconds

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from driftloop.settings import Settings

log = logging.getLogger(__name__)

_REQUEST: ContextVar[str | None] = ContextVar("driftloop_request", default=None)
_NOTED = "driftloop.noted"
_GIVEN = re.compile(rb"[\w.:-]{1,64}")
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class Lines(logging.Formatter):
    """A record as one line of JSON; `fields` stand in each."""

    def __init__(self, **fields: str | None) -> None:
        super().__init__()
        self._fields = {name: value for name, value in fields.items() if value is not None}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        request_id = _REQUEST.get()
        line: dict[str, Any] = {
            "time": format_seconds(record.created),
            "level": record.levelname.lower(),
            "where": record.name,
            "msg": record.getMessage(),
            **self._fields,
            **({} if request_id is None else {"request_id": request_id}),
            **{name: value for name, value in record.__dict__.items() if name not in _STANDARD and value is not None},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def config(settings: "Settings", component: str) -> dict[str, Any]:
    """What `logging.config.dictConfig`, and uvicorn, need so that a process says everything in lines of JSON."""
    fields = {"component": component, "fleet": None if component == "console" else settings.schema.name}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": Lines, "release": __version__, **fields}},
        "handlers": {"default": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "root": {"handlers": ["default"], "level": "INFO"},
        # These say every request that is sent.
        "loggers": {name: {"level": "WARNING"} for name in ("httpx", "httpcore")},
    }


def note(scope: MutableMapping[str, Any], **fields: Any) -> None:
    """Say more in the line of a request: who asked, or which model answered."""
    noted = scope.get(_NOTED)
    if noted is not None:
        noted.update(fields)


class Requests:
    """Says each request in a line; its `X-Request-Id` is the one that came with it, or a new one, and goes back."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given.decode() if _GIVEN.fullmatch(given) else uuid4().hex
        noted: dict[str, Any] = {}
        scope = {**scope, _NOTED: noted}
        began, status = perf_counter(), 500

        async def answering(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        reset = _REQUEST.set(request_id)
        try:
            await self._app(scope, receive, answering)
        finally:
            said = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(perf_counter() - began, 4),
                "client": scope["client"][0] if scope.get("client") else None,
            }
            log.info("request", extra={**said, **noted})
            _REQUEST.reset(reset)
