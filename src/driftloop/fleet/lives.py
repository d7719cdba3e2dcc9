"""One unit's rows as its lives: in the order of time, cut where it ends, one row for each step."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.findings import Findings
from driftloop.fleet.schema import End, Schema

_JITTER = 10
"""A row that is at most so many usual steps late was only written late."""
_SHUFFLED = 0.1
"""Where more than this share of a unit's rows runs backwards, the rows were never in order, and are sorted."""
_MIXED, _LEAST_APART = 0.1, 10
"""Share of rows that follow each other unlike most, from which on it is said; of so many rows at least."""
_SUMMER = (600.0, 3600.0)
"""Seconds in a step from and up to which an hour that is there twice is the likely reason for two rows in one."""
_BETWEEN = {"last": "the last one counts", "mean": "their mean counts"}
_LONGEST = 1e9
"""Steps in one life that nothing could hold."""
_SPARSE, _EMPTY = 2, 10
"""Steps for each row: from the first on it is said, beyond the second refused."""


@dataclass(frozen=True)
class Rows:
    """Rows of one unit, as they stand in the files."""

    values: NDArray[np.float64]
    """`[n, columns]`, NaN where a value is missing."""
    place: NDArray[np.int64]
    """Position among all rows of all files, rising."""
    file: NDArray[np.int64]
    time: NDArray[np.float64] | None
    """Counts or seconds; None where the rows are in order."""
    compared: NDArray[np.float64] | None
    """The readings that the end's threshold is for."""
    ended: NDArray[np.bool_] | None
    """Where the end's column says that the unit has failed."""
    taken: NDArray[np.bool_] | None = None
    """Where a column says that the unit was taken out."""

    def take(self, index: NDArray[np.int64]) -> "Rows":
        """Some of the rows, in the order of `index`."""
        return Rows(
            self.values[index],
            self.place[index],
            self.file[index],
            None if self.time is None else self.time[index],
            None if self.compared is None else self.compared[index],
            None if self.ended is None else self.ended[index],
            None if self.taken is None else self.taken[index],
        )


@dataclass(frozen=True)
class Life:
    """One unit's life, one row for each step."""

    rows: NDArray[np.float64]
    start: int
    """Where its first row stands."""
    place: NDArray[np.int64]
    """Where each step's last row stands; -1 where the step has no row."""
    first_index: int
    """Where the counter stood at the first step; 1 where there is no counter."""
    failed: bool
    """Whether the end's rule was met."""
    taken: bool
    """Whether a row says that it was taken out."""
    read: int
    """Rows in the files, those included that were left out."""
    repeated: int
    """Rows that were there twice."""
    after_end: int
    """Rows that came after the end."""
    empty: int
    """Steps without a row."""


class Unusable(Exception):
    """A unit that cannot be used: what, where (a position among all rows), and what to do."""

    def __init__(self, what: str, place: int, remedy: str, kind: str) -> None:
        self.what, self.place, self.remedy, self.kind = what, int(place), remedy, kind
        super().__init__(what)


def told(rows: Rows, schema: Schema, unit: str, findings: Findings) -> list[Life]:
    """The lives that a unit's rows tell, in order; more than one only where the fleet file says that a unit which has
    failed may live on. Raises Unusable where the rows contradict themselves.
    """
    if schema.end.after == "left_out":
        return [life(rows, schema, unit, findings)]
    parts = list(_lived(rows, schema.end))
    starts = [part.place[0] for part in parts[1:]]
    if rows.time is not None and not _restarts_only(rows, starts):
        ordered, repeated = _ordered(rows, schema, unit, findings)
        found = [(part, 0) for part in _lived(ordered, schema.end)]
        found[0] = (found[0][0], repeated)
    else:
        found = [_ordered(part, schema, unit, findings) for part in parts]
    return [_life(part, repeated, schema, unit, findings) for part, repeated in found]


def life(rows: Rows, schema: Schema, unit: str, findings: Findings) -> Life:
    """The one life that a unit's rows tell, up to its end; raises Unusable where they contradict themselves."""
    ordered, repeated = _ordered(rows, schema, unit, findings)
    return _life(ordered, repeated, schema, unit, findings)


