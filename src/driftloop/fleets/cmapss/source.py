"""Where a fleet comes from: NASA's files where there are any, else the simulator, and it always says which."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss import files, simulator
from driftloop.fleets.cmapss.files import SHA256, SPLITS, Split, Subset

if TYPE_CHECKING:
    from driftloop.settings import Settings

DataSource = Literal["nasa", "simulated"]


@dataclass(frozen=True)
class Fleet:
    """Engines of one subset: `train` ran to failure, `test` was cut off with `remaining` cycles left."""

    train: list[Run]
    test: list[Run]
    data_source: DataSource
    origin: str
    """The folder that was read, or the simulator and its seed."""

    @property
    def warning(self) -> str | None:
        """What a person must be told about the data before any figure; None for NASA's own."""
        if self.data_source == "nasa":
            return None
        return (
            f"SIMULATED DATA ({self.origin}): no C-MAPSS files were found, so no figure says anything about NASA's "
            "data. Set CMAPSS_DIR, or run `dvc pull` or `driftloop data pull`."
        )


def engine_id(subset: str, unit: int, split: Split = "train") -> str:
    """The opaque id of an engine: train and test engines of a subset share unit numbers, but no id."""
    name = f"{subset}/{unit}" if split == "train" else f"{subset}/{split}/{unit}"
    return "eng-" + hashlib.sha256(name.encode()).hexdigest()[:10]


def load_fleet(subset: str, settings: "Settings", *, splits: tuple[Split, ...] = SPLITS) -> Fleet:
    """The engines of `subset`, from the folder that `locate` finds or, without one, from the simulator.

    `splits` leaves out what is not needed. Raises DataError for an unknown subset, for a file that is missing or
    damaged, and for a folder that was named and is not there.
    """
    folder = locate(settings)
    if folder is not None:
        return _fleet(subset, files.read_subset(folder, subset, splits), "nasa", str(folder))
    return simulated_fleet(subset, settings.simulator_seed, settings.simulator_engines, splits=splits)


def simulated_fleet(subset: str, seed: int, engines: int | None, *, splits: tuple[Split, ...] = SPLITS) -> Fleet:
    """Simulated engines of `subset`, `engines` in each split, by default as many as NASA's subset has."""
    content = simulator.simulate(subset, seed=seed, engines=engines, splits=splits)
    return _fleet(subset, content, "simulated", f"driftloop's simulator, seed {seed}")


def locate(settings: "Settings") -> Path | None:
    """The folder with NASA's files: CMAPSS_DIR, else the data folder of the repository, else None.

    A folder that was named must be complete, and so must one in which any of the files is found: falling back on
    simulated data there would hide a mistake. Raises DataError that names the files that are missing.
    """
    if settings.cmapss_dir is not None:
        if not settings.cmapss_dir.is_dir():
            raise DataError("is not a folder", where=f"CMAPSS_DIR={settings.cmapss_dir}", remedy=_REMEDY)
        return _complete(settings.cmapss_dir, f"CMAPSS_DIR={settings.cmapss_dir}")
    if any((settings.raw_dir / name).exists() for name in SHA256):
        return _complete(settings.raw_dir, str(settings.raw_dir))
    return None


_REMEDY = "point CMAPSS_DIR to a folder with NASA's 13 files, or unset it and run `driftloop data pull` or `dvc pull`"


def _complete(folder: Path, where: str) -> Path:
    missing = [name for name in SHA256 if name != "readme.txt" and not (folder / name).is_file()]
    if missing:
        raise DataError(f"{', '.join(missing)} not found", where=where, remedy=_REMEDY)
    return folder


def dvc_revision(settings: "Settings") -> str | None:
    """The hash by which DVC knows the data folder, from its committed pointer; None without a pointer."""
    pointer = settings.raw_dir.with_suffix(".dvc")
    try:
        found = re.search(r"md5: ([0-9a-f]{32}\.dir)", pointer.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found.group(1) if found else None


def _fleet(subset: str, content: Subset, data_source: DataSource, origin: str) -> Fleet:
    train = [Run(engine_id(subset, unit), rows) for unit, rows in enumerate(content.train, start=1)]
    test = [
        Run(engine_id(subset, unit, "test"), rows, remaining)
        for unit, (rows, remaining) in enumerate(zip(content.test, content.remaining, strict=True), start=1)
    ]
    return Fleet(train, test, data_source, origin)
