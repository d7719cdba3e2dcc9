"""GET /events and GET /events/search: the log in order, and what of it somebody looks for."""

from typing import Annotated, Any

from fastapi import FastAPI, Query

from driftloop.loop.store import PAGE, Store
from driftloop.protocol import problems

_Number = Query(ge=0, le=2**53)
_RESPONSES: dict[int | str, dict[str, Any]] = {422: problems.RESPONSE}


def add(app: FastAPI, store: Store) -> None:
    """Add both to the retrainer."""

    @app.get("/events", responses=_RESPONSES)
    def events(
        after: Annotated[int, Query(ge=0, le=2**53, description="number of the newest event you have")] = 0,
    ) -> dict[str, Any]:
        """Events in order, at most a thousand; ask again with `next` for those that follow."""
        found = store.read(after, PAGE)
        return {"events": found, "next": found[-1]["seq"] if found else after}

    @app.get("/events/search", responses=_RESPONSES)
    def search(
        after: Annotated[int, _Number] = 0,
        before: Annotated[int, _Number] = 0,
        kind: Annotated[list[str] | None, Query(max_length=64, description="with `-` before it: all but this")] = None,
        q: Annotated[str, Query(max_length=200, description="text that they hold")] = "",
        limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
    ) -> dict[str, Any]:
        """The newest events that are meant, newest first; those before them with `before`. `last` is the number of the
        newest event of all."""
        found = store.find(after=after, before=before, kinds=kind or (), text=q, limit=limit)
        return {"events": found, "last": store.last}
