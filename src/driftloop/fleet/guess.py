"""A fleet file guessed from data, by rules that its comments state, for a person to look over.

Headers count where they say something; what columns hold decides the rest. A setting is what its header calls so, or
what stays the same within every unit and differs between them. Settings are regimes where at most 12 combinations
are there when each is rounded to a twentieth of its range; else they are continuous, or, where they explain less than
2 % of what any sensor does, not used.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells, folders, guess_shape, guess_table, inventory, names, tables
from driftloop.fleet.columns import is_foreign
from driftloop.fleet.guess_end import drop, find_censored, find_end
from driftloop.fleet.guess_time import Clocked, find_time
from driftloop.fleet.guess_unit import Key, differs_in_each_row, find_unit, lives_apart, told_apart
from driftloop.fleet.inventory import Column, Inventory
from driftloop.fleet.schema import LEAST, Censored, Channel, Schema, Time, UseSettings, folded
from driftloop.fleet.sheets import open_sheet
from driftloop.fleet.suspicion import leak, markers
from driftloop.fleet.tables import Reading
from driftloop.fleet.wear import alike

_LABEL = re.compile(
    r"(.*_)?(rul|ttf|label|target)(_.*)?|.*(remaining|to_fail|until_fail|to_eol|_left$|end_of_life|eol).*"
    r"|(total|max|final)_?(life|cycle|time|hour)s?|life(time|span)?"
)
_SETTING = re.compile(
    r".*(setting|set_?point|_set$|ambient|altitude|mach|^tra$|c_rate|recipe|regime|profile|duty).*"
    r"|(op|os|operating)_?(cond|condition|mode|set)?.*\d*|(load|mode|speed_set|condition)(_.*)?"
)
_REGIMES = 12
_LEAST_EXPLAINED = 0.02
_FEW = {"train": 4, "early_stop": 0, "calibrate": 2, "gate": 1, "live": 0}


_PLAIN = re.compile(r"([\W_]*(runs?|data|train(ing)?|test|fleet|set|all|full|csv|\d+))+")
"""File names that say nothing about the fleet."""
_FEW_NAMED = 5
_REASONS = 12
"""Columns of which it is said why they are no sensors."""


@dataclass
class Guess:
    """A schema, and why it is what it is."""

    schema: Schema
    reading: Reading
    """The data, read by the schema."""
    comments: dict[str, str] = field(default_factory=dict)
    """By key, as `fleet_writer.toml_text` takes them."""
    paths: Sequence[Path] = ()
    """The files and folders that hold the fleet, and nothing else of the kind."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Headers that are neither settings nor sensors, and why."""


def guess(paths: Sequence[Path], name: str | None = None, tell: tables.Tell = tables.mute) -> Guess:
    """The fleet that files and folders seem to hold; raises DataError where they are no tables, or have no sensor.

    `tell` is called with the rows that were read so far, by the schema that was guessed.
    """
    files = folders.expand(paths)
    data = inventory.take(files, [path for path in files if path not in paths])
    comments: dict[str, str] = {}
    left_out: dict[str, str] = {}
    free = list(data.columns)
    left_out.update(dict.fromkeys(data.repeated, "is there more than once: give each a name of its own"))
    key, clocked, apart = _units(data, free)
    units = key.codes if key else data.own
    comments["unit_column"] = _of_units(key, units, data)
    comments["time"] = clocked.comment if clocked else "No column tells the time: rows are in order, one for each step."
    blocks = _blocks(units, clocked)
    end = find_end(free, blocks, key, clocked, data, comments)
    censored = find_censored(free, blocks, key, data, comments, end)
    settings, sensors = _channels(free, blocks, comments, left_out)
    if not sensors:
        used = [column.header for column in data.columns if column.header not in left_out]
        reasons = [f"{header} {why}" for header, why in left_out.items()]
        reasons += [f"{header} tells the unit, the time or the end" for header in used]
        what = f"has no column that could be a sensor: {'; '.join(reasons[:_REASONS])}"
        remedy = "name sensors by hand; docs/fleet-file.md shows how"
        raise DataError(what, where=str(data.paths[0]), remedy=remedy)
    words = dict.fromkeys(word for column in [*settings, *sensors] for word in column.absent)
    absent: list[str | float] = [*words, *_absent([*settings, *sensors])]
    if absent:
        comments["missing_values"] = "Words among numbers, and readings far from all others, that come again and again."
    use = _use(settings, sensors, blocks, comments)
    comments["cap"] = _lives(blocks)
    schema = Schema(
        name=name or names.safe_fleet(_title(data.paths)) or "my-fleet",
        unit=key.word if key else "unit",
        step=clocked.step if clocked else "step",
        unit_column=key.headers if key else None,
        unit_from=UNSET if key else data.unit_from,
        time=clocked.time if clocked else Time(),
        settings=tuple(_channel(column, at, "setting") for at, column in enumerate(settings)),
        sensors=tuple(_channel(column, at, "sensor") for at, column in enumerate(sensors)),
        end=end,
        censored=censored,
        missing_values=tuple(absent),
        use_settings=use,
    )
    reading = tables.examine(data.paths, schema, tell=tell)
    if apart is not None:
        reading.findings.add("warning", str(data.paths[0]), apart)
    strange = differs_in_each_row(data.columns, data.n)
    if strange is not None:
        what = f"{strange.header} is another in nearly every row: rows of different units tell of no life"
        reading.findings.add("warning", str(data.paths[0]), what, "a unit needs a row for each step of its life")
    _tell_others(data, schema, reading, key, clocked)
    failed = sum(not unit.run.censored for unit in reading.units)
    if 0 < failed < sum(LEAST.values()):
        schema = msgspec.structs.replace(schema, least=dict(_FEW))
        comments["least"] = f"{failed} failed units are few: each role is content with less."
    for kind, columns, channels in (("settings", settings, schema.settings), ("sensors", sensors, schema.sensors)):
        for column, channel in zip(columns, channels, strict=True):
            comments[f"{kind}.{channel.name}"] = _seen(column)
    return Guess(schema, reading, comments, _named(paths, data, schema), left_out)


