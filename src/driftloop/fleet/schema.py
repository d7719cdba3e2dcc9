"""What the rows of a fleet are: its columns in order, its time, how units end, and what labels are capped at.

A `Schema` is read from a `fleet.toml` (`fleet_file.read`), passed on as an argument, and carried by every bundle.
Its `digest` tells two fleets apart; whatever it leaves out (words, units, descriptions, ranges, least numbers) can be
corrected without another model. A schema that contradicts itself cannot be made: `FleetError` names the key.
"""

import hashlib
import math
from functools import cached_property
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from driftloop.errors import FleetError
from driftloop.fleet import contradictions, names

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
Headers = str | tuple[str, ...]
"""One header, or those of several columns that say something together; likewise names of tables."""

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


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
    values: tuple[str, ...] | UnsetType = UNSET
    """Words of a column of text: the first is 0 in rows, the next 1, and so on. Not in JSON where there are none."""

    @property
    def header(self) -> str:
        """The column's header in files."""
        return self.name if self.source is None else self.source

    @property
    def words(self) -> tuple[str, ...]:
        """The words of a column of text; empty for one of numbers."""
        return () if self.values is UNSET else self.values

    @property
    def span(self) -> float | None:
        """The span in which a setting is run, where it is known: its scale, or what its words reach over."""
        return float(len(self.words) - 1) if self.scale is None and self.words else self.scale

    def codes(self) -> dict[str, float]:
        """The number of each word, by `folded` words."""
        return {folded(word): float(at) for at, word in enumerate(self.words)}


class Time(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a row stands in its unit's life."""

    column: str | None = None
    """None: the rows of a unit are in order, one for each step."""
    kind: TimeKind = "counter"
    every: str | None = None
    """Length of a step: `10s`, `5min`, `1h`, `1d`; of a counter, how far it counts in a step, by default 1."""
    of_day: str | UnsetType = UNSET
    """Of timestamps: header of the time of day, where `column` has the date alone. Not in JSON where there is none."""
    between: Between = "last"
    """What becomes of several rows within one step: the last reading of each column, or the mean."""

    @property
    def width(self) -> float:
        """Length of a step: seconds, or counts of a counter."""
        match = contradictions.EVERY.fullmatch(self.every or "1")
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
    file: Headers | UnsetType = UNSET
    """With `table`: name of a table of failures beside the data, or of several that have the same columns. Left out of
    JSON where there is none, as the next."""
    unit_column: Headers | UnsetType = UNSET
    """With `table`: its header of the unit, where it is not the data's."""
    time_column: str | UnsetType = UNSET
    """With `table`: its header of the time, where it is not the data's."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the tables of failures."""
        return headers_of(self.file)

    @property
    def flag(self) -> str | None:
        """Header of the column of the data that says when a unit has failed."""
        return self.column if self.rule == "column" else None

    @property
    def needed(self) -> tuple[int, int]:
        """Of how many rows how many must lie beyond the threshold: `(2, 3)` for `2 of 3 rows`."""
        match = contradictions.HOLDS.fullmatch(self.holds or "1 of 1 rows")
        return (int(match[1]), int(match[2])) if match else (1, 1)


class Censored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which units were taken out before they failed."""

    column: str | None = None
    value: Value | None = None
    """The value in `column` that means taken out; None: anything but empty, 0, no and false."""
    units: tuple[str, ...] = ()
    file: str | None = None
    """Name of a table of units, beside the data, that has `column`."""
    unit_column: Headers | UnsetType = UNSET
    """With `file`: its header of the unit, where it is not the data's. Left out of JSON where there is none."""


class Schema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A fleet: what its rows are and how its units live and end."""

    name: str
    """Lower-case letters, digits and dashes, at most 40: part of the model's name, of folders and labels."""
    unit: str = "unit"
    """What one unit is called: engine, cell, pump."""
    step: str = "step"
    """What one step of time is called: cycle, minute, hour."""
    unit_column: Headers | None = None
    """Header of the column with the unit's name, or of several that name it together; None: `unit_from` says it."""
    unit_from: Literal["folder"] | UnsetType = UNSET
    """Without `unit_column`: each folder is one unit, named as the folder. Not in JSON where each file is one."""
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
        for key, what, remedy in contradictions.faults(self, ROLE_NAMES):
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
    def unit_columns(self) -> tuple[str, ...]:
        """Headers of the columns that name the unit; none where each file is one."""
        return headers_of(self.unit_column)

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
        truth: list[object] = [
            [["setting", name] for name in self.setting_names] + [["sensor", name] for name in self.sensor_names],
            [self.time.kind, self.time.width, self.time.between],
            [self.end.rule, self.end.column, self.end.value, self.end.sensor, self.end.below, self.end.above],
            [*self.end.needed],
            self.cap,
        ]
        words = [[channel.name, channel.words] for channel in self.channels if channel.words]
        truth += [words] if words else []
        return hashlib.sha256(msgspec.json.encode(truth)).hexdigest()


def folded(word: str) -> str:
    """A word as it is compared: without case, and spaces around it."""
    return word.strip().casefold()


def headers_of(given: Headers | UnsetType | None) -> tuple[str, ...]:
    """One header or several as a tuple; empty for none."""
    return (given,) if isinstance(given, str) else tuple(given or ())


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
