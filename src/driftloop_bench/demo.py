"""The demonstration: a platform of its own, a champion, an experiment, a report, and everything gone again."""

import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from driftloop import settings
from driftloop.embedded.components import DRIFTLOOP
from driftloop.embedded.supervisor import check_packages
from driftloop.settings import Settings
from driftloop_bench.experiment.commands import conduct, succeeded
from driftloop_bench.experiment.recording import Plan
from driftloop_bench.experiment.source import part
from driftloop_bench.own import call, make_fresh, own_settings, running, simulator, train_champion, wait_for_model

REPORT_S = 180.0


def run_demo(
    plan: Plan,
    results: Path,
    *,
    state: Path | None = None,
    champion_state: Path | None = None,
    with_reference: bool = True,
    with_report: bool = True,
    simulated: bool = False,
) -> bool:
    """Run the whole loop once on a fresh platform; True where the platform did what it should.

    Raises DriftloopError where the demonstration itself could not be carried out.
    """
    console = Console(highlight=False)
    started = time.monotonic()
    # Ended from outside, it still stops its platform and whatever it waits for.
    signal.signal(signal.SIGTERM, _end)
    check_packages()
    base = settings.from_environment()
    folder = (state or base.state_dir / "demo").resolve()
    extra = simulator(folder) if simulated else {}
    prepared = champion_state.resolve() if champion_state else None
    if prepared is not None and not (prepared / "champion").exists():
        console.print(f"[bold]Preparing a champion in {prepared}[/]")
        with running(own_settings(base, prepared, extra), extra, console) as configured:
            train_champion(plan.healthy_subset, plan.seed, configured, extra, console, plan.source)
        (prepared / "champion").touch()
    make_fresh(folder)
    if prepared is not None:
        shutil.copytree(prepared, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("logs", "*.lock"))
    with running(own_settings(base, folder, extra), extra, console) as configured:
        warning = part(plan.healthy_subset, plan.source, configured).warning
        if warning:
            console.print(f"[bold yellow]{warning}[/]")
        if prepared is None:
            train_champion(plan.healthy_subset, plan.seed, configured, extra, console, plan.source)
        else:
            wait_for_model(configured)
        outcome = conduct(
            plan, configured, results, console, with_reference=with_reference,
            references=(prepared or folder) / "reference",
        )  # fmt: skip
        if with_report:
            _report(configured, extra, results, console)
        console.print("[bold]Stopping the platform[/]")
    good = succeeded(outcome, with_reference=with_reference)
    verdict = "[bold green]The platform did what it should[/]" if good else "[bold red]The platform did not recover[/]"
    console.print(f"{verdict}; the demonstration took {time.monotonic() - started:.0f} s.")
    return good


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _report(configured: Settings, extra: dict[str, str], results: Path, console: Console) -> None:
    with console.status("making the Evidently report"):
        call([*DRIFTLOOP, "drift", "report", "--to", str(results)], configured, extra, REPORT_S)
    console.print(f"Drift report: {results}")
