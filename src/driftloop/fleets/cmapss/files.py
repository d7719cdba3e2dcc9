"""NASA's C-MAPSS text files: their names and checksums, and how to read them, or refuse them with file and line.

A train or test file has 26 columns: unit, cycle, 3 settings, 21 sensors, separated by spaces; a RUL file
has one number for each unit of the test file.

Source of the data: Saxena, Goebel, Simon and Eklund, "Damage propagation modeling for aircraft engine
run-to-failure simulation", PHM 2008.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleets.cmapss.schema import COLUMNS

SUBSETS = ("FD001", "FD002", "FD003", "FD004")
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

ENGINES = {"FD001": (100, 100), "FD002": (260, 259), "FD003": (100, 100), "FD004": (249, 248)}
"""Train and test engines, as counted in the files; NASA's readme has the line of FD004 the wrong way round."""

SHA256 = {
    "RUL_FD001.txt": "a19c8ec94931949d0485bdc35118206e9c81c4547b422efb9cf86f4ceddbceca",
    "RUL_FD002.txt": "c851dd96a6ea6998d3c4a8f834d3c8013aa90e93a6ed950dc826ad0655b2906b",
    "RUL_FD003.txt": "df1e0566306b174a2de41c67a3e7a51877889598b78643fc3e5685259091b7cb",
    "RUL_FD004.txt": "196b836b85a95ac7fdbbf29c5fdf1657382eafa445644d114ffaaf50dc2975e1",
    "readme.txt": "4f5270554b775c67e73aff383c5436fd329d6e4cc3d3a116913276fae511269b",
    "test_FD001.txt": "3cda7109ce17bafb5443f2ac926cfcf88154b941b8c4cf95eb55d1ddd6f52851",
    "test_FD002.txt": "de7b5bf7e998a985c378488480528b7c02cff1406a46740def362dda8d9b4e02",
    "test_FD003.txt": "299babd63c8d987cef079c4a425429f33b3a34797d803bbe2ad48c29dbd0d790",
    "test_FD004.txt": "1dc675fff0624bac10786927c6715b37d1297657137400d2b1a3138d777a3ba5",
    "train_FD001.txt": "963b5e22825b34d8b21c69e1aeb4af3e647050eb672ee8834ba4b5d91d2de0f8",
    "train_FD002.txt": "dac6c4dbc4e7c1bdeb5747da3d313d05c395bb99801b44a002b26a2ba13d788f",
    "train_FD003.txt": "2abbe9968cc5e8eb091980f51b20f62bb4127336d3482cb52071d53bf23329e2",
    "train_FD004.txt": "27ef6160b6a1dcb2613a88de9c239f763b223f02cdc41dc5cdedc5dc189b6218",
}
"""The 13 files of the data set and their SHA-256; the readme is kept with the data but never read."""

_FILE_COLUMNS = ("unit", "cycle", *COLUMNS)
RESTORE = "restore the file with `driftloop data pull` or `dvc pull`"
CORRECT = "correct this line, or restore the file with `driftloop data pull` or `dvc pull`"
"""Remedies for NASA's own files; who has files of the same form is told something else (`intake`)."""


@dataclass(frozen=True)
class Subset:
    """The engines of one subset, unit 1 first: rows `[cycles, 24]` each, and the cycles test engines had left."""

    train: list[NDArray[np.float64]]
    test: list[NDArray[np.float64]]
    remaining: list[int]


def names_of(subset: str, splits: tuple[Split, ...] = SPLITS) -> tuple[str, ...]:
    """The names of the files that hold `splits` of a subset; raises DataError for a subset that does not exist."""
    if subset not in SUBSETS:
        raise DataError(f"there is no subset {subset!r}", remedy=f"choose one of {', '.join(SUBSETS)}")
    names = {"train": (f"train_{subset}.txt",), "test": (f"test_{subset}.txt", f"RUL_{subset}.txt")}
    return tuple(name for split in splits for name in names[split])


def verify(folder: Path) -> None:
    """Check that `folder` holds NASA's 13 files, byte for byte; raises DataError that names every bad file."""
    faults = []
    for name in SHA256:
        try:
            read_bytes(folder / name)
        except DataError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        what = "; ".join(f"{Path(fault.where or '').name}: {fault.what}" for fault in faults)
        raise DataError(f"{len(faults)} of {len(SHA256)} files are bad: {what}", where=str(folder), remedy=RESTORE)


