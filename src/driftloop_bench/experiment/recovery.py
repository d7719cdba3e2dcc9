"""What an experiment measured: its figures, and the page that tells them to people."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop import durable
from driftloop.model.accuracy import rmse
from driftloop.protocol.events import Event
from driftloop_bench.experiment.marks import (
    MIN_ANSWERS,
    NAMES,
    RATIO_LIMIT,
    Marks,
    Prefix,
    answers_after,
    event_time,
    is_from,
    recovery_prefixes,
    set_recovery,
)
from driftloop_bench.experiment.recording import Recording
from driftloop_bench.experiment.traffic import Record, failed
from driftloop_bench.machine import processor

SIMULATED = "SIMULATED DATA: these figures come from driftloop's fleet simulator and say nothing about NASA's data."
SPANS = {
    "detection_s": ("t0", "t1"),
    "trigger_s": ("t1", "t2"),
    "retrain_s": ("t2", "t_rt"),
    "rollout_s": ("t_rt", "t4"),
    "verification_s": ("t4", "t5"),
    "core_recovery_s": ("t1", "t4"),
    "total_s": ("t0", "t5"),
}
MEANINGS = {
    "t0": "first changed request sent",
    "t1": "alert starts firing",
    "t_fa": "first answer from a version that was given first aid, without labels",
    "t2": "retraining started",
    "t_rt": "challenger promoted",
    "t4": "first answer from the new version",
    "t5": "recovered: the watch says no_drift, and the error is within bounds",
}
DECISIONS = (
    "promoted", "rejected", "approval_needed", "retraining_failed", "retraining_refused", "retraining_superseded",
    "waiting_for_labels",
)  # fmt: skip


@dataclass
class Outcome:
    """An experiment and everything computed from it."""

    recording: Recording
    marks: Marks
    prefixes: list[Prefix]
    """The T5 error condition over growing numbers of answers; empty without a reference model."""
    metrics: dict[str, Any]

    @property
    def recovered(self) -> bool:
        """Whether every mark up to T5 was reached."""
        return self.marks.t5 is not None


def assess(recording: Recording, reference: NDArray[np.float64] | None, why_none: str = "") -> Outcome:
    """Compute marks and figures.

    `reference[i]` is the reference model's answer to the i-th of `answers_after(records, challenger)`; without one,
    `why_none` says why, and T5 is missing for that reason.
    """
    marks = recording.marks()
    prefixes: list[Prefix] = []
    if marks.challenger_version is not None:
        answers = answers_after(recording.records, marks.challenger_version)
        if reference is not None:
            prefixes = recovery_prefixes(answers, reference, seed=recording.plan.seed)
        set_recovery(marks, prefixes, why_unknown=why_none if reference is None else None)
    return Outcome(recording, marks, prefixes, _metrics(recording, marks, prefixes))


def error_of(records: Sequence[Record]) -> float | None:
    """RMSE in steps over the answered ones of `records`, labels capped; None without any."""
    pairs = [(record.rul, record.true_rul) for record in records if record.ok and record.rul is not None]
    return rmse(*zip(*pairs, strict=True)) if pairs else None


def coverage_of(records: Sequence[Record]) -> float | None:
    """Share of the answered ones of `records` whose capped label lies in its interval; None without any."""
    inside = [
        record.lower <= record.true_rul <= record.upper
        for record in records
        if record.ok and record.lower is not None and record.upper is not None
    ]
    return sum(inside) / len(inside) if inside else None


def _metrics(recording: Recording, marks: Marks, prefixes: list[Prefix]) -> dict[str, Any]:
    plan, records = recording.plan, recording.records
    t0 = marks.t0 or float("inf")
    after = answers_after(records, marks.challenger_version) if marks.challenger_version else []
    drifted = [record for record in records if record.sent >= t0 and record.version == marks.champion_version]
    aided = answers_after(records, marks.provisional_version) if marks.provisional_version else []
    last = prefixes[-1] if prefixes else None
    lags = np.array([record.lag for record in records]) * 1000
    latencies = np.array([record.answered - record.sent for record in records if record.ok]) * 1000
    false_alarms = [
        event
        for event in recording.events
        if event.get("kind") == "alert_firing" and not is_from(event_time(event), t0)
    ]
    return {
        **{name: time_text(getattr(marks, name)) for name in NAMES},
        **{span: span_of(marks, *ends) for span, ends in SPANS.items()},
        "t_fa": time_text(marks.t_fa),
        "first_aid_s": span_of(marks, "t1", "t_fa"),
        "labels": "never" if plan.labels_after_s is None else plan.labels_after_s,
        "missing": marks.reasons,
        "recovered": marks.t5 is not None,
        "watch_no_drift": time_text(marks.no_drift),
        "error_within_bound": time_text(marks.accurate),
        "requests_total": len(records),
        "requests_failed": len(failed(records)),
        "failures": counted(record.error or f"status {record.status}" for record in failed(records)),
        "psi_before": _psi(recording.events, marks.champion_version, t0, "psi_max", -1),
        "psi_after": _psi(recording.events, marks.challenger_version, marks.no_drift, "psi_max", 0),
        "psi_plain_before": _psi(recording.events, marks.champion_version, t0, "psi_plain_max", -1),
        "psi_plain_after": _psi(recording.events, marks.challenger_version, marks.no_drift, "psi_plain_max", 0),
        "rmse_labels": f"capped at {recording.cap}",
        "rmse_healthy": rounded(error_of([record for record in records if record.answered < t0])),
        "rmse_drifted": rounded(error_of(drifted)),
        "rmse_drifted_changed_only": rounded(error_of([record for record in drifted if record.changed])),
        "rmse_first_aid": rounded(error_of(aided)),
        "coverage_first_aid": rounded(coverage_of(aided)),
        "rmse_recovered": rounded(error_of(after)),
        "rmse_recovered_changed_only": rounded(error_of([record for record in after if record.changed])),
        "rmse_upper_bound": rounded(last.rmse_upper if last else None),
        "rmse_reference": rounded(last.reference if last else None),
        "rmse_reference_upper_bound": rounded(last.reference_upper if last else None),
        "ratio": rounded(last.ratio if last else None),
        "ratio_upper_bound": rounded(last.ratio_upper if last else None),
        "ratio_limit": RATIO_LIMIT,
        "answers_after_t4": len(after),
        "engines_after_t4": len({record.engine_id for record in after}),
        "unseen_regime_answers": sum("unseen_regime" in record.flags for record in records),
        "false_alarms_before_t0": len(false_alarms),
        "champion_version": marks.champion_version,
        "challenger_version": marks.challenger_version,
        "decision": _decision(recording.events, t0),
        "ended_by": recording.ended_by,
        "data_source": recording.data_source,
        "seed": plan.seed,
        "healthy_subset": plan.healthy_subset,
        "change": {
            "kind": plan.change.kind,
            "subset": plan.change.subset if plan.change.kind == "fleet" else plan.healthy_subset,
            "share": plan.change.share,
            "sensor": plan.change.sensor if plan.change.kind in ("bias", "stuck") else None,
            "sigmas": plan.change.sigmas if plan.change.kind == "bias" else None,
        },
        "runs_posted_at_t0": recording.posted_runs,
        "rate_per_s": plan.rate,
        "achieved_rate_per_s": rounded(rate_of(records)),
        "schedule_lag_ms": spread_of(lags),
        "latency_ms": spread_of(latencies),
        "generator_cpu_share": rounded(recording.generator_cpu_share),
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "note": SIMULATED if recording.data_source == "simulated" else "",
    }


def summary(outcome: Outcome) -> str:
    """The page for people, in Markdown."""
    metrics, marks = outcome.metrics, outcome.marks
    lines = ["# Recovery of the platform after its fleet changed", ""]
    if metrics["note"]:
        lines += [f"> **{metrics['note']}**", ""]
    plan, schema = outcome.recording.plan, outcome.recording.schema
    labels = "never" if plan.labels_after_s is None else f"{plan.labels_after_s:g} s after T0"
    lines += [
        f"Healthy traffic of {plan.healthy_subset} at {plan.rate:g} requests/s, then: "
        f"{plan.change.describe(schema.unit)}. Labels of the new {schema.unit}s: {labels}. "
        f"Data source: {metrics['data_source']}. Seed {plan.seed}. "
        f"{metrics['machine']['cores']} cores, {metrics['machine']['cpu']}.",
        "",
        f"**{'Recovered' if outcome.recovered else 'Not recovered'}** (ended by: {metrics['ended_by']}; "
        f"decision: {metrics['decision']}).",
        "",
        "| Mark | Meaning | Time (UTC) | s after T0 |",
        "|---|---|---|---|",
    ]
    for name in marks.told:
        value, label = getattr(marks, name), name.upper()
        if value is None or marks.t0 is None:
            lines.append(f"| {label} | {MEANINGS[name]} | not reached: {marks.reasons.get(name, '')} | |")
        else:
            lines.append(f"| {label} | {MEANINGS[name]} | {time_text(value)} | {value - marks.t0:.1f} |")
    lines += ["", "| Span | From, to | Seconds |", "|---|---|---|"]
    if marks.t_fa is not None:
        lines.append(f"| first_aid_s | T1 to T_FA | {cell(metrics['first_aid_s'])} |")
    for span, (first, last) in SPANS.items():
        lines.append(f"| {span} | {first.upper()} to {last.upper()} | {cell(metrics[span])} |")
    lines += [
        "",
        "| Figure | Value |",
        "|---|---|",
        f"| Requests sent / failed | {metrics['requests_total']} / {metrics['requests_failed']} |",
        f"| RMSE healthy, champion {metrics['champion_version']} | {cell(metrics['rmse_healthy'])} {schema.step}s |",
        f"| RMSE after the change, same model | {cell(metrics['rmse_drifted'])} {schema.step}s |",
        f"| RMSE with first aid, version {marks.provisional_version or '-'} | {cell(metrics['rmse_first_aid'])} "
        f"{schema.step}s, {share_cell(metrics['coverage_first_aid'])} within the interval |",
        f"| RMSE after T4, version {metrics['challenger_version'] or '-'} | {cell(metrics['rmse_recovered'])} "
        f"{schema.step}s, "
        f"upper 95 % bound {cell(metrics['rmse_upper_bound'])} |",
        f"| RMSE of the reference on the same requests | {cell(metrics['rmse_reference'])} {schema.step}s |",
        f"| Ratio of the two, upper 95 % bound | {cell(metrics['ratio'])}, {cell(metrics['ratio_upper_bound'])} "
        f"(at most {RATIO_LIMIT}) |",
        f"| Largest PSI in drift / after recovery | {cell(metrics['psi_before'])} / {cell(metrics['psi_after'])} |",
        f"| Latency p50 / p99 / max | {spread_cell(metrics['latency_ms'])} ms |",
        f"| Schedule lag p50 / p99 / max | {spread_cell(metrics['schedule_lag_ms'])} ms |",
        "",
        f"RMSE is on labels capped at {outcome.recording.cap}. T5 needs the watch's `no_drift` for the new version "
        "(at a number of requests "
        "where a 25 % admixture would be caught with power of 95 % or more) and, over at least "
        f"{MIN_ANSWERS} answers after T4, an upper 95 % bound of the paired ratio to the reference of at most "
        f"{RATIO_LIMIT}, bootstrapped over {metrics['engines_after_t4']} {schema.unit}s. The reference has the same "
        f"architecture and was trained from scratch on the challenger's training {schema.unit}s, after the traffic.",
        "",
    ]
    return "\n".join(lines)


def _decision(events: Sequence[Event], after: float) -> str:
    """What the loop decided last; a retraining that was still under way is `none`, whatever it had waited for."""
    steps = (*DECISIONS, "retraining_started")
    found = [event["kind"] for event in events if event.get("kind") in steps and is_from(event_time(event), after)]
    return found[-1] if found and found[-1] in DECISIONS else "none"


def _psi(events: Sequence[Event], version: str | None, after: float | None, name: str, which: int) -> float | None:
    """The largest PSI of any feature in the first (0) or last (-1) verdict on a version from `after` on.

    `psi_max` is against the mixture of known engines that explains the traffic best, as the watch judges it;
    `psi_plain_max` is against the baseline as it is stored.
    """
    if after is None:
        return None
    found = [
        float(event[name])
        for event in events
        if event.get("kind") == "verdict"
        and str(event.get("model_version")) == version
        and is_from(event_time(event), after)
        and event.get(name) is not None
    ]
    return rounded(found[which]) if found else None


def span_of(marks: Marks, first: str, last: str) -> float | None:
    """Seconds from one mark to another."""
    start, end = getattr(marks, first), getattr(marks, last)
    return None if start is None or end is None else round(end - start, 3)


def time_text(seconds: float | None) -> str | None:
    """Seconds since 1970 as everybody writes them."""
    return None if seconds is None else durable.format_seconds(seconds)


def rounded(value: float | None) -> float | None:
    """To four digits; what is no finite number is None."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def counted(reasons: Any) -> dict[str, int]:
    """How often each occurs."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def rate_of(records: Sequence[Record]) -> float | None:
    """Records a second."""
    if len(records) < 2:
        return None
    return (len(records) - 1) / max(records[-1].sent - records[0].sent, 1e-9)


def spread_of(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum."""
    if not len(values):
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {"p50": rounded(p50), "p99": rounded(p99), "max": rounded(values.max())}


def cell(value: float | None) -> str:
    """A figure in a table."""
    return "-" if value is None else f"{value:.2f}"


def share_cell(value: float | None) -> str:
    """A share in a table."""
    return "-" if value is None else f"{value:.0%}"


def spread_cell(spread: dict[str, float | None]) -> str:
    """The same of a spread."""
    return " / ".join("-" if value is None else f"{value:.1f}" for value in spread.values())
