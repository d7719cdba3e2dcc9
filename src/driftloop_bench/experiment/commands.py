"""`driftloop experiment`: parse, call, print."""

import asyncio
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import uvloop
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from driftloop import settings
from driftloop.errors import DriftloopError, ExitCode
from driftloop.settings import Settings
from driftloop_bench.experiment import campaign as campaigns
from driftloop_bench.experiment import labels as labels_of
from driftloop_bench.experiment.marks import Marks, answers_after
from driftloop_bench.experiment.recording import Plan, Recording, Through, rolling_rmse
from driftloop_bench.experiment.recovery import MEANINGS, SPANS, Outcome, assess
from driftloop_bench.experiment.reference import fetch_metadata, predict, seed_of, train_reference, windows_of
from driftloop_bench.experiment.results import write_results
from driftloop_bench.experiment.run import labels_after, run_experiment
from driftloop_bench.experiment.source import Source
from driftloop_bench.experiment.traffic import Change, Kind, failed
from driftloop_bench.experiment.watching import Observer

RESULTS = Path("data/drift")
UNITS = 50


def experiment(
    kind: Annotated[Kind, typer.Option(help="What changes at T0.")] = "fleet",
    subset: Annotated[str, typer.Option(help="Part of the fleet that the changed units come from.")] = "FD002",
    share: Annotated[float, typer.Option(min=0.05, max=1, help="Share of requests from changed engines.")] = 1.0,
    sensor: Annotated[int, typer.Option(min=1, help="Number of the faulty sensor (kinds bias and stuck).")] = 11,
    sigmas: Annotated[float, typer.Option(help="Bias in standard deviations within an operating regime.")] = 2.0,
    healthy: Annotated[str, typer.Option(help="Part of the fleet that is in service before T0.")] = "FD001",
    data: Annotated[
        list[Path] | None, typer.Option(help="File or folder with the rows of another fleet; again for more.")
    ] = None,
    groups: Annotated[str, typer.Option(metavar="FILE:COLUMN", help="Table of units, its column with parts.")] = "",
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn: the same seed gives the same.")] = 0,
    healthy_s: Annotated[float, typer.Option(min=1, help="Least seconds of healthy traffic.")] = 20.0,
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest time after T0, in seconds.")] = 300.0,
    answers: Annotated[int, typer.Option(min=500, help="Answers of the new version to wait for.")] = 3000,
    labels: Annotated[
        str,
        typer.Option(help="When the changed units' completed runs arrive: at-once, never, or after:SECONDS from T0."),
    ] = "at-once",
    person: Annotated[
        bool, typer.Option("--person", help="Go on where the loop asks: somebody calls `driftloop approve` meanwhile.")
    ] = False,
    through: Annotated[
        Through, typer.Option(help="predict: windows to the server; telemetry: rows of units, which fail and label.")
    ] = "predict",
    units: Annotated[int, typer.Option(min=1, help="Units in service, through telemetry.")] = UNITS,
    results: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    reference: Annotated[bool, typer.Option(help="Train the reference model that T5 needs.")] = True,
    campaign: Annotated[
        bool, typer.Option(help="Repeat over shares, kinds and seeds, each on a fresh platform.")
    ] = False,
    kinds: Annotated[str, typer.Option(help="Kinds of a campaign.")] = "fleet,bias,stuck",
    shares: Annotated[str, typer.Option(help="Shares of a campaign, in percent.")] = "10,25,50,100",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of a campaign: this many from --seed on.")] = 3,
    case_command: Annotated[
        str | None,
        typer.Option(help="What runs one case of a campaign, with the case's options appended; by default a demo."),
    ] = None,
) -> None:
    """Change the fleet under a running platform and time its recovery, T0 to T5.

    A part of the fleet is a subset of C-MAPSS; of any other fleet a group that --groups tells apart, or simply a file.

    Exit code 0: recovered (or, for a sensor fault, detected and not trained on); 1: not.
    """
    console, source = Console(), Source(tuple(data or ()), groups)
    # Ended from outside, it also ends the process that it waits for: a case's, or the reference's training.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if campaign:
        cases = campaigns.cases(
            [part.strip() for part in kinds.split(",")],
            _percentages(shares),
            range(seed, seed + seeds),
            subset=subset, sensor=sensor, sigmas=sigmas, rate=rate,
        )  # fmt: skip
        parts = ["--healthy", healthy, *source.options()]
        command = shlex.split(case_command) if case_command else [*campaigns.demo_command(results), *parts]
        rows = campaigns.run_cases(cases, results, command, console.print)
        for path in campaigns.write_campaign(rows, results):
            console.print(str(path))
        return
    change = Change(kind, subset, share, sensor, sigmas)
    plan = Plan(
        change, healthy, rate, seed, healthy_s=healthy_s, timeout_s=timeout_s, answers=answers, source=source,
        labels_after_s=labels_after(labels), person=person, units=units if through == "telemetry" else 0,
    )  # fmt: skip
    outcome = conduct(plan, settings.load(), results, console, with_reference=reference)
    raise typer.Exit(ExitCode.DONE if succeeded(outcome, with_reference=reference) else ExitCode.NO)


