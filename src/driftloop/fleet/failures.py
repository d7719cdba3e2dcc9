"""Failures that stand in a table of their own, beside the data: laid on the rows of the units that failed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells
from driftloop.fleet.columns import flags, key_columns, unit_names
from driftloop.fleet.findings import Findings
from driftloop.fleet.lives import Rows
from driftloop.fleet.schema import Schema
from driftloop.fleet.sheets import open_sheet
from driftloop.fleet.times import Clock

ALONE = ""
"""The unit of failures in a table that names none: the only one."""
_LATE = 10
"""A failure that comes at most so many usual steps after a unit's last row ended its life."""


@dataclass(frozen=True)
class Failures:
    """When each unit failed."""

    path: Path
    at: dict[str, NDArray[np.float64]]
    """Counts or seconds, rising, by the unit's name."""

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

    def tell_strangers(self, known: dict[str, int], schema: Schema, findings: Findings) -> None:
        """Say which units failed that have no rows, and that a table without units is not of several."""
        if ALONE in self.at and len(known) > 1:
            what = f"names no {schema.unit}, and the data are of {len(known)}"
            findings.add("problem", str(self.path), what, f"add a column {schema.unit}, with the names of their files")
        for unit in self.at.keys() - known.keys() - {ALONE}:
            what = f"{schema.unit} {unit} failed, and is not in the data"
            findings.add("note", str(self.path), what, kind=("absent", self.path))


def read(path: Path, schema: Schema) -> Failures:
    """The failures in a table; raises DataError where it does not name units and times as the data do."""
    if not path.exists():
        what = f"is not there, and the fleet file says that it tells when {schema.units} failed"
        raise DataError(what, where=str(path), remedy="put it beside the data, or take `file` out of [end]")
    sheet = open_sheet(path)
    alone = schema.unit_column is None and not {schema.unit, "unit"} & set(sheet.headers)
    wanted = key_columns(sheet, schema, schema.time.column, schema.end.column, alone=alone)
    clock, stamped = Clock(), schema.time.kind == "timestamp"
    units: list[str] = []
    times: list[NDArray[np.float64]] = []
    kept: list[NDArray[np.bool_]] = []
    lines: list[int] = []
    for chunk in sheet.chunks(wanted):
        *keys, told = chunk.columns[: 1 if alone else 2]
        units += unit_names(keys[0]) if keys else [ALONE] * len(told)
        if stamped:
            found = clock.add(told)[0]
        else:
            found = told if isinstance(told, np.ndarray) else cells.numbers(told, sheet.decimal)[0]
        times.append(found)
        lines += chunk.rows.tolist()
        chosen = np.ones(len(found), np.bool_)
        kept.append(chosen if schema.end.column is None else flags(chunk.columns[-1], schema.end.value))
    if not units:
        raise DataError("has no rows", where=str(path), remedy="write a row for each failure")
    findings = Findings()
    column = str(schema.time.column)
    time = clock.settle(lambda at: sheet.where(lines[at]), findings, column) if stamped else np.concatenate(times)
    for problem in findings.problems:
        raise DataError(problem.what, where=problem.where, remedy=problem.remedy)
    unread = np.flatnonzero(~np.isfinite(time))
    if len(unread):
        where = sheet.where(lines[int(unread[0])])
        raise DataError(f"{column} is no time", where=where, remedy="write it as the data do, or remove the line")
    by_unit: dict[str, list[float]] = {}
    for unit, moment, chosen_row in zip(units, time.tolist(), np.concatenate(kept).tolist(), strict=True):
        if chosen_row:
            by_unit.setdefault(unit, []).append(moment)
    return Failures(path, {unit: np.unique(found) for unit, found in by_unit.items()})


def beside(path: Path, schema: Schema) -> Failures | None:
    """The failures beside a file of data; None where the fleet file names no table of them."""
    return None if schema.end.file is UNSET else read(path.parent / schema.end.file, schema)
