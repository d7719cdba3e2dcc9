"""The rows of a request as numbers: JSON, a JSON table, lines of JSON, or CSV; each row stands or falls by itself.

A row names its unit (`unit`, or the fleet file's `unit_column`, of which there may be several), its time (`time` or the
file's time column; `index` where the file has none), and its values by the columns' names or headers. What is left out
is missing.
"""

import contextlib
import csv
import difflib
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from driftloop import durable
from driftloop.errors import DataError, JsonError
from driftloop.fleet import cells
from driftloop.fleet.columns import joined_names, on_the_day, unit_names
from driftloop.fleet.schema import Schema, folded
from driftloop.protocol import problems
from driftloop.protocol.problems import refusal

LONGEST_NAME = 128
JSON, LINES, CSV = "application/json", "application/x-ndjson", "text/csv"
_LINES = (LINES, "application/ndjson", "application/jsonl", "application/x-jsonlines")
_DELIMITERS = (",", ";", "\t")
_BEYOND_COUNTING = 2.0**53
"""From here on a number and the next one are the same."""
_EARLIEST = 86400.0
"""1970-01-02: clocks that were never set begin at 1970, or at the year 1."""
_UNIT, _TIME, _COMPARED, _ENDED, _OUT, _OF_DAY = -1, -2, -3, -4, -5, -6
_PART = -10
"""The first of several columns that name the unit together; the next ones are below it."""


class Row(NamedTuple):
    """One row as it is kept."""

    unit: str
    time: float
    """Counts, or seconds since 1970."""
    values: tuple[float, ...]
    """In the order of the fleet's columns; NaN is missing."""
    compared: float | None
    """The reading that the end's threshold is for."""
    ended: bool
    """The end's column says that the unit has failed."""
    out: bool
    """The censored column says that the unit was taken out."""


class BadRow(NamedTuple):
    """A row that cannot be kept: the field, and what is wrong with it."""

    field: str
    message: str
    unit: str | None = None


class _NoJson(NamedTuple):
    """A number that Python writes into JSON though JSON has none such: NaN, Infinity, -Infinity."""

    text: str