def conduct(
    plan: Plan,
    configured: Settings,
    results: Path,
    console: Console,
    *,
    with_reference: bool = True,
    references: Path | None = None,
) -> Outcome:
    """Run `plan`, train the reference, write the results into `results`, and tell the story on `console`.

    Reference models are kept in `references`, by default in the state folder.
    """
    # uvloop takes a tenth less of the processor that the traffic shares with everything it measures.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        recording = runner.run(run_experiment(plan, configured, Narrator(console)))
    console.print(f"Traffic stopped: {recording.ended_by}.")
    if plan.units:
        outcome = labels_of.assess(recording)
        _show(outcome, labels_of.write(outcome, results), labels_of.table(outcome), console)
        return outcome
    answers, why_none = None, "no reference model was trained (--no-reference)"
    if with_reference:
        with console.status("training the reference model from scratch on the same units"):
            try:
                answers = _reference_answers(recording, configured, references or configured.state_dir / "reference")
                why_none = "no new version answered"
            except DriftloopError as error:
                # What the run itself showed is kept all the same.
                why_none = f"there is no reference: {error}"
    outcome = assess(recording, answers, why_none)
    if outcome.marks.t0 is not None and outcome.marks.t5 is not None:
        Narrator(console).mark("t5", outcome.marks.t5 - outcome.marks.t0, outcome.marks)
    _show(outcome, write_results(outcome, results), result_table(outcome), console)
    return outcome


def _show(outcome: Outcome, paths: list[Path], table: Table, console: Console) -> None:
    if outcome.metrics["note"]:
        console.print(f"[bold yellow]{outcome.metrics['note']}[/]")
    console.print(table)
    console.print("Results: " + ", ".join(str(path) for path in paths))


def succeeded(outcome: Outcome, *, with_reference: bool = True) -> bool:
    """Whether the platform did what it should: recover from a new fleet, refuse to learn from a broken sensor."""
    marks, kind = outcome.marks, outcome.recording.plan.change.kind
    if kind == "none":
        return not outcome.metrics["false_alarms_before_t0"]
    if outcome.recording.plan.units:
        return labels_of.recovered(outcome)
    if outcome.recording.plan.labels_after_s is None:
        return marks.t_fa is not None
    if kind in ("bias", "stuck"):
        return marks.t1 is not None and marks.t2 is None
    return marks.t5 is not None if with_reference else marks.no_drift is not None


