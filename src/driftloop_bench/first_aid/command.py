"""`driftloop benchmark first-aid`: parse, call, print."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftloop import settings


def first_aid(
    parts: Annotated[str, typer.Option(help="Parts of the fleet, separated by commas; by default NASA's four.")] = "",
    sources: Annotated[str, typer.Option(help="Parts that have a model; by default all.")] = "",
    data: Annotated[
        list[Path] | None, typer.Option(help="File or folder with the rows of another fleet; again for more.")
    ] = None,
    groups: Annotated[str, typer.Option(metavar="FILE:COLUMN", help="Table of units, its column with parts.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Dealings of units into roles, each with models of its own.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="A moment on a small simulated fleet: shows that it works, nothing else.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder for results, tables and picture.")] = Path(
        "data/benchmark/first-aid"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What first aid without labels reaches: the model of each part of a fleet on the units of every other part.

    Beside it the model as it was, a retraining with labels, other ways to adapt without labels, and the estimate of
    the error by answers alone. Another fleet is named by `--fleet FILE`, its parts as for `driftloop experiment`. A run
    that was stopped goes on where it was: models and finished cases are kept in the state folder.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from driftloop_bench.experiment.source import Source
    from driftloop_bench.first_aid import run, summary

    configured = settings.from_environment()
    names = run.parts_of(parts, configured)
    fleet, warning = run.quick(names) if quick else run.load(names, Source(tuple(data or ()), groups), configured)
    errors = Console(stderr=True, highlight=False)
    if warning:
        errors.print(f"[bold yellow]{warning}[/]")
    chosen = [name.strip() for name in sources.split(",") if name.strip()] or names
    folder = configured.state_dir / "benchmark" / "first-aid"
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        measured = run.measure(
            fleet, chosen, seeds, folder,
            lambda what, done, of: bar.update(task, description=what, completed=done, total=of),
        )  # fmt: skip
    found = summary.summarise(measured, run.origin(fleet, seeds))
    paths = run.write(found, output)
    if as_json:
        typer.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    for title, header, rows in summary.tables(found):
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print("Results: " + ", ".join(str(path) for path in paths))