def _title(paths: Sequence[Path]) -> str:
    """What the fleet is called: the file's name, or the folder's where the file's says nothing."""
    stem = folders.file_unit(paths[0])
    folder = Path(os.path.commonpath([path.resolve().parent for path in paths])).name
    return folder if len(paths) > 1 or _PLAIN.fullmatch(stem.lower()) else stem


def _tell_others(data: Inventory, schema: Schema, reading: Reading, key: Key | None, clocked: Clocked | None) -> None:
    """Say which tables beside the data were not looked at, since they have other columns.

    Of one that names the data's units, where nothing says which of them failed, it is more than a note.
    """
    ours = {column.header for column in data.columns} | set(data.repeated)
    for path, columns in data.beside.items():
        if path.name in (*schema.end.files, schema.censored.file):
            continue
        theirs = {column.header for column in columns}
        more = [f"{word} {', '.join(sorted(some)[:_FEW_NAMED])}" for word, some in (
            ("has", theirs - ours), ("lacks", ours - theirs)) if some]  # fmt: skip
        what = f"was not looked at, since its columns are others than those of {data.paths[0].name}"
        what += f": it {' and '.join(more)}" if more else ""
        if schema.end.rule == "table" and clocked and guess_table.table([path], columns, key, clocked, {}) is not None:
            what = f"tells of failures too, and {' and '.join(schema.end.files)} alone is read"
            remedy = "write the failures of all tables into one, if these are some"
            reading.findings.add("warning", str(path), what, remedy, kind="failures")
            continue
        open_end = schema.end.rule == "last_row" and schema.censored == Censored()
        if open_end and (guess_table.seems_of_failures(path, columns) or (key and guess_table.key_in(columns, key))):
            remedy = f'if it tells when units failed, write file = "{path.name}" below [end]; also unit_column and '
            remedy += "time_column where its headers are others, column and value where only some rows are failures"
            reading.findings.add("warning", str(path), what, remedy)
        elif path not in data.unnamed:
            reading.findings.add("note", str(path), what, kind=tuple(more))


def _named(paths: Sequence[Path], data: Inventory, schema: Schema) -> Sequence[Path]:
    """What to name to other commands: what was named here, or where these would read another table of the folder as
    one of the fleet, the files that were looked at.
    """
    beside = [path for path in data.beside if path.name not in (*schema.end.files, schema.censored.file)]
    return data.paths if any(not is_foreign(open_sheet(path), schema) for path in beside) else paths


# Units


