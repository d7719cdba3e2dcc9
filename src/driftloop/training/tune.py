"""`driftloop tune`: parse, start workers, show, print."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from driftloop import settings
from driftloop.environment import chosen
from driftloop.errors import DriftloopError
from driftloop.fleet.archive import open_archive
from driftloop.terminal import fitted, screen
from driftloop.training import bars

if TYPE_CHECKING:
    from driftloop.training.tuning import Budget

_OUT, _ERR = screen(highlight=False), screen(stderr=True, highlight=False)
_POLL_S = 1.0
_STOP_S = 30.0


def tune(
    study: Annotated[str, typer.Option(help="Name of the study; one that exists goes on.")] = "rul",
    trials: Annotated[int, typer.Option(min=1, help="Finished trials that the study should have.")] = 50,
    timeout: Annotated[float | None, typer.Option(min=1, help="Longest time of this call, in seconds.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 only shows what there is.")] = 1,
    folds: Annotated[int, typer.Option(min=1, help="Folds over engines; 1: the engines of the role early_stop.")] = 3,
    steps: Annotated[int | None, typer.Option(min=10, help="Optimiser steps of a trial; by default searched.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn: the same seed gives the same.")] = 0,
    runs_dir: Annotated[str, typer.Option(help="Archive to learn from; by default the platform's.")] = "",
    output: Annotated[Path, typer.Option(help="Folder for the result and the plots.")] = Path("data/tuning"),
    worker: Annotated[
        bool, typer.Option("--worker", help="Be one worker of the study and write nothing, as a Job on the cluster is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search for better hyper-parameters; engines of the roles gate and live, and test engines, are not looked at.

    The best configuration is written as JSON for `driftloop train --config`.
    """
    from driftloop.training.tuning import Budget

    configured = settings.load()
    budget = Budget(folds, steps, seed)
    if worker:
        _work(configured, study, budget, runs_dir, trials, timeout)
        return
    _drive(configured, study, budget, runs_dir, trials, timeout, workers)
    from driftloop.training import pictures, tuning

    found = tuning.write(tuning.open_study(configured, study), output)
    drawn = pictures.draw(found, output)
    if as_json:
        typer.echo(
            json.dumps({key: value for key, value in found.items() if key != "trials"} | {"output": str(output)})
        )
        return
    _show(found, output, drawn)


def _work(
    configured: settings.Settings, study: str, budget: "Budget", runs_dir: str, trials: int, timeout: float | None
) -> None:
    from driftloop.training import tuning
    from driftloop.training.trial_runs import TrialRuns

    learn = tuning.learning_runs(open_archive(runs_dir or configured.archive_location, configured.schema))
    with TrialRuns(configured.mlflow_url, f"{configured.model}-tuning") as runs:
        runs.experiment()
        opened = tuning.open_study(configured, study, runs)
        tuning.agree(opened, learn, budget)
        tuning.work(opened, learn, configured.schema, budget, runs, trials=trials, timeout_s=timeout)


def _drive(
    configured: settings.Settings,
    study: str,
    budget: "Budget",
    runs_dir: str,
    trials: int,
    timeout: float | None,
    workers: int,
) -> None:
    """Start the workers and show how the study goes until all of them have ended."""
    if not workers:
        return
    from driftloop.training import tuning

    # Made, and agreed on, before several processes would do so at once.
    opened = tuning.open_study(configured, study)
    archive = open_archive(runs_dir or configured.archive_location, configured.schema)
    tuning.agree(opened, tuning.learning_runs(archive), budget)
    command = [
        sys.executable, "-m", "driftloop.cli", "tune", "--worker", "--study", study, "--trials", str(trials),
        "--folds", str(budget.folds), "--seed", str(budget.seed), "--runs-dir", runs_dir,
    ]  # fmt: skip
    command += ["--steps", str(budget.steps)] if budget.steps else []
    command += ["--timeout", str(timeout)] if timeout else []
    # Idle math threads spin; each worker has one core to itself at best.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = [
        # The address of the database may hold a password: it goes with the environment, never on the command line.
        subprocess.Popen(command, env={**threads, **chosen(configured)}, start_new_session=True)
        for _ in range(workers)
    ]
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # not without the workers
    try:
        _watch(opened, started, trials)
    finally:
        _end(started)
        signal.signal(signal.SIGTERM, before)
    failed = [process.returncode for process in started if process.returncode]
    if failed and len(failed) == len(started):
        raise DriftloopError(
            f"all {len(started)} workers failed (exit codes {', '.join(map(str, failed))}); their messages are above",
            where=f"study {study}",
            remedy="correct it and run the same command again: what is done stays done",
        )
    for code in failed:
        _ERR.print(f"one worker ended with code {code}; the others went on", style="yellow")


def _watch(study: Any, started: Sequence["subprocess.Popen[bytes]"], trials: int) -> None:
    from driftloop.training.tuning import DONE

    with bars.counted(_ERR) as bar:
        task = bar.add_task("trials", total=trials, figures="")
        while any(process.poll() is None for process in started):
            time.sleep(_POLL_S)
            found = study.get_trials(deepcopy=False)
            values = [trial.value for trial in found if trial.value is not None and trial.state in DONE]
            pruned = sum(trial.state.name == "PRUNED" for trial in found)
            running = sum(trial.state.name == "RUNNING" for trial in found)
            best = f"best {min(values):.2f}, " if values else ""
            done = sum(trial.state in DONE for trial in found)
            bar.update(task, completed=min(done, trials), figures=f"{best}{pruned} pruned, {running} running")


def _end(started: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Interrupt the workers that still run, so that they say in MLflow that they were; then end them."""
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in started:
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _show(found: dict[str, Any], output: Path, drawn: Sequence[Path]) -> None:
    states = ", ".join(f"{count} {name}" for name, count in found["states"].items() if count)
    best = found["best"]
    if best is None:
        _OUT.print(f"study {found['study']}: {states or 'no trials'}; no trial is complete yet")
        return
    _OUT.print(f"study {found['study']}: {states}; best RMSE {best['rmse']:.2f} cycles in trial {best['trial']}")
    table = Table("parameter", "best", "importance")
    for name, value in best["parameters"].items():
        share = found["importance"].get(name)
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value), f"{share:.0%}" if share else "")
    _OUT.print(fitted(table, _OUT))
    _OUT.print(f"driftloop train --config {output / 'best_config.json'}", soft_wrap=True)
    for path in drawn:
        _OUT.print(str(path), soft_wrap=True)