def _lived(rows: Rows, end: End) -> Iterator[Rows]:
    """The rows of each life, with those after its end that are no life's.

    The next life begins with the first row that does not say that the unit has failed: it may stand still for a while.
    """
    left = rows
    while True:
        at, failed = end_of(left, end)
        going = np.flatnonzero(~_failed(left, end)[at:]) if failed else np.empty(0, np.int64)
        if not len(going):
            yield left
            return
        begin = at + int(going[0])
        yield left.take(np.arange(begin))
        left = left.take(np.arange(begin, len(left.place)))


def _failed(rows: Rows, end: End) -> NDArray[np.bool_]:
    """Which rows say by themselves that the unit has failed."""
    if rows.ended is not None:
        return rows.ended
    assert rows.compared is not None
    return np.asarray(beyond(rows.compared, end), np.bool_)


def _restarts_only(rows: Rows, starts: Sequence[np.int64]) -> bool:
    """Whether time runs backwards, in the order of the files, only where a new life begins."""
    assert rows.time is not None
    return set(rows.place[1:][np.diff(rows.time) < 0].tolist()) <= {int(start) for start in starts}


def _life(ordered: Rows, repeated: int, schema: Schema, unit: str, findings: Findings) -> Life:
    cut, failed = end_of(ordered, schema.end)
    kept = ordered.take(np.arange(cut))
    values, place, first = _steps(kept, schema, unit, findings)
    known = np.flatnonzero(np.isfinite(values).any(axis=1))
    leading = int(known[0]) if len(known) else len(values)
    if leading == len(values):
        raise Unusable(f"{schema.unit} {unit} has no reading at all", kept.place[0], "leave it out", "no reading")
    return Life(
        rows=np.ascontiguousarray(values[leading:]),
        start=int(ordered.place.min()),
        place=place[leading:],
        first_index=first + leading,
        failed=failed,
        taken=ordered.taken is not None and bool(ordered.taken.any()),
        repeated=repeated,
        read=len(ordered.place) + repeated,
        after_end=len(ordered.place) - cut,
        empty=int((place[leading:] < 0).sum()),
    )


# Order


def _ordered(rows: Rows, schema: Schema, unit: str, findings: Findings) -> tuple[Rows, int]:
    """The rows by time, each once, and how many were there twice."""
    named = f"{schema.unit} {unit}"
    if rows.time is None:
        gap = np.flatnonzero(np.diff(rows.place) != 1)
        if len(gap):
            at = int(gap[0]) + 1
            again = "in another file" if rows.file[at] != rows.file[at - 1] else "after others"
            raise Unusable(
                f"{named} comes again {again}, and no column tells the time",
                rows.place[at],
                _AGAIN if again == "in another file" else "name the time column in the fleet file, or sort by unit",
                "again",
            )
        return rows, 0
    rows, twice = _once(rows)
    assert rows.time is not None
    for file in np.unique(rows.file):
        _refuse_backwards(rows.take(np.flatnonzero(rows.file == file)), schema, unit, findings)
    order = np.lexsort((rows.place, rows.time))
    ordered = rows.take(order)
    assert ordered.time is not None
    same_time = np.diff(ordered.time) == 0
    before, after = ordered.values[:-1], ordered.values[1:]
    alike = same_time & ((before == after) | (np.isnan(before) & np.isnan(after))).all(axis=1)
    contradicting = np.flatnonzero(same_time & ~alike)
    counted = schema.time.kind == "counter" and schema.time.every is None
    if len(contradicting) and counted:
        at = int(contradicting[0])
        others = "in another file " if ordered.file[at] != ordered.file[at + 1] else ""
        what = f"{named} has {schema.step} {ordered.time[at]:g} again {others}with other readings"
        remedy = (
            _AGAIN
            if others
            else f"a counter that starts again is another {schema.unit}: name it; where several rows are one "
            f'{schema.step}, write every = "1" and between = "mean" below [time]; else remove a row'
        )
        raise Unusable(what, max(ordered.place[at], ordered.place[at + 1]), remedy, "again")
    ordered = ordered.take(np.flatnonzero(np.concatenate([[True], ~alike])))
    if len(np.unique(ordered.file)) > 1:
        _refuse_overlap(ordered, named)
    return ordered, twice + int(alike.sum())


def _once(rows: Rows) -> tuple[Rows, int]:
    """The rows without those that are there a second time, at the same time with the same readings, and how many.

    A table that was pasted twice does not make time run backwards.
    """
    assert rows.time is not None
    keys = np.column_stack([rows.time, rows.values])
    order = np.lexsort((rows.place, *keys.T))
    before, after = keys[order[:-1]], keys[order[1:]]
    same = ((before == after) | (np.isnan(before) & np.isnan(after))).all(axis=1)
    kept = np.sort(order[np.concatenate([[True], ~same])])
    return (rows.take(kept), int(same.sum())) if same.any() else (rows, 0)


_AGAIN = "give every unit a name of its own, or read the files with --per-file where numbers start again in each"


def _refuse_overlap(ordered: Rows, named: str) -> None:
    """Raise Unusable where two files tell of the same time: then their units only share a name."""
    assert ordered.time is not None
    changes = int((np.diff(ordered.file) != 0).sum())
    if changes >= len(np.unique(ordered.file)):
        at = int(np.flatnonzero(np.diff(ordered.file))[0]) + 1
        what = f"{named} is in several files that tell of the same time"
        raise Unusable(what, ordered.place[at], _AGAIN, "again")


def _refuse_backwards(rows: Rows, schema: Schema, unit: str, findings: Findings) -> None:
    """Raise Unusable where a counter starts again within a file; rows that are only out of order are sorted."""
    time = rows.time
    assert time is not None
    steps = np.diff(time)
    back = np.flatnonzero(steps < 0)
    if not len(back):
        return
    usual = float(np.median(np.abs(steps[steps != 0])))
    depth = np.maximum.accumulate(time)[back] - time[back + 1]
    sortable = len(back) == len(steps) or len(back) > _SHUFFLED * len(time) or (depth <= _JITTER * usual).all()
    named, word = f"{schema.unit} {unit}", schema.time.column
    if sortable:
        what = f"{len(back)} rows of {named} run backwards in time; they are sorted by {word}"
        findings.add("warning", f"{named}", what, "look at whether the clock was set", kind="sorted")
        return
    at = int(back[np.argmax(depth)]) + 1
    what = f"{word} of {named} runs backwards, from {_shown(time[at - 1], schema)} to {_shown(time[at], schema)}"
    remedy = f"a counter that starts again is another {schema.unit}: give it a name of its own; else sort by {word}"
    raise Unusable(what, rows.place[at], remedy, "backwards")


def _shown(time: float, schema: Schema) -> str:
    return str(np.datetime64(round(time * 1000), "ms")) if schema.time.kind == "timestamp" else f"{time:g}"


# End


def beyond(compared: Any, end: End) -> Any:
    """Whether a reading, or each of an array, lies beyond the end's threshold; a missing one does not."""
    with np.errstate(invalid="ignore"):
        return compared < end.below if end.below is not None else compared > (end.above or 0.0)


def end_of(rows: Rows, end: End) -> tuple[int, bool]:
    """How many of the rows, which are in the order of time, the life has, and whether it ended by the rule."""
    if rows.ended is not None:
        at = np.flatnonzero(rows.ended)
    elif rows.compared is not None:
        crossed = beyond(rows.compared, end)
        needed, of = end.needed
        total = np.concatenate([[0], np.cumsum(crossed)])
        last = np.minimum(np.arange(len(crossed)) + of, len(crossed))
        at = np.flatnonzero(crossed & (total[last] - total[:-1] >= needed))
    else:
        return len(rows.place), True
    return (int(at[0]) + 1, True) if len(at) else (len(rows.place), False)


# Steps