class Reader:
    """Reads rows of one fleet."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        special: dict[str | None, int] = {"unit": _UNIT, "time": _TIME, "index": _TIME, schema.time.column: _TIME}
        special |= {} if schema.time.of_day is UNSET else {schema.time.of_day: _OF_DAY}
        keys = schema.unit_columns
        special |= {keys[0]: _UNIT} if len(keys) == 1 else {header: _PART - at for at, header in enumerate(keys)}
        channels = {name: at for at, one in enumerate(schema.channels) for name in (one.header, one.name)}
        self._places: dict[str, int] = {**{name: at for name, at in special.items() if name}, **channels}
        self._compared: int | None = None
        if schema.end.sensor is not None:
            found = [at for at, one in enumerate(schema.channels) if schema.end.sensor in (one.name, one.header)]
            self._compared = found[0] if found else None
            if not found:
                self._places[schema.end.sensor] = _COMPARED
        if schema.end.flag is not None:
            self._places[schema.end.flag] = _ENDED
        if schema.censored.column is not None and schema.censored.file is None:
            self._places[schema.censored.column] = _OUT
        self._codes = {at: one.codes() for at, one in enumerate(schema.channels) if one.words}
        self._refused = [at for at, channel in enumerate(schema.channels) if channel.missing == "refuse"]
        self._words = {value.strip().lower() for value in schema.missing_values if isinstance(value, str)}
        self._absent = frozenset(float(value) for value in schema.missing_values if not isinstance(value, str))
        self._whole = schema.time.kind == "counter" and schema.time.every is None
        self._none = (math.nan,) * schema.n_columns

    def read(self, body: bytes, content_type: str) -> list[Row | BadRow]:
        """The rows of a body, in order; RequestRefused where it holds no rows at all."""
        if not body.strip():
            raise refusal(422, "body", "is empty; send at least one row")
        kind = content_type.partition(";")[0].strip().lower()
        if kind == CSV:
            return self._csv(body)
        if kind in _LINES:
            return [self._line(line) for line in body.splitlines() if line.strip()]
        if kind not in ("", JSON):
            raise refusal(415, "Content-Type", f"is {kind[:80]}; send {JSON}, {LINES} or {CSV}")
        try:
            found = _decoded(body)
        except JsonError as error:
            raise problems.of_json(error) from error
        if isinstance(found, dict) and isinstance(found.get("rows"), list):
            columns = found.get("columns")
            if columns is None:
                return [self.row(one) for one in found["rows"]]
            if isinstance(columns, list) and all(isinstance(name, str) for name in columns):
                return [self._listed(columns, one) for one in found["rows"]]
            raise refusal(422, "columns", "must be a list of names")
        if isinstance(found, list):
            return [self.row(one) for one in found]
        if isinstance(found, dict):
            return [self.row(found)]
        raise refusal(422, "body", 'must be a row, a list of rows, or {"rows": [...]}')

    def _line(self, line: bytes) -> Row | BadRow:
        try:
            return self.row(_decoded(line))
        except JsonError as error:
            return BadRow("row", f"is not JSON: {error.message}")

    def _csv(self, body: bytes) -> list[Row | BadRow]:
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise refusal(400, "body", "is not UTF-8 text") from error
        first = text.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=first.count)
        try:
            lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line]
        except csv.Error as error:
            raise refusal(400, "body", f"is no CSV: {error}") from error
        header = [name.strip() for name in lines[0]] if lines else []
        if not any(name in self._places for name in header):
            raise refusal(422, "body", "must begin with a line of column names, with commas or semicolons between them")
        strange = [name for name in header if name not in self._places]
        if strange and not lines[1:]:
            what = f"has no rows, and {strange[0][:40]!r} in its line of names is no column of {self.schema.name}"
            raise refusal(422, "body", f"{what}; are line ends lost? curl keeps them with --data-binary, not with -d")
        decimal: cells.Decimal = "."
        if delimiter != ",":
            try:
                decimal = cells.decimal_of((cell for line in lines[1:] for cell in line), delimiter, "body")
            except DataError as error:
                raise refusal(422, "body", error.what) from error
        return [self._listed(header, line, decimal) for line in lines[1:]]

    def _listed(self, columns: list[str], given: Any, decimal: cells.Decimal = ".") -> Row | BadRow:
        if not isinstance(given, list) or len(given) != len(columns):
            found = f"{len(given)} values" if isinstance(given, list) else "no list"
            return BadRow("row", f"has {found}, where there are {len(columns)} columns")
        return self._row(zip(columns, given, strict=True), decimal)

    def row(self, given: Any) -> Row | BadRow:
        """One row as an object."""
        if not isinstance(given, Mapping):
            return BadRow("row", "is no object with the values by name")
        return self._row(given.items())

    def _row(  # noqa: PLR0911, PLR0912 - one pass over a row
        self, given: Iterable[tuple[str, Any]], decimal: cells.Decimal = "."
    ) -> Row | BadRow:
        values = list(self._none)
        unit: Any = None
        time: Any = None
        of_day: Any = None
        compared: float | None = None
        ended = out = False
        said: dict[int, Any] = {}
        parts: dict[int, Any] = {}
        codes = self._codes
        for key, value in given:
            at = self._places.get(key)
            if at is None:
                near = difflib.get_close_matches(key, self._places, n=1)
                hint = f"; is it {near[0]!r}?" if near else ""
                return BadRow(key[:80], f"is no column of {self.schema.name}{hint}", _named(unit))
            if said.setdefault(at, value) != value:
                other = f"and by another name of the same column {_shown(said[at])}"
                return BadRow(key, f"is {_shown(value)}, {other}", _named(unit))
            if at >= 0:
                number = value if type(value) is float else self._number(value, decimal)
                if codes and at in codes:
                    number = self._coded(value, number, codes[at])
                    if number is None:
                        return BadRow(key, f"is {_shown(value)}, none of {', '.join(codes[at])}", _named(unit))
                if number is None or abs(number) > cells.LARGEST:
                    return BadRow(key, f"is {_shown(value)}, no number that can be kept", _named(unit))
                values[at] = math.nan if number in self._absent else number + 0.0
            elif at == _UNIT:
                unit = value
            elif at == _TIME:
                time = value
            elif at == _OF_DAY:
                of_day = value
            elif at <= _PART:
                parts[_PART - at] = value
            elif at == _COMPARED:
                compared = self._number(value, decimal)
            elif at == _ENDED:
                ended = cells.is_true(_text(value), self.schema.end.value)
            else:
                out = cells.is_true(_text(value), self.schema.censored.value)
        if parts and unit is None:
            unit = self._joined(parts)
        name = _named(unit)
        if name is None:
            return BadRow("unit", _no_name(unit))
        moment = self._moment(time if of_day is None else on_the_day([_text(time)], [_text(of_day)])[0], decimal)
        if isinstance(moment, BadRow):
            return moment._replace(unit=name)
        for at in self._refused:
            if math.isnan(values[at]):
                return BadRow(self.schema.columns[at], "is missing", name)
        if self._compared is not None:
            compared = values[self._compared]
        return Row(name, moment, tuple(values), compared, ended, out)

    def _joined(self, parts: Mapping[int, Any]) -> str:
        """What several columns name together, as files are read; empty where one of them says nothing."""
        texts = [[_text(parts.get(at))] for at in range(len(self.schema.unit_columns))]
        return joined_names([unit_names(text) for text in texts])[0]

    def _coded(self, value: Any, number: float | None, codes: Mapping[str, float]) -> float | None:
        """The number of a word, or of what is its number already; NaN where it is missing, None for any other."""
        if isinstance(value, str) and folded(value) in codes:
            return codes[folded(value)]
        return number if number is not None and (math.isnan(number) or number in codes.values()) else None

    def _number(self, value: Any, decimal: cells.Decimal) -> float | None:
        """A value as a number, NaN where it is missing, None where it is none."""
        if value is None:
            return math.nan
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            try:
                return float(value)
            except OverflowError:
                return None
        if not isinstance(value, str):
            return None
        return math.nan if value.strip().lower() in self._words else cells.number(value, decimal)

    def _moment(self, value: Any, decimal: cells.Decimal) -> float | BadRow:
        """The time of a row by the fleet file's rules."""
        field = self.schema.time.column or "index"
        if value is None or value == "":
            return BadRow(field, "is missing: without it the same row could not be known again")
        if self.schema.time.kind == "timestamp":
            return self._on_the_clock(field, value)
        number = self._number(value, decimal)
        if number is None or not math.isfinite(number):
            return BadRow(field, f"is {_shown(value)}, no number")
        if abs(number) / self.schema.time.width >= _BEYOND_COUNTING:
            return BadRow(field, f"is {_shown(value)}, more than can be counted in steps")
        if self._whole and number != math.floor(number):
            return BadRow(field, f"is {_shown(value)}, no whole number")
        return number + 0.0

    def _on_the_clock(self, field: str, value: Any) -> float | BadRow:
        found = None if isinstance(value, bool) else cells.moment(_text(value))
        if found is None or found.day_first != found.month_first:
            why = "no time" if found is None else "and nobody knows whether day or month come first"
            return BadRow(field, f"is {_shown(value)}, {why}; write 2024-02-01T13:45:00Z")
        if found.day_first < _EARLIEST:
            return BadRow(field, f"is {_shown(value)}, as a clock says that was never set")
        return found.day_first


