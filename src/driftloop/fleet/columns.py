"""The columns of a sheet that a fleet file names, found by their headers and read as numbers, times and flags."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells, names
from driftloop.fleet.findings import Findings
from driftloop.fleet.schema import Schema, Value, folded, headers_of
from driftloop.fleet.sheets import Chunk, Sheet, open_sheet, repaired
from driftloop.fleet.times import Clock

Cells = Sequence[str] | NDArray[np.float64]
Keys = dict[str, tuple[str, ...]]
"""What several columns together say of a unit, by the name that this becomes."""


@dataclass(frozen=True)
class Located:
    """Where in a sheet the columns of a fleet are."""

    wanted: list[int]
    """Positions in the sheet, as they are read."""
    unit: list[int]
    """Positions among `wanted`, from here on; none where the file is one unit."""
    time: int | None
    of_day: int | None
    channels: list[int]
    compared: int | None
    ended: int | None
    flagged: int | None
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """Some rows of one file, as numbers."""

    file: int
    row: NDArray[np.int64]
    unit: NDArray[np.int64]
    time: NDArray[np.float64] | None
    values: NDArray[np.float64]
    compared: NDArray[np.float64] | None
    ended: NDArray[np.bool_] | None
    flagged: NDArray[np.bool_]


def locate(sheet: Sheet, schema: Schema) -> Located:
    """Find the columns of a fleet in a sheet; raises DataError that names all those that are not there."""
    wanted: list[int] = []
    absent: list[str] = []

    def find(*spellings: str) -> int:
        at = _position(sheet, spellings)
        if at is None:
            absent.append(spellings[0])
            return 0
        if at not in wanted:
            wanted.append(at)
        return wanted.index(at)

    unit = [find(header) for header in schema.unit_columns]
    time = None if schema.time.column is None else find(schema.time.column)
    of_day = None if schema.time.of_day is UNSET else find(schema.time.of_day)
    channels = [find(channel.header, channel.name) for channel in schema.channels]
    compared = None
    if schema.end.sensor is not None:
        channel = next((c for c in schema.channels if schema.end.sensor in (c.name, c.header)), None)
        compared = find(channel.header, channel.name) if channel else find(schema.end.sensor)
    ended = None if schema.end.flag is None else find(schema.end.flag)
    in_data = schema.censored.column if schema.censored.file is None else None
    flagged = None if in_data is None else find(in_data)
    if absent:
        raise _absent(sheet, absent)
    left_out = tuple(header for at, header in enumerate(sheet.headers) if at not in wanted and header)
    return Located(wanted, unit, time, of_day, channels, compared, ended, flagged, left_out)


def is_foreign(sheet: Sheet, schema: Schema) -> bool:
    """Whether a sheet has no sensor of a fleet: a table of something else that lies beside the data."""
    return all(_position(sheet, (channel.header, channel.name)) is None for channel in schema.sensors)


def _position(sheet: Sheet, spellings: Sequence[str]) -> int | None:
    """Where a header is: spelt the same, or but for case and spaces; raises DataError where it is there twice."""
    for same in (str.strip, lambda text: "".join(text.casefold().split())):
        for spelling in spellings:
            found = [at for at, header in enumerate(sheet.headers) if same(header) == same(spelling)]
            if len(found) > 1:
                what = f"has {len(found)} columns called {spelling!r}"
                raise DataError(what, where=sheet.where(max(sheet.before, 1)), remedy="give each a name of its own")
            if found:
                return found[0]
    return None


def _absent(sheet: Sheet, absent: Sequence[str]) -> DataError:
    near = {name: difflib.get_close_matches(name, sheet.headers, n=1) for name in absent}
    said = ", ".join(f"{name!r}" + (f" (is it {close[0]!r}?)" if close else "") for name, close in near.items())
    shown = ", ".join(sheet.headers[:30]) + (", …" if len(sheet.headers) > 30 else "")
    remedy = "write the header as `source` of the column in the fleet file, or correct the header"
    return DataError(f"has no column {said}; there are {shown}", where=str(sheet.path), remedy=remedy)


class Columns:
    """Reads the columns of one sheet, chunk by chunk; what cannot be read is told and missing."""

    def __init__(
        self, sheet: Sheet, located: Located, schema: Schema, findings: Findings, clock: Clock, keys: Keys
    ) -> None:
        self._sheet, self._located, self._schema = sheet, located, schema
        self._findings, self._clock, self._keys = findings, clock, keys
        self._codes = [channel.codes() for channel in schema.channels]

    def cut(self, chunk: Chunk, codes: dict[str, int], file: int, name: str | None, prefix: str) -> Cut:
        """One chunk as numbers. Units get codes in the order in which they come up; `name` is the file's only unit."""
        at, schema = self._located, self._schema
        n = len(chunk.rows)
        if not at.unit:
            unit = np.full(n, codes.setdefault(str(name), len(codes)), dtype=np.int64)
        else:
            unit = self._units(chunk, [chunk.columns[position] for position in at.unit], codes, prefix)
        time = None
        if at.time is not None:
            told = chunk.columns[at.time]
            time = self._time(chunk, told if at.of_day is None else on_the_day(told, chunk.columns[at.of_day]))
        values = np.empty((n, schema.n_columns))
        for i, (position, channel) in enumerate(zip(at.channels, schema.channels, strict=True)):
            if self._codes[i]:
                values[:, i] = self._coded(chunk, chunk.columns[position], channel.header, self._codes[i])
            else:
                values[:, i] = self._numbers(chunk, chunk.columns[position], channel.header)
        compared = None
        if at.compared is not None:
            compared = self._numbers(chunk, chunk.columns[at.compared], str(schema.end.sensor))
        ended = None if at.ended is None else flags(chunk.columns[at.ended], schema.end.value)
        flagged = np.zeros(n, dtype=np.bool_)
        if at.flagged is not None:
            flagged = flags(chunk.columns[at.flagged], schema.censored.value)
        return Cut(file, chunk.rows, unit, time, values, compared, ended, flagged)

    def _units(self, chunk: Chunk, found: Sequence[Cells], codes: dict[str, int], prefix: str) -> NDArray[np.int64]:
        parts = [unit_names(cells) for cells in found]
        for header, named in zip(self._schema.unit_columns, parts, strict=True):
            for at in [at for at, unit in enumerate(named) if not unit]:
                what = f"{header} is empty: nobody knows whose row this is"
                self._tell(chunk, at, what, "write the unit's name, or remove the line", "no unit")
        joined = joined_names(parts)
        if len(parts) > 1:
            self._refuse_alike(chunk, joined, list(zip(*parts, strict=True)))
        return np.array([codes.setdefault(prefix + unit, len(codes)) for unit in joined], dtype=np.int64)

    def _refuse_alike(self, chunk: Chunk, joined: Sequence[str], parts: Sequence[tuple[str, ...]]) -> None:
        """Tell of two units whose names are one when they are joined: `a-b` and `c`, `a` and `b-c`."""
        for at, (name, key) in enumerate(zip(joined, parts, strict=True)):
            known = self._keys.setdefault(name, key)
            if known != key:
                one, other = (" and ".join(map(repr, parts_of)) for parts_of in (known, key))
                what = f"{one} would be called {name}, as {other} is"
                self._tell(chunk, at, what, "write one of them without a dash", ("alike", name))

    def _time(self, chunk: Chunk, found: Cells) -> NDArray[np.float64]:
        column = str(self._schema.time.column)
        bad: list[int] = []
        if self._schema.time.kind == "timestamp":
            time, bad = self._clock.add(found)
            remedy = 'write times as ISO 8601, such as 2024-02-01T13:45:00Z; a counter is kind = "counter"'
            for at in bad:
                self._tell(chunk, at, f"{column} is {_shown(found[at])}, no time", remedy, ("time", "bad"))
        else:
            time = self._numbers(chunk, found, column)
        for at in np.setdiff1d(np.flatnonzero(np.isnan(time)), bad).tolist():
            if isinstance(found, np.ndarray) or found[at].strip().lower() in cells.MISSING:
                self._tell(chunk, at, f"{column} is missing", "write it, or remove the line", ("time", "missing"))
        return time

    def _numbers(self, chunk: Chunk, found: Cells, column: str) -> NDArray[np.float64]:
        absent = [value for value in self._schema.missing_values if not isinstance(value, str)]
        words = {value.strip().lower() for value in self._schema.missing_values if isinstance(value, str)}
        if isinstance(found, np.ndarray):
            numbers = np.where(np.abs(found) <= cells.LARGEST, found, np.nan)
            numbers[np.isin(numbers, absent)] = np.nan
            return numbers
        if words:
            found = ["" if cell.strip().lower() in words else cell for cell in found]
        numbers, bad = cells.numbers(found, self._sheet.decimal)
        numbers[np.isin(numbers, absent)] = np.nan
        for at in bad:
            large = cells.number(found[at], self._sheet.decimal) is not None
            what = f"{column} is {_shown(found[at])}, {'too large a number' if large else 'not a number'}"
            remedy = "write a number, or nothing where it is missing"
            if column != self._schema.time.column and not large:
                remedy += "; a word for missing belongs into missing_values"
            self._tell(chunk, at, what, remedy, ("number", column))
        return numbers

    def _coded(self, chunk: Chunk, found: Cells, column: str, codes: Mapping[str, float]) -> NDArray[np.float64]:
        """Words as their numbers; NaN for what is missing, and for words that the fleet file does not name."""
        nothing = cells.MISSING | {folded(str(value)) for value in self._schema.missing_values}
        words = [
            folded(word) for word in (unit_names(found) if isinstance(found, np.ndarray) else map(repaired, found))
        ]
        known = {word: codes.get(word, np.nan) for word in set(words)}
        for strange in known.keys() - codes.keys() - nothing:
            at = words.index(strange)
            what = f"{column} is {_shown(found[at])}, none of its values in the fleet file ({', '.join(codes)})"
            remedy = "add it to the column's values, or to missing_values where it means missing"
            self._tell(chunk, at, what, remedy, ("word", column, strange))
        return np.array([known[word] for word in words], dtype=np.float64)

    def _tell(self, chunk: Chunk, at: int, what: str, remedy: str, kind: object) -> None:
        where = self._sheet.where(int(chunk.rows[at]))
        self._findings.add("problem", where, what, remedy, kind=(str(self._sheet.path), kind))


