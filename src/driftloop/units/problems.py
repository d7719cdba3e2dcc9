"""Errors as problem details (RFC 9457), with the fields that are to blame beside."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from driftloop.protocol.problems import Problem, RequestRefused
from driftloop.units.committing import StoreUnavailable

CONTENT_TYPE = "application/problem+json"


def content(status: int, problems: Sequence[Problem], more: Mapping[str, Any] | None = None) -> Response:
    """The answer that says what is wrong; `more` stands beside it."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": "; ".join(f"{problem.field}: {problem.message}" for problem in problems),
        "field": problems[0].field,
        "errors": [msgspec.to_builtins(problem) for problem in problems],
        **(more or {}),
    }
    return Response(msgspec.json.encode(body), status, media_type=CONTENT_TYPE)


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

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        field = {404: "path", 405: "method"}.get(error.status_code, "request")
        answer = content(error.status_code, [Problem(field, str(error.detail))])
        headers: Mapping[str, str] = error.headers or {}
        answer.headers.update(headers)
        return answer


RESPONSE: dict[str, Any] = {
    "description": "What is wrong, and with which field",
    "content": {
        CONTENT_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "field": {"type": "string"},
                    "errors": {"type": "array", "items": {"type": "object"}},
                },
            }
        }
    },
}
"""How an OpenAPI document describes it."""