def _units(data: Inventory, free: list[Column]) -> tuple[Key | None, Clocked | None, str | None]:
    """Who the units are and what tells the time, both taken out of `free`, and what is to be said of it.

    Where several rows of a unit have one time, and another column tells these apart, both may name the unit together.
    """
    key = find_unit(data, free)
    for column in key.columns if key else ():
        drop(free, column)
    clocked = find_time(free, key.codes if key else data.own)
    drop(free, clocked.column if clocked else None)
    drop(free, clocked.of_day if clocked else None)
    guess_shape.refuse_other(free, key, clocked, data)
    if clocked is None:
        return key, None, None
    both = told_apart(key, free, clocked) if key else None
    if key is None or both is None:
        return key, clocked, None
    first, other = key.columns[0].header, both.columns[-1]
    said = f"rows of one {first} and {clocked.column.header} are told apart by {other.header}: "
    if not lives_apart(key, both, clocked):
        written = f'["{first}", "{other.header}"]'
        return key, clocked, said + f"if these are units of their own, write unit_column = {written}"
    drop(free, other)
    again = find_time([clocked.column, *([clocked.of_day] if clocked.of_day else [])], both.codes) or clocked
    return both, again, said + "each pair is taken as a unit of its own"


def _of_units(key: Key | None, units: NDArray[np.int64], data: Inventory) -> str:
    count = len(np.unique(units))
    if key is not None:
        return f"{count} units." if len(key.columns) == 1 else f"{count} units, each named by these columns together."
    if data.unit_from == "folder":
        return f"No column names the unit: each of the {count} folders is one."
    if len(data.paths) > 1:
        return f"No column names the unit: each of the {count} files is one."
    return "No column names the unit: the file is one unit."


def _blocks(units: NDArray[np.int64], clocked: Clocked | None) -> list[NDArray[np.int64]]:
    """The rows of each unit in the order of time."""
    order = np.lexsort((clocked.values, units)) if clocked else np.argsort(units, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(units[order])) + 1))


def _lives(blocks: Sequence[NDArray[np.int64]]) -> str:
    lives = sorted(len(block) for block in blocks)
    return f"Units have {lives[0]} to {lives[-1]} rows, half of them {lives[len(lives) // 2]} and more."


# Columns


def _channels(
    free: Sequence[Column],
    blocks: Sequence[NDArray[np.int64]],
    comments: dict[str, str],
    left_out: dict[str, str],
) -> tuple[list[Column], list[Column]]:
    """Settings and sensors among the columns that are left, and why the others are neither."""
    settings: list[Column] = []
    sensors: list[Column] = []
    for column in [_coded(column) for column in free]:
        why = _useless(column, blocks)
        if why is not None:
            left_out[column.header] = why
        elif _SETTING.fullmatch(column.plain) or _same_within(column, blocks):
            settings.append(column)
        else:
            sensors.append(column)
    if not sensors and settings:  # one unit alone: nothing tells them apart
        settings, sensors = [], settings
    if not settings:
        few = [column.header for column in sensors if len(column.words) <= _REGIMES]
        comments["settings"] = (
            "No header says that it is one. How a unit is run (load, speed, weather) belongs here"
            + (f": {', '.join(few)}, with few values, may do." if few else ".")
        )
    if left_out:
        parts = "\n".join(f"  {header}: {why}" for header, why in left_out.items())
        comments["sensors"] = f"Left out:\n{parts}"
    return settings, sensors


def _useless(column: Column, blocks: Sequence[NDArray[np.int64]]) -> str | None:
    """Why a column can be neither a setting nor a sensor."""
    if not column.words:
        return "is empty"
    first = next(iter(column.words))[:30]
    if column.numbers is None:  # the first that is none says more than a number among words
        first = next((word[:30] for word in column.words if cells.number(word, ".") is None), first)
    if _LABEL.fullmatch(column.plain):
        return "gives the label away, as its name says"
    if column.numbers is None:
        dates = cells.moment(first) is not None
        few = not dates and 2 <= len(column.words) <= _REGIMES
        written = json.dumps(sorted(column.words), ensure_ascii=False)
        hint = f"; to use it, add to settings or sensors: {_with_values(column, written)}" if few else ""
        return f"holds {'dates' if dates else 'words'}, such as {first!r}{hint}"
    return f"is always {first}" if column.constant else _telling(column.numbers, blocks)


def _with_values(column: Column, written: str) -> str:
    name = _channel(column, 0, "setting").name
    source = "" if name == column.header else f", source = {json.dumps(column.header, ensure_ascii=False)}"
    return f'{{ name = "{name}"{source}, values = {written} }}'


def _coded(column: Column) -> Column:
    """A setting that is told in words, as its header says, with a number for each."""
    if column.numbers is not None or not _SETTING.fullmatch(column.plain) or not 2 <= len(column.words) <= _REGIMES:
        return column
    words = sorted(column.words, key=folded)
    codes = {folded(word): float(at) for at, word in enumerate(words)}
    if len(codes) < len(words) or any(cells.moment(word) is not None for word in words):
        return column
    numbers = np.array([codes.get(folded(text), np.nan) for text in column.texts])
    return replace(column, numbers=numbers, values=tuple(words))


