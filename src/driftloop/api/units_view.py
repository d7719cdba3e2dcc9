"""How units are shown that are known by their traffic alone."""

from typing import Any

from driftloop.durable import format_seconds
from driftloop.protocol.answers import Answer, OfUnit
from driftloop.protocol.unit_list import Entry


def entry(answer: Answer) -> Entry[Answer]:
    """What the list of units searches and sorts an answer by."""
    return Entry(answer.unit, answer.time, answer.rul, answer.low, answer.flags, answer)


def unit(answer: Answer) -> dict[str, Any]:
    """A unit's row in the list."""
    return {"unit": answer.unit, "last_seen": format_seconds(answer.time), **_said(answer)}


def in_whole(found: OfUnit) -> dict[str, Any]:
    """The answer about one unit, of which there is an answer at least."""
    newest = found.answers[-1]
    rows = len(found.sensors[0].values) if found.sensors else 0
    last = found.step if found.step is not None else rows
    return {
        "unit": found.unit,
        "last_seen": format_seconds(newest.time),
        "flags": newest.flags,
        "version": newest.version,
        "predictions": [{"time": format_seconds(answer.time), **_said(answer)} for answer in found.answers],
        "sensors": [
            {
                "name": one.name,
                "unit": one.unit,
                "values": one.values,
                "low": one.low if any(value is not None for value in one.low) else None,
                "high": one.high if any(value is not None for value in one.high) else None,
            }
            for one in found.sensors
        ],
        "steps": list(range(last - rows + 1, last + 1)),
    }


def _said(answer: Answer) -> dict[str, Any]:
    return {
        "step": answer.step,
        "rul": answer.rul,
        "low": answer.low,
        "high": answer.high,
        "flags": answer.flags,
        "version": answer.version,
    }
