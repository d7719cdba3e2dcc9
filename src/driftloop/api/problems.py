"""Every error of the public API as RFC 9457 has it: `application/problem+json` with type, title, status and detail.

`field` names the parameter or part of the body that is to blame, where one is.
"""

import re
from http import HTTPStatus
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from driftloop.errors import DriftloopError, JsonError, RegistryUnavailable
from driftloop.protocol.client import detail
from driftloop.protocol.problems import DETAILS, DETAILS_SCHEMA, RequestRefused, details

_FIELD = re.compile(r"[A-Za-z_][\w.\[\]-]*")


class Problem(DriftloopError):
    """What is answered instead: an HTTP status, what is to blame, and why."""

    def __init__(self, status: int, field: str, what: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(what, where=field or None)
        self.status, self.field, self.headers = status, field, headers or {}

    @classmethod
    def of(cls, answer: httpx.Response, whom: str) -> "Problem":
        """The refusal of another process, handed on; what says that it cannot answer at all is a 503 here too."""
        status, said = answer.status_code, detail(answer)
        if status in (401, 403, 429):
            return cls(503, whom, f"does not let the console in: {said}")
        field, separated, message = said.partition(": ")
        if 400 <= status < 500 and separated and _FIELD.fullmatch(field):
            return cls(status, field, message)
        return cls(status if 400 <= status < 500 else 503, whom, said)


def response(
    status: int, what: str, field: str = "", headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The answer."""
    return JSONResponse(details(status, what, field, **more), status_code=status, media_type=DETAILS, headers=headers)


def refuse(status: int, field: str, what: str, headers: dict[str, str]) -> JSONResponse:
    """The answer to who is not let in."""
    return response(status, what, field, headers)


def install(app: FastAPI) -> None:
    """Answer every error so, those of the router and of a bug included."""

    @app.exception_handler(Problem)
    async def _(_: Request, error: Problem) -> JSONResponse:
        return response(error.status, error.what, error.field, error.headers)

    @app.exception_handler(RequestRefused)
    async def _(_: Request, error: RequestRefused) -> JSONResponse:
        return response(error.status, str(error), error.problems[0].field if error.problems else "")

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            {"field": ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), "detail": str(one["msg"])}
            for one in error.errors()
        ]
        said = "; ".join(f"{one['field']}: {one['detail']}" for one in problems)
        return response(422, said, problems[0]["field"] if problems else "", problems=problems)

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> JSONResponse:
        return response(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(JsonError)
    async def _(_: Request, error: JsonError) -> JSONResponse:
        return response(400 if error.malformed else 422, str(error), error.field or "body")

    @app.exception_handler(RegistryUnavailable)
    async def _(_: Request, error: RegistryUnavailable) -> JSONResponse:
        return response(503, error.what, "registry")

    @app.exception_handler(DriftloopError)
    async def _(_: Request, error: DriftloopError) -> JSONResponse:
        return response(409, str(error))

    @app.exception_handler(Exception)
    async def _(_: Request, __: Exception) -> JSONResponse:
        # Starlette raises it again after this answer, and uvicorn writes the traceback.
        return response(500, "the console failed; its log says how")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How the OpenAPI document describes these answers."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {DETAILS: {"schema": DETAILS_SCHEMA}}}
        for status in statuses
    }
