"""What a process says of itself, as lines of JSON for whoever collects them (DRIFTLOOP_LOG_FORMAT=json).

Each line has `time`, `level`, `where`, `msg`, the process (`component`, `fleet`, `release`), and what else is known:
the request on whose way it was said (`request_id`), and whatever came with it as `extra`, such as `cause`. Every
request is a line of its own, but those of probes and of Prometheus. What libraries print, warnings, and an error that
nobody caught are lines too.
"""

import io
import json
import logging
import logging.config
import re
import sys
import threading
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
_OF_ALL_FLEETS = ("console",)
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
    return _config(component, None if component in _OF_ALL_FLEETS else settings.schema.name)


def _config(component: str, fleet: str | None) -> dict[str, Any]:
    fields = {"component": component, "fleet": fleet}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": Lines, "release": __version__, **fields}},
        # The process's own standard error, whatever stands in its place meanwhile.
        "handlers": {
            "default": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.__stderr__"}
        },
        "root": {"handlers": ["default"], "level": "INFO"},
        # These say every request that is sent.
        "loggers": {name: {"level": "WARNING"} for name in ("httpx", "httpcore")},
    }


def begin(settings: "Settings", component: str) -> bool:
    """Let this process say everything in lines of JSON, where its settings want that; returns whether they do."""
    if settings.log_format != "json":
        return False
    logging.config.dictConfig(config(settings, component))
    _say_the_rest()
    return True


def of_others(component: str) -> dict[str, Any]:
    """The same for a program of others that serves all fleets, where this module can be imported: as its logging
    configuration, a file of it lets that process say everything in lines of JSON."""
    said = _config(component, None)
    said["formatters"]["lines"]["()"] = "driftloop.logs.whole"
    return said


def whole(**fields: str | None) -> Lines:
    """What makes lines in such a program; from then on also of what it prints."""
    _say_the_rest()
    return Lines(**fields)


def _say_the_rest() -> None:
    """Let what is no logging be said as that is."""
    logging.captureWarnings(True)
    sys.stdout, sys.stderr = Printed("stdout"), Printed("stderr")
    sys.excepthook = lambda kind, error, trace: log.critical("ended by an error", exc_info=(kind, error, trace))
    threading.excepthook = lambda told: log.critical("a thread ended by an error", exc_info=told.exc_value)


class Printed(io.TextIOBase):
    """What is printed, said as a line of its own for each line; any number of threads may print."""

    encoding = "utf-8"

    def __init__(self, where: str) -> None:
        self._log, self._rest, self._guard = logging.getLogger(where), "", threading.Lock()

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """That of the process's standard error, for who writes past all this."""
        return 2

    def write(self, text: str) -> int:
        """Say the lines that are whole."""
        with self._guard:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            self._log.info(line.rstrip())
        return len(text)

    def flush(self) -> None:
        """Say what is left without the end of its line."""
        with self._guard:
            line, self._rest = self._rest, ""
        if line.strip():
            self._log.info(line.rstrip())


def texts(line: str) -> list[str]:
    """A line of a log as people read it: one of JSON as what it says, with its traceback."""
    if not line.startswith("{"):
        return [line]
    try:
        said = json.loads(line)
    except ValueError:
        return [line]
    return [str(said.get("msg", line)), *str(said.get("exception", "")).splitlines()]


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
