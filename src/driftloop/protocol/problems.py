"""What is wrong with a request, and the two forms in which processes say so.

The forms: a list of fields with messages, as `Refusal` has it; for public interfaces the problem details of RFC 9457.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from driftloop.errors import DriftloopError, JsonError


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with which field."""

    field: str
    """Such as `windows[3].rows`, or `body` for the whole."""
    message: str


class Refusal(msgspec.Struct):
    """The body of every 4xx and 5xx answer."""

    detail: list[Problem]


class RequestRefused(DriftloopError):
    """A request that cannot be answered: the HTTP status, and what is wrong with it, one problem at least."""

    def __init__(self, status: int, problems: Sequence[Problem]) -> None:
        self.status, self.problems = status, list(problems)
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))


def refusal(status: int, field: str, message: str) -> RequestRefused:
    """A refusal for one reason."""
    return RequestRefused(status, [Problem(field, message)])


def of_json(error: JsonError) -> RequestRefused:
    """The refusal of a body that cannot be read: 400 where it is no JSON, 422 where it is JSON of another shape."""
    if error.malformed:
        return refusal(400, "body", f"is not JSON: {error.message}")
    return refusal(422, error.field or "body", error.message)


def content(problems: Sequence[Problem]) -> dict[str, Any]:
    """The body of the answer, as plain JSON."""
    found: dict[str, Any] = msgspec.to_builtins(Refusal(list(problems)))
    return found


DETAILS = "application/problem+json"
"""The media type of problem details."""


def details(status: int, what: str, field: str = "", **more: Any) -> dict[str, Any]:
    """Problem details as plain JSON; `field` names what is to blame, and `more` stands beside."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    body = {"type": "about:blank", "title": title, "status": status, "detail": what}
    return {**body, **({"field": field} if field else {}), **more}


DETAILS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    },
}
"""How an OpenAPI document describes them."""
RESPONSE: dict[str, Any] = {
    "description": "What is wrong, and with which field",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["field", "message"],
                            "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                        },
                    }
                },
            }
        }
    },
}
"""How an OpenAPI document describes the other form."""
