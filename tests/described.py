"""Whether an event is as docs/reference/events.md describes it (driftloop.protocol.event_fields)."""

from typing import Any

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.protocol.event_fields import ALWAYS, MAYBE, fields_of
from driftloop.protocol.events import KINDS, Event

_TYPES: dict[str, Any] = {
    "text": str, "whole number": int, "number": int | float, "true or false": bool, "list": list, "object": dict,
}  # fmt: skip


def undescribed(event: Event) -> list[str]:
    """What of an event as it is kept the reference does not say; kinds that others report are theirs."""
    if event["kind"] not in KINDS:
        return []
    own = fields_of(event["kind"])
    everywhere = {name: (field, name in ALWAYS) for name, field in {**ALWAYS, **MAYBE}.items()}
    described = {**everywhere, **own}
    wrong = [f"{name} is not described" for name in event.keys() - described.keys()]
    wrong += [f"{name} is missing" for name, (_, always) in described.items() if always and name not in event]
    wrong += [
        f"{name} is {value!r}, no {described[name][0].kind}"
        for name, value in event.items()
        if name in described and not _fits(described[name][0].kind, value)
    ]
    return [f"{event['kind']}: {each}" for each in sorted(wrong)]


def _fits(kind: str, value: Any) -> bool:
    if kind == "time":
        return _is_time(value)
    # For Python, true and false are whole numbers.
    return isinstance(value, _TYPES[kind]) and (kind == "true or false") == isinstance(value, bool)


def _is_time(value: Any) -> bool:
    try:
        durable.parse_time(value)
    except (DriftloopError, ValueError, TypeError):
        return False
    return True
