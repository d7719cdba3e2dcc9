"""A fleet file guessed from data, by rules that its comments state, for a person to look over.

Headers count where they say something; what columns hold decides the rest. A setting is what its header calls so, or
what stays the same within every unit and differs between them. Settings are regimes where at most 12 combinations
are there when each is rounded to a twentieth of its range; else they are continuous, or, where they explain less than
2 % of what any sensor does, not used.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells, inventory, names, tables
from driftloop.fleet.guess_end import drop, find_censored, find_end, says_yes
from driftloop.fleet.guess_time import Clocked, find_time, moving
from driftloop.fleet.inventory import Column, Inventory
from driftloop.fleet.schema import LEAST, Channel, Schema, Time, UseSettings
from driftloop.fleet.suspicion import leak, markers
from driftloop.fleet.tables import Reading
from driftloop.fleet.wear import alike

_THING = (
    "unit|engine|asset|machine|device|equipment|cell|battery|pump|bearing|vehicle|turbine|motor|drive|filter|component"
    "|compressor|valve|fan|tool|item|sample|specimen|robot|truck|train|pack|module|plant|station|serial|sn|tag|uid"
)
_UNIT = re.compile(rf"({_THING})s?(_?(id|no|nr|num|number|name|code|key|serial(_number)?))?|id|name")
_NO_WORD = ("serial", "sn", "tag", "uid", "id", "name")
_LABEL = re.compile(
    r"(.*_)?(rul|ttf|label|target)(_.*)?|.*(remaining|to_fail|until_fail|to_eol|_left$|end_of_life|eol).*"
    r"|(total|max|final)_?(life|cycle|time|hour)s?|life(time|span)?"
)
_SETTING = re.compile(
    r".*(setting|set_?point|_set$|ambient|altitude|mach|^tra$|c_rate|recipe|regime|profile|duty).*"
    r"|(op|os|operating)_?(cond|condition|mode|set)?.*\d*|(load|mode|speed_set|condition)(_.*)?"
)
_TAG = re.compile(
    r"(sensor|tag|signal|channel|variable|parameter|metric|measurement|feature|attribute|point|merkmal|messgröße)s?"
    r"(_?(name|id|type|code))?"
)
_VALUE = re.compile(r"(.*_)?(value|val|reading|wert|messwert)(_.*)?")
_REGIMES = 12
_LEAST_EXPLAINED = 0.02
_FEW = {"train": 4, "early_stop": 0, "calibrate": 2, "gate": 1, "live": 0}


_GAPS = 0.5
"""Share of rows without a unit up to which its column is one with gaps, which the check names."""
_PLAIN = re.compile(r"([\W_]*(runs?|data|train(ing)?|test|fleet|set|all|full|csv|\d+))+")
"""File names that say nothing about the fleet."""
_FEW_NAMED = 5
_ONE_EACH = 0.9
"""Share of rows with a time of their own from which on rows are one for each step."""
_PARTS = 50
"""Distinct values of a column that may tell units apart."""
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
    left_out: dict[str, str] = field(default_factory=dict)
    """Headers that are neither settings nor sensors, and why."""


def guess(paths: Sequence[Path], name: str | None = None, tell: tables.Tell = tables.mute) -> Guess:
    """The fleet that files and folders seem to hold; raises DataError where they are no tables, or have no sensor.

    `tell` is called with the rows that were read so far, by the schema that was guessed.
    """
    files = tables.expand(paths)
    data = inventory.take(files, [path for path in files if path not in paths])
    comments: dict[str, str] = {}
    left_out: dict[str, str] = {}
    free = list(data.columns)
    left_out.update(dict.fromkeys(data.repeated, "is there more than once: give each a name of its own"))
    unit = _unit(data, free)
    units = np.unique(unit.names, return_inverse=True)[1].reshape(-1) if unit else data.file
    drop(free, unit)
    clocked = find_time(free, units)
    if clocked is not None:
        drop(free, clocked.column)
    comments["unit_column"] = _of_units(unit, units, data)
    comments["time"] = clocked.comment if clocked else "No column tells the time: rows are in order, one for each step."
    blocks = _blocks(units, clocked)
    _refuse_tall(free, unit, clocked, data)
    end = find_end(free, blocks, unit, clocked, data, comments)
    censored = find_censored(free, blocks, unit, data, comments)
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
        unit=_word(unit),
        step=clocked.step if clocked else "step",
        unit_column=unit.header if unit else None,
        time=clocked.time if clocked else Time(),
        settings=tuple(_channel(column, at, "setting") for at, column in enumerate(settings)),
        sensors=tuple(_channel(column, at, "sensor") for at, column in enumerate(sensors)),
        end=end,
        censored=censored,
        missing_values=tuple(absent),
        use_settings=use,
    )
    reading = tables.examine(data.paths, schema, tell=tell)
    apart = _tell_apart(free, units, clocked, schema.unit) if clocked else None
    if apart is not None:
        reading.findings.add("warning", str(data.paths[0]), apart)
    _tell_others(data, schema, reading)
    failed = sum(not unit.run.censored for unit in reading.units)
    if 0 < failed < sum(LEAST.values()):
        schema = msgspec.structs.replace(schema, least=dict(_FEW))
        comments["least"] = f"{failed} failed units are few: each role is content with less."
    for kind, columns, channels in (("settings", settings, schema.settings), ("sensors", sensors, schema.sensors)):
        for column, channel in zip(columns, channels, strict=True):
            comments[f"{kind}.{channel.name}"] = _seen(column)
    return Guess(schema, reading, comments, left_out)


def _title(paths: Sequence[Path]) -> str:
    """What the fleet is called: the file's name, or the folder's where the file's says nothing."""
    stem, folder = tables.file_unit(paths[0]), paths[0].resolve().parent.name
    return folder if len(paths) > 1 or _PLAIN.fullmatch(stem.lower()) else stem


