"""Completed runs from the files that people have: NASA's text format, NumPy arrays, JSON."""

import io
import re
from pathlib import Path

import msgspec
import numpy as np

from driftloop.errors import DataError
from driftloop.fleet.archive import check_run, decode
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.files import parse_series
from driftloop.fleets.cmapss.source import engine_id


class _JsonRun(msgspec.Struct):
    run_id: str
    rows: list[list[float]]


class _JsonRuns(msgspec.Struct):
    runs: list[_JsonRun]


def read_completed(path: Path, fleet: str | None = None) -> list[Run]:
    """The completed runs-to-failure of a file, each checked as the archive checks it.

    `.npy` is one run, float `[cycles, 24]`, named as the file; `.json` is `{"runs": [{"run_id", "rows"}]}`; any
    other file is NASA's format, whose units get the ids of the fleet `fleet`, by default the file's name without
    `train_`. Raises DataError with file, line or field, and remedy.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if path.suffix == ".npy":
        runs = [_from_numpy(path, content)]
    elif path.suffix == ".json":
        runs = _from_json(path, content)
    else:
        runs = _from_text(path, content, fleet)
    if not runs:
        raise DataError("has no runs", where=str(path))
    for run in runs:
        try:
            check_run(run)
        except DataError as error:
            where = f"{path}: {error.where}" if error.where else str(path)
            raise DataError(error.what, where=where, remedy=error.remedy) from None
    return runs


def _from_text(path: Path, content: bytes, fleet: str | None) -> list[Run]:
    if path.name.startswith(("test_", "RUL_")):
        what = "is a file of engines that had not failed yet; only completed runs-to-failure can be archived"
        raise DataError(what, where=str(path), remedy="add the train_ file of the fleet")
    name = path.stem.removeprefix("train_") if fleet is None else fleet
    return [Run(engine_id(name, unit), rows) for unit, rows in parse_series(content, str(path))]


def _from_numpy(path: Path, content: bytes) -> Run:
    buffer = io.BytesIO(content)
    try:
        rows = np.load(buffer, allow_pickle=False)
        if rows.dtype.kind not in "fiu":
            raise ValueError(f"holds {rows.dtype}, not numbers")
    except (ValueError, EOFError, OSError, AttributeError) as error:
        what = f"is not a NumPy file of numbers: {error}"
        raise DataError(what, where=str(path), remedy="write it with numpy.save, as float64 [cycles, 24]") from None
    if buffer.read(1):  # an object of another archive, which brings its checksum
        return decode(path.stem, content, str(path))
    return Run(path.stem, rows.astype(np.float64))


def _from_json(path: Path, content: bytes) -> list[Run]:
    remedy = 'write it as {"runs": [{"run_id": "...", "rows": [[24 numbers], ...]}]}'
    try:
        decoded = msgspec.json.decode(content, type=_JsonRuns)
    except msgspec.ValidationError as error:
        raise DataError(str(error), where=str(path), remedy=remedy) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        at = re.search(r"\(byte (\d+)\)", str(error))
        line = content.count(b"\n", 0, int(at.group(1)) if at else len(content)) + 1
        raise DataError(f"is not JSON: {error}", where=f"{path}:{line}", remedy=remedy) from None
    runs = []
    for position, entry in enumerate(decoded.runs):
        widths = {len(row) for row in entry.rows}
        if len(widths) > 1:
            first = next(i for i, row in enumerate(entry.rows) if len(row) != len(entry.rows[0]))
            what = f"runs[{position}].rows[{first}] has {len(entry.rows[first])} numbers, the rows before it another"
            raise DataError(what, where=str(path), remedy=remedy)
        runs.append(Run(entry.run_id, np.array(entry.rows, dtype=np.float64)))
    return runs
