"""What columns a table has, before anybody has said what they mean: numbers or words, how many, alike within units."""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells, folders
from driftloop.fleet.columns import unit_names
from driftloop.fleet.foreign import NoTable
from driftloop.fleet.sheets import Sheet, open_sheet, repaired
from driftloop.fleet.strays import called_a_table

MOST_ROWS = 200_000
"""Rows that a guess looks at."""
_BESIDE = 50
"""Tables in the folder of the data that are looked at, though nobody named them."""
_LEAST_OF_EACH = 500
"""Rows that are looked at of each file, where one alone is large enough for all."""
_ROWS_BESIDE = 10_000
"""Rows that are looked at of a table beside the data."""
_TYPOS = 0.02
"""Share of cells that are no numbers up to which a column holds numbers all the same."""
_WORDS, _MOST_WORDS = 0.2, 8
"""The same, and how many distinct ones, where the words come again and again."""
_TRUE = frozenset(("1", "1.0", "yes", "y", "true", "t", "on"))
_UNITS = {"ah": "Ah", "ohm": "ohm", "pct": "%", "percent": "%", "rpm": "rpm", "bar": "bar", "psi": "psi", "kpa": "kPa"}
_UNITS |= {
    "mm": "mm",
    "hz": "Hz",
    "v": "V",
    "a": "A",
    "w": "W",
    "kw": "kW",
    "s": "s",
    "ms": "ms",
    "min": "min",
    "h": "h",
}


