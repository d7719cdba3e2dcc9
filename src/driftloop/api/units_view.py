"""Units in service as far as their traffic tells: sorted, searched and in pages."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from driftloop.durable import format_seconds
from driftloop.protocol.answers import Answer, OfUnit

Sort = Literal["low", "rul", "unit", "last_seen"]
State = Literal["running", "failed", "removed", "overhauled", "all"]
_KEYS: dict[Sort, Callable[[Answer], Any]] = {
    "low": lambda answer: (answer.low, answer.rul),
    "rul": lambda answer: (answer.rul, answer.low),
    "unit": lambda answer: _by_number(answer.unit),
    "last_seen": lambda answer: answer.time,
}


def chosen(answers: Iterable[Answer], *, text: str, sort: Sort, descending: bool) -> list[Answer]:
    """The units whose name has `text` in it, sorted."""
    found = [answer for answer in answers if text.casefold() in answer.unit.casefold()]
    # By name first, so that equal ones stay where they are from page to page.
    found.sort(key=lambda answer: answer.unit)
    found.sort(key=_KEYS[sort], reverse=descending)
    return found


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


def has(flags: Iterable[str], wanted: str) -> bool:
    """Whether a flag is there; `held` means `held:<any column>` too."""
    return any(flag == wanted or flag.startswith(f"{wanted}:") for flag in flags)


def _by_number(name: str) -> tuple[str, int, str]:
    """Engine 9 before engine 10."""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits[:18]) if digits else -1, name
