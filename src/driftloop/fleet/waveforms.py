"""Recordings of waveforms, one file for each moment of a unit's life, as a table with one row for each of them.

Nothing that predicts a life reads thousands of vibrations a second; it reads what they are like: their mean, standard
deviation, root mean square, largest size, and how peaked they are (kurtosis, crest factor).
"""

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftloop import durable
from driftloop.errors import DataError
from driftloop.fleet import cells
from driftloop.fleet.names import safe_column
from driftloop.fleet.sheets import open_sheet
from driftloop.fleet.strays import called_a_table, is_suffixed

FEATURES = ("mean", "std", "rms", "peak", "kurtosis", "crest")
_LEAST = 2
"""Files that a folder has at least to be a unit."""

Tell = Callable[[int, int], None]
"""How many files are done, and of how many."""


def summarise(root: Path, pattern: str, columns: Sequence[str], to: Path, tell: Tell) -> tuple[int, int]:
    """Write the table of all recordings below a folder; returns how many units and rows it has.

    Each folder with files that match `pattern` is a unit, its files in the order of the numbers in their names are its
    steps. `columns` are headers or places, counted from 1; all that hold numbers without any. Raises DataError for
    recordings that are not alike.
    """
    found = units(root, pattern)
    total = sum(len(files) for files in found.values())
    wanted = _wanted(next(iter(found.values()))[0], columns)
    header = ["unit", "step", *(f"{name}_{feature}" for name in wanted for feature in FEATURES)]
    rows: list[list[str]] = []
    for unit, files in found.items():
        for step, path in enumerate(files, 1):
            values = _values(path, wanted)
            told = [value for name in wanted for value in features(values[name])]
            rows.append([unit, str(step), *("" if math.isnan(value) else f"{value:.7g}" for value in told)])
            tell(len(rows), total)
    durable.write_atomically(to, _text([header, *rows]).encode())
    return len(found), len(rows)


def units(root: Path, pattern: str) -> dict[str, list[Path]]:
    """The recordings of each unit, oldest first; raises DataError where there are none."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob(pattern)):
        if path.is_file() and (called_a_table(path) or not is_suffixed(path)):
            folders.setdefault(path.parent, []).append(path)
    folders = {folder: files for folder, files in folders.items() if len(files) >= _LEAST}
    if not folders:
        remedy = "name the folder above those of the units, and --files for what their recordings are called"
        raise DataError(f"has no folder with {_LEAST} recordings {pattern}", where=str(root), remedy=remedy)
    short = [folder.name for folder in folders]
    named = {
        folder: folder.name if short.count(folder.name) == 1 else "-".join(folder.relative_to(root).parts)
        for folder in folders
    }
    return {named[folder] or root.name: sorted(files, key=_by_number) for folder, files in folders.items()}


def _by_number(path: Path) -> list[tuple[int, str]]:
    """2 before 10, however many digits are written."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def features(values: NDArray[np.float64]) -> tuple[float, ...]:
    """What a waveform `[n]` is like, as FEATURES names it; NaN where nothing was recorded."""
    there = values[np.isfinite(values)]
    if not len(there):
        return (float("nan"),) * len(FEATURES)
    mean, std = float(there.mean()), float(there.std())
    rms, peak = float(np.sqrt((there**2).mean())), float(np.abs(there).max())
    kurtosis = float((((there - mean) / std) ** 4).mean()) if std > 0 else 0.0
    return mean, std, rms, peak, kurtosis, peak / rms if rms > 0 else 0.0


def _wanted(path: Path, columns: Sequence[str]) -> dict[str, int]:
    """The columns that are summarised, by their safe names, and their places in a recording."""
    headers = open_sheet(path, None).headers
    places = []
    for column in columns or [str(at) for at in range(1, len(headers) + 1)]:
        at = headers.index(column) if column in headers else int(column) - 1 if column.isdigit() else -1
        if not 0 <= at < len(headers):
            remedy = f"choose from {', '.join(headers)}, or places from 1 to {len(headers)}"
            raise DataError(f"has no column {column!r}", where=str(path), remedy=remedy)
        places.append(at)
    return {safe_column(headers[at]) or f"column_{at + 1}": at for at in places}


def _values(path: Path, wanted: dict[str, int]) -> dict[str, NDArray[np.float64]]:
    sheet = open_sheet(path, None)
    if max(wanted.values()) >= len(sheet.headers):
        what = f"has {len(sheet.headers)} columns, fewer than the first recording"
        raise DataError(what, where=str(path), remedy="choose files of one kind by --files")
    parts: list[list[NDArray[np.float64]]] = [[] for _ in wanted]
    for chunk in sheet.chunks(list(wanted.values())):
        for part, found in zip(parts, chunk.columns, strict=True):
            part.append(found if isinstance(found, np.ndarray) else cells.numbers(found, sheet.decimal)[0])
    return {name: np.concatenate(part) if part else np.empty(0) for name, part in zip(wanted, parts, strict=True)}


def _text(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
