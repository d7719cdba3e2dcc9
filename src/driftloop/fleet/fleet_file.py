"""`fleet.toml`: reading one strictly, with the line of whatever is wrong; `fleet_writer` writes one.

docs/fleet-file.md describes the file for people; docs/reference/fleet-file.md is made from `KEYS`.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from driftloop.errors import FleetError
from driftloop.fleet import names
from driftloop.fleet.schema import (
    LEAST,
    Censored,
    Channel,
    End,
    Headers,
    Missing,
    Padding,
    Schema,
    Time,
    UseSettings,
)

NAME = "fleet.toml"

KEYS = {
    "name": "the fleet's name: lower-case letters, digits and dashes; by default the folder's name",
    "unit": "what one unit is called; by default `unit`",
    "step": "what one step of time is called; by default `step`",
    "unit_column": "header of the column with the unit's name, or of several that name it together, such as "
    '`["plant", "pump"]`; left out: each file is one unit, named as the file',
    "unit_from": "without `unit_column`: `folder` where the files of each folder are one unit, named as the folder",
    "cap": 'labels above so many steps are set to it: a number, or `"auto"` (the default)',
    "use_settings": "`regimes` (the default: few distinct combinations), `continuous`, or `none` (without settings)",
    "missing": "a missing value, where the column does not say: `hold` the last one (the default), `refuse` the row",
    "missing_values": 'what files write for a missing value beside empty, NA, NaN, null and -: `[-9999, "no data"]`',
    "padding": "how a history shorter than the window is known: `counted` (the default) or `repeated`",
    "settings": "the columns that say how a unit is run, in order: headers, or tables as below; may be empty",
    "sensors": "the columns that were measured, in order: headers, or tables as below; at least one",
    "settings.name": "safe name of the column: letters, digits and underscores",
    "settings.source": "the header in files, where it is spelt differently",
    "settings.unit": "unit of measurement",
    "settings.description": "what it is, for people",
    "settings.range": "`[lowest, highest]` plausible value; readings beyond it are counted, never changed",
    "settings.missing": "`hold` or `refuse`, for this column",
    "settings.values": 'words of a column of text, such as `["idle", "run"]`: the first is 0, the next 1, and so on',
    "settings.scale": "of a setting: its span, by default as training shows; a twentieth of it is a regime's size",
    "time": "header of a counter, or the table below; left out: rows are in order, one for each step",
    "time.column": "header of the time column",
    "time.of_day": "header of a column with the time of day, where `column` has the date alone",
    "time.kind": "`counter` (the default), `timestamp` (ISO 8601, or s or ms since 1970), or `seconds`",
    "time.every": 'length of a step: `"250ms"`, `"10s"`, `"5min"`, `"1h"`, `"1d"`; of a counter a number (`"1"`)',
    "time.between": "what becomes of several rows in one step: `last` reading (the default), or `mean`",
    "end": "how a unit's life ends; left out: its last row is its failure",
    "end.rule": "`last_row`, `column`, `threshold` or `table`; by default what the other keys say",
    "end.column": "header of a column that says when the unit has failed; of the rows of `file`, which are failures",
    "end.value": "the value in it that means failed; by default anything but empty, 0, no and false",
    "end.sensor": "name or header of the column that is compared with a threshold",
    "end.below": "the unit has failed where the reading is below this (equal is not below)",
    "end.above": "the unit has failed where the reading is above this",
    "end.holds": 'for how many rows from the first one on: `"2 of 3 rows"`; by default one is enough',
    "end.after": "what rows after the end are: `left_out` (the default), or `new_life` of a unit that was repaired",
    "end.file": "name of a table of failures beside the data, with unit and time in each row; a list of names, where "
    "several tables have the same columns",
    "end.unit_column": "header of the unit in `file`, where it is not the one of the data",
    "end.time_column": "header of the time in `file`, where it is not the one of the data; no time is no failure",
    "censored": "which units were taken out before they failed; left out: none but those that never reach their end",
    "censored.column": "header of a column that says so, in any row of the unit",
    "censored.value": "the value in it that means taken out; by default anything but empty, 0, no and false",
    "censored.units": "names of units that were taken out",
    "censored.file": "name of a table of units beside the data, in which `column` is looked up",
    "censored.unit_column": "header of the unit in `file`, where it is not the one of the data",
    "least": "least units in each role, such as `{ train = 4, calibrate = 2 }`",
    "least.train": "units that weights are fitted on; by default 5",
    "least.early_stop": "units that the epoch is chosen on; by default 1",
    "least.calibrate": "units that intervals are calibrated on; by default 2",
    "least.gate": "units that challengers are judged on; by default 3",
    "least.live": "units that only send traffic; by default 0",
}
"""Every key of a fleet file, and what it means; `sensors` have the keys of `settings`."""


_TYPES = {"str": "text", "int": "a whole number", "float": "a number", "array": "a list", "object": "a table"}


class _Column(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str
    source: str | None = None
    unit: str = ""
    description: str = ""
    range: tuple[float, float] | None = None
    missing: Missing | None = None
    scale: float | None = None
    values: tuple[str, ...] | UnsetType = UNSET


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str | None = None
    unit: str = "unit"
    step: str = "step"
    unit_column: Headers | None = None
    unit_from: Literal["folder"] | UnsetType = UNSET
    cap: int | Literal["auto"] = "auto"
    use_settings: UseSettings | None = None
    missing: Missing = "hold"
    missing_values: tuple[str | float, ...] = ()
    padding: Padding = "counted"
    settings: list[str | _Column] = []
    sensors: list[str | _Column]
    time: str | Time = Time()
    end: End = End()
    censored: Censored = Censored()
    least: dict[str, int] = {}


def read(path: str | os.PathLike[str]) -> Schema:
    """The fleet that a file describes; raises FleetError naming file, line, key, value and remedy."""
    where = Path(path)
    try:
        content = where.read_bytes()
    except OSError as error:
        remedy = "`driftloop fleet init DATA` writes one"
        raise FleetError(f"cannot be read: {error.strerror}", where=str(where), remedy=remedy) from error
    folder = where.resolve().parent.name if where.name == NAME else where.stem
    return parse(content, str(where), default_name=names.safe_fleet(folder) or "my-fleet")


def parse(content: bytes, where: str, *, default_name: str = "my-fleet") -> Schema:
    """The fleet that the bytes of a file describe; raises FleetError as `read` does."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FleetError("is not UTF-8 text", where=f"{where}:{line}", remedy="save it as UTF-8") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(str(error), text, where) from None
    end = table.get("end")
    if isinstance(end, dict) and "rule" not in end:
        told_by = {"file": "table", "sensor": "threshold", "column": "column"}
        end["rule"] = next((rule for key, rule in told_by.items() if key in end), "last_row")
    try:
        return _schema(msgspec.convert(table, _File), default_name)
    except FleetError as error:
        raise FleetError(error.what, where=_where(where, text, error.key), remedy=error.remedy, key=error.key) from None
    except msgspec.ValidationError as error:
        raise _not_valid(str(error), table, text, where) from None


