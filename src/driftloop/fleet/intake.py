"""Runs from the files that people have: tables of any form, NumPy arrays, JSON, and what one fleet alone has."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from driftloop import durable
from driftloop.errors import DataError
from driftloop.fleet import names, tables
from driftloop.fleet.objects import check_run, decode
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema

_ARRAYS, _JSON = ".npy", ".json"


class Reader(Protocol):
    """Reads files that only one fleet has, such as NASA's text."""

    def __call__(self, path: Path, prefix: str | None) -> list[Run] | None:
        """The runs of a file, or None where it is none of these; raises DataError for one that cannot be used."""
        ...


@dataclass(frozen=True)
class Taken:
    """The runs of some files."""

    runs: list[Run]
    told: frozenset[str]
    """The runs whose end the fleet file's rule tells: nobody has to ask whether they have failed."""


class _JsonRun(msgspec.Struct):
    run_id: str
    rows: list[list[float | None]]
    censored: bool = False


class _JsonRuns(msgspec.Struct):
    runs: list[_JsonRun]


def read_files(paths: Sequence[Path], schema: Schema, *, own: Reader | None = None, prefix: str | None = None) -> Taken:
    """The runs of files and folders, each checked as the archive checks it.

    `.npy` is one run, float `[steps, columns]`, named as the file; `.json` is `{"runs": [{"run_id", "rows"}]}`; `own`
    may know others; the rest are tables, whose units are named by their content (`tables.read`). A `prefix` stands
    before the names of units, so that two fleets may number theirs alike. Raises DataError with file, line or field,
    and remedy.
    """
    runs: list[Run] = []
    left: list[Path] = []
    for path in paths:
        found = _read_one(path, schema, own, prefix)
        if found is None:
            left.append(path)
            continue
        if not found:
            raise DataError("has no runs", where=str(path))
        for run in found:
            _check(run, str(path), schema)
        runs += found
    told: frozenset[str] = frozenset()
    if left:
        units = tables.read(left, schema).units
        ids = [names.run_id(f"{prefix}-{unit.name}" if prefix else unit.name) for unit in units]
        named = [replace(unit.run, run_id=run_id) for unit, run_id in zip(units, ids, strict=True)]
        for run, unit in zip(named, units, strict=True):
            _check(run, unit.where, schema)
        if schema.end.rule != "last_row":
            told = frozenset(run.run_id for run in named if not run.censored)
        runs += named
    return Taken(runs, told)


def _read_one(path: Path, schema: Schema, own: Reader | None, prefix: str | None) -> list[Run] | None:
    if path.suffix == _ARRAYS:
        return [_from_numpy(path, _content(path), schema)]
    if path.suffix == _JSON:
        return _from_json(path, _content(path), schema)
    return own(path, prefix) if own is not None and not path.is_dir() else None


def _check(run: Run, where: str, schema: Schema) -> None:
    try:
        check_run(run, schema)
    except DataError as error:
        full = f"{where}: {error.where}" if error.where else where
        raise DataError(error.what, where=full, remedy=error.remedy) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _from_numpy(path: Path, content: bytes, schema: Schema) -> Run:
    buffer = io.BytesIO(content)
    try:
        rows = np.load(buffer, allow_pickle=False)
        if rows.dtype.kind not in "fiu":
            raise ValueError(f"holds {rows.dtype}, not numbers")
    except (ValueError, EOFError, OSError, AttributeError) as error:
        what = f"is not a NumPy file of numbers: {error}"
        remedy = f"write it with numpy.save, as float64 [{schema.steps}, {schema.n_columns}]"
        raise DataError(what, where=str(path), remedy=remedy) from None
    if buffer.read(1):  # an object of another archive, which brings its checksum
        return decode(path.stem, content, str(path), schema)
    return Run(path.stem, rows.astype(np.float64))


def _from_json(path: Path, content: bytes, schema: Schema) -> list[Run]:
    remedy = f'write it as {{"runs": [{{"run_id": "...", "rows": [[{schema.n_columns} numbers], ...]}}]}}'
    try:
        decoded = msgspec.json.decode(content, type=_JsonRuns)
    except msgspec.ValidationError as error:
        raise DataError(str(error), where=str(path), remedy=remedy) from None
    except durable.NOT_JSON as error:
        at = re.search(r"\(byte (\d+)\)", str(error))
        line = content.count(b"\n", 0, int(at.group(1)) if at else len(content)) + 1
        raise DataError(durable.json_error(error).what, where=f"{path}:{line}", remedy=remedy) from None
    runs = []
    for position, entry in enumerate(decoded.runs):
        widths = {len(row) for row in entry.rows}
        if len(widths) > 1:
            first = next(i for i, row in enumerate(entry.rows) if len(row) != len(entry.rows[0]))
            what = f"runs[{position}].rows[{first}] has {len(entry.rows[first])} numbers, the rows before it another"
            raise DataError(what, where=str(path), remedy=remedy)
        runs.append(Run(entry.run_id, np.array(entry.rows, dtype=np.float64), censored=entry.censored))
    return runs
