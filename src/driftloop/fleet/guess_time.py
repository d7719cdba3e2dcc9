"""Which column tells the time, and how long a step is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.fleet import cells
from driftloop.fleet.columns import on_the_day
from driftloop.fleet.findings import Findings
from driftloop.fleet.inventory import Column
from driftloop.fleet.schema import Time
from driftloop.fleet.times import Clock

_TIME = re.compile(
    r"cycles?(_?(no|nr|num|number|index|id))?|time(_?stamp)?|date(_?time)?|ts|t|steps?|hours?|minutes?|seconds?|days?"
    r"|index|elapsed.*|(op|operating|running|run|engine)_?(time|hours?|h)|time_(in_)?\w+|epoch|period|sample(_?(no|nr))?|age"
    r"|\w+_(ts|time(_?stamp)?|date(_?time)?|dt)|ds|dt"
    r"|(betriebs)?(stunden?|minuten?|sekunden?|tage?|zyklus|zyklen)|laufzeit|zeit(punkt|stempel)?|datum|schritte?"
)
_SECONDS = re.compile(r"(.*_)?(s|sec|secs|seconds?)")
_NICE = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_WORDS = {"1d": "day", "1h": "hour", "1min": "minute", "1s": "second"}
_FINE = 0.4
"""Share of rows that have a time of their own from which on a timestamp tells steps; rows that are there twice have
none."""
_OF_DAY = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d+)?)?( ?[AaPp][Mm])?")
_DAY = 86400.0
_LONG = 2000
"""Steps in half of all lives from which on a longer step is worth a word."""


@dataclass(frozen=True)
class Clocked:
    """A column that tells the time."""

    column: Column
    time: Time
    values: NDArray[np.float64]
    """The time at each row: counts or seconds."""
    step: str
    comment: str
    of_day: Column | None = None
    """The column with the time of day, where `column` has the date alone."""


def find_time(free: Sequence[Column], units: NDArray[np.int64]) -> Clocked | None:
    """The column that tells the time: a timestamp, else a counter that rises within units; None for none.

    A timestamp that stays the same from most rows to the next, such as a day, comes after a counter that does not; one
    that never changes within a unit, such as the day of its purchase, is none.
    """
    named = [column for column in free if _TIME.fullmatch(column.plain)]
    others = [column for column in free if column not in named]
    coarse: Clocked | None = None
    for column in [*named, *others]:
        if column.numbers is None or column in named:
            found = _stamps(column, units)
            found = _on_the_day(found, free, units) if found is not None else None
            share = moving(found.values, units) if found is not None else 0.0
            if share >= _FINE:
                return found
            coarse = coarse or (found if share > 0 else None)
    for column in named:
        if column.numbers is None:
            continue
        if _rises(column.numbers, units) > 0.98 or _shuffled(column.numbers, units):
            return _counter(column, units)
    for column in others:
        if column.numbers is not None and _counts(column.numbers, units):
            return _counter(column, units)
    return coarse


def _on_the_day(found: Clocked, free: Sequence[Column], units: NDArray[np.int64]) -> Clocked:
    """The same with the time of day that another column tells, where this one tells dates alone."""
    if (found.values % _DAY != 0).any() or moving(found.values, units) >= _FINE:
        return found
    for column in free:
        told = [text.strip() for text in column.texts if text.strip().lower() not in cells.MISSING]
        if len(told) > len(column.texts) / 2 and all(_OF_DAY.fullmatch(text) for text in told):
            both = replace(found.column, texts=on_the_day(found.column.texts, column.texts), numbers=None)
            finer = _stamps(both, units)
            if finer is not None and moving(finer.values, units) > moving(found.values, units):
                time = msgspec.structs.replace(finer.time, of_day=column.header)
                return replace(finer, column=found.column, time=time, of_day=column)
    return found


def _stamps(column: Column, units: NDArray[np.int64]) -> Clocked | None:
    if column.numbers is not None and not len(column.told):
        return None
    if column.numbers is not None:
        low, high = column.told.min(), column.told.max()
        # Seconds since 1970 and the like, or a date such as 20240131.
        if not (low > 1e8 or (low >= 19000101 and high <= 20991231)):
            return None
    clock = Clock()
    _, bad = clock.add(column.texts[:200])
    if len(bad) > 10 or column.missing > 0.5:
        return None
    clock = Clock()
    _, bad = clock.add(column.texts)
    # What is to be told of it is told when the data are read.
    values = clock.settle(lambda _: column.header, Findings(), column.header)
    if len(bad) > 0.02 * len(values) or not np.isfinite(values).any():
        return None
    apart = _apart(values, units)
    every = _length(float(np.median(apart)) if len(apart) else 1.0)
    comment = f"From row to row there are usually {_length(float(np.median(apart)))}." if len(apart) else ""
    time = Time(column=column.header, kind="timestamp", every=every)
    return Clocked(
        column, time, np.nan_to_num(values), _WORDS.get(every, "step"), _advise(comment, time, values, units)
    )


def _counter(column: Column, units: NDArray[np.int64]) -> Clocked:
    assert column.numbers is not None
    apart = _apart(column.numbers, units)
    usual = float(np.median(apart)) if len(apart) else 1.0
    whole = bool((column.told == np.floor(column.told)).all())
    several = moving(column.numbers, units) < _FINE
    if _SECONDS.fullmatch(column.plain) and (not whole or usual != 1):
        time = Time(column=column.header, kind="seconds", every=_length(usual))
        word = _WORDS.get(time.every or "", "step")
    elif whole and usual == 1:
        time = Time(column=column.header, every="1", between="mean") if several else Time(column=column.header)
        word = _word(column)
    else:
        time = Time(column=column.header, every=_every(column.numbers, units, usual))
        word = "step"
    comment = f"From row to row it is usually {usual:g}."
    if several:
        comment = f"Most rows have the same {column.header} as the one before: a step is the mean of its rows."
    return Clocked(column, time, np.nan_to_num(column.numbers), word, _advise(comment, time, column.numbers, units))


def _every(values: NDArray[np.float64], units: NDArray[np.int64], usual: float) -> str:
    """The length of a step, of few digits: of 24 rows a day 0.042 would put two into one step in every third day."""
    lives = [np.unique(values[(units == unit) & np.isfinite(values)]) for unit in np.unique(units)[:200]]

    def lost(width: str) -> int:
        steps = [np.floor((life - life[0]) / float(width) + 0.5) for life in lives if len(life)]
        # Rows that share a step, and steps without a row.
        return sum(len(step) + int(step[-1]) + 1 - 2 * len(np.unique(step)) for step in steps)

    widths = [f"{float(f'{usual:.{digits}g}'):g}" for digits in range(2, 7)]
    return min(widths, key=lost)


def _advise(comment: str, time: Time, values: NDArray[np.float64], units: NDArray[np.int64]) -> str:
    lives = [np.ptp(values[units == unit]) / time.width for unit in np.unique(units)[:200]]
    told = [life for life in lives if np.isfinite(life)]
    median = float(np.median(told)) if told else 0.0
    if median > _LONG:
        comment += f"\nHalf of all lives have {median:.0f} steps and more: a longer `every` makes training quicker."
    return comment


def _word(column: Column) -> str:
    found = re.search(r"cycle|hour|minute|second|day|sample|period|step", column.plain)
    return found[0] if found else "step"


def _apart(values: NDArray[np.float64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far rows of a unit are from the ones before, where they are."""
    order = np.lexsort((values, units))
    apart = np.diff(values[order])[np.diff(units[order]) == 0]
    return np.asarray(apart[np.isfinite(apart) & (apart > 0)], dtype=np.float64)