def _tell_others(data: Inventory, schema: Schema, reading: Reading) -> None:
    """Say which tables beside the data were not looked at, since they have other columns."""
    ours = {column.header for column in data.columns} | set(data.repeated)
    for path, columns in data.beside.items():
        if path.name in (schema.end.file, schema.censored.file):
            continue
        theirs = {column.header for column in columns}
        more = [f"{word} {', '.join(sorted(some)[:_FEW_NAMED])}" for word, some in (
            ("has", theirs - ours), ("lacks", ours - theirs)) if some]  # fmt: skip
        what = f"was not looked at, since its columns are others than those of {data.paths[0].name}"
        reading.findings.add("note", str(path), what + (f": it {' and '.join(more)}" if more else ""), kind=tuple(more))


# Units


def _unit(data: Inventory, free: Sequence[Column]) -> Column | None:
    """The column that says whose row it is: by its header, else the first whose values come in blocks.

    Of several files each is one unit, unless the time runs backwards within one, or words come in blocks there.
    """
    named = [column for column in free if _UNIT.fullmatch(column.plain) and column.missing < _GAPS]
    named.sort(key=lambda column: column.plain in ("id", "name"))
    named = [column for column in named if 1 <= len(column.words) <= max(data.n // 2, 1)]
    if named:
        # Of a plant and its pumps the pumps are the units.
        return functools.reduce(lambda best, other: other if _within(other, best) else best, named)
    several, clocked = len(data.paths) > 1, find_time(free, data.file)
    one_each = several and (clocked is None or bool((_steps(clocked.values, data.file) >= 0).all()))
    for column in [column for column in free if clocked is None or column is not clocked.column]:
        if several and (len(column.words) <= len(data.paths) or (one_each and column.numbers is not None)):
            continue
        whole = column.numbers is None or bool((column.told == np.floor(column.told)).all())
        if column.missing == 0 and whole and 2 <= len(column.words) <= data.n // 5:
            changes = sum(a != b for a, b in zip(column.names, column.names[1:], strict=False))
            if changes == len(set(column.names)) - 1 and not says_yes(column):
                return column
    return None


def _within(inner: Column, outer: Column) -> bool:
    """Whether each unit of one column is of one unit of the other, which has several."""
    pairs = len(set(zip(inner.names, outer.names, strict=True)))
    return pairs == len(set(inner.names)) > len(set(outer.names))


def _tell_apart(free: Sequence[Column], units: NDArray[np.int64], clocked: Clocked, unit: str) -> str | None:
    """What to say where several rows of a unit have one time, and another column tells these apart."""
    if moving(clocked.values, units) >= _ONE_EACH:
        return None
    for column in [column for column in free if 2 <= len(column.words) <= _PARTS]:
        parts = np.unique(column.names, return_inverse=True)[1].reshape(-1)
        if moving(clocked.values, units * (int(parts.max()) + 1) + parts) >= _ONE_EACH:
            return (
                f"rows of one {unit} and {clocked.column.header} are told apart by {column.header}: "
                "if these are units of their own, write both into one column, and name it unit_column"
            )
    return None


def _steps(values: NDArray[np.float64], files: NDArray[np.int64]) -> NDArray[np.float64]:
    """By how much a value grows from row to row within files."""
    return np.asarray(np.diff(values)[np.diff(files) == 0], dtype=np.float64)


def _of_units(unit: Column | None, units: NDArray[np.int64], data: Inventory) -> str:
    count = len(np.unique(units))
    if unit is not None:
        return f"{count} units."
    if len(data.paths) > 1:
        return f"No column names the unit: each of the {count} files is one."
    return "No column names the unit: the file is one unit."


def _word(unit: Column | None) -> str:
    """What a unit is called: what its column's header says, where that is a word."""
    plain = unit.plain if unit else ""
    match = re.match(rf"({_THING})s?(_|$)", plain)
    word = match[1] if match else plain
    return word if word.isalpha() and len(word) <= 24 and word not in _NO_WORD else "unit"


def _blocks(units: NDArray[np.int64], clocked: Clocked | None) -> list[NDArray[np.int64]]:
    """The rows of each unit in the order of time."""
    order = np.lexsort((clocked.values, units)) if clocked else np.argsort(units, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(units[order])) + 1))


