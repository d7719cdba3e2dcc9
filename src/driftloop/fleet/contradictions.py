"""By what a fleet's schema can contradict itself: each fault with its key in the fleet file, and what to do."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from driftloop.fleet import names

if TYPE_CHECKING:
    from driftloop.fleet.schema import Censored, Channel, End, Schema, Time

EVERY = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|min|h|d)?")
"""Length of a step."""
HOLDS = re.compile(r"(?:for )?(\d{1,3}) of (\d{1,3}) rows?")
_MOST_CAP = 1_000_000
_NO_FILE = re.compile(r"[/\\\0]")

Fault = tuple[tuple[str | int, ...], str, str]
"""Where in the fleet file (`("sensors", 3, "range")`), what is wrong, and what to do."""


def faults(schema: "Schema", roles: Sequence[str]) -> Iterator[Fault]:
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
    yield from _least_faults(schema.least, roles)
    if schema.padding == "repeated" and any(channel.missing == "hold" for channel in schema.channels):
        what = 'padding = "repeated" cannot tell a missing value from a short history'
        yield ("padding",), what, 'leave padding out, or write missing = "refuse"'


def _time_faults(schema: "Schema") -> Iterator[Fault]:
    time = schema.time
    if time.column is None:
        for key, default in (("every", None), ("between", "last")):
            if getattr(time, key) != default:
                yield ("time", key), f"{key} is given, but time has no column", 'add column = "...", or leave it out'
        if time.of_day is not UNSET:
            yield ("time", "of_day"), "of_day is given, but time has no column", 'add column = "...", with the date'
        if time.kind != "counter":
            yield ("time", "kind"), f"kind = {time.kind!r}, but time has no column", 'add column = "..."'
        return
    if time.of_day is not UNSET and (time.kind != "timestamp" or time.of_day in ("", time.column)):
        what = f"of_day = {time.of_day[:40]!r} is no other column, or kind is not timestamp"
        yield ("time", "of_day"), what, 'write kind = "timestamp", column for the date and of_day for the time of day'
    match = EVERY.fullmatch(time.every) if time.every is not None else None
    if time.every is not None and (match is None or not time.width > 0):
        what = f"every = {time.every[:40]!r} is no length of a step"
        yield ("time", "every"), what, 'write "250ms", "10s", "5min", "1h" or "1d"; of a counter a number, such as "10"'
    elif match is not None and time.kind == "counter" and match[2]:
        what = f"every = {time.every!r} is a time, but a counter has none"
        yield ("time", "every"), what, 'write kind = "timestamp" or kind = "seconds", or a number, such as every = "10"'
    elif time.kind != "counter" and (match is None or not match[2]):
        what = f"every is {time.every!r}, but kind = {time.kind!r} needs the length of a step"
        yield ("time", "every"), what, 'add every = "10s", "5min", "1h" or "1d"'


def _column_faults(schema: "Schema") -> Iterator[Fault]:
    if not schema.sensors:
        yield ("sensors",), "there are no sensors", 'name at least one, such as sensors = ["vibration"]'
    taken: dict[str, str] = {}
    units = schema.unit_columns
    if schema.unit_column == () or _first_repeated(units) is not None:
        what = "unit_column names no column" if not units else f"unit_column names {_first_repeated(units)!r} twice"
        yield ("unit_column",), what, 'write unit_column = "pump", or unit_column = ["plant", "pump"]'
    if schema.unit_column is not None and schema.unit_from is not UNSET:
        yield ("unit_from",), "unit_from and unit_column are both given", "keep the one that names the unit"
    for key, purpose in (
        *(("unit_column", header) for header in units),
        ("time.column", schema.time.column),
        ("time.of_day", schema.time.of_day or None),
        ("end.column", schema.end.flag),
        ("censored.column", None if schema.censored.file else schema.censored.column),
    ):
        if purpose is None:
            continue
        if not purpose.strip():
            yield tuple(key.split(".")), f"{key} is empty", "write the column's header, or leave the key out"
        taken[purpose] = key
    if schema.time.column in units:
        yield ("time", "column"), f"{schema.time.column!r} is unit_column too", "name two different columns"
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


def _channel_faults(kind: str, at: int, channel: "Channel") -> Iterator[Fault]:
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
    yield from _words_faults(kind, at, channel)
    if channel.scale is not None and (kind != "settings" or not 0 < channel.scale < math.inf):
        what = f"scale = {channel.scale:g} of {channel.name}: only a setting has one, above 0"
        yield (kind, at, "scale"), what, "leave it out: the span that training shows is taken"


def _words_faults(kind: str, at: int, channel: "Channel") -> Iterator[Fault]:
    if channel.values is UNSET:
        return
    words, key = [word.strip().casefold() for word in channel.values], (kind, at, "values")
    if len(words) < 2 or not all(words):
        yield key, f"values of {channel.name} are not two words or more", 'write values = ["idle", "run"]'
    elif (twice := _first_repeated(words)) is not None:
        yield key, f"values of {channel.name} have {twice!r} twice", "remove one of them: case and spaces do not count"
    if channel.range is not None:
        yield (kind, at, "range"), f"{channel.name} has values, which are words, and a range", "leave one of them out"


_COLUMN = ("column", "value")
_BELONG = {"last_row": (), "column": _COLUMN, "table": _COLUMN, "threshold": ("sensor", "below", "above", "holds")}


def _end_faults(schema: "Schema") -> Iterator[Fault]:
    end = schema.end
    for key in ("column", "value", "sensor", "below", "above", "holds"):
        if getattr(end, key) is not None and key not in _BELONG[end.rule]:
            what = f"{key} = {getattr(end, key)!r} says nothing where rule = {end.rule!r}"
            remedy = 'rule = "column" takes column and value; "threshold" sensor, below or above, holds; "table" file'
            yield ("end", key), what, remedy
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
    if end.holds is not None and not (HOLDS.fullmatch(end.holds) and 1 <= end.needed[0] <= end.needed[1]):
        yield ("end", "holds"), f"holds = {end.holds[:40]!r} is not understood", 'write holds = "2 of 3 rows"'


def _table_faults(end: "End", time: "Time") -> Iterator[Fault]:
    for name in ("unit_column", "time_column"):
        if getattr(end, name) is not UNSET and end.file is UNSET:
            yield ("end", name), f"{name} is given, but no file", 'add file = "failures.csv", the table that has it'
    if end.rule != "table" and end.file is UNSET:
        return
    key, remedy = ("end", "file"), 'write the name alone of a table beside the data, such as file = "failures.csv"'
    if end.rule != "table" or end.file is UNSET:
        yield key, f"rule = {end.rule!r}, and file is {end.file or 'missing'}", f"{remedy}, and no rule"
    elif not end.files or (twice := _first_repeated(end.files)) is not None:
        yield key, f"file names {repr(twice) + ' twice' if end.files else 'no table'}", remedy
    for name in end.files:
        if not name.strip() or _NO_FILE.search(name):
            yield key, f"file = {name[:80]!r} is not the name of a file beside the data", remedy
    if end.value is not None and end.column is None:
        yield ("end", "value"), "value is given, but no column", 'add column = "..."'
    if time.column is None:
        yield key, "file says when units failed, but time has no column", 'add column = "..." below [time]'


def _censored_faults(censored: "Censored") -> Iterator[Fault]:
    for key in ("value", "file"):
        if getattr(censored, key) is not None and censored.column is None:
            yield ("censored", key), f"{key} is given, but no column", 'add column = "..."'
    if censored.file is not None and (not censored.file.strip() or _NO_FILE.search(censored.file)):
        what = f"file = {censored.file[:80]!r} is not the name of a file beside the data"
        yield ("censored", "file"), what, 'write its name alone, such as file = "units.csv"'
    if censored.unit_column is not UNSET and censored.file is None:
        what = "unit_column is given, but no file"
        yield ("censored", "unit_column"), what, 'add file = "units.csv", the table that has it'
    twice = _first_repeated(censored.units)
    if twice is not None:
        yield ("censored", "units"), f"{twice!r} is listed twice", "remove one of them"


def _least_faults(least: dict[str, int], roles: Sequence[str]) -> Iterator[Fault]:
    for role, number in least.items():
        if role not in roles:
            yield ("least", role), f"there is no role {role[:40]!r}", f"choose from {', '.join(roles)}"
        elif not (role == "train") <= number <= 100_000:
            yield (
                ("least", role),
                f"{role} = {number} is not from {int(role == 'train')} to 100000",
                "write a number of units",
            )


def _first_repeated(values: Sequence[str]) -> str | None:
    return next((value for at, value in enumerate(values) if value in values[:at]), None)