def _decoded(body: bytes) -> Any:
    """What JSON says, with numbers that nobody can keep in their places, so that only their rows are refused."""
    try:
        return durable.decode_json(body)
    except JsonError:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(body, parse_constant=_NoJson)
        raise


def _named(unit: Any) -> str | None:
    """A unit's name; None where it is none."""
    if isinstance(unit, bool) or not isinstance(unit, str | int | float):
        return None
    [name] = unit_names(np.array([unit]) if isinstance(unit, float) else [_text(unit)])
    return name if 0 < len(name) <= LONGEST_NAME and name.isprintable() and _can_be_asked_for(name) else None


def _can_be_asked_for(name: str) -> bool:
    """Whether an address may end with it: a path is cut at `/`, and `.` and `..` are left out of it."""
    return "/" not in name and name not in (".", "..")


def _no_name(unit: Any) -> str:
    if unit is None or unit == "":
        return "is missing: nobody knows whose row this is"
    return f"is {_shown(unit)}, not a name of 1 to {LONGEST_NAME} printable characters without /, nor . or .."


def name_of(unit: str) -> str:
    """A unit's name as people wrote it elsewhere; RequestRefused where it can be none."""
    name = _named(unit)
    if name is None:
        raise refusal(422, "unit", _no_name(unit))
    return name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode() if value is not None else ""


def _shown(value: Any) -> str:
    if isinstance(value, _NoJson):
        return f"{value.text} (JSON has none: send null)"
    if isinstance(value, float):
        return f"{value:.17g}"
    return repr(value.strip()[:40]) if isinstance(value, str) else _text(value)[:40]
