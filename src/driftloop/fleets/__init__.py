"""The fleets that driftloop brings along, and how any fleet is found: by name, or by the path of its file."""

import importlib
import json
import os
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from driftloop.errors import FleetError
from driftloop.fleet import fleet_file
from driftloop.fleet.schema import Schema

if TYPE_CHECKING:
    from driftloop.fleet.intake import Reader
    from driftloop.settings import Settings

_HERE = Path(__file__).parent

FIRST = "cmapss"
"""The fleet of everything that was made before fleets had a name."""
BUILTIN = (FIRST,)
"""Fleets that are known by their name alone."""


def load(name_or_path: str | os.PathLike[str]) -> Schema:
    """A built-in fleet by its name, or the one of a fleet file, or of the folder that has one.

    Raises FleetError naming file, line, key and remedy for a file that is not there or not right, and for one that
    calls another fleet by the name of a built-in one.
    """
    given = os.fspath(name_or_path)
    if given in BUILTIN:
        return _builtin(given)
    path = Path(given)
    if not given or not path.exists():
        remedy = f"name one of {', '.join(BUILTIN)}, or a fleet file; `driftloop fleet init DATA` writes one"
        raise FleetError(f"there is no fleet {given!r}", remedy=remedy)
    path = path / fleet_file.NAME if path.is_dir() else path
    schema = fleet_file.read(path)
    if schema.name in BUILTIN and schema.digest != _builtin(schema.name).digest:
        what = f"the name {schema.name!r} is a built-in fleet's, which has other columns or another end"
        raise FleetError(what, where=str(path), remedy="give this fleet another name", key=("name",))
    return schema


def reader(schema: Schema, *, failed: bool = False, censored: bool = False) -> "Reader | None":
    """What reads files that only this fleet has, such as NASA's text; None for a fleet whose files are tables.

    `failed` and `censored` are what somebody says of all units in the files.
    """
    if schema.name != FIRST:
        return None
    # By name, as `origin` does: whoever imports this room does not know the fleet with it.
    intake = importlib.import_module(f"driftloop.fleets.{FIRST}.intake")
    return partial(intake.read_text, failed=failed, censored=censored)


def example_row(schema: Schema) -> list[float] | None:
    """A row of a built-in fleet, for documentation; None of any other."""
    if schema.name not in BUILTIN:
        return None
    row: list[float] = json.loads((_HERE / schema.name / "example.json").read_text(encoding="utf-8"))
    return row


@cache
def _builtin(name: str) -> Schema:
    return fleet_file.read(_HERE / name / fleet_file.NAME)


class Origin(NamedTuple):
    """Where a fleet's data come from, for the record of a model."""

    data_source: str
    """`nasa`, `simulated`, or `measured` for every fleet that is not built in."""
    dvc_revision: str | None


def origin(settings: "Settings") -> Origin:
    """Where the data of the fleet that is served come from; a built-in fleet says so itself."""
    if settings.fleet not in BUILTIN:
        return Origin("measured", None)
    source = importlib.import_module(f"driftloop.fleets.{settings.fleet}.source")
    where = "nasa" if source.locate(settings) is not None else "simulated"
    return Origin(where, source.dvc_revision(settings))