def result_table(outcome: Outcome) -> Table:
    """Marks, spans and errors of one experiment."""
    metrics, marks = outcome.metrics, outcome.marks
    table = Table(title="Recovery", title_justify="left")
    table.add_column("mark")
    table.add_column("s after T0", justify="right")
    table.add_column("meaning")
    for name in marks.told:
        value = getattr(marks, name)
        if value is None or marks.t0 is None:
            table.add_row(name.upper(), "-", f"[red]not reached: {marks.reasons.get(name, '')}[/]")
        else:
            table.add_row(name.upper(), f"{value - marks.t0:.1f}", MEANINGS[name])
    table.add_section()
    spans = {**({} if marks.t_fa is None else {"first_aid_s": ("t1", "t_fa")}), **SPANS}
    for span, ends in spans.items():
        table.add_row(span, _number(metrics[span]), " to ".join(end.upper() for end in ends))
    table.add_section()
    for name, text in (
        ("rmse_healthy", "RMSE of the champion on its fleet, steps"),
        ("rmse_drifted", "RMSE of the champion after the change"),
        ("rmse_first_aid", "RMSE of the version that was given first aid, without labels"),
        ("coverage_first_aid", "share of its intervals that held the truth"),
        ("rmse_recovered", "RMSE of the new version"),
        ("rmse_reference", "RMSE of the reference on the same requests"),
        ("ratio_upper_bound", f"upper 95 % bound of their ratio, at most {metrics['ratio_limit']}"),
        ("psi_before", "largest PSI in drift"),
        ("psi_after", "largest PSI after recovery"),
    ):
        if metrics[name] is None and name.endswith("first_aid"):
            continue
        table.add_row(name, _number(metrics[name]), text)
    table.add_section()
    table.add_row("requests", str(metrics["requests_total"]), f"{metrics['requests_failed']} failed")
    table.add_row("decision", metrics["decision"], f"data source: {metrics['data_source']}")
    return table


class Narrator(Observer):
    """Tells on a console what happens: stages, marks, and every few seconds how the traffic fares."""

    def __init__(self, console: Console, every_s: float = 5.0) -> None:
        self._console, self._every_s = console, every_s
        self._last = 0.0

    def stage(self, text: str) -> None:
        """A new phase has begun."""
        self._console.print(f"[bold]{text[:1].upper()}{text[1:]}[/]")

    def mark(self, name: str, seconds: float, marks: Marks) -> None:
        """A mark was reached."""
        version = f" (version {marks.challenger_version})" if name in ("t_rt", "t4") else ""
        if name == "t_fa":
            version = f" (version {marks.provisional_version})"
        self._console.print(f"  [bold cyan]{name.upper():>4}[/] {seconds:+6.1f} s  {MEANINGS[name]}{version}")

    def tick(self, recording: Recording) -> None:
        """Print a line of figures every few seconds."""
        records = recording.records
        if not records or records[-1].sent - self._last < self._every_s:
            return
        self._last = records[-1].sent
        settled = [record for record in records if record.status or record.error]
        error = rolling_rmse(settled)
        verdicts = [event for event in recording.events if event.get("kind") == "verdict"]
        said = f"{verdicts[-1]['verdict']} (n={verdicts[-1].get('n')})" if verdicts else "nothing yet"
        self._console.print(
            f"       [dim]{len(records)} requests, {len(failed(settled))} failed, live RMSE {_number(error)}, "
            f"version {settled[-1].version if settled else '-'}, the watch says {said}[/]"
        )


def _reference_answers(recording: Recording, configured: Settings, folder: Path) -> NDArray[np.float64] | None:
    """The reference's answers to the new version's requests, None where there is no new version."""
    version = recording.marks().challenger_version
    if version is None:
        return None
    manifest = fetch_metadata(version, configured)
    seed = seed_of(manifest, recording.plan.seed)
    bundle = train_reference(manifest, recording.known, configured, folder, seed=seed)
    return predict(bundle, windows_of(recording, answers_after(recording.records, version)))


def _percentages(text: str) -> list[float]:
    try:
        return [float(part) / 100 for part in text.split(",")]
    except ValueError:
        raise DriftloopError(
            f"{text!r} is no list of percentages", where="--shares", remedy="write it as 10,25,50,100"
        ) from None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
