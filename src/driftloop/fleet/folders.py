"""Files and folders that people name: which tables they hold, what lies near them, and which unit a file is of."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from driftloop.errors import DataError
from driftloop.fleet import names, strays
from driftloop.fleet.findings import Findings
from driftloop.fleet.schema import Schema
from driftloop.fleet.sheets import SUFFIXES
from driftloop.fleet.strays import called_a_table

_ABOVE = 3
"""Folders, from a file's own upwards, in which a table beside the data may lie."""
_DAY = re.compile(
    r"(\w+=)?((19|20)\d\d[-_. ]?)?(0[1-9]|1[0-2])[-_. ]?(0[1-9]|[12]\d|3[01])|day[-_ ]?\d+", re.IGNORECASE
)
"""What a folder is called that is a day."""
_PART = re.compile(r"(.*[\W_])?(\d+|data|readings?|sensors?|log|export|telemetry)", re.IGNORECASE)
"""What a file is called that is a part of its folder, and no unit."""


def expand(paths: Iterable[Path]) -> list[Path]:
    """The files, and those of folders that are called like tables, in order; where a folder has none, those of the
    folders in it. Raises DataError where there are none, or where they are recordings.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(_tables(path))
        elif not path.exists():
            address = re.match(r"[a-z][a-z0-9+.-]+:/", str(path), re.IGNORECASE)
            remedy = "fetch it first, and name the file" if address else "name files, or a folder of files"
            raise DataError("is an address" if address else "is not there", where=str(path), remedy=remedy)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _tables(folder: Path) -> list[Path]:
    inside = sorted(file for file in folder.iterdir() if called_a_table(file))
    if not inside:
        inside = _below(folder)
        if not inside or strays.are_recordings(inside):
            raise strays.no_tables(folder)
    return inside


def _below(folder: Path) -> list[Path]:
    """The tables in the folders of a folder, but for hidden ones."""
    files = (file for file in sorted(folder.rglob("*")) if called_a_table(file) and file.parent != folder)
    return [file for file in files if not any(part[0] in "._" for part in file.relative_to(folder).parts)]


def tell_below(given: Sequence[Path], findings: Findings) -> None:
    """Say which folders were not looked into: those in a folder that has tables of its own."""
    for folder in (path for path in given if path.is_dir() and any(map(called_a_table, path.iterdir()))):
        for inner in dict.fromkeys(folder / file.relative_to(folder).parts[0] for file in _below(folder)):
            if inner not in given:
                what = "is left alone, since the folder above it has tables too"
                findings.add("warning", str(inner), what, "name it as well, if its tables are of this fleet")


def near(path: Path, name: str) -> Path:
    """A table of that name beside a file, or in a folder above it; beside it, where there is none."""
    for folder in (path.parent, *path.parent.parents)[:_ABOVE]:
        if (folder / name).is_file():
            return folder / name
    return path.parent / name


def unit_of(path: Path, schema: Schema) -> str | None:
    """The unit whose rows a file has, where no column names it."""
    if schema.unit_column is not None:
        return None
    return folder_unit(path) if schema.unit_from == "folder" else file_unit(path)


def named_after(path: Path, schema: Schema) -> Path:
    """What gives a unit its name: the file, or its folder."""
    return path.parent if schema.unit_from == "folder" else path


def file_unit(path: Path) -> str:
    """The unit that a file is named after: its name without what says how it is written."""
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return names.unit(name[: -len(suffix)])
    return names.unit(path.stem or name)


def folder_unit(path: Path) -> str:
    """The unit that a file's folder is named after; of `unit_id=7`, as programs write it, the value."""
    name = path.resolve().parent.name
    key, equals, value = name.partition("=")
    return names.unit(value if equals and key.isidentifier() and value else name)


def are_days(paths: Iterable[Path]) -> bool:
    """Whether files lie in folders that are days, in each of which a unit has a file of the same name."""
    return all(_DAY.fullmatch(path.parent.name) for path in paths)


def each_is_a_unit(paths: Sequence[Path]) -> bool:
    """Whether the folders of files seem to be the units, and the files their parts."""
    parents = {path.parent for path in paths}
    if len(parents) < 2 or are_days(paths):
        return False
    stems = [file_unit(path) for path in paths]
    return len(set(stems)) < len(stems) or all(_PART.fullmatch(stem) for stem in stems)