def unit_names(found: Cells) -> list[str]:
    """Names of units, each in the way in which it is kept; a whole number is one name, however it is written."""
    if isinstance(found, np.ndarray):
        return [
            "" if not np.isfinite(value) else f"{value:.0f}" if value == int(value) else repr(float(value))
            for value in found
        ]
    return [_whole(names.unit(repaired(cell))) for cell in found]


def joined_names(parts: Sequence[Sequence[str]]) -> list[str]:
    """The names of units that several columns name together: `M1` and `gearbox` is `M1-gearbox`."""
    if len(parts) == 1:
        return list(parts[0])
    return ["-".join(key) if all(key) else "" for key in zip(*parts, strict=True)]


def on_the_day(dates: Cells, times: Cells) -> list[str]:
    """Dates and times of day as one cell each; empty where one of them is missing."""
    days = [_day(date) for date in dates] if isinstance(dates, np.ndarray) else dates
    return [
        f"{day.strip()} {str(time).strip()}"
        if not {day.strip().lower(), str(time).strip().lower()} & cells.MISSING
        else ""
        for day, time in zip(days, times, strict=True)
    ]


def _day(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s"))[:10] if np.isfinite(seconds) else ""


def _whole(name: str) -> str:
    head, point, tail = name.partition(".")
    return head if point and head.isdigit() and tail and not tail.strip("0") else name


def flags(found: Cells, value: Value | None) -> NDArray[np.bool_]:
    """Where a column says yes."""
    texts = [_shown(cell).strip("'") for cell in found] if isinstance(found, np.ndarray) else found
    known = {text: cells.is_true(text, value) for text in set(texts)}
    return np.array([known[text] for text in texts], dtype=np.bool_)


def _shown(cell: str | float) -> str:
    return repr(cell.strip()[:40]) if isinstance(cell, str) else f"{cell:g}"


def key_columns(sheet: Sheet, schema: Schema, given: Sequence[str]) -> list[int]:
    """Where in a table that lies beside the data the columns are that name the unit: by the headers that are `given`,
    else by those that the data have. Raises DataError naming those that are not there.
    """
    wanted: list[tuple[str, ...]] = [(header,) for header in given or schema.unit_columns]
    if not given and len(wanted) < 2:
        wanted = [(*(wanted[0] if wanted else ()), schema.unit, "unit")]
    return positions(sheet, wanted)


def positions(sheet: Sheet, wanted: Sequence[Sequence[str]]) -> list[int]:
    """Where in a table beside the data columns are, each by its spellings; raises DataError naming the others."""
    found = [_position(sheet, spellings) for spellings in wanted]
    absent = [spellings[0] for spellings, at in zip(wanted, found, strict=True) if at is None]
    if absent:
        remedy = "give the column the header that the data have, or name its own below [end] or [censored]"
        raise DataError(_absent(sheet, absent).what, where=str(sheet.path), remedy=remedy)
    return [at for at in found if at is not None]


def side_table(path: Path, schema: Schema) -> dict[str, bool]:
    """Which units a table of units says were taken out; raises DataError where it does not name them."""
    sheet = open_sheet(path)
    found: dict[str, bool] = {}
    keys = key_columns(sheet, schema, headers_of(schema.censored.unit_column))
    for chunk in sheet.chunks([*keys, *positions(sheet, [(str(schema.censored.column),)])]):
        *parts, told = chunk.columns
        names = joined_names([unit_names(part) for part in parts])
        for name, out in zip(names, flags(told, schema.censored.value), strict=True):
            found[name] = found.get(name, False) or bool(out)
    return found
