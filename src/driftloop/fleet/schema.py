"""What the rows of a fleet are: its columns in order, its time, how units end, and what labels are capped at.

A `Schema` is read from a `fleet.toml` (`fleet_file.read`), passed on as an argument, and carried by every bundle.
Its `digest` tells two fleets apart; whatever it leaves out (words, units, descriptions, ranges, least numbers) can be
corrected without another model. A schema that contradicts itself cannot be made: `FleetError` names the key.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from driftloop.errors import FleetError
from driftloop.fleet import names

ROLE_NAMES = ("train", "early_stop", "calibrate", "gate", "live")
LEAST = {"train": 5, "early_stop": 1, "calibrate": 2, "gate": 3, "live": 0}
"""Least units in each role where a fleet file says nothing else."""

Missing = Literal["hold", "refuse"]
TimeKind = Literal["counter", "timestamp", "seconds"]
Between = Literal["last", "mean"]
EndRule = Literal["last_row", "column", "threshold", "table"]
AfterEnd = Literal["left_out", "new_life"]
UseSettings = Literal["regimes", "continuous", "none"]
Padding = Literal["counted", "repeated"]
Value = str | int | float | bool

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_EVERY = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|min|h|d)?")
_HOLDS = re.compile(r"(?:for )?(\d{1,3}) of (\d{1,3}) rows?")
_MOST_CAP = 1_000_000
_NO_FILE = re.compile(r"[/\\\0]")


class Channel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a row: a setting or a sensor."""

    name: str
    """Letters, digits and underscores, at most 64: safe in metric labels, JSON and files."""
    source: str | None = None
    """The header in files, where it is spelt differently."""
    unit: str = ""
    description: str = ""
    range: tuple[float, float] | None = None
    """What is plausible, both ends included; readings beyond it are counted, never changed."""
    missing: Missing = "hold"
    """A missing value: hold the last one, or refuse the row."""
    scale: float | None = None
    """Of a setting: the span in which it is run; a twentieth of it apart is another regime. None: as training shows."""

    @property
    def header(self) -> str:
        """The column's header in files."""
        return self.name if self.source is None else self.source