def moving(values: NDArray[np.float64], units: NDArray[np.int64]) -> float:
    """Share of rows that are not at the time of the unit's row before; 1 where every unit has one row."""
    followed = len(values) - len(np.unique(units))
    return len(_apart(values, units)) / followed if followed else 1.0


def _rises(values: NDArray[np.float64], units: NDArray[np.int64]) -> float:
    """Share of rows that do not fall behind the one before, in the order of the file."""
    order = np.argsort(units, kind="stable")
    inside = np.diff(units[order]) == 0
    steps = np.diff(values[order])[inside]
    return float((steps >= 0).mean()) if len(steps) else 0.0


def _shuffled(values: NDArray[np.float64], units: NDArray[np.int64]) -> bool:
    """Whether a column counts on within nearly every unit, though its rows are out of order or there twice."""
    apart = _apart(values, units)
    if not len(apart):
        return False
    steps = apart / np.median(apart)
    return bool((np.abs(steps - 1) < 1e-6).mean() > 0.8 and (np.abs(steps - np.round(steps)) < 1e-6).mean() > 0.98)


def _counts(values: NDArray[np.float64], units: NDArray[np.int64]) -> bool:
    order = np.argsort(units, kind="stable")
    steps = np.diff(values[order])[np.diff(units[order]) == 0]
    return len(steps) > 0 and bool((steps == steps[0]).all()) and steps[0] > 0 and len(np.unique(units)) > 1


def _length(seconds: float) -> str:
    """A length of time as people write it, rounded to what its own unit shows."""
    if seconds < 1:
        return f"{max(round(seconds * 1000), 1)}ms"
    for size, unit in _NICE:
        count = seconds / size
        if count >= 1 and (abs(count - round(count)) < 0.02 * count or size == 1.0):
            return f"{round(count)}{unit}"
    return f"{round(seconds)}s"