def _schema(file: _File, default_name: str) -> Schema:
    return Schema(
        name=default_name if file.name is None else file.name,
        unit=file.unit,
        step=file.step,
        unit_column=file.unit_column,
        unit_from=file.unit_from,
        time=Time(column=file.time) if isinstance(file.time, str) else file.time,
        settings=tuple(_channel(column, "setting", at, file.missing) for at, column in enumerate(file.settings)),
        sensors=tuple(_channel(column, "sensor", at, file.missing) for at, column in enumerate(file.sensors)),
        end=file.end,
        censored=file.censored,
        missing_values=file.missing_values,
        cap=file.cap,
        use_settings=file.use_settings or ("regimes" if file.settings else "none"),
        least={**LEAST, **file.least},
        padding=file.padding,
    )


def _channel(column: str | _Column, kind: str, at: int, missing: Missing) -> Channel:
    """A channel of the schema; a header that is no safe name gets its safe form."""
    given = _Column(name=column) if isinstance(column, str) else column
    unsafe = not names.COLUMN.fullmatch(given.name) or given.name.lower() in names.RESERVED
    renamed = given.source is None and unsafe
    return Channel(
        name=(names.safe_column(given.name) or f"{kind}_{at + 1}") if renamed else given.name,
        source=given.name if renamed else given.source,
        unit=given.unit,
        description=given.description,
        range=given.range,
        missing=given.missing or missing,
        scale=given.scale,
        values=given.values,
    )


# Errors


def _no_toml(message: str, text: str, where: str) -> FleetError:
    at = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line = int(at[1]) if at and at[1] else text.count("\n") + 1
    what = message[: at.start()] if at else message
    return FleetError(
        f"is no TOML: {what}", where=f"{where}:{line}", remedy="correct this line; docs/fleet-file.md shows one"
    )


