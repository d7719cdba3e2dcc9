"""Sending the rows of whole files to the service: as history, or one by one as a fleet in service."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from driftloop.errors import DataError
from driftloop.fleet import folders
from driftloop.fleet import tables as fleet_tables
from driftloop.fleet.columns import Columns, locate
from driftloop.fleet.findings import Findings
from driftloop.fleet.schema import Schema
from driftloop.fleet.sheets import open_sheet
from driftloop.fleet.times import Clock
from driftloop.protocol import platform
from driftloop.protocol.client import put
from driftloop.units.sinks import Sink

ROWS = 5000
"""In one request."""
_SHOWN = 20


def backfill(
    http: httpx.Client,
    files: Sequence[Path],
    schema: Schema,
    tell: Callable[[str], None] | None = None,
    *,
    jump: bool = False,
) -> dict[str, Any]:
    """Send the rows of files as history; what became of them. With `jump`, counters may jump."""
    total: dict[str, Any] = dict.fromkeys(("rows", "stored", "known", "late", "ended", "refused"), 0)
    problems: list[dict[str, Any]] = []
    started = time.monotonic()
    for path in _of_rows(files, schema):
        for table in rows_of(path, schema):
            found = put(http, platform.keep(table, backfill=True, jump=jump), "units")
            for key in total:
                total[key] += getattr(found, key)
            problems += found.problems[: _SHOWN - len(problems)]
        if tell is not None:
            tell(f"{path}: {total['rows']} rows so far")
    return {**total, "problems": problems, "seconds": round(time.monotonic() - started, 3)}


def _of_rows(files: Sequence[Path], schema: Schema) -> list[Path]:
    """The files that have rows: those beside them that tell of units or of failures have none."""
    return [path for path in folders.expand(files) if path.name not in (schema.censored.file, *schema.end.files)]


def rows_of(path: Path, schema: Schema, size: int = ROWS) -> Iterator[dict[str, Any]]:
    """The rows of a file, as bodies of POST /telemetry; raises DataError where its table cannot be read."""
    findings, clock, codes = Findings(), Clock(), dict[str, int]()
    sheet = open_sheet(path, fleet_tables.order_without_header(schema))
    located = locate(sheet, schema)
    reader = Columns(sheet, located, schema, findings, clock, {})
    name = folders.unit_of(path, schema)
    counts: dict[int, int] = {}
    for chunk in sheet.chunks(located.wanted):
        cut = reader.cut(chunk, codes, 0, name, "")
        if findings.problems:
            first = findings.problems[0]
            raise DataError(first.what, where=first.where, remedy=first.remedy)
        names = list(codes)
        time_of = cut.time if cut.time is not None else _counted(cut.unit, counts)
        extra, more = _extra(schema, cut)
        columns = ["unit", schema.time.column or "index", *schema.columns, *extra]
        for start in range(0, len(cut.unit), size):
            part = slice(start, start + size)
            units, times = cut.unit[part].tolist(), time_of[part].tolist()
            rows = [
                [names[unit], moment, *values, *others]
                for unit, moment, values, others in zip(
                    units, times, cut.values[part].tolist(), _rows(more, part, len(units)), strict=True
                )
            ]
            yield {"columns": columns, "rows": rows}


def _counted(unit: np.ndarray[Any, Any], counts: dict[int, int]) -> np.ndarray[Any, Any]:
    """The place of each row among its unit's, where no column tells the time."""
    found = np.empty(len(unit))
    for at, code in enumerate(unit.tolist()):
        counts[code] = counts.get(code, 0) + 1
        found[at] = counts[code]
    return found


def _extra(schema: Schema, cut: Any) -> tuple[list[str], list[list[Any]]]:
    """Columns of a row beside unit, time and values: what the end is told by."""
    names: list[str] = []
    columns: list[list[Any]] = []
    of_channels = {name for channel in schema.channels for name in (channel.name, channel.header)}
    if schema.end.sensor is not None and schema.end.sensor not in of_channels and cut.compared is not None:
        names.append(schema.end.sensor)
        columns.append(cut.compared.tolist())
    if schema.end.flag is not None and cut.ended is not None:
        # As the fleet file writes it.
        yes = schema.end.value if schema.end.value is not None else True
        names.append(schema.end.flag)
        columns.append([yes if one else None for one in cut.ended.tolist()])
    return names, columns


def _rows(columns: list[list[Any]], part: slice, count: int) -> list[tuple[Any, ...]]:
    return list(zip(*(column[part] for column in columns), strict=True)) if columns else [()] * count


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


async def replay(
    files: Sequence[Path], schema: Schema, sink: Sink, rate: float, tell: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Play files as a fleet: one row after the other, in the order of their times, so many a second."""
    rows = sorted(
        ((row[1], row[0], dict(zip(table["columns"], row, strict=True)))
         for path in _of_rows(files, schema)
         for table in rows_of(path, schema)
         for row in table["rows"]),
        key=lambda one: one[:2],
    )  # fmt: skip
    started, sent, refused = time.monotonic(), 0, 0
    async with sink:
        for _, _, row in rows:
            await asyncio.sleep(max(0.0, started + sent / rate - time.monotonic()))
            kept = {key: value for key, value in row.items() if not _missing(value)}
            refused += not await sink.send(msgspec.json.encode(kept))
            sent += 1
            if tell is not None and sent % 1000 == 0:
                tell(f"{sent} of {len(rows)} rows")
    return {
        "rows": sent,
        "refused": refused,
        "units": len({unit for _, unit, _ in rows}),
        "seconds": round(time.monotonic() - started, 3),
    }
