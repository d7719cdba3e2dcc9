"""`driftloop fleet`: guess a fleet file from data, check data by it, show both. Parse, call, print."""

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.progress import Progress
from rich.table import Table

from driftloop import durable, fleets, places, settings
from driftloop.errors import DriftloopError, ExitCode
from driftloop.fleet import fleet_file, guess, suspicion, tables, waveforms
from driftloop.fleet import migrate as migration
from driftloop.fleet.archive import open_archive
from driftloop.fleet.findings import Findings
from driftloop.fleet.fleet_writer import toml_text
from driftloop.fleet.schema import Schema
from driftloop.fleet.tables import Reading
from driftloop.terminal import fitted, screen

fleet_app = typer.Typer(no_args_is_help=True, help="The fleet file: guess one from data, check data by it, show both.")

_out, _err = screen(), screen(stderr=True)
_SHOWN = 12
"""Columns that are left out, and files, of which so many are named."""
_STYLE = {"problem": "bold red", "warning": "yellow", "note": "dim"}

Data = Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files, or folders of files: CSV or Parquet.")]
MaybeData = Annotated[list[Path] | None, typer.Argument(metavar="[DATA]...", help="Files, or folders of files.")]
Which = Annotated[
    str | None,
    typer.Option("--fleet", help="Fleet file, or a fleet's name; by default fleet.toml here or beside the data."),
]
PerFile = Annotated[bool, typer.Option("--per-file", help="Unit numbers start again in every file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@fleet_app.command()
def init(
    data: Data,
    to: Annotated[Path, typer.Option(help="Where to write the fleet file.")] = Path(fleet_file.NAME),
    name: Annotated[str | None, typer.Option(help="The fleet's name; by default the folder's or the file's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Guess the fleet file of some data, and write it with comments for a person to look over."""
    if to.exists() and not force:
        raise DriftloopError("is there already", where=str(to), remedy="choose another with --to, or add --force")
    with _rows() as tell:
        guessed = guess.guess(data, name, tell)
    schema = guessed.schema
    if schema.name in fleets.BUILTIN:
        schema = msgspec.structs.replace(schema, name=f"my-{schema.name}")
    shown = ", ".join(path.resolve().name for path in data[:_SHOWN]) + (", …" if len(data) > _SHOWN else "")
    head = f"Guessed from {shown}: look over every line. docs/fleet-file.md has all keys."
    durable.write_atomically(to, toml_text(schema, {"": head, **guessed.comments}).encode())
    suspicion.look(guessed.reading, schema)
    _tell(guessed.reading.findings)
    columns = f"{schema.n_settings} settings, {schema.n_sensors} sensors, "
    columns += f"{_count(len(guessed.left_out), 'column')} left out"
    typer.echo(f"{to}: {_summary(guessed.reading, schema)}; {columns}.")
    for header, why in list(guessed.left_out.items())[:_SHOWN]:
        typer.echo(f"  left out: {header} {why}")
    if len(guessed.left_out) > _SHOWN:
        typer.echo(f"  and {len(guessed.left_out) - _SHOWN} more, above the sensors in {to}")
    problems = len(guessed.reading.findings.problems)
    if problems:
        typer.echo(f"These data cannot be used so: {_count(problems, 'problem')}, shown above. Mend the data, or {to}.")
    again = shlex.join(["driftloop", "fleet", "check", "--fleet", str(to), *map(str, guessed.paths)])
    typer.echo(f"Look it over, then: {again}")


@fleet_app.command()
def check(
    data: MaybeData = None,
    fleet: Which = None,
    per_file: PerFile = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where there are warnings.")] = False,
    as_json: Json = False,
) -> None:
    """Say what of a fleet file and its data cannot be used, and what is suspicious.

    Exits with 0 where all can be used, with 2 where something cannot, and with 1 for warnings if --strict is given.
    """
    schema = _schema(fleet, data or [])
    reading = Reading([], Findings(), ())
    if data:
        with _rows() as tell:
            reading = tables.examine(data, schema, per_file=per_file, tell=tell)
    suspicion.look(reading, schema)
    found = list(reading.findings)
    problems = [finding for finding in found if finding.level == "problem"]
    if as_json:
        typer.echo(json.dumps(_facts(schema, reading) | {"usable": not problems}))
    else:
        _tell(reading.findings)
        said = _summary(reading, schema) if data else f"{schema.n_settings} settings, {schema.n_sensors} sensors"
        verdict = f"{_count(len(problems), 'problem')}: these data cannot be used" if problems else "can be used"
        typer.echo(f"{schema.name}: {said}; {verdict}.")
        if problems and data and fleet is None and schema.name in fleets.BUILTIN:
            again = shlex.join(["driftloop", "fleet", "init", *map(str, data)])
            typer.echo(f"No {fleet_file.NAME} is here or beside the data, so they were read as {schema.name}: {again}")
    if problems:
        raise typer.Exit(ExitCode.ERROR)
    if strict and any(finding.level == "warning" for finding in found):
        raise typer.Exit(ExitCode.NO)


@fleet_app.command()
def show(
    data: MaybeData = None,
    fleet: Which = None,
    per_file: PerFile = False,
    to: Annotated[Path | None, typer.Option(help="Where to draw it, as PNG; by default <fleet>.png.")] = None,
    as_json: Json = False,
) -> None:
    """Show a fleet: its columns, and of data the units, their lives, what is missing, and ranges."""
    schema = _schema(fleet, data or [])
    reading = None
    if data:
        with _rows() as tell:
            reading = tables.read(data, schema, per_file=per_file, tell=tell)
    if as_json:
        typer.echo(json.dumps(_facts(schema, reading or Reading([], Findings(), ()))))
        return
    _out.print(fitted(_column_table(schema, reading), _out), markup=False)
    if reading is None:
        return
    typer.echo(f"{_summary(reading, schema)}.")
    try:
        from driftloop.fleet import picture

        path = to or Path(f"{schema.name}.png")
        picture.draw(reading.units, schema, path)
        typer.echo(f"Drawn in {path}")
    except ModuleNotFoundError as error:
        _err.print(f"no picture: needs the package {error.name} (pip install driftloop[pictures])", markup=False)


@fleet_app.command()
def summarise(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with a folder for each unit.")],
    files: Annotated[str, typer.Option(help="What recordings are called.")] = "*",
    columns: Annotated[
        str, typer.Option(help="Headers or places (from 1) of columns, separated by commas; by default all.")
    ] = "",
    to: Annotated[Path, typer.Option(help="The table that is written.")] = Path("runs.csv"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Make a table of waveforms, such as vibrations, of which each file is a moment in a unit's life.

    Each file becomes a row: mean, standard deviation, root mean square, peak, kurtosis and crest factor of each column.
    """
    if to.exists() and not force:
        raise DriftloopError("is there already", where=str(to), remedy="choose another with --to, or add --force")
    chosen = [column.strip() for column in columns.split(",") if column.strip()]
    with Progress(console=_err, transient=True) as bar:
        task = bar.add_task("recordings")
        units, rows = waveforms.summarise(
            folder, files, chosen, to, lambda done, of: bar.update(task, completed=done, total=of)
        )
    typer.echo(f"{to}: {_count(units, 'unit')}, {_count(rows, 'row')}, one for each recording.")
    typer.echo(f"Then: {shlex.join(['driftloop', 'fleet', 'init', str(to)])}")


@fleet_app.command()
def migrate(
    before: Annotated[str, typer.Argument(metavar="OLD", help="The fleet file that the runs were added with.")],
    after: Annotated[
        str, typer.Argument(metavar="NEW", help="The one with a sensor more or less, and a name of its own.")
    ],
    archive: Annotated[
        str | None, typer.Option("--from", help="Archive of the old one, if not the platform's.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Archive of the new one, if not the platform's.")] = None,
    as_json: Json = False,
) -> None:
    """Bring the archived runs of a fleet along where its columns have changed; the archive from before stays as it is.

    Runs lose the columns that went, and read nothing of a sensor that came. Units keep their roles.
    """
    old, new = fleets.load(before), fleets.load(after)
    changed = migration.change(old, new)
    place = _archive_of(new, to, after)
    known = open_archive(_archive_of(old, archive, before), old)
    added, total = migration.migrate(known, open_archive(place, new)), len(known.run_ids())
    if as_json:
        typer.echo(json.dumps({"runs": total, "added": added, "gone": changed.gone, "came": changed.came}))
        return
    words = (("without", changed.gone), ("with", changed.came))
    said = "".join(f", {word} {', '.join(columns)}" for word, columns in words if columns)
    typer.echo(f"{added} of {total} runs written to {place}{said}.")
    typer.echo(f"Then: driftloop train --promote --fleet {new.name}")


def _archive_of(schema: Schema, given: str | None, file: str) -> str:
    """Where a fleet's runs are: the place that is given, else where the platform keeps them."""
    alone = settings.from_environment()
    known = places.read(alone.state_dir)
    if given is not None:
        return given
    if known is None or schema.name not in known.fleets:
        remedy = (
            f"start it once with driftloop up --fleet {shlex.quote(file)}, or name its archive with --from and --to"
        )
        raise DriftloopError("no platform has it", where=f"fleet {schema.name}", remedy=remedy)
    return settings.of_fleet(alone, known, schema.name).archive_location


def _schema(given: str | None, data: Sequence[Path]) -> Schema:
    """The fleet that is named, else that of the fleet file here or beside the data, else the one that is set."""
    if given is not None:
        return fleets.load(given)
    for folder in (Path(), *(path if path.is_dir() else path.parent for path in data)):
        if (folder / fleet_file.NAME).is_file():
            return fleets.load(folder / fleet_file.NAME)
    return settings.load().schema


@contextmanager
def _rows() -> Iterator[tables.Tell]:
    """What shows, on a terminal, how many rows have been read."""
    with _err.status("reading") as status:
        yield lambda rows: status.update(f"{rows:,} rows read")


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'s' * (number != 1)}"


def _tell(findings: Findings) -> None:
    for finding in findings:
        _err.print(
            f"{finding.level}: {finding}", style=_STYLE[finding.level], markup=False, highlight=False, soft_wrap=True
        )


def _summary(reading: Reading, schema: Schema) -> str:
    """`42 cells: 42 failed, 0 taken out, lives of 148 to 561 cycles`; `30 pumps in 90 lives: 88 failed, ...`."""
    out = sum(unit.run.censored for unit in reading.units)
    lives = sorted(len(unit.run.rows) for unit in reading.units)
    units = sum(unit.life == 1 for unit in reading.units)
    text = f"{units} {schema.unit if units == 1 else schema.units}"
    text += f" in {len(lives)} lives" if len(lives) > units else ""
    text += f": {len(lives) - out} failed, {out} taken out"
    return f"{text}, lives of {lives[0]} to {lives[-1]} {schema.steps}" if lives else text


def _facts(schema: Schema, reading: Reading) -> dict[str, Any]:
    units = [
        {
            "unit": unit.name,
            "life": unit.life,
            "run_id": unit.run.run_id,
            "where": unit.where,
            "steps": len(unit.run.rows),
            "first_index": unit.first_index,
            "censored": unit.run.censored,
            "end": unit.why,
            "rows": unit.read,
            "repeated": unit.repeated,
            "after_end": unit.after_end,
            "empty": unit.empty,
        }
        for unit in reading.units
    ]
    findings = [msgspec.to_builtins(finding) for finding in reading.findings]
    return {
        "fleet": schema.name,
        "digest": schema.digest,
        "columns": _ranges(schema, reading),
        "left_out": list(reading.left_out),
        "units": units,
        "findings": findings,
    }


def _ranges(schema: Schema, reading: Reading) -> list[dict[str, Any]]:
    """Each column with what was seen in it; nulls where there are no data."""
    rows = (
        np.concatenate([unit.run.rows for unit in reading.units]) if reading.units else np.empty((0, schema.n_columns))
    )
    shown = []
    for at, channel in enumerate(schema.channels):
        values = rows[np.isfinite(rows[:, at]), at]
        low, middle, high = (float(v) for v in np.quantile(values, [0, 0.5, 1])) if len(values) else (None, None, None)
        shown.append({
            "name": channel.name,
            "kind": "setting" if at < schema.n_settings else "sensor",
            "unit": channel.unit,
            "description": channel.description,
            "lowest": low,
            "median": middle,
            "highest": high,
            "missing": 1 - len(values) / len(rows) if len(rows) else None,
        })  # fmt: skip
    return shown


def _column_table(schema: Schema, reading: Reading | None) -> Table:
    """The columns, settings above the line; what was seen in them where there are data, else what they are."""
    table = Table(title=f"{schema.name}: {schema.n_settings} settings, {schema.n_sensors} sensors")
    table.add_column("column", overflow="fold")
    table.add_column("unit")
    for heading in ("lowest", "median", "highest", "missing") if reading else ():
        table.add_column(heading, justify="right", overflow="fold")
    if reading is None:
        table.add_column("description", overflow="fold")
    for at, column in enumerate(_ranges(schema, reading or Reading([], Findings(), ()))):
        seen = [_number(column[key]) for key in ("lowest", "median", "highest")]
        missing = f"{column['missing']:.1%}" if column["missing"] else ""
        cells = [*seen, missing] if reading else [column["description"]]
        table.add_row(column["name"], column["unit"], *cells, end_section=at == schema.n_settings - 1)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