def _lives(blocks: Sequence[NDArray[np.int64]]) -> str:
    lives = sorted(len(block) for block in blocks)
    return f"Units have {lives[0]} to {lives[-1]} rows, half of them {lives[len(lives) // 2]} and more."


# Columns


def _refuse_tall(free: Sequence[Column], unit: Column | None, clocked: Clocked | None, data: Inventory) -> None:
    """Raise DataError for a table with one reading in a row, whose sensor another column names."""
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
    index = [column.header for column in (unit, clocked.column if clocked else None) if column is not None]
    what = f"has one reading in each row: {tags[0].header} says of which sensor, as {next(iter(tags[0].words))!r}"
    pivot = f"rows.pivot_table(index={index}, columns={tags[0].header!r}, values={values[0].header!r}).reset_index()"
    raise DataError(what, where=str(data.paths[0]), remedy=f"make a column of each sensor, by pandas: {pivot}")


def _channels(
    free: Sequence[Column],
    blocks: Sequence[NDArray[np.int64]],
    comments: dict[str, str],
    left_out: dict[str, str],
) -> tuple[list[Column], list[Column]]:
    """Settings and sensors among the columns that are left, and why the others are neither."""
    settings: list[Column] = []
    sensors: list[Column] = []
    for column in free:
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
        hint = "; with a number for each it could be a setting" if few else ""
        return f"holds {'dates' if dates else 'words'}, such as {first!r}{hint}"
    return f"is always {first}" if column.constant else _telling(column.numbers, blocks)


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
    return Channel(name=name, source=None if safe else column.header, unit=column.measure)


def _seen(column: Column) -> str:
    told = column.told
    missing = f", {column.missing:.1%} missing" if column.missing > 0 else ""
    return f"{told.min():.6g} to {told.max():.6g}{missing}"