def _not_valid(message: str, table: dict[str, Any], text: str, where: str) -> FleetError:
    """What msgspec said, as an error with key, value, line and remedy."""
    match = re.fullmatch(r"(.*?)(?: - at `(?:key in )?\$(.*?)`)?", message, re.DOTALL)
    said, inner = (match[1], match[2] or "") if match else (message, "")
    key: tuple[str | int, ...] = tuple(
        int(part[1:-1]) if part.startswith("[") else part.lstrip(".") for part in re.findall(r"\[\d+\]|\.?\w+", inner)
    )
    unknown = re.search(r"unknown field `(.*)`", said, re.DOTALL)
    if unknown:
        return _unknown(key, unknown[1], text, where)
    missing = re.search(r"missing required field `(.*)`", said)
    if missing:
        meaning = KEYS.get(_generic((*key, missing[1])))
        remedy = f"{missing[1]}: {meaning}" if meaning else None
        return FleetError(
            f"{_dotted((*key, missing[1]))} is missing", where=_where(where, text, key), remedy=remedy, key=key
        )
    found: Any = table
    for part in key:
        found = found[part]
    for word, plain in _TYPES.items():
        said = (
            said.replace(f"`{word}`", plain)
            .replace(f"`{word} | ", f"{plain} or `")
            .replace(f" | {word}`", f"` or {plain}")
        )
    what = f"{_dotted(key)} = {json.dumps(found, default=str)[:80]} is not understood: {said[0].lower()}{said[1:]}"
    meaning = KEYS.get(_generic(key))
    remedy = f"{_generic(key).rpartition('.')[2]}: {meaning}" if meaning else None
    return FleetError(what.replace("`", ""), where=_where(where, text, key), remedy=remedy, key=key)


def _unknown(key: tuple[str | int, ...], name: str, text: str, where: str) -> FleetError:
    prefix = _generic((*key, name)).rpartition(".")[0]
    known = [k.removeprefix(f"{prefix}.") if prefix else k for k in KEYS if k.rpartition(".")[0] == prefix]
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        remedy = f"did you mean {near[0]}?"
    elif name in KEYS:
        remedy = "keys of the whole fleet stand above the first [table]"
    else:
        remedy = f"choose from {', '.join(known)}"
    here = (*key, name)
    return FleetError(f"there is no key {_dotted(here)}", where=_where(where, text, here), remedy=remedy, key=here)


def _dotted(key: tuple[str | int, ...]) -> str:
    """A key as people write it: `sensors[3].range`, counted from 1."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def _generic(key: tuple[str | int, ...]) -> str:
    """A key as `KEYS` has it."""
    return ".".join(part for part in key if isinstance(part, str)).replace("sensors.", "settings.")


# Where a key stands


def _where(where: str, text: str, key: tuple[str | int, ...]) -> str:
    """File and line of a key, or of the nearest table around it; the file alone where it is not written there."""
    for length in range(len(key), 0, -1):
        at = _position(text, key[:length])
        if at is not None:
            return f"{where}:{text.count(chr(10), 0, at) + 1}"
    return where


def _position(text: str, key: tuple[str | int, ...]) -> int | None:
    top = re.escape(str(key[0]))
    headers = list(re.finditer(rf"^[ \t]*\[{{1,2}}[ \t]*{top}[ \t]*\]{{1,2}}", text, re.MULTILINE))
    first = re.search(r"^[ \t]*\[", _blank_arrays(text), re.MULTILINE)
    begin = re.search(rf"^[ \t]*\"?{top}\"?[ \t]*=[ \t]*", text[: first.start() if first else None], re.MULTILINE)
    if len(key) == 1:
        return begin.start() if begin else headers[0].start() if headers else None
    if isinstance(key[1], int):
        if begin:
            elements = list(_elements(text, begin.end()))
            return elements[key[1]] if key[1] < len(elements) else None
        return headers[key[1]].start() if key[1] < len(headers) else None
    rest = rf"\b{re.escape(key[1])}\"?[ \t]*="
    if begin:
        line = re.compile(r"[^\n]*").match(text, begin.end())
        return begin.start() if line and re.search(rest, line[0]) else None
    if not headers:
        return None
    found = re.compile(rest).search(text, headers[0].end())
    return found.start() if found else None


def _blank_arrays(text: str) -> str:
    """`text` with what stands in arrays blanked, so that a line of an array is not taken for a table's header."""
    blanked = text
    for begin in re.finditer(r"^[ \t]*\w+[ \t]*=[ \t]*(?=\[)", text, re.MULTILINE):
        inside = list(_elements(text, begin.end(), closing=True))
        if inside:
            body = text[begin.end() : inside[-1]]
            blanked = blanked[: begin.end()] + re.sub(r"[^\n]", " ", body) + blanked[inside[-1] :]
    return blanked


def _elements(text: str, begin: int, *, closing: bool = False) -> Iterator[int]:
    """Where the elements of the array that opens at `begin` stand; with `closing` also where the array closes."""
    depth, fresh = 0, True
    for token in re.compile(r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{},]|[^\s"\'#\[\]{},]+').finditer(
        text, begin
    ):
        sign = token[0]
        if sign.startswith("#"):
            continue
        if depth == 1 and fresh and sign not in "],":
            yield token.start()
            fresh = False
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
            if depth == 0:
                if closing:
                    yield token.start()
                return
        elif sign == "," and depth == 1:
            fresh = True
