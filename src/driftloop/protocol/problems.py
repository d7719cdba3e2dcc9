"""The one form of an error's body: `{"detail": [{"field": ..., "message": ...}, ...]}`, as every process answers it."""

from collections.abc import Sequence
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
"""How an OpenAPI document describes it."""
