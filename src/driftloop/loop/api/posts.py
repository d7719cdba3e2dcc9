"""Requests that change something: who is behind them, and how their bodies are bounded and told."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from driftloop.access.guard import behind
from driftloop.loop.api import bodies
from driftloop.loop.by_hand import TOKEN
from driftloop.protocol.client import ACTOR

LONGEST_NAME = 200


class Asked(NamedTuple):
    """What a request that changes something brings."""

    body: bytes
    who: str
    """The person that a process acts for, by the header; `token` where it names none."""
    path: dict[str, str]
    """What stands in the place of the names in braces of the path."""


def add(
    app: FastAPI,
    path: str,
    body: Any,
    limit: int,
    act: Callable[[Asked], Any],
    about: str,
    *,
    method: str = "POST",
) -> None:
    """Add a request to the application; `body` is the type of its body, for the documentation, and `limit` its bytes.

    A DELETE has no body.
    """

    async def endpoint(request: Request) -> Any:
        content = await bodies.read(request, limit) if method == "POST" else b""
        asked = Asked(
            content,
            behind(request, LONGEST_NAME) or TOKEN,
            {name: str(value) for name, value in request.path_params.items()},
        )
        return await run_in_threadpool(act, asked)

    documented: dict[str, Any] = {"parameters": [*_HEADERS, *map(_in_path, _names(path))]}
    if method == "POST":
        content = {"application/json": {"schema": bodies.schema_of(body)}}
        documented["requestBody"] = {"required": True, "content": content}
    app.api_route(
        path,
        methods=[method],
        summary=about,
        name="_".join(part for part in path.strip("/").split("/") if part[0] != "{")
        + ("" if method == "POST" else f"_{method.lower()}"),
        responses=bodies.RESPONSES,
        openapi_extra=documented,
    )(endpoint)


def _names(path: str) -> list[str]:
    return [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _header(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": about}


_HEADERS = (
    _header("Authorization", "`Bearer ` and the token, where one is set"),
    _header(ACTOR, "the person on whose behalf it is asked; events name it"),
)
