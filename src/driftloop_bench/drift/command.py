"""What `driftloop benchmark drift` does: data in, progress on the way, results out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.table import Table

from driftloop import durable
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.settings import Settings
from driftloop.training.build import git_commit
from driftloop_bench.drift import figures as drift_figures
from driftloop_bench.drift import summary as drift_summary
from driftloop_bench.drift.run import QUICK, Plan, Report, run

QUICK_ENGINES = 40
RESULTS, PAGE = "drift.json", "drift.md"
FIGURES = {
    "drift_delays.png": drift_figures.draw_delays,
    "drift_scores.png": drift_figures.draw_scores,
    "drift_detectors.png": drift_figures.draw_detectors,
}


def make_plan(requests: int | None, splits: int | None, seed: int, *, quick: bool) -> Plan:
    """The plan of the options that were given; the others are the default's, or the quick plan's."""
    given = {"requests": requests, "splits": splits, "seed": seed}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(QUICK if quick else Plan(), **changes)


def measure(
    plan: Plan, configured: Settings, output: Path, errors: Console, *, quick: bool
) -> tuple[dict[str, Any], list[Path]]:
    """Run `plan` on NASA's data, or on a small simulated fleet, and write everything into `output`."""
    if quick:
        nowhere = Path("driftloop-simulates-this")
        configured = configured.model_copy(
            update={"cmapss_dir": None, "raw_dir": nowhere, "simulator_engines": QUICK_ENGINES}
        )
    loaded = {subset: load_fleet(subset, configured, splits=("train",)) for subset in plan.subsets}
    first = loaded[plan.subsets[0]]
    if first.warning:
        errors.print(f"[bold yellow]{first.warning}[/]")
    folder = configured.state_dir / "benchmark" / ("drift-quick" if quick else f"drift-{first.data_source}")
    with progress(errors) as report:
        pieces = run(plan, {subset: fleet.train for subset, fleet in loaded.items()}, folder, report)
    summary = drift_summary.summarise(plan, pieces, data_source=first.data_source, commit=git_commit())
    return summary, write(summary, output)


def write(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write results, tables and figures into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_json(folder / RESULTS, summary)
    durable.write_atomically(folder / PAGE, drift_summary.markdown(summary).encode())
    for name, draw in FIGURES.items():
        draw(summary, folder / name)
    return [folder / name for name in (RESULTS, PAGE, *FIGURES)]


def show(summary: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    for title, header, rows in drift_summary.tables(summary):
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)


@contextmanager
def progress(console: Console) -> Iterator[Report]:
    """A bar over all pieces."""
    columns = (
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.description}"),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
