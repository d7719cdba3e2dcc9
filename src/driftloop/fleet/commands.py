"""`driftloop archive`: parse, call, print."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from driftloop import settings
from driftloop.fleet.archive import open_archive
from driftloop.fleet.intake import read_completed
from driftloop.fleet.roles import ROLES, role_of
from driftloop.fleet.runs import Run
from driftloop.protocol import archive_client

archive_app = typer.Typer(no_args_is_help=True, help="The archive of completed runs, which retraining learns from.")

_out, _err = Console(), Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@archive_app.command()
def add(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="NASA's format, .npy or .json.")],
    fleet: Annotated[
        str | None, typer.Option(help="Name that makes unit numbers unique; by default the file's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send completed runs-to-failure to the retrainer, which archives them.

    Every file is read and checked before the first run is sent. Adding a file again changes nothing.
    """
    configured = settings.load()
    runs: list[Run] = [run for path in paths for run in read_completed(path, fleet)]
    with Progress(console=_err, transient=True) as bar:
        task = bar.add_task("runs", total=len(runs))
        posted = archive_client.post_runs(
            runs, configured.retrainer_url, configured.token, lambda done, _: bar.update(task, completed=done)
        )
    if as_json:
        typer.echo(json.dumps({"added": posted.added, "known": posted.known}))
    else:
        typer.echo(f"{len(posted.added)} runs archived, {len(posted.known)} were there already.")


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
        ids = [str(entry["run_id"]) for entry in listed]
    else:
        ids = open_archive(location).run_ids()
    counts = Counter(role_of(run_id) for run_id in ids)
    roles = {role: counts[role] for role in ROLES}
    if as_json:
        runs = [{"run_id": run_id, "role": role_of(run_id)} for run_id in ids]
        typer.echo(json.dumps({"count": len(ids), "roles": roles, "runs": runs}))
        return
    table = Table(title=f"{len(ids)} archived runs in {location or configured.retrainer_url}")
    table.add_column("role")
    table.add_column("runs", justify="right")
    for role, count in roles.items():
        table.add_row(role, str(count))
    _out.print(table)
