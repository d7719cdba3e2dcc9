"""Errors as problem details (RFC 9457), with the fields that are to blame beside."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from driftloop.protocol.problems import DETAILS, DETAILS_SCHEMA, Problem, RequestRefused, details
from driftloop.units.committing import StoreUnavailable


def content(status: int, problems: Sequence[Problem], more: Mapping[str, Any] | None = None) -> Response:
    """The answer that says what is wrong; `more` stands beside it."""
    said = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
    errors = [msgspec.to_builtins(problem) for problem in problems]
    body = details(status, said, problems[0].field, errors=errors, **(more or {}))
    return Response(msgspec.json.encode(body), status, media_type=DETAILS)


def handle(app: FastAPI) -> None:
    """Answer every expected error in this form."""

    @app.exception_handler(RequestRefused)
    async def _(_: Request, error: RequestRefused) -> Response:
        return content(error.status, error.problems)

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> Response:
        return content(422, [Problem(str(one["loc"][-1]), str(one["msg"])) for one in error.errors()])

    @app.exception_handler(StoreUnavailable)
    async def _(_: Request, error: StoreUnavailable) -> Response:
        return content(503, [Problem("store", str(error))])

    @app.exception_handler(SQLAlchemyError)
    async def _(_: Request, error: SQLAlchemyError) -> Response:
        said = str(getattr(error, "orig", None) or error).strip()
        return content(503, [Problem("store", f"cannot be read now: {said}")])

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        field = {404: "path", 405: "method"}.get(error.status_code, "request")
        answer = content(error.status_code, [Problem(field, str(error.detail))])
        headers: Mapping[str, str] = error.headers or {}
        answer.headers.update(headers)
        return answer


_ERRORS = {"errors": {"type": "array", "items": {"type": "object"}}}
RESPONSE: dict[str, Any] = {
    "description": "What is wrong, and with which field",
    "content": {
        DETAILS: {"schema": {**DETAILS_SCHEMA, "properties": {**DETAILS_SCHEMA["properties"], **_ERRORS}}},
    },
}
"""How an OpenAPI document describes it."""
