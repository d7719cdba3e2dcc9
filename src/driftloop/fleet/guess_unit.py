"""Whose row each row is, as it seems: a column, several that only together name a unit, or one unit in each file."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells
from driftloop.fleet.columns import joined_names
from driftloop.fleet.guess_time import Clocked, find_time, moving
from driftloop.fleet.inventory import Column, Inventory
from driftloop.fleet.schema import Headers

_THING = (
    "unit|engine|asset|machine|device|equipment|cell|battery|pump|bearing|vehicle|turbine|motor|drive|filter|component"
    "|compressor|valve|fan|tool|item|sample|specimen|robot|truck|train|pack|module|plant|station|serial|sn|tag|uid"
)
_UNIT = re.compile(rf"({_THING})s?(_?(id|no|nr|num|number|name|code|key|serial(_number)?))?|id|name")
_ANY_ID = re.compile(r"\w+_(id|uid|uuid|serial|serial_number)")
"""Whatever has an id, such as `disk_id`."""
_ROW = re.compile("sample|item|specimen|tag|name|id")
"""What may be called as a unit, and number the rows of a step."""
_NO_WORD = ("serial", "sn", "tag", "uid", "id", "name")
_GAPS = 0.5
"""Share of rows without a unit up to which its column is one with gaps, which the check names."""
_ONE_EACH = 0.9
"""Share of rows with a time of their own from which on rows are one for each step."""
_ENDS_APART = 0.5
"""Share of units of which the parts end at other times, from which on the parts are units."""
_PARTS = 50
"""Distinct values of a column that may tell units apart."""


def is_thing(plain: str) -> bool:
    """Whether a header is that of one unit, such as `pump_3`."""
    return re.fullmatch(rf"({_THING})s?_?(no_|nr_)?\d+", plain) is not None


@dataclass(frozen=True)
class Key:
    """The columns that name a unit."""

    columns: tuple[Column, ...]

    @property
    def headers(self) -> Headers:
        """As a fleet file has them."""
        return self.columns[0].header if len(self.columns) == 1 else tuple(column.header for column in self.columns)

    @cached_property
    def names(self) -> list[str]:
        """The unit of each row."""
        return joined_names([column.names for column in self.columns])

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """The same as numbers from 0 on."""
        return np.unique(self.names, return_inverse=True)[1].reshape(-1)

    @property
    def word(self) -> str:
        """What a unit is called: what the last header says, where that is a word."""
        plain = self.columns[-1].plain
        match = re.match(rf"({_THING})s?(_|$)", plain) or re.match(r"([a-z]+)_(id|uid|uuid|serial)", plain)
        word = match[1] if match else plain
        return word if word.isalpha() and len(word) <= 24 and word not in _NO_WORD else "unit"


def find_unit(data: Inventory, free: Sequence[Column]) -> Key | None:
    """The column that says whose row it is: by its header, else the first whose values come in blocks.

    Of several files each is one unit, unless the time runs backwards within one, or words come in blocks there, or each
    file is a moment of all units: then a column with an id is looked for. Raises DataError where there is none.
    """
    named = [column for column in free if _UNIT.fullmatch(column.plain) and column.missing < _GAPS]
    named.sort(key=lambda column: column.plain in ("id", "name"))
    named = [column for column in named if 1 <= len(column.words) <= max(data.n // 2, 1)]
    if named:
        # Of a plant and its pumps the pumps are the units.
        return Key((functools.reduce(lambda best, other: other if _within(other, best) else best, named),))
    ids = [column for column in free if _ANY_ID.fullmatch(column.plain) and column.missing < _GAPS]
    ids = [column for column in ids if 2 <= len(column.words) <= max(data.n // 2, 1)]
    moment = _moment_of_files(data, free)
    if moment is not None:
        if not ids:
            what = f"and the files beside it are each one {moment.header}, and no column says whose row it is"
            remedy = "write the unit into a column such as `unit`, or name its column: unit_column"
            raise DataError(what, where=str(data.paths[0]), remedy=remedy)
        return Key((ids[0],))
    several, clocked = len(data.paths) > 1, find_time(free, data.file)
    one_each = several and (clocked is None or bool((_steps(clocked.values, data.file) >= 0).all()))
    for column in [*ids, *(column for column in free if clocked is None or column is not clocked.column)]:
        if several and (len(column.words) <= len(data.paths) or (one_each and column.numbers is not None)):
            continue
        whole = column.numbers is None or bool((column.told == np.floor(column.told)).all())
        if column.missing == 0 and whole and 2 <= len(column.words) <= data.n // 5:
            changes = sum(a != b for a, b in zip(column.names, column.names[1:], strict=False))
            if changes == len(set(column.names)) - 1 and not column.says_yes:
                return Key((column,))
    return None


def _moment_of_files(data: Inventory, free: Sequence[Column]) -> Column | None:
    """The column of times of which each file has one, as where a file is a day of all units."""
    if len(data.paths) < 3:
        return None
    first = np.flatnonzero(np.diff(data.file, prepend=-1)).tolist()
    for column in free:
        of_files = [column.texts[at].strip() for at in first]
        moments = len(set(of_files)) == len(of_files) and all(cells.moment(text) is not None for text in of_files)
        if moments and all(text.strip() == of_files[at] for text, at in zip(column.texts, data.file, strict=True)):
            return column
    return None


def _within(inner: Column, outer: Column) -> bool:
    """Whether each unit of one column is of one unit of the other, which has several."""
    pairs = len(set(zip(inner.names, outer.names, strict=True)))
    return pairs == len(set(inner.names)) > len(set(outer.names))


def _steps(values: NDArray[np.float64], files: NDArray[np.int64]) -> NDArray[np.float64]:
    """By how much a value grows from row to row within files."""
    return np.asarray(np.diff(values)[np.diff(files) == 0], dtype=np.float64)


def told_apart(key: Key, free: Sequence[Column], clocked: Clocked) -> Key | None:
    """The key with another column, where several rows of a unit have one time and that column tells these apart."""
    if moving(clocked.values, key.codes) >= _ONE_EACH:
        return None
    for column in [column for column in free if 2 <= len(column.words) <= _PARTS and column.missing == 0]:
        both = Key((*key.columns, column))
        if moving(clocked.values, both.codes) >= _ONE_EACH:
            return both
    return None


def lives_apart(key: Key, both: Key, clocked: Clocked) -> bool:
    """Whether what a further column tells apart are units: it is called so, or their rows end at other times."""
    if _UNIT.fullmatch(both.columns[-1].plain) and not _ROW.match(both.columns[-1].plain):
        return True
    ends = np.full(int(both.codes.max()) + 1, -np.inf)
    np.maximum.at(ends, both.codes, clocked.values)
    of = np.zeros(len(ends), np.int64)
    of[both.codes] = key.codes
    spread = [np.ptp(ends[of == unit]) for unit in np.unique(of) if (of == unit).sum() > 1]
    return len(spread) > 0 and float(np.mean(np.array(spread) > 0)) > _ENDS_APART


def differs_in_each_row(free: Sequence[Column], n: int) -> Column | None:
    """A column that is called as a unit's, and is another in nearly every row: such rows are no lives of units."""
    named = [column for column in free if _UNIT.fullmatch(column.plain) or _ANY_ID.fullmatch(column.plain)]
    named = [column for column in named if column.plain not in ("id", "name")]
    return next((column for column in named if n > 1 and len(column.words) > n // 2 and column.numbers is None), None)