def _telling(numbers: NDArray[np.float64], blocks: Sequence[NDArray[np.int64]]) -> str | None:
    """How a column of numbers tells the label or the time; None where it does not."""
    said = leak([numbers[block] for block in blocks])
    if said is not None:
        return f"{said}, and gives the label away"
    rows = np.diff(numbers)
    if len(rows) > 1 and len(blocks) > 1 and rows[0] != 0 and (rows == rows[0]).all():
        return "counts rows"
    steps = [np.diff(numbers[block]) for block in blocks if len(block) > 2]
    if steps and steps[0][0] > 0 and all((apart == steps[0][0]).all() for apart in steps):
        return "counts steps, as the time does"
    own = {float(numbers[block[0]]) for block in blocks if (numbers[block] == numbers[block[0]]).all()}
    if len(own) == len(blocks) > 2 and all(value == int(value) for value in own):
        return "is another name of the unit"
    return None


def _same_within(column: Column, blocks: Sequence[NDArray[np.int64]]) -> bool:
    assert column.numbers is not None
    if len(blocks) < 3:
        return False
    same = 0
    for block in blocks:
        told = column.numbers[block][np.isfinite(column.numbers[block])]
        same += len(told) == 0 or told.min() == told.max()
    return same >= 0.95 * len(blocks)


def _absent(columns: Sequence[Column]) -> list[float]:
    """What the files write for a missing value, as numbers; the columns are without it from here on."""
    absent: list[float] = []
    # One may hide another: beside 9999 no reading is far from -999.
    while found := sorted({edge for column in columns if len(column.told) for edge, _ in markers(column.told)}):
        absent += found
        for column in columns:
            if column.numbers is not None:
                column.numbers[np.isin(column.numbers, found)] = np.nan
    return absent


def _use(
    settings: Sequence[Column],
    sensors: Sequence[Column],
    blocks: Sequence[NDArray[np.int64]],
    comments: dict[str, str],
) -> UseSettings:
    if not settings:
        return "none"
    rows = np.stack([column.numbers for column in settings if column.numbers is not None], axis=1)
    if _explained(rows, sensors) < _LEAST_EXPLAINED:
        comments["use_settings"] = f"They explain less than {_LEAST_EXPLAINED:.0%} of what any sensor does."
        return "none"
    if all(_same_within(column, blocks) for column in settings):
        comments["use_settings"] = "They never change within a unit: too few units share a combination for regimes."
        return "continuous"
    count = len(np.unique(alike(rows)))
    said = f"{count} combinations, rounded to a twentieth of each range: "
    comments["use_settings"] = said + ("few enough for regimes." if count <= _REGIMES else "too many for regimes.")
    return "regimes" if count <= _REGIMES else "continuous"


def _explained(settings: NDArray[np.float64], sensors: Sequence[Column]) -> float:
    """The largest share of a sensor's variance that settings and their squares explain."""
    known = np.isfinite(settings).all(axis=1)
    inputs = settings[known] - settings[known].mean(axis=0)
    inputs /= np.maximum(inputs.std(axis=0), 1e-300)
    inputs = np.concatenate([np.ones((len(inputs), 1)), inputs, inputs**2], axis=1)
    shares = []
    for column in sensors:
        assert column.numbers is not None
        values = column.numbers[known]
        there = np.isfinite(values)
        if there.sum() > inputs.shape[1] and np.ptp(values[there]) > 0:
            left = values[there] - inputs[there] @ np.linalg.lstsq(inputs[there], values[there], rcond=None)[0]
            shares.append(1 - float(left.var() / values[there].var()))
    return max(shares, default=1.0)


def _channel(column: Column, at: int, kind: str) -> Channel:
    safe = names.COLUMN.fullmatch(column.header) and column.header.lower() not in names.RESERVED
    name = column.header if safe else names.safe_column(column.header) or f"{kind}_{at + 1}"
    values = column.values or UNSET
    return Channel(name=name, source=None if safe else column.header, unit=column.measure, values=values)


def _seen(column: Column) -> str:
    told = column.told
    missing = f", {column.missing:.1%} missing" if column.missing > 0 else ""
    if column.values:
        return f"words{missing}"
    return f"{told.min():.6g} to {told.max():.6g}{missing}"
