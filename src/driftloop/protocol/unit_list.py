"""How a list of units is searched, sorted and counted: one rule, whoever knows the units."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

from driftloop.fleet import names

Sort = Literal["low", "rul", "unit", "last_seen"]
Order = Literal["asc", "desc"]
State = Literal["running", "failed", "removed", "overhauled", "all"]

T = TypeVar("T")


class Entry(NamedTuple, Generic[T]):
    """What a unit is searched and sorted by; None or NaN is not known. `of` is whatever is to be shown of it."""

    unit: str
    last_seen: float | None
    rul: float | None
    low: float | None
    flags: Sequence[str]
    of: T


class Chosen(NamedTuple, Generic[T]):
    """The units that are meant, in order, and how many of those whose name fits have each flag."""

    units: list[T]
    flags: dict[str, int]


def choose(entries: Iterable[Entry[T]], *, sort: Sort, order: Order, q: str, flag: str) -> Chosen[T]:
    """Units with `q` in their name and with `flag`; what is not known stands at the end, whichever way the others are
    sorted. Equal ones go by name, so that they stay where they are from page to page."""
    folded = names.unit(q).casefold()
    found = [entry for entry in entries if folded in entry.unit.casefold()]
    flags = Counter(name for entry in found for name in {kind for flag_ in entry.flags for kind in _names(flag_)})
    if flag:
        found = [entry for entry in found if has(entry.flags, flag)]
    found.sort(key=lambda entry: by_number(entry.unit), reverse=sort == "unit" and order == "desc")
    if sort != "unit":
        known = [(key, entry) for entry in found if (key := _key(entry, sort)) is not None]
        known.sort(key=lambda one: one[0], reverse=order == "desc")
        found = [entry for _, entry in known] + [entry for entry in found if _key(entry, sort) is None]
    return Chosen([entry.of for entry in found], dict(flags))


def has(flags: Iterable[str], wanted: str) -> bool:
    """Whether a flag is there; `held` means `held:<any column>` too."""
    return any(wanted in _names(flag) for flag in flags)


def by_number(name: str) -> tuple[str, int, str]:
    """What names are sorted by: engine 9 before engine 10."""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits[:18]) if digits else -1, name


def _names(flag: str) -> tuple[str, ...]:
    """A flag, and the kind that it is of: `held:flow` is `held`."""
    kind, colon, _ = flag.partition(":")
    return (flag, kind) if colon else (flag,)


def _key(entry: Entry[T], sort: Sort) -> tuple[float, ...] | None:
    if sort == "last_seen":
        key: tuple[float | None, ...] = (entry.last_seen,)
    else:
        key = (entry.low, entry.rul) if sort == "low" else (entry.rul, entry.low)
    found = tuple(value for value in key if value is not None and not math.isnan(value))
    return found if len(found) == len(key) else None
