"""NASA's text files, and files like them, as runs: never those of engines that had not failed."""

import hashlib
from pathlib import Path

from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.files import CORRECT, SHA256, parse_series
from driftloop.fleets.cmapss.source import engine_id

_TABLES = (".csv", ".tsv", ".parquet", ".gz")
_NAMES = {digest: name for name, digest in SHA256.items() if name.startswith(("test_", "RUL_"))}
"""NASA's files of engines that had not failed, whatever a copy is called."""
_FORM = (
    "write a line for each cycle: unit, cycle, 3 settings and 21 sensors, separated by spaces; or a CSV with a header"
)


def read_text(path: Path, prefix: str | None, *, failed: bool = False, censored: bool = False) -> list[Run] | None:
    """The engines of a file in NASA's format; None for a table with a header.

    Units get the ids of the fleet `prefix`, by default the file's name without `train_`. Raises DataError with line
    and remedy, also for a file of engines that had not failed: one called so, unless somebody says that they `failed`,
    and NASA's under any name, unless they are taken as `censored`.
    """
    if path.suffix.lower() in _TABLES or path.is_dir():
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if _has_header(content):
        return None
    original = _NAMES.get(hashlib.sha256(content).hexdigest())
    called = path.name.startswith(("test_", "RUL_")) and not failed
    if (original is not None or called) and not censored:
        same = f" (byte for byte NASA's {original})" if original not in (None, path.name) else ""
        what = f"is a file of engines that had not failed yet{same}; only completed runs-to-failure can be archived"
        raise DataError(what, where=str(path), remedy="add the train_ file of the fleet")
    name = path.stem.removeprefix("train_") if prefix is None else prefix
    try:
        series = parse_series(content, str(path))
    except DataError as error:
        remedy = "correct this line" if error.remedy == CORRECT else _FORM
        raise DataError(error.what, where=error.where, remedy=remedy) from None
    return [Run(engine_id(name, unit), rows) for unit, rows in series]


def _has_header(content: bytes) -> bool:
    """Whether the first cell is a word, as no file of NASA's begins."""
    cell = content.split(None, 1)[:1]
    return bool(cell) and cell[0][:1].isalpha()