def _steps(
    rows: Rows, schema: Schema, unit: str, findings: Findings
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """One row for each step, where it stands, and the first step's index."""
    if rows.time is None:
        return rows.values, rows.place, 1
    width, named = schema.time.width, f"{schema.unit} {unit}"
    if schema.time.kind == "counter" and schema.time.every is None:
        broken = np.flatnonzero(rows.time != np.floor(rows.time))
        if len(broken):
            what = f"{schema.time.column} of {named} is {rows.time[broken[0]]:g}, no whole number"
            remedy = 'write every = "0.5" below [time], or whatever a step is, or kind = "seconds"'
            raise Unusable(what, rows.place[broken[0]], remedy, "no whole number")
    if len(rows.time) > 2 and rows.time[0] == rows.time[-1]:
        what = (
            f"all {len(rows.time)} rows of {named} have the same {schema.time.column}, so it does not tell their order"
        )
        remedy = "name another column below [time], or none where rows are in order"
        raise Unusable(what, rows.place[0], remedy, "same time")
    if (rows.time[-1] - rows.time[0]) / width > _LONGEST:
        what = f"{named} lasts from {_shown(rows.time[0], schema)} to {_shown(rows.time[-1], schema)}, too many steps"
        raise Unusable(what, rows.place[-1], "correct the time there, or make steps longer", "too long")
    index = step_index(rows.time, float(rows.time[0]), schema)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(index)) + 1])
    steps, n = index[starts], int(index[-1]) + 1
    usual = float(np.median(np.diff(rows.time))) / width if len(rows.time) > 1 else 1.0
    _tell_mixed(rows.time, schema, named, findings)
    if n > _EMPTY * len(steps) + _EMPTY:
        what = f"{named} has rows in {len(steps)} of {n} steps; from row to row there are usually {usual:g} steps"
        raise Unusable(what, rows.place[0], f"make every longer, such as {_longer(schema, usual)}", "sparse")
    if n > _SPARSE * len(steps):
        what = f"{named} has rows in {len(steps)} of {n} steps; the others count as missing"
        remedy = f"make every longer, such as {_longer(schema, usual)}, if a unit does not rest that much"
        findings.add("warning", named, what, remedy, kind="sparse")
    several = len(index) - len(steps)
    if several and usual >= 1:
        what = f"{several} rows of {named} are of the same {schema.step} as others: {_BETWEEN[schema.time.between]}"
        remedy = (
            "without a zone an hour is there twice when summer ends"
            if schema.time.kind == "timestamp" and _SUMMER[0] <= width <= _SUMMER[1]
            else ""
        )
        findings.add("note", named, what, remedy, kind="several")
    values = np.full((n, rows.values.shape[1]), math.nan)
    values[steps] = merged(rows.values, starts, schema)
    place = np.full(n, -1, dtype=np.int64)
    place[steps] = rows.place[np.concatenate([starts[1:], [len(index)]]) - 1]
    return values, place, first_index(float(rows.time[0]), schema)


def step_index(time: NDArray[np.float64], first: float, schema: Schema) -> NDArray[np.int64]:
    """The step of each time in a life whose first row is at `first`, counted from 0 there."""
    return np.floor((time - first) / schema.time.width + 0.5).astype(np.int64)


def first_index(first: float, schema: Schema) -> int:
    """Where the counter stands at the step of a life's first row; 1 where times are no counter."""
    return 1 if schema.time.kind == "timestamp" else math.floor(first / schema.time.width + 0.5)


def _tell_mixed(time: NDArray[np.float64], schema: Schema, named: str, findings: Findings) -> None:
    """Say where the time from row to row is now this, now that: then steps are not what a person believes."""
    apart = np.diff(time)
    apart = apart[apart > 0]
    if len(apart) < _LEAST_APART:
        return
    usual = float(np.median(apart))
    other = apart[np.abs(apart - usual) > usual / 2]
    if len(other) > _MIXED * len(apart):
        unit = "" if schema.time.kind == "counter" else " s"
        what = f"from row to row it is {usual:g}{unit} in {named}, but {float(np.median(other)):g}{unit}"
        what += f" in {len(other) / len(apart):.0%} of rows"
        remedy = "if rows were written when something changed, choose `every` as the model should see them"
        findings.add("warning", named, what, remedy, kind="mixed")


def _longer(schema: Schema, usual: float) -> str:
    width = schema.time.width * max(round(usual), 2)
    return f'every = "{width:g}"' if schema.time.kind == "counter" else f'every = "{width:g}s"'


def merged(values: NDArray[np.float64], starts: NDArray[np.int64], schema: Schema) -> NDArray[np.float64]:
    """The rows of each step, which begin at `starts`, as one: the mean, or the last reading of each column; NaN where
    there is none.
    """
    if len(starts) == len(values):
        return values
    there = np.isfinite(values)
    at = np.maximum.reduceat(np.where(there, np.arange(len(values))[:, None], -1), starts, axis=0)
    last = np.where(at >= 0, np.take_along_axis(values, np.maximum(at, 0), axis=0), math.nan)
    if schema.time.between == "mean":
        count = np.add.reduceat(there, starts, axis=0, dtype=np.int64)
        total = np.add.reduceat(np.where(there, values, 0.0), starts, axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), math.nan)
        # Between two words there is nothing.
        return np.where([bool(channel.words) for channel in schema.channels], last, mean)
    return last