@dataclass(frozen=True)
class Column:
    """One column of all files."""

    header: str
    position: int
    texts: Sequence[str]
    """The cells as they are written; of Parquet as numbers would be."""
    numbers: NDArray[np.float64] | None
    """The cells as numbers, where nearly all are some; NaN for the others."""
    unit: str = ""
    values: tuple[str, ...] = ()
    """Words that are numbers here, in the order of these."""
    absent: tuple[str, ...] = ()
    """Words that come again and again among the numbers, such as what a data logger writes for no value."""

    @property
    def plain(self) -> str:
        """The header in lower case, words divided by one underscore."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.header)
        return re.sub(r"[\W_]+", "_", re.sub(r"[\[(].*?[\])]", "", words)).strip("_").lower()

    @cached_property
    def names(self) -> list[str]:
        """The cells as names of units."""
        return unit_names(self.texts)

    @cached_property
    def words(self) -> dict[str, int]:
        """The distinct cells that are not missing, each with how often it is there."""
        found: dict[str, int] = {}
        for text in self.texts:
            stripped = text.strip()
            if stripped.lower() not in cells.MISSING:
                found[stripped] = found.get(stripped, 0) + 1
        return found

    @property
    def missing(self) -> float:
        """Share of cells that say nothing."""
        there = sum(self.words.values()) if self.numbers is None else len(self.told)
        return 1 - there / max(len(self.texts), 1)

    @property
    def told(self) -> NDArray[np.float64]:
        """The numbers that are there."""
        found = np.empty(0) if self.numbers is None else self.numbers
        return np.asarray(found[np.isfinite(found)], dtype=np.float64)

    @property
    def constant(self) -> bool:
        """Whether all cells say the same."""
        return len(self.words) == 1 or (len(self.told) > 0 and bool(self.told.min() == self.told.max()))

    @property
    def says_yes(self) -> bool:
        """Whether all cells say yes or no."""
        return 1 <= len(self.words) <= 2 and {word.lower() for word in self.words} <= cells.FALSE | _TRUE

    @property
    def measure(self) -> str:
        """The unit of measurement that the file or the header says."""
        if self.unit and self.unit != "-":
            return self.unit
        told = re.search(r"[\[(]([^\[\]()]{1,12})[\])]\s*$", self.header)
        if told:
            return told[1].strip()
        # `power_kW` ends with kW; in `oilPressureBar` a capital begins the word.
        own = re.split(r"[\W_]+", self.header.strip())[-1].lower()
        tail = own if len(own) <= 3 else self.plain.rpartition("_")[2]
        if tail in ("c", "degc") and "temp" in self.plain:
            return "°C"
        if self.plain.endswith("c_rate"):
            return "C"
        return _UNITS.get(tail, "") if "_" in self.plain else ""


@dataclass(frozen=True)
class Inventory:
    """The columns of all files of a fleet, and other tables beside them."""

    columns: list[Column]
    file: NDArray[np.int64]
    """Which file each row is in."""
    paths: list[Path]
    beside: dict[Path, list[Column]] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    """Headers that more than one column has."""
    unnamed: frozenset[Path] = frozenset()
    """Those of the tables beside that nobody named: they are in the same folder."""

    @property
    def unit_from(self) -> Literal["folder"] | UnsetType:
        """What is a unit where no column names one: a folder, or else a file."""
        return "folder" if folders.each_is_a_unit(self.paths) else UNSET

    @property
    def own(self) -> NDArray[np.int64]:
        """Which file, or folder where these are units, each row is in."""
        parents = list(dict.fromkeys(path.parent for path in self.paths))
        if self.unit_from is UNSET:
            return self.file
        return np.array([parents.index(path.parent) for path in self.paths])[self.file]

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.file)


def take(paths: Sequence[Path], strays: Sequence[Path] = ()) -> Inventory:
    """The columns of files that have the same headers; others are tables beside them.

    Raises DataError for a file that is no table; those among `strays` are left alone then.
    """
    sheets = []
    for path in paths:
        try:
            sheets.append(open_sheet(path))
        except NoTable:
            if path not in strays:
                raise
    if not sheets:
        raise DataError("there are no tables", where=str(paths[0].parent), remedy="name files of rows with a header")
    groups: dict[frozenset[str], list[Sheet]] = {}
    for sheet in sheets:
        groups.setdefault(frozenset(header.casefold() for header in sheet.headers), []).append(sheet)
    main = max(groups.values(), key=lambda group: sum(sheet.path.stat().st_size for sheet in group))
    others = [sheet for sheet in sheets if sheet not in main]
    known = {sheet.path.resolve() for sheet in sheets}
    columns, file = _columns(main, MOST_ROWS)
    beside: dict[Path, list[Column]] = {}
    for sheet in others:
        try:
            beside[sheet.path] = _columns([sheet], _ROWS_BESIDE)[0]
        except DataError:  # a text that is no table, though it looked like one
            if sheet.path not in strays:
                raise
    unnamed = {sheet.path: theirs for sheet, theirs in _unnamed(main, known)}
    repeated = tuple(header for header in dict.fromkeys(main[0].headers) if header and _count(main[0], header) > 1)
    named = [sheet.path for sheet in main]
    return Inventory(columns, file, named, beside | unnamed, repeated, frozenset(unnamed))


def _unnamed(main: Sequence[Sheet], known: Collection[Path]) -> Iterator[tuple[Sheet, list[Column]]]:
    """Tables that nobody named, in the folders of the data, with other columns: one may tell when units failed."""
    headers = {header.casefold() for header in main[0].headers}
    own = list(dict.fromkeys(sheet.path.parent for sheet in main))
    # Where units are folders, the table lies above them.
    for folder in dict.fromkeys([*own, *(folder.parent for folder in own)] if len(own) > 1 else own):
        paths = (path for path in sorted(folder.iterdir()) if called_a_table(path) and path.resolve() not in known)
        for path in itertools.islice(paths, _BESIDE):
            with suppress(DataError):
                sheet = open_sheet(path)
                if {header.casefold() for header in sheet.headers} != headers:
                    yield sheet, _columns([sheet], _ROWS_BESIDE)[0]


def _count(sheet: Sheet, header: str) -> int:
    """How many columns are called so, but for case and spaces."""
    plain = "".join(header.casefold().split())
    return sum("".join(other.casefold().split()) == plain for other in sheet.headers)


def _columns(sheets: Sequence[Sheet], most: int) -> tuple[list[Column], NDArray[np.int64]]:
    """The columns of some sheets, of `most` rows at the most, and the sheet of each row.

    Where the first sheet alone has as many, the same number is taken of each: it may be a day of many units.
    """
    headers = [header for header in sheets[0].headers if header and _count(sheets[0], header) == 1]
    if not headers:
        where = sheets[0].where(max(sheets[0].before, 1))
        raise DataError("has no column with a name of its own", where=where, remedy="give each column one")
    texts, file = _rows(sheets, headers, most, most)
    if len(sheets) > 1 and file and file[-1] == 0 and len(file) >= most:
        texts, file = _rows(sheets, headers, most, max(most // len(sheets), _LEAST_OF_EACH))
    if not file:
        raise DataError("has no rows", where=str(sheets[0].path))
    columns = []
    for position, header in enumerate(headers):
        numbers, bad = cells.numbers(texts[header], ".")
        # Of the cells that say something: a column of gaps and a few words holds no numbers.
        told = len(bad) + int(np.isfinite(numbers).sum())
        absent = _absent([texts[header][at].strip() for at in bad]) if len(bad) <= _WORDS * told else ()
        columns.append(
            Column(
                header=header,
                position=position,
                texts=texts[header],
                numbers=numbers if absent or len(bad) <= _TYPOS * told else None,
                unit=sheets[0].units.get(header, ""),
                absent=absent,
            )
        )
    return columns, np.array(file)


def _rows(
    sheets: Sequence[Sheet], headers: Sequence[str], most: int, each: int
) -> tuple[dict[str, list[str]], list[int]]:
    """The first cells of columns, of at most `each` rows of a sheet and `most` of all, and the sheet of each row."""
    texts: dict[str, list[str]] = {header: [] for header in headers}
    file: list[int] = []
    for number, sheet in enumerate(sheets):
        spelt = [header.casefold() for header in sheet.headers]
        left = min(each, most - len(file))
        for chunk in sheet.chunks([spelt.index(header.casefold()) for header in headers]) if left > 0 else ():
            for header, found in zip(headers, chunk.columns, strict=True):
                texts[header].extend(_texts(found[:left], sheet))
            file.extend([number] * min(left, len(chunk.rows)))
            left -= len(chunk.rows)
            if left <= 0:
                break
    return texts, file


def _absent(words: Sequence[str]) -> tuple[str, ...]:
    """The distinct words among numbers, where these are few and each comes again; else none."""
    found = Counter(words)
    again = len(found) <= _MOST_WORDS and min(found.values(), default=0) > 1
    return tuple(found) if again and all(cells.number(word, ".") is None for word in found) else ()


def _texts(found: Sequence[str] | NDArray[np.float64], sheet: Sheet) -> list[str]:
    if isinstance(found, np.ndarray):
        return unit_names(found)
    if sheet.decimal == ".":
        return [repaired(cell) for cell in found]
    return [_pointed(repaired(cell)) for cell in found]


def _pointed(cell: str) -> str:
    """A number with a decimal comma as one with a point; any other cell as it is."""
    value = cells.number(cell, ",")
    return cell if value is None or not np.isfinite(value) else repr(value)
