"""A recovery whose labels come from failures alone: its marks, figures, table and pages.

T0 to T4 are those of `marks`; between T_FA and T2 lies what no platform can hurry: units of the new fleet must fail.
`first failure` is when the first of them was told of, `labels enough` when the run was archived with which the loop
stopped waiting. Recovered (`no_drift`) is when the watch sees no drift under the version with labels; there is no
reference model here.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from driftloop import durable
from driftloop_bench.experiment.figures import draw_labels
from driftloop_bench.experiment.marks import Marks, answers_after, event_time, is_from
from driftloop_bench.experiment.recording import Recording
from driftloop_bench.experiment.recovery import (
    DECISIONS,
    MEANINGS,
    SIMULATED,
    Outcome,
    cell,
    counted,
    coverage_of,
    error_of,
    rounded,
    span_of,
    spread_cell,
    spread_of,
    time_text,
)
from driftloop_bench.experiment.results import keep
from driftloop_bench.experiment.traffic import Record, failed
from driftloop_bench.machine import processor

METRICS, SUMMARY, TIMELINE, TRAFFIC, EVENTS = (
    "telemetry_metrics.json",
    "telemetry_summary.md",
    "telemetry_timeline.png",
    "telemetry_rows.jsonl.gz",
    "telemetry_events.jsonl",
)
NAMES = {
    "t0": "T0",
    "t1": "T1",
    "t_fa": "T$_{FA}$",
    "first_failure": "first failure",
    "labels_enough": "labels enough",
    "t2": "T2",
    "t_rt": "T$_{RT}$",
    "t4": "T4",
    "no_drift": "no drift",
}
MEANS = {
    **MEANINGS,
    "t0": "first row of a unit of the new fleet sent",
    "t_fa": "first answer of a version that was given first aid, without labels",
    "first_failure": "a unit of the new fleet has failed",
    "labels_enough": "the run is archived with which labels are enough",
    "no_drift": "recovered: the watch sees no drift under the new version",
}
SPANS = {
    "detection_s": ("t0", "t1"),
    "first_aid_s": ("t1", "t_fa"),
    "first_failure_s": ("t0", "first_failure"),
    "labels_s": ("first_failure", "labels_enough"),
    "trigger_s": ("labels_enough", "t2"),
    "retrain_s": ("t2", "t_rt"),
    "rollout_s": ("t_rt", "t4"),
    "verification_s": ("t4", "no_drift"),
    "total_s": ("t0", "no_drift"),
}


@dataclass
class LabelMarks(Marks):
    """The marks of a recovery, and those of its labels."""

    first_failure: float | None = None
    labels_enough: float | None = None


def find(recording: Recording) -> LabelMarks:
    """All marks of a recording."""
    found = LabelMarks(**vars(recording.marks()))
    found.first_failure = min((failure.at for failure in recording.failures if failure.changed), default=None)
    if found.first_failure is None:
        found.missing("first_failure", "no unit of the new fleet has failed")
    if found.t2 is None:
        found.missing("labels_enough", f"no T2: {found.reasons.get('t2', '')}")
    else:
        arrived = [event_time(event) for event in recording.events if event.get("kind") == "runs_archived"]
        found.labels_enough = max((at for at in arrived if at <= found.t2), default=None)
        if found.labels_enough is None:
            found.missing("labels_enough", "no run was archived before T2")
    if found.t_fa is None:
        refused = [str(e.get("reason")) for e in recording.events if e.get("kind") == "first_aid_refused"]
        found.missing("t_fa", f"first aid was refused: {refused[-1]}" if refused else "no first aid was given")
    if found.no_drift is None:
        found.missing("no_drift", found.reasons.get("t5", ""))
    return found


def assess(recording: Recording) -> Outcome:
    """Marks and figures of a recording."""
    marks = find(recording)
    return Outcome(recording, marks, [], _metrics(recording, marks))


def recovered(outcome: Outcome) -> bool:
    """Whether every mark up to the end was reached; first aid may have had nothing to do."""
    return all(getattr(outcome.marks, name) is not None for name in NAMES if name != "t_fa")


def _metrics(recording: Recording, marks: LabelMarks) -> dict[str, Any]:
    plan, records = recording.plan, recording.records
    t0 = marks.t0 or float("inf")
    of_new = [failure for failure in recording.failures if failure.changed]
    champion = [record for record in records if record.sent >= t0 and record.version == marks.champion_version]
    aided = answers_after(records, marks.provisional_version) if marks.provisional_version else []
    learnt = answers_after(records, marks.challenger_version) if marks.challenger_version else []
    waits = np.array([record.answered - record.sent for record in records if record.ok])
    return {
        **{name: time_text(getattr(marks, name)) for name in NAMES},
        **{span: span_of(marks, *ends) for span, ends in SPANS.items()},
        "missing": {name: marks.reasons[name] for name in NAMES if name in marks.reasons},
        "recovered": marks.no_drift is not None,
        "decisions": [
            str(event["kind"])
            for event in recording.events
            if event.get("kind") in (*DECISIONS, "rolled_back", "first_aid_promoted", "first_aid_refused")
            and is_from(event_time(event), t0)
        ],
        "ended_by": recording.ended_by,
        "units": plan.units,
        "rows_per_s": plan.rate,
        "steps_per_s_of_a_unit": rounded(plan.rate / plan.units),
        "rows_total": len(records),
        "rows_unanswered": len(failed(records)),
        "failures": counted(record.error or f"status {record.status}" for record in failed(records)),
        "turns_held_back": recording.held_back,
        "failed_units_healthy": len(recording.failures) - len(of_new),
        "failed_units_changed": len(of_new),
        "failed_units_changed_at_labels_enough": _until(of_new, marks.labels_enough),
        "failed_units_healthy_after_t0_at_labels_enough": _until(
            [failure for failure in recording.failures if not failure.changed and failure.at >= t0],
            marks.labels_enough,
        ),
        "changed_share_at_t1": _share_at(records, marks.t1),
        "rmse_labels": f"capped at {recording.cap}",
        "rmse_healthy": rounded(error_of([record for record in records if record.sent < t0])),
        **_errors("drifted", champion),
        **_errors("first_aid", aided),
        **_errors("recovered", learnt),
        "predicted_after_s": spread_of(waits),
        "generator_cpu_share": rounded(recording.generator_cpu_share),
        "champion_version": marks.champion_version,
        "provisional_version": marks.provisional_version,
        "challenger_version": marks.challenger_version,
        "healthy_subset": plan.healthy_subset,
        "change": {"kind": plan.change.kind, "subset": plan.change.subset, "share": plan.change.share},
        "data_source": recording.data_source,
        "seed": plan.seed,
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "note": SIMULATED if recording.data_source == "simulated" else "",
    }


def _errors(name: str, records: Sequence[Record]) -> dict[str, float | None]:
    """Error and coverage over rows of the new fleet, and the error over those whose label is below the cap."""
    mine = [record for record in records if record.changed]
    highest = max((record.true_rul for record in mine), default=0.0)
    aging = [record for record in mine if record.true_rul < highest]
    return {
        f"rmse_{name}": rounded(error_of(mine)),
        f"rmse_{name}_below_cap": rounded(error_of(aging)),
        f"coverage_{name}": rounded(coverage_of(mine)),
    }


def _until(failures: Sequence[Any], at: float | None) -> int | None:
    return None if at is None else sum(failure.at <= at for failure in failures)


def _share_at(records: Sequence[Record], at: float | None, newest: int = 500) -> float | None:
    """The share of rows of the new fleet among the newest 500, as the watch looks at them."""
    seen = [record.changed for record in records if at is not None and record.answered <= at][-newest:]
    return rounded(sum(seen) / len(seen)) if seen else None


# For people.


def _figures(outcome: Outcome) -> list[tuple[str, str]]:
    metrics, step = outcome.metrics, outcome.recording.schema.step

    def of(name: str) -> str:
        return (
            f"{cell(metrics[f'rmse_{name}'])} {step}s, {cell(metrics[f'rmse_{name}_below_cap'])} below the cap, "
            f"{cell(metrics[f'coverage_{name}'])} covered"
        )

    units = outcome.recording.schema.units
    return [
        ("rows sent, never predicted", f"{metrics['rows_total']}, {metrics['rows_unanswered']}"),
        (f"{units} of the new fleet that had failed when labels were enough",
         f"{metrics['failed_units_changed_at_labels_enough']}, and "
         f"{metrics['failed_units_healthy_after_t0_at_labels_enough']} of the old one since T0"),
        ("share of rows of the new fleet at T1", cell(metrics["changed_share_at_t1"])),
        (f"RMSE before T0, version {metrics['champion_version']}", f"{cell(metrics['rmse_healthy'])} {step}s"),
        ("new fleet, the same version", of("drifted")),
        (f"new fleet, first aid (version {metrics['provisional_version'] or '-'})", of("first_aid")),
        (f"new fleet, with labels (version {metrics['challenger_version'] or '-'})", of("recovered")),
        ("seconds from a row to its prediction, p50 / p99 / max", spread_cell(metrics["predicted_after_s"])),
    ]  # fmt: skip


def table(outcome: Outcome) -> Table:
    """Marks, spans and figures."""
    metrics, marks = outcome.metrics, outcome.marks
    found = Table(title="Recovery by failures alone", title_justify="left")
    found.add_column("mark")
    found.add_column("s after T0", justify="right")
    found.add_column("meaning")
    for name, at, meaning in _marks(marks):
        found.add_row(name, at, meaning)
    found.add_section()
    for span, ends in SPANS.items():
        found.add_row(span, cell(metrics[span]), " to ".join(map(_plain, ends)))
    found.add_section()
    for what, value in _figures(outcome):
        found.add_row("", "", f"{what}: {value}")
    return found


def summary(outcome: Outcome) -> str:
    """The page for people, in Markdown."""
    recording, metrics = outcome.recording, outcome.metrics
    plan, schema = recording.plan, recording.schema
    lines = ["# Recovery where labels come from failures alone", ""]
    if metrics["note"]:
        lines += [f"> **{metrics['note']}**", ""]
    lines += [
        f"{plan.units} {schema.units} of {plan.healthy_subset} in service, each sending "
        f"{metrics['steps_per_s_of_a_unit']:g} {schema.step}s a second ({plan.rate:g} rows/s). From T0 on "
        f"{plan.change.share:.0%} of those that take the place of one that has failed are of {plan.change.subset}. "
        f"Data source: {metrics['data_source']}. Seed {plan.seed}. "
        f"{metrics['machine']['cores']} cores, {metrics['machine']['cpu']}.",
        "",
        f"**{'Recovered' if metrics['recovered'] else 'Not recovered'}** (ended by: {metrics['ended_by']}; "
        f"decisions: {', '.join(metrics['decisions']) or 'none'}).",
        "",
        "| Mark | s after T0 | Meaning |",
        "|---|---:|---|",
        *(f"| {name} | {at} | {meaning} |" for name, at, meaning in _marks(outcome.marks)),
        "",
        "| Span | From, to | Seconds |",
        "|---|---|---:|",
        *(f"| {span} | {' to '.join(map(_plain, ends))} | {cell(metrics[span])} |" for span, ends in SPANS.items()),
        "",
        "| Figure | Value |",
        "|---|---|",
        *(f"| {what} | {value} |" for what, value in _figures(outcome)),
        "",
        f"RMSE is on labels {metrics['rmse_labels']}. No version has learnt from a {schema.unit} whose rows it is "
        "measured on. The new fleet is young at first, so that versions are measured at different ages: below the cap "
        "they are compared best.",
        "",
    ]
    return "\n".join(lines)


def write(outcome: Outcome, folder: Path) -> list[Path]:
    """Write metrics, summary, picture, rows and events into `folder`; returns the files."""
    keep(outcome, folder, METRICS, TRAFFIC, EVENTS)
    draw_labels(outcome, folder / TIMELINE, NAMES)
    durable.write_atomically(folder / SUMMARY, summary(outcome).encode())
    return [folder / name for name in (METRICS, SUMMARY, TIMELINE, TRAFFIC, EVENTS)]


def _marks(marks: Marks) -> list[tuple[str, str, str]]:
    found = []
    for name in NAMES:
        value = getattr(marks, name)
        if value is None or marks.t0 is None:
            found.append((_plain(name), "-", f"not reached: {marks.reasons.get(name, '')}"))
        else:
            found.append((_plain(name), f"{value - marks.t0:.1f}", MEANS[name]))
    return found


def _plain(name: str) -> str:
    return NAMES[name].replace("$_{", "_").replace("}$", "")
