"""What is told of a unit in service, to the service that keeps it and through the public API."""

from typing import Annotated, Literal

import msgspec

Kind = Literal["installed", "failed", "removed", "overhauled"]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]


class LifeEvent(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What has happened to a unit, by default now."""

    kind: Kind
    time: str | None = None
    """When it happened, RFC 3339; by default now, and of an end behind the newest row."""
    step: float | None = None
    """Of a fleet whose time is a counter: where it stood at the last row of the life; by default at the newest row."""
    age: Annotated[int, msgspec.Meta(ge=0, le=10**9)] | Literal["unknown"] | None = None
    """Of `installed`: steps that the unit had lived before; by default none, it is new."""
    note: Text = ""
    id: Name | None = None
    """Chosen by the sender: the same event again, under the same id, is known."""
