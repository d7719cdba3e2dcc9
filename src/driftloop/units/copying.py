"""A copy of the store on SQLite, taken while rows come in, and put back."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from driftloop import durable
from driftloop.errors import DataError, DriftloopError
from driftloop.settings import Settings
from driftloop.units import store

BEFORE = ".before-restore"
_BESIDE = ("-wal", "-shm", "-journal")
_PAGES_AT_ONCE = -1
"""All of them: where a copy is taken in pieces, SQLite begins anew whenever a row comes between two."""


class Kept(NamedTuple):
    """What a copy holds."""

    path: str
    units: int
    rows: int
    predictions: int
    bytes: int


def back_up(settings: Settings, to: Path) -> Kept:
    """Write the store as it is at one moment into a file; raises DriftloopError where that cannot be."""
    source = _path(settings, "pg_dump")
    if not source.exists():
        raise DriftloopError("there is no store yet", where=str(source), remedy="set DRIFTLOOP_STATE_DIR")
    with _written(to) as made:
        _copy(source, made)
        return _sound(made, settings)._replace(path=str(to))


def restore(settings: Settings, from_: Path) -> Kept:
    """Put a copy in the place of the store, which is kept beside it; raises DriftloopError where the service runs, or
    the copy is damaged or another fleet's."""
    path = _path(settings, "pg_restore")
    found = _sound(from_, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with store.alone(path):
        with _written(path) as made:
            _copy(from_, made)
            if path.exists():
                _set_aside(path)
        return found._replace(path=str(path))


def _set_aside(path: Path) -> None:
    """Keep a store under another name, whole; nothing of its log is left beside the one that takes its place."""
    aside = path.with_name(path.name + BEFORE)
    try:
        with _written(aside) as made:
            _copy(path, made)
    except sqlite3.Error:
        # Damaged: as it is, for whoever can read it.
        with _written(aside) as made:
            made.write_bytes(path.read_bytes())
    for end in _BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)


def _path(settings: Settings, instead: str) -> Path:
    url = store.address(settings)
    if url.get_backend_name() != "sqlite" or not url.database:
        remedy = f"use {instead}, or the platform's own playbooks (docs/backup.md)"
        raise DriftloopError("is no file of SQLite", where=url.render_as_string(hide_password=True), remedy=remedy)
    return Path(url.database)


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A temporary file that is `path` in the end, on disk; gone where it was not finished."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DriftloopError(f"cannot be written: {error.strerror}", where=str(path)) from error
    made = Path(name)
    try:
        yield made
        os.fsync(handle)
        os.replace(made, path)
        durable.sync_folder(path.parent)
    finally:
        os.close(handle)
        made.unlink(missing_ok=True)


def _copy(source: Path, to: Path) -> None:
    with _reading(source) as connection, contextlib.closing(sqlite3.connect(to)) as copy:
        connection.backup(copy, pages=_PAGES_AT_ONCE)
        # One file, with nothing beside it.
        copy.execute("PRAGMA journal_mode=DELETE")


def _sound(path: Path, settings: Settings) -> Kept:
    """What a copy holds; raises DataError where it is damaged, or no store of this fleet."""
    remedy = "take another copy"
    if not path.is_file():
        raise DataError("is no file", where=str(path), remedy=remedy)
    try:
        with _reading(path) as connection:
            [(said,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if said != "ok":
                raise DataError(f"is damaged: {said}", where=str(path), remedy=remedy)
            fleets = [one for (one,) in connection.execute("SELECT DISTINCT fleet FROM layouts")]
            counts = [
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("units", "rows", "predictions")
            ]
    except sqlite3.Error as error:
        raise DataError(f"is no store of units: {error}", where=str(path), remedy=remedy) from error
    schema = settings.schema
    if any(fleet != schema.name for fleet in fleets):
        what = f"holds the {schema.units} of {', '.join(fleets)}, not of {schema.name}"
        raise DataError(what, where=str(path), remedy="set DRIFTLOOP_FLEET")
    units, rows, predictions = counts
    return Kept(str(path), units, rows, predictions, path.stat().st_size)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection
