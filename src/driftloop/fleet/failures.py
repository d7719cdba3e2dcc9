"""Failures that stand in a table of their own, beside the data: laid on the rows of the units that failed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells, folders
from driftloop.fleet.columns import Cells, flags, joined_names, key_columns, on_the_day, positions, unit_names
from driftloop.fleet.findings import Findings
from driftloop.fleet.lives import Rows
from driftloop.fleet.schema import Schema, headers_of
from driftloop.fleet.sheets import open_sheet
from driftloop.fleet.times import Clock, Order

ALONE = ""
"""The unit of failures in a table that names none: the only one."""
_LATE = 10
"""A failure that comes at most so many usual steps after a unit's last row ended its life."""
_DAY = 86400.0


@dataclass(frozen=True)
class Failures:
    """When each unit failed."""

    path: Path
    at: dict[str, NDArray[np.float64]]
    """Counts or seconds, rising, by the unit's name."""
    column: str
    """Header of the times."""
    without: int
    """Rows that have no time: they say that nothing has failed."""
    by_day: bool
    """Whether times are days, without a time of day."""

    def marked(self, rows: Rows, unit: str, schema: Schema, findings: Findings) -> NDArray[np.bool_]:
        """Which of a unit's rows are the last ones before a failure; failures that no row is near are told."""
        assert rows.time is not None
        failed = self.at.get(unit, self.at.get(ALONE, np.empty(0)))
        time = np.sort(rows.time)
        before = np.searchsorted(time, failed, side="right") - 1
        apart = np.diff(time)
        usual = max(float(np.median(apart[apart > 0])) if (apart > 0).any() else 0.0, schema.time.width)
        near = (before >= 0) & (failed <= time[-1] + _LATE * usual)
        lost = int((~near).sum())
        if lost:
            what = f"{lost} failure{'s' * (lost > 1)} of {schema.unit} {unit} came before its first row, or long after "
            what += "its last one, and end no life"
            findings.add("warning", str(self.path), what, "add the rows before them", kind="failure without rows")
        return np.isin(rows.time, time[before[near]])

    def tell(self, known: dict[str, int], schema: Schema, findings: Findings) -> None:
        """Say which units failed that have no rows, that a table without units is not of several, and what its times
        leave open.
        """
        if self.without:
            what = f"{self.without} row{'s have' if self.without > 1 else ' has'} no {self.column}: no failure is told"
            findings.add("note", str(self.path), what, kind=("without", self.path))
        if self.by_day and schema.time.width < _DAY:
            what = f"{self.column} tells days and no time of day: a life ends with the last row before that day"
            findings.add("warning", str(self.path), what, "add the time of day", kind=("days", self.path))
        if ALONE in self.at and len(known) > 1:
            what = f"names no {schema.unit}, and the data are of {len(known)}"
            findings.add("problem", str(self.path), what, f"add a column {schema.unit}, with the names of their files")
        for unit in self.at.keys() - known.keys() - {ALONE}:
            what = f"{schema.unit} {unit} failed, and is not in the data"
            findings.add("note", str(self.path), what, kind=("absent", self.path))


def read(path: Path, schema: Schema, order: Order | None = None) -> Failures:
    """The failures in a table; raises DataError where it does not name units and times as the data do.

    `order` is what stands first in the data's dates, which counts where no row of the table can tell.
    """
    if not path.exists():
        what = f"is not there, and the fleet file says that it tells when {schema.units} failed"
        raise DataError(what, where=str(path), remedy="put it beside the data, or take `file` out of [end]")
    sheet = open_sheet(path)
    given = headers_of(schema.end.unit_column)
    alone = not given and schema.unit_column is None and not {schema.unit, "unit"} & set(sheet.headers)
    keys = [] if alone else key_columns(sheet, schema, given)
    column = schema.time.column if schema.end.time_column is UNSET else schema.end.time_column
    of_day = schema.time.of_day if schema.time.of_day in sheet.headers and schema.end.time_column is UNSET else None
    others = [(str(header),) for header in (column, of_day, schema.end.column) if header is not None]
    clock, stamped = Clock(), schema.time.kind == "timestamp"
    units: list[str] = []
    times: list[NDArray[np.float64]] = []
    kept: list[NDArray[np.bool_]] = []
    absent: list[NDArray[np.bool_]] = []
    lines: list[int] = []
    for chunk in sheet.chunks([*keys, *positions(sheet, others)]):
        parts, told = chunk.columns[: len(keys)], chunk.columns[len(keys)]
        told = told if of_day is None else on_the_day(told, chunk.columns[len(keys) + 1])
        units += joined_names([unit_names(part) for part in parts]) if keys else [ALONE] * len(told)
        if stamped:
            found = clock.add(told)[0]
        else:
            found = told if isinstance(told, np.ndarray) else cells.numbers(told, sheet.decimal)[0]
        times.append(found)
        absent.append(_absent(told))
        lines += chunk.rows.tolist()
        chosen = np.ones(len(found), np.bool_)
        kept.append(chosen if schema.end.column is None else flags(chunk.columns[-1], schema.end.value))
    if not units:
        raise DataError("has no rows", where=str(path), remedy="write a row for each failure")
    findings = Findings()
    time = np.concatenate(times)
    if stamped:
        time = clock.settle(lambda at: sheet.where(lines[at]), findings, str(column), order)
    for problem in findings.problems:
        raise DataError(problem.what, where=problem.where, remedy=problem.remedy)
    nothing, wanted = np.concatenate(absent), np.concatenate(kept)
    unread = np.flatnonzero(~np.isfinite(time) & ~nothing & wanted)
    if len(unread):
        where = sheet.where(lines[int(unread[0])])
        raise DataError(f"{column} is no time", where=where, remedy="write it as the data do, or remove the line")
    by_unit: dict[str, list[float]] = {}
    for unit, moment, is_one in zip(units, time.tolist(), (wanted & ~nothing).tolist(), strict=True):
        if is_one:
            by_unit.setdefault(unit, []).append(moment)
    told_at = time[wanted & ~nothing]
    return Failures(
        path,
        {unit: np.unique(found) for unit, found in by_unit.items()},
        str(column),
        int((nothing & wanted).sum()),
        stamped and len(told_at) > 0 and bool((told_at % _DAY == 0).all()),
    )


def _absent(told: Cells) -> NDArray[np.bool_]:
    """Where a cell says nothing."""
    if isinstance(told, np.ndarray):
        return np.isnan(told)
    return np.array([cell.strip().lower() in cells.MISSING for cell in told], np.bool_)


def beside(path: Path, schema: Schema) -> list[Path]:
    """The tables of failures beside a file of data, or above it; none where the fleet file names none."""
    return [folders.near(path, name) for name in schema.end.files]
