"""Where an experiment's units come from: the failed units of a part of a fleet, by the part's name.

A part of C-MAPSS is one of its subsets. A part of any other fleet is one of the groups that a table of units names
(`--groups units.csv:batch`), or simply a file: the units in it.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from driftloop import fleets
from driftloop.errors import DataError
from driftloop.fleet import names, roles, tables
from driftloop.fleet.columns import joined_names
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.settings import Settings


@dataclass(frozen=True)
class Source:
    """The files of a fleet other than C-MAPSS, and what tells its parts apart."""

    data: tuple[Path, ...] = ()
    groups: str = ""
    """`FILE:COLUMN`, a table with a row for each unit and the column with the name of its group."""

    def options(self) -> list[str]:
        """The same as options of a command."""
        given = [text for path in self.data for text in ("--data", str(path.absolute()))]
        file, _, column = self.groups.rpartition(":")
        return [*given, *(["--groups", f"{Path(file).absolute()}:{column}"] if self.groups else [])]


@dataclass(frozen=True)
class Part:
    """The failed units of a part of a fleet."""

    runs: list[Run]
    data_source: str
    warning: str | None = None
    taken_out: list[Run] = field(default_factory=list)
    """Units of it that were taken out before they failed: an archive may know them too."""


def part(name: str, source: Source, settings: Settings) -> Part:
    """The failed units of the part `name`; several names are separated by commas.

    Raises DataError for a part that is not there, naming those that are.
    """
    schema = settings.schema
    if schema.name == fleets.FIRST:
        fleet = load_fleet(name, settings, splits=("train",))
        return Part(fleet.train, fleet.data_source, fleet.warning)
    wanted = [one.strip() for one in name.split(",") if one.strip()]
    if source.groups:
        found = _of_groups(wanted, source, schema)
    else:
        if missing := [one for one in wanted if not Path(one).exists()]:
            raise DataError("there is no such file", where=missing[0], remedy="name files, or give --data and --groups")
        found = tables.read([Path(one) for one in wanted], schema).runs
    failed = [run for run in found if not run.censored]
    if not failed:
        raise DataError("no unit of it has failed", where=name, remedy="choose another part of the fleet")
    taken_out = [run for run in found if run.censored]
    return Part(failed, fleets.origin(settings).data_source, taken_out=taken_out)


def needed(schema: Schema, *, first: bool = False) -> dict[str, int]:
    """The least units in each role among those of a part, for a first model or for a later one.

    Whatever the fleet file says, traffic needs a live unit.
    """
    least = roles.from_nothing(schema.least) if first else schema.least
    return {**least, "live": max(1, least["live"])}


def completed(runs: list[Run], schema: Schema) -> list[Run]:
    """The runs that are archived when their part of the fleet comes: units in service are not among them.

    Where a retraining needs live units too, they are: no model learns from a unit in that role.
    """
    return [run for run in runs if run.role != "live" or schema.least["live"]]


def _of_groups(wanted: list[str], source: Source, schema: Schema) -> list[Run]:
    file, _, column = source.groups.rpartition(":")
    if not file or not source.data:
        raise DataError(
            "a group is told by --groups FILE:COLUMN, its rows by --data", where=f"--groups {source.groups}"
        )
    group = _read_groups(Path(file), column, schema)
    if unknown := [name for name in wanted if name not in group.values()]:
        remedy = f"choose from {', '.join(sorted(set(group.values())))}"
        raise DataError(f"there is no group {unknown[0]!r}", where=source.groups, remedy=remedy)
    return [run for run in tables.read(source.data, schema).runs if group.get(run.run_id) in wanted]


def _read_groups(path: Path, column: str, schema: Schema) -> dict[str, str]:
    """The group of each unit, by the id of its run."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    keys = schema.unit_columns
    if not rows or not keys or not {*keys, column} <= set(rows[0]):
        wanted = " and ".join(map(repr, (*(keys or ("unit",)), column)))
        raise DataError(f"has no columns {wanted}", where=str(path), remedy="a row for each unit")
    units = joined_names([[row[key] for row in rows] for key in keys])
    return {names.run_id(unit): row[column] for unit, row in zip(units, rows, strict=True)}