class Time(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a row stands in its unit's life."""

    column: str | None = None
    """None: the rows of a unit are in order, one for each step."""
    kind: TimeKind = "counter"
    every: str | None = None
    """Length of a step: `10s`, `5min`, `1h`, `1d`; of a counter, how far it counts in a step, by default 1."""
    between: Between = "last"
    """What becomes of several rows within one step: the last reading of each column, or the mean."""

    @property
    def width(self) -> float:
        """Length of a step: seconds, or counts of a counter."""
        match = _EVERY.fullmatch(self.every or "1")
        return float(match[1]) * _SECONDS[match[2] or "s"] if match else math.nan


class End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a unit's life ends; the row that ends it is the last one that is kept."""

    rule: EndRule = "last_row"
    column: str | None = None
    """With `column`: the header of the column that says so; with `table`: one by which rows of the table are chosen."""
    value: Value | None = None
    """The value in `column` that means failed; None: anything but empty, 0, no and false."""
    sensor: str | None = None
    """With `threshold`: name or header of the column that is compared."""
    below: float | None = None
    above: float | None = None
    """Exclusive: a reading equal to the threshold has not crossed it."""
    holds: str | None = None
    """`2 of 3 rows`: so many of the rows from the first one beyond the threshold on, itself included."""
    after: AfterEnd = "left_out"
    """What rows after the end are: nothing, or the next life of a unit that was repaired or replaced."""
    file: str | UnsetType = UNSET
    """With `table`: name of a table of failures beside the data. Left out of JSON where there is none."""

    @property
    def flag(self) -> str | None:
        """Header of the column of the data that says when a unit has failed."""
        return self.column if self.rule == "column" else None

    @property
    def needed(self) -> tuple[int, int]:
        """Of how many rows how many must lie beyond the threshold: `(2, 3)` for `2 of 3 rows`."""
        match = _HOLDS.fullmatch(self.holds or "1 of 1 rows")
        return (int(match[1]), int(match[2])) if match else (1, 1)


class Censored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which units were taken out before they failed."""

    column: str | None = None
    value: Value | None = None
    """The value in `column` that means taken out; None: anything but empty, 0, no and false."""
    units: tuple[str, ...] = ()
    file: str | None = None
    """Name of a table of units, beside the data, that has `column`."""


class Schema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A fleet: what its rows are and how its units live and end."""

    name: str
    """Lower-case letters, digits and dashes, at most 40: part of the model's name, of folders and labels."""
    unit: str = "unit"
    """What one unit is called: engine, cell, pump."""
    step: str = "step"
    """What one step of time is called: cycle, minute, hour."""
    unit_column: str | None = None
    """Header of the column with the unit's name; None: each file is one unit, named as the file."""
    time: Time = Time()
    settings: tuple[Channel, ...] = ()
    sensors: tuple[Channel, ...]
    end: End = End()
    censored: Censored = Censored()
    missing_values: tuple[str | float, ...] = ()
    """What files write for a missing value beside what everybody does: -9999, `no data`."""
    cap: int | Literal["auto"] = "auto"
    """Steps; labels above it are set to it. `auto`: by the rule of the training room, fixed in the first bundle."""
    use_settings: UseSettings
    least: dict[str, int] = msgspec.field(default_factory=LEAST.copy)
    """Least units in each role."""
    padding: Padding = "counted"
    """How a history shorter than the window is known: rows are counted, or the first row is repeated (C-MAPSS)."""

    def __post_init__(self) -> None:
        for key, what, remedy in _faults(self):
            raise FleetError(what, where=f"fleet {self.name[:60]}", remedy=remedy, key=key)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Settings, then sensors: the columns of a row in the order of every array and request."""
        return self.settings + self.sensors

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        """Names of the settings, in order."""
        return tuple(channel.name for channel in self.settings)

    @cached_property
    def sensor_names(self) -> tuple[str, ...]:
        """Names of the sensors, in order."""
        return tuple(channel.name for channel in self.sensors)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return self.setting_names + self.sensor_names

    @property
    def units(self) -> str:
        """What several units are called."""
        return names.plural(self.unit)

    @property
    def steps(self) -> str:
        """What several steps of time are called."""
        return names.plural(self.step)

    @property
    def n_settings(self) -> int:
        """How many settings a row has."""
        return len(self.settings)

    @property
    def n_sensors(self) -> int:
        """How many sensors a row has."""
        return len(self.sensors)

    @property
    def n_columns(self) -> int:
        """How many numbers a row has."""
        return len(self.settings) + len(self.sensors)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the columns in order with their kind, the steps of time, the end rule and the cap."""
        truth = [
            [["setting", name] for name in self.setting_names] + [["sensor", name] for name in self.sensor_names],
            [self.time.kind, self.time.width, self.time.between],
            [self.end.rule, self.end.column, self.end.value, self.end.sensor, self.end.below, self.end.above],
            [*self.end.needed],
            self.cap,
        ]
        return hashlib.sha256(msgspec.json.encode(truth)).hexdigest()


def to_json(schema: Schema) -> bytes:
    """The schema as JSON, as bundles carry it."""
    return msgspec.json.encode(schema)


def from_json(content: bytes, where: str) -> Schema:
    """The schema that `to_json` wrote; raises FleetError naming `where` and the field for anything else."""
    try:
        return msgspec.json.decode(content, type=Schema)
    except FleetError as error:
        raise FleetError(error.what, where=where, remedy=error.remedy, key=error.key) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FleetError(f"is no fleet's schema: {error}", where=where) from None


Fault = tuple[tuple[str | int, ...], str, str]
"""Where in the fleet file (`("sensors", 3, "range")`), what is wrong, and what to do."""


def _faults(schema: Schema) -> Iterator[Fault]:
    """Everything by which a schema contradicts itself, in the order of its fields."""
    if not names.FLEET.fullmatch(schema.name):
        proposal = names.safe_fleet(schema.name) or "my-fleet"
        what = f"the name {schema.name[:60]!r} must be 1 to 40 lower-case letters, digits and dashes"
        yield ("name",), what, f'write name = "{proposal}"'
    for key in ("unit", "step"):
        word = getattr(schema, key)
        if not re.fullmatch(r"[^\W_][\w -]{0,23}", word):
            what = f"{key} = {word[:40]!r} is no word of at most 24 letters, digits, spaces and dashes"
            yield (key,), what, 'write what people call it, such as unit = "pump" and step = "hour"'
    yield from _time_faults(schema)
    yield from _column_faults(schema)
    yield from _end_faults(schema)
    yield from _censored_faults(schema.censored)
    if schema.cap != "auto" and not 2 <= schema.cap <= _MOST_CAP:
        yield ("cap",), f"cap = {schema.cap} is not from 2 to {_MOST_CAP}", 'write a number of steps, or cap = "auto"'
    if not schema.settings and schema.use_settings != "none":
        what = f"use_settings = {schema.use_settings!r}, but there are no settings"
        yield ("use_settings",), what, 'name the settings, or write use_settings = "none"'
    yield from _least_faults(schema.least)
    if schema.padding == "repeated" and any(channel.missing == "hold" for channel in schema.channels):
        what = 'padding = "repeated" cannot tell a missing value from a short history'
        yield ("padding",), what, 'leave padding out, or write missing = "refuse"'


def _time_faults(schema: Schema) -> Iterator[Fault]:
    time = schema.time
    if time.column is None:
        for key in ("every", "between"):
            if getattr(time, key) != getattr(Time(), key):
                yield ("time", key), f"{key} is given, but time has no column", 'add column = "...", or leave it out'
        if time.kind != "counter":
            yield ("time", "kind"), f"kind = {time.kind!r}, but time has no column", 'add column = "..."'
        return
    match = _EVERY.fullmatch(time.every) if time.every is not None else None
    if time.every is not None and (match is None or not time.width > 0):
        what = f"every = {time.every[:40]!r} is no length of a step"
        yield ("time", "every"), what, 'write "250ms", "10s", "5min", "1h" or "1d"; of a counter a number, such as "10"'
    elif match is not None and time.kind == "counter" and match[2]:
        what = f"every = {time.every!r} is a time, but a counter has none"
        yield ("time", "every"), what, 'write kind = "timestamp" or kind = "seconds", or a number, such as every = "10"'
    elif time.kind != "counter" and (match is None or not match[2]):
        what = f"every is {time.every!r}, but kind = {time.kind!r} needs the length of a step"
        yield ("time", "every"), what, 'add every = "10s", "5min", "1h" or "1d"'


def _column_faults(schema: Schema) -> Iterator[Fault]:
    if not schema.sensors:
        yield ("sensors",), "there are no sensors", 'name at least one, such as sensors = ["vibration"]'
    taken: dict[str, str] = {}
    for key, purpose in (
        ("unit_column", schema.unit_column),
        ("time.column", schema.time.column),
        ("end.column", schema.end.flag),
        ("censored.column", None if schema.censored.file else schema.censored.column),
    ):
        if purpose is None:
            continue
        if not purpose.strip():
            yield tuple(key.split(".")), f"{key} is empty", "write the column's header, or leave the key out"
        taken[purpose] = key
    if schema.unit_column is not None and schema.unit_column == schema.time.column:
        yield ("time", "column"), f"{schema.unit_column!r} is unit_column too", "name two different columns"
    used: dict[str, str] = {}
    for kind, channels in (("settings", schema.settings), ("sensors", schema.sensors)):
        for at, channel in enumerate(channels):
            yield from _channel_faults(kind, at, channel)
            if channel.header in taken:
                what = f"{channel.header!r} is {taken[channel.header]} already and tells nothing about wear"
                yield (kind, at, "name"), what, f"leave it out of {kind}"
            folded = channel.name.lower()
            if folded in used:
                what = f"the name {channel.name!r} is given twice ({used[folded]!r} is there already)"
                yield (kind, at, "name"), what, f'write {{ name = "{channel.name}_2", source = "..." }}, or remove one'
            used.setdefault(folded, channel.name)


def _channel_faults(kind: str, at: int, channel: Channel) -> Iterator[Fault]:
    if not names.COLUMN.fullmatch(channel.name):
        proposal = names.safe_column(channel.name) or f"{kind[:-1]}_{at + 1}"
        what = f"the name {channel.name[:80]!r} is not made of at most 64 letters, digits and underscores"
        yield (kind, at, "name"), what, f'write {{ name = "{proposal}", source = "..." }}, source being the header'
    elif channel.name.lower() in names.RESERVED:
        remedy = f'write {{ name = "{channel.name}_", source = "{channel.header}" }}'
        yield (kind, at, "name"), f"the name {channel.name!r} is taken by driftloop itself", remedy
    if channel.source is not None and not channel.source.strip():
        yield (kind, at, "source"), f"source of {channel.name} is empty", "write the column's header, or leave it out"
    if channel.range is not None:
        low, high = channel.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            what = f"range of {channel.name} is [{low:g}, {high:g}], not two rising numbers"
            yield (kind, at, "range"), what, "write range = [lowest, highest], or leave it out"
    if channel.scale is not None and (kind != "settings" or not 0 < channel.scale < math.inf):
        what = f"scale = {channel.scale:g} of {channel.name}: only a setting has one, above 0"
        yield (kind, at, "scale"), what, "leave it out: the span that training shows is taken"


_COLUMN = ("column", "value")
_BELONG = {"last_row": (), "column": _COLUMN, "table": _COLUMN, "threshold": ("sensor", "below", "above", "holds")}


def _end_faults(schema: Schema) -> Iterator[Fault]:
    end = schema.end
    for key in ("column", "value", "sensor", "below", "above", "holds"):
        if getattr(end, key) is not None and key not in _BELONG[end.rule]:
            what = f"{key} = {getattr(end, key)!r} says nothing where rule = {end.rule!r}"
            remedy = 'rule = "column" takes column and value; "threshold" sensor, below or above, holds; "table" file'
            yield ("end", key), what, remedy
    if end.rule == "table" or end.file is not UNSET:
        yield from _table_faults(end, schema.time)
    if end.rule == "column" and end.column is None:
        yield ("end", "column"), "column is missing", 'add column = "...", the column that says when a unit has failed'
    if end.rule == "threshold":
        if end.sensor is None:
            yield ("end", "sensor"), "sensor is missing", 'add sensor = "...", the column that is compared'
        if (end.below is None) == (end.above is None):
            found = "neither below nor above" if end.below is None else "both below and above"
            yield ("end", "below"), f"{found} is given", "write one of them, such as below = 0.8"
        for key in ("below", "above"):
            if getattr(end, key) is not None and not math.isfinite(getattr(end, key)):
                yield ("end", key), f"{key} = {getattr(end, key)} is no finite number", f"write {key} = 0.8"
    if end.after != "left_out" and end.rule == "last_row":
        what = f"after = {end.after!r}, but every life ends with its last row"
        yield ("end", "after"), what, 'add column = "...", the column that says when a unit has failed, or sensor'
    if end.holds is not None and not (_HOLDS.fullmatch(end.holds) and 1 <= end.needed[0] <= end.needed[1]):
        yield ("end", "holds"), f"holds = {end.holds[:40]!r} is not understood", 'write holds = "2 of 3 rows"'


def _table_faults(end: End, time: Time) -> Iterator[Fault]:
    key, remedy = ("end", "file"), 'write the name alone of a table beside the data, such as file = "failures.csv"'
    if end.rule != "table" or end.file is UNSET:
        yield key, f"rule = {end.rule!r}, and file is {end.file or 'missing'}", f"{remedy}, and no rule"
    elif not end.file.strip() or _NO_FILE.search(end.file):
        yield key, f"file = {end.file[:80]!r} is not the name of a file beside the data", remedy
    if end.value is not None and end.column is None:
        yield ("end", "value"), "value is given, but no column", 'add column = "..."'
    if time.column is None:
        yield key, "file says when units failed, but time has no column", 'add column = "..." below [time]'


def _censored_faults(censored: Censored) -> Iterator[Fault]:
    for key in ("value", "file"):
        if getattr(censored, key) is not None and censored.column is None:
            yield ("censored", key), f"{key} is given, but no column", 'add column = "..."'
    if censored.file is not None and (not censored.file.strip() or _NO_FILE.search(censored.file)):
        what = f"file = {censored.file[:80]!r} is not the name of a file beside the data"
        yield ("censored", "file"), what, 'write its name alone, such as file = "units.csv"'
    twice = _first_repeated(censored.units)
    if twice is not None:
        yield ("censored", "units"), f"{twice!r} is listed twice", "remove one of them"


def _least_faults(least: dict[str, int]) -> Iterator[Fault]:
    for role, number in least.items():
        if role not in ROLE_NAMES:
            yield ("least", role), f"there is no role {role[:40]!r}", f"choose from {', '.join(ROLE_NAMES)}"
        elif not (role == "train") <= number <= 100_000:
            yield (
                ("least", role),
                f"{role} = {number} is not from {int(role == 'train')} to 100000",
                "write a number of units",
            )


def _first_repeated(values: Sequence[str]) -> str | None:
    return next((value for at, value in enumerate(values) if value in values[:at]), None)