def read_bytes(path: Path) -> bytes:
    """The content of one of NASA's files; raises DataError where it is missing or differs from NASA's."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy=RESTORE) from error
    found, expected = hashlib.sha256(content).hexdigest(), SHA256[path.name]
    if found != expected:
        what = f"is not NASA's file: SHA-256 {found[:12]}… ({len(content)} bytes), expected {expected[:12]}…"
        raise DataError(what, where=str(path), remedy=RESTORE)
    return content


def read_subset(folder: Path, subset: str, splits: tuple[Split, ...] = SPLITS, *, check: bool = True) -> Subset:
    """Read one subset; `check=False` leaves out the checksums, for files in NASA's format that are not NASA's.

    Raises DataError that names file, line and remedy for anything that is missing, damaged or contradicts itself.
    """
    content = {}
    for name in names_of(subset, splits):
        content[name] = read_bytes(folder / name) if check else _read(folder / name)
    train: list[NDArray[np.float64]] = []
    test: list[NDArray[np.float64]] = []
    remaining: list[int] = []
    if "train" in splits:
        train = _numbered(content[f"train_{subset}.txt"], str(folder / f"train_{subset}.txt"))
    if "test" in splits:
        test = _numbered(content[f"test_{subset}.txt"], str(folder / f"test_{subset}.txt"))
        where = folder / f"RUL_{subset}.txt"
        remaining = parse_rul(content[where.name], str(where))
        if len(remaining) != len(test):
            what = f"has {len(remaining)} labels for the {len(test)} engines of test_{subset}.txt"
            raise DataError(what, where=str(where), remedy=RESTORE)
    return Subset(train, test, remaining)


def parse_series(content: bytes, where: str) -> list[tuple[int, NDArray[np.float64]]]:
    """The units of a train or test file in their order: number and rows `[cycles, 24]`.

    Raises DataError with the line for anything but finite numbers in 26 columns, whose units are positive
    whole numbers, each in one block of lines with the cycles 1, 2, 3 and so on.
    """
    table = _table(content, where, _FILE_COLUMNS)
    _refuse_first(np.isfinite(table).sum(axis=1) < len(_FILE_COLUMNS), table, where, _not_finite)
    units, cycles = table[:, 0], table[:, 1]
    _refuse_first(_no_count(units, 1), table, where, lambda row: f"unit {row[0]:g} is not a whole number from 1 on")
    _refuse_first(_no_count(cycles, 1), table, where, lambda row: f"cycle {row[1]:g} is not a whole number from 1 on")

    new = np.concatenate([[True], units[1:] != units[:-1]])
    expected = np.where(new, 1, np.concatenate([[0], cycles[:-1]]) + 1)
    wrong = np.flatnonzero(cycles != expected)
    starts = np.flatnonzero(new)
    again = np.setdiff1d(starts, starts[np.unique(units[starts], return_index=True)[1]])
    if len(again) and (not len(wrong) or again[0] <= wrong[0]):
        what = f"unit {units[again[0]]:g} appears again after other units; an engine's lines must be together"
        raise DataError(what, where=f"{where}:{again[0] + 1}", remedy=CORRECT)
    if len(wrong):
        at = wrong[0]
        what = f"unit {units[at]:g} has cycle {cycles[at]:g} where cycle {expected[at]:g} must follow"
        raise DataError(what, where=f"{where}:{at + 1}", remedy=CORRECT)
    blocks = np.split(table[:, 2:], starts[1:])
    return [(int(units[start]), np.ascontiguousarray(rows)) for start, rows in zip(starts, blocks, strict=True)]


def parse_rul(content: bytes, where: str) -> list[int]:
    """The remaining cycles of a RUL file, unit 1 first; raises DataError with the line for anything else."""
    table = _table(content, where, ("RUL",))
    bad = _no_count(table[:, 0], 0)
    _refuse_first(bad, table, where, lambda row: f"RUL {row[0]:g} is not a whole number from 0 on")
    return [int(value) for value in table[:, 0]]


def _numbered(content: bytes, where: str) -> list[NDArray[np.float64]]:
    series = parse_series(content, where)
    for position, (unit, _) in enumerate(series, start=1):
        if unit != position:
            what = f"unit {unit} stands where unit {position} is expected; units are numbered from 1 without gaps"
            raise DataError(what, where=where, remedy=RESTORE)
    return [rows for _, rows in series]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy=RESTORE) from error


def _table(content: bytes, where: str, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """The numbers of a file, `[lines, columns]`; row i is line i + 1."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8 text", where=f"{where}:{line}", remedy=RESTORE) from None
    if not text:
        raise DataError("is empty", where=where, remedy=RESTORE)
    lines = text.split("\n")
    if lines.pop():
        # Without it a last number that lost its final digits would pass as a number.
        what = "ends in the middle of a line; the file was cut short"
        raise DataError(what, where=f"{where}:{len(lines) + 1}", remedy=RESTORE)
    if not lines[0].strip():
        raise _first_fault(lines, where, columns)
    try:
        table = np.loadtxt(lines, dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape != (len(lines), len(columns)):
        raise _first_fault(lines, where, columns)
    return table


def _first_fault(lines: list[str], where: str, columns: tuple[str, ...]) -> DataError:
    """The first line that is not one number for each column, as an error."""
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if len(cells) != len(columns):
            missing = f"; {columns[len(cells)]} is missing" if len(cells) < len(columns) else ""
            what = f"has {len(cells)} columns instead of {len(columns)}{missing}"
            return DataError(what, where=f"{where}:{number}", remedy=CORRECT)
        for name, cell in zip(columns, cells, strict=True):
            try:
                np.loadtxt([cell], comments=None)
            except ValueError:
                return DataError(f"{name} is {cell[:40]!r}, not a number", where=f"{where}:{number}", remedy=CORRECT)
    return DataError("is not a table of numbers separated by spaces", where=where, remedy=RESTORE)


def _no_count(column: NDArray[np.float64], first: int) -> NDArray[np.bool_]:
    """Where a column is not a whole number from `first` on that float64 can count up from."""
    return np.asarray(~((column >= first) & (column == np.floor(column)) & (column < 2**53)), dtype=np.bool_)


def _not_finite(row: NDArray[np.float64]) -> str:
    at = int(np.flatnonzero(~np.isfinite(row))[0])
    return f"{_FILE_COLUMNS[at]} is {row[at]}, not a finite number"


def _refuse_first(
    bad: NDArray[np.bool_], table: NDArray[np.float64], where: str, say: Callable[[NDArray[np.float64]], str]
) -> None:
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(say(table[at]), where=f"{where}:{at + 1}", remedy=CORRECT)
