"""Tables that are no table with a row for each unit and step: refused, with what makes one of them."""

import re
from collections.abc import Sequence

import numpy as np

from driftloop.errors import DataError
from driftloop.fleet import cells
from driftloop.fleet.guess_time import Clocked
from driftloop.fleet.guess_unit import Key, is_thing
from driftloop.fleet.inventory import Column, Inventory

_TAG = re.compile(
    r"(sensor|tag|signal|channel|variable|parameter|metric|measurement|feature|attribute|point|merkmal|messgröße)s?"
    r"(_?(name|id|type|code))?"
)
_VALUE = re.compile(r"(.*_)?(value|val|reading|wert|messwert)(_.*)?")
_PARTS = ("year", "month", "day", "hour", "minute", "second")
"""Columns that are one time together."""
_SIGNS = ".:/|\\_- "
"""What may stand between unit and sensor in a tag."""
_LEAST_UNITS = 3
"""Columns that are called as units are, from which on each may be one."""


def refuse_other(free: Sequence[Column], key: Key | None, clocked: Clocked | None, data: Inventory) -> None:
    """Raise DataError for one reading in a row, one unit in a column, and a time that is divided over columns."""
    _refuse_tall(free, key, clocked, data)
    _refuse_tags(free, key, clocked, data)
    _refuse_tagged_columns(free, key, clocked, data)
    _refuse_wide(free, key, clocked, data)
    _refuse_divided(clocked, data)


def _refuse_tall(free: Sequence[Column], key: Key | None, clocked: Clocked | None, data: Inventory) -> None:
    """Of one reading in a row another column names the sensor."""
    tags = [
        column for column in free if _TAG.fullmatch(column.plain) and column.numbers is None and column.missing == 0
    ]
    values = [column for column in free if column.numbers is not None and not column.constant]
    if (
        not tags
        or len(values) != 1
        or not _VALUE.fullmatch(values[0].plain)
        or not 2 <= len(tags[0].words) <= len(tags[0].texts) // 3
    ):
        return
    index = [column.header for column in (*(key.columns if key else ()), *([clocked.column] if clocked else []))]
    what = f"has one reading in each row: {tags[0].header} says of which sensor, as {next(iter(tags[0].words))!r}"
    pivot = f"rows.pivot_table(index={index}, columns={tags[0].header!r}, values={values[0].header!r}).reset_index()"
    raise DataError(what, where=str(data.paths[0]), remedy=f"make a column of each sensor, by pandas: {pivot}")


def _refuse_tags(free: Sequence[Column], key: Key | None, clocked: Clocked | None, data: Inventory) -> None:
    """Of one reading in a row a tag names both the unit and the sensor, as a historian's `P-101.VIB`."""
    values = [column for column in free if column.numbers is not None and not column.constant]
    if key is None or len(key.columns) > 1 or not _TAG.fullmatch(key.columns[0].plain) or len(values) != 1:
        return
    tag, value = key.columns[0].header, values[0].header
    sign, parts = _parted(list(dict.fromkeys(key.columns[0].names)))
    if not parts or not _VALUE.fullmatch(values[0].plain):
        return
    what = f"has one reading in each row, and {tag} names the unit and the sensor together, as {sign.join(parts[0])!r}"
    split = f"rows[['unit', 'sensor']] = rows[{tag!r}].str.rsplit({sign!r}, n=1, expand=True)"
    index = ["unit", *([clocked.column.header] if clocked else [])]
    pivot = f"rows.pivot_table(index={index}, columns='sensor', values={value!r}).reset_index()"
    raise DataError(what, where=str(data.paths[0]), remedy=f"make a column of each sensor, by pandas: {split}; {pivot}")


def _refuse_tagged_columns(free: Sequence[Column], key: Key | None, clocked: Clocked | None, data: Inventory) -> None:
    """Columns that are called P-101.VIB, P-101.TEMP, P-102.VIB ... and end in rows of their own are units' sensors."""
    if key is not None or len(data.paths) > 1:
        return
    numbers = {column.header: column for column in free if column.numbers is not None}
    sign, parts = _parted(list(numbers))
    heads = {head for head, _ in parts}
    if len({re.sub(r"\d+", "#", head) for head in heads}) != 1 or len(heads) < _LEAST_UNITS:
        return
    if len({_ending(numbers[sign.join(part)], data) for part in parts}) < 2:
        return
    first, other = parts[0], next(part for part in parts if part[0] != parts[0][0])
    what = f"has columns for each unit, such as {sign.join(first)} and {sign.join(other)}"
    time = clocked.column.header if clocked else "step"
    split = f"rows = rows.set_index({time!r}); rows.columns = rows.columns.str.rsplit({sign!r}, n=1, expand=True)"
    stack = f"rows.stack(0, future_stack=True).rename_axis([{time!r}, 'unit']).reset_index()"
    raise DataError(what, where=str(data.paths[0]), remedy=f"make rows of them, by pandas: {split}; {stack}")


def _parted(tags: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """The sign at which tags divide into a unit and a sensor, and both parts of each; none where they do not.

    Each of several units then has each of several sensors.
    """
    for sign in _SIGNS:
        parts = [(head, tail) for head, found, tail in (tag.rpartition(sign) for tag in tags) if found]
        heads, tails = {head for head, _ in parts}, {tail for _, tail in parts}
        if len(parts) == len(tags) == len(heads) * len(tails) and len(heads) > 1 < len(tails):
            return sign, parts
    return "", []


def _refuse_wide(free: Sequence[Column], key: Key | None, clocked: Clocked | None, data: Inventory) -> None:
    """Columns that are called pump_1, pump_2 ... and end in rows of their own are units, and no sensors of one."""
    if key is not None:
        return
    numbered = [column for column in free if column.numbers is not None and is_thing(column.plain)]
    if len(numbered) < max(_LEAST_UNITS, len(free) / 2) or len({_ending(column, data) for column in numbered}) < 2:
        return
    what = f"has a column for each unit, such as {numbered[0].header} and {numbered[1].header}"
    time = repr(clocked.column.header) if clocked else "'step'"
    melt = f"rows.melt({time}, var_name='unit', value_name={data.paths[0].stem!r}).dropna()"
    remedy = f"make rows of them, by pandas: {melt}; then join the sensors by unit and {time}"
    raise DataError(what, where=str(data.paths[0]), remedy=remedy)


def _ending(column: Column, data: Inventory) -> tuple[int, ...]:
    """The last row of each file in which a column says something."""
    assert column.numbers is not None
    there = np.isfinite(column.numbers)
    return tuple(int(np.flatnonzero(there & (data.file == at)).max(initial=-1)) for at in range(len(data.paths)))


def _refuse_divided(clocked: Clocked | None, data: Inventory) -> None:
    """Year, month and day in columns of their own, where no column tells them together."""
    parts = {column.plain: column for column in data.columns if column.plain in _PARTS}
    if not {"month", "day"} <= parts.keys() or any(column.numbers is None for column in parts.values()):
        return
    if clocked is not None and clocked.column not in parts.values():
        return
    if any(cells.moment(column.texts[0]) is not None for column in data.columns if column.numbers is None):
        return
    headers = [parts[name].header for name in _PARTS if name in parts]
    what = f"has a time that is divided over columns: {', '.join(headers)}"
    year = "" if "year" in parts else ", with a column year"
    named = "" if headers == [name for name in _PARTS if name in parts] else ".rename(columns=str.lower)"
    remedy = f"write one column, by pandas{year}: rows['time'] = pandas.to_datetime(rows[{headers}]{named})"
    raise DataError(what, where=str(data.paths[0]), remedy=remedy)
