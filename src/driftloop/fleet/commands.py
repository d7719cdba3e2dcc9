"""`driftloop archive`: parse, call, print."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from driftloop import fleets, settings
from driftloop.errors import DriftloopError
from driftloop.fleet import intake
from driftloop.fleet.archive import open_archive
from driftloop.fleet.roles import ROLES
from driftloop.fleet.runs import Run
from driftloop.protocol import archive_client
from driftloop.terminal import fitted, screen

archive_app = typer.Typer(no_args_is_help=True, help="The archive of completed runs, which retraining learns from.")

_out, _err = screen(), screen(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@archive_app.command()
def add(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Tables (CSV, Parquet, NASA's text), folders, .npy or .json."),
    ],
    prefix: Annotated[
        str | None, typer.Option(help="Name that makes unit numbers unique; for NASA's text by default the file's.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All of these units did fail: you know it, whatever their rows look like.")
    ] = False,
    censored: Annotated[
        bool, typer.Option("--censored", help="All of these units were taken out before they failed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send completed runs-to-failure to the retrainer, which archives them.

    Every file is read and checked before the first run is sent. Adding a file again, under any name, changes nothing.
    Units that do not look like ones that have failed are refused, unless you say that they did.
    """
    configured = settings.load()
    if failed and censored:
        raise DriftloopError("units failed, or were taken out before", where="--failed --censored")
    runs, told = _read(paths, configured, prefix, failed=failed, censored=censored)
    confirmed = {run.run_id for run in runs} if failed else told
    with Progress(console=_err, transient=True) as bar:
        task = bar.add_task("runs", total=len(runs))
        posted = archive_client.post_runs(
            runs,
            configured.retrainer_url,
            configured.token,
            lambda done, _: bar.update(task, completed=done),
            confirmed,
        )
    if as_json:
        same = {"same_as": posted.same_as} if posted.same_as else {}
        typer.echo(json.dumps({"added": posted.added, "known": posted.known, **same}))
        return
    typer.echo(f"{len(posted.added)} runs archived, {len(posted.known)} were there already.")
    taken_out = len(set(posted.added) & {run.run_id for run in runs if run.censored})
    if taken_out:
        unit = configured.schema.unit
        typer.echo(f"{taken_out} of them never reach their end: they count as taken out before the {unit} failed.")
    if posted.same_as:
        given, known = next(iter(posted.same_as.items()))
        typer.echo(f"{len(posted.same_as)} of them are there under other ids: {given} is {known}, for one.")


@archive_app.command()
def withdraw(
    run_ids: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Ids of archived runs.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file that was added: all of its runs, by their rows.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    as_json: Json = False,
) -> None:
    """Take archived runs back: recorded, never learnt from again, and the model versions that know them are named."""
    configured = settings.load()
    if not run_ids and file is None:
        raise DriftloopError("names no run", where="driftloop archive withdraw", remedy="name runs, or --file FILE")
    sums = [run.sha256 for run in _read([file], configured, None, censored=True)[0]] if file is not None else []
    found = archive_client.withdraw_runs(run_ids or [], sums, reason, configured.retrainer_url, configured.token)
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{len(found['withdrawn'])} runs withdrawn, {len(found['before'])} had been before.")
    for version in found["versions"]:
        place = ", which is in production" if version["in_production"] else ""
        typer.echo(f"Version {version['model_version']}{place} has learnt from {version['runs']} of them.")
    if found["go_back_to"] is not None:
        typer.echo(f"Version {found['go_back_to']} knows none of them: driftloop promote {found['go_back_to']}")


def _read(
    paths: list[Path],
    configured: settings.Settings,
    prefix: str | None,
    *,
    failed: bool = False,
    censored: bool = False,
) -> tuple[list[Run], frozenset[str]]:
    """The runs of the files, and those of which the fleet file says that they failed."""
    own = fleets.reader(configured.schema, failed=failed, censored=censored)
    taken = intake.read_files(paths, configured.schema, own=own, prefix=prefix)
    if not censored:
        return taken.runs, taken.told
    return [replace(run, censored=True) for run in taken.runs], frozenset()


@archive_app.command("list")
def list_runs(
    location: Annotated[
        str | None, typer.Option(help="Read this folder or s3://bucket/prefix instead of asking the retrainer.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which runs are archived, and how many there are of each role."""
    configured = settings.load()
    if location is None:
        listed = archive_client.archived_runs(configured.retrainer_url, configured.token)
    else:
        archive = open_archive(location, configured.schema)
        listed = [{"run_id": run_id, "role": role} for run_id, role in archive.roles_of(archive.run_ids()).items()]
    counts = Counter(entry["role"] for entry in listed)
    roles = {role: counts[role] for role in ROLES}
    if as_json:
        typer.echo(json.dumps({"count": len(listed), "roles": roles, "runs": listed}))
        return
    _out.print(f"{len(listed)} archived runs in {location or configured.retrainer_url}", soft_wrap=True)
    table = Table("role")
    table.add_column("runs", justify="right")
    for role, count in roles.items():
        table.add_row(role, str(count))
    _out.print(fitted(table, _out))
