"""The pictures of an experiment: the timeline of one recovery, and a campaign at a glance."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driftloop import drawing
from driftloop.drawing import BLUE, GREEN, GREY, ORANGE, PALETTE, RED, picture
from driftloop.drift.verdict import DRIFT, WITHOUT_DRIFT
from driftloop_bench.experiment.marks import Marks, event_time
from driftloop_bench.experiment.recording import ROLLING
from driftloop_bench.experiment.recovery import Outcome
from driftloop_bench.experiment.traffic import Record

LABELS = {"t0": "T0", "t1": "T1", "t_fa": "T$_{FA}$", "t2": "T2", "t_rt": "T$_{RT}$", "t4": "T4", "t5": "T5"}
CLOSE = 0.018
"""Marks nearer to each other than this share of the axis get their labels on another line."""

Panel = Callable[[Any, Outcome, float], None]
"""Draws on an axis what happened, in seconds after the time given."""


def draw_timeline(outcome: Outcome, path: Path) -> None:
    """Draw drift statistic, live error and model version over one time axis with the marks."""
    plan, schema = outcome.recording.plan, outcome.recording.schema
    title = f"{plan.healthy_subset}, then {plan.change.describe(schema.unit)}"
    _draw(outcome, path, {}, LABELS, title, height=5.0)


def draw_labels(outcome: Outcome, path: Path, labels: Mapping[str, str]) -> None:
    """The same where labels come from failures alone, with the units in service and those that have failed."""
    plan, schema = outcome.recording.plan, outcome.recording.schema
    title = f"{plan.units} {schema.units} of {plan.healthy_subset}; who fails is followed by {plan.change.subset}"
    _draw(outcome, path, {_fleet_panel: 2.4}, labels, title, height=6.4)


def _draw(
    outcome: Outcome, path: Path, above: Mapping[Panel, float], labels: Mapping[str, str], title: str, height: float
) -> None:
    """The panels `above`, each with its height, then those that every experiment has, over one axis."""
    recording = outcome.recording
    origin = outcome.marks.t0 or recording.started
    panels: dict[Panel, float] = {**above, _drift_panel: 3, _error_panel: 3}
    ratios = [*panels.values(), 1.1]
    with picture(path, len(ratios), 1, height=height, sharex=True, height_ratios=ratios) as (figure, axes):
        *shown, version = axes[:, 0]
        for panel, axis in zip(panels, shown, strict=True):
            panel(axis, outcome, origin)
        _version_panel(version, recording.records, origin)
        end = max((record.answered for record in recording.records), default=origin) - origin
        start = min((record.sent for record in recording.records), default=origin) - origin
        version.set_xlim(start, end)
        version.set_xlabel("seconds after T0")
        _draw_marks(tuple(axes[:, 0]), outcome.marks, labels, origin, end - start)
        drawing.name(figure, recording.data_source, title)
        figure.align_ylabels()


def draw_campaign(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw detection delay and core recovery over the share of changed requests, a line for each kind."""
    with picture(path, 1, 2, height=2.8) as (figure, (axes,)):
        for axis, field, label in zip(
            axes,
            ("detection_s", "core_recovery_s"),
            ("detection T1 - T0 (s)", "core recovery T4 - T1 (s)"),
            strict=True,
        ):
            for kind, colour, marker in (("fleet", BLUE, "o"), ("bias", ORANGE, "s"), ("stuck", GREEN, "^")):
                cases = [row for row in rows if row["kind"] == kind]
                shares = sorted({row["share"] for row in cases})
                values = {
                    share: [row[field] for row in cases if row["share"] == share and row[field] is not None]
                    for share in shares
                }
                shares = [share for share in shares if values[share]]
                if not shares:
                    continue
                axis.plot([100 * s for s in shares], [np.median(values[s]) for s in shares], color=colour, lw=1)
                for share in shares:
                    axis.plot(
                        [100 * share] * len(values[share]), values[share], marker, color=colour, ms=4, alpha=0.7,
                        label=kind if share == shares[0] else None,
                    )  # fmt: skip
            axis.set_xlabel("share of changed requests (%)")
            axis.set_ylabel(label)
            axis.set_xlim(0, 105)
            axis.set_ylim(bottom=0)
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            axes[0].legend(handles, labels)
        simulated = any(row.get("data_source") == "simulated" for row in rows)
        drawing.name(figure, "simulated" if simulated else "nasa")


def rolling_error(records: Sequence[Record], origin: float, count: int) -> tuple[list[float], list[float]]:
    """Times after `origin` and the RMSE over the `count` newest answers at each."""
    answered = sorted((record for record in records if record.ok), key=lambda record: record.answered)
    if len(answered) < count:
        return [], []
    squares = np.array([(record.rul or 0.0) - record.true_rul for record in answered]) ** 2
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    means = (sums[count:] - sums[:-count]) / count
    return [record.answered - origin for record in answered[count - 1 :]], list(np.sqrt(np.maximum(means, 0.0)))


def _fleet_panel(axis: Any, outcome: Outcome, origin: float) -> None:
    recording = outcome.recording
    for changed, colour, part in (
        (False, GREY, recording.plan.healthy_subset),
        (True, BLUE, recording.plan.change.subset),
    ):
        failed_at = [failure.at - origin for failure in recording.failures if failure.changed is changed]
        if failed_at:
            axis.step(failed_at, range(1, len(failed_at) + 1), where="post", color=colour, label=f"failed, {part}")
    seconds: dict[int, list[bool]] = {}
    for record in recording.records:
        seconds.setdefault(int(record.sent - origin), []).append(record.changed)
    of_new = [(second, recording.plan.units * sum(found) / len(found)) for second, found in sorted(seconds.items())]
    axis.plot(*zip(*of_new, strict=True), color=ORANGE, lw=1, label=f"in service, {recording.plan.change.subset}")
    axis.set_ylim(bottom=0)
    axis.set_ylabel(recording.schema.units)
    axis.legend(loc="upper left", fontsize=7)


def _drift_panel(axis: Any, outcome: Outcome, origin: float) -> None:
    verdicts = [
        event
        for event in outcome.recording.events
        if event.get("kind") == "verdict" and event.get("verdict") in {DRIFT, *WITHOUT_DRIFT}
    ]
    versions = list(dict.fromkeys(str(event["model_version"]) for event in verdicts))
    for version, colour in zip(versions, _colours(len(versions)), strict=True):
        mine = [event for event in verdicts if str(event["model_version"]) == version]
        times = [event_time(event) - origin for event in mine]
        axis.plot(times, [float(event["score"]) for event in mine], "-o", color=colour, ms=3, lw=1)
    axis.axhline(1.0, color=GREY, lw=0.8, ls="--")
    axis.annotate("alarm", (1.0, 1.0), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=GREY)
    axis.set_yscale("log")
    axis.set_ylabel("drift score\n(statistic / threshold)")


def _error_panel(axis: Any, outcome: Outcome, origin: float) -> None:
    count = min(ROLLING, max(20, int(outcome.recording.plan.rate * 3)))
    versions = _versions(outcome.recording.records)
    for version, colour in zip(versions, _colours(len(versions)), strict=True):
        # Each version's curve starts afresh, so that no point mixes two models.
        mine = [record for record in outcome.recording.records if record.version == version]
        if outcome.marks.t0 is not None and version == outcome.marks.champion_version:
            before = [record for record in mine if record.sent < outcome.marks.t0]
            mine = [record for record in mine if record.sent >= outcome.marks.t0]
            axis.plot(*rolling_error(before, origin, count), color=colour, lw=1.2)
        axis.plot(*rolling_error(mine, origin, min(count, max(20, len(mine) // 4))), color=colour, lw=1.2)
    if outcome.prefixes and outcome.marks.t4 is not None:
        last = outcome.prefixes[-1]
        axis.plot(
            [outcome.marks.t4 - origin, last.at - origin], [last.reference] * 2, color=GREEN, lw=1, ls="--",
        )  # fmt: skip
        axis.annotate(
            "reference, trained from scratch", (1.0, last.reference), xycoords=("axes fraction", "data"),
            xytext=(0, -7), textcoords="offset points", ha="right", va="top", color=GREEN, fontsize=7,
        )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.set_ylabel(f"live RMSE ({outcome.recording.schema.step}s)\nnewest {count} answers")


def _version_panel(axis: Any, records: Sequence[Record], origin: float) -> None:
    versions = _versions(records)
    for level, (version, colour) in enumerate(zip(versions, _colours(len(versions)), strict=True)):
        times = [record.answered - origin for record in records if record.version == version and record.ok]
        axis.plot([min(times), max(times)], [level, level], color=colour, lw=5, solid_capstyle="butt")
    missed = [record.sent - origin for record in records if not record.ok]
    if missed:
        axis.plot(missed, [-0.45] * len(missed), "x", color=RED, ms=4)
    axis.set_yticks(range(len(versions)), versions)
    axis.set_ylim(-0.6, max(len(versions) - 0.4, 0.6))
    axis.set_ylabel("version\nanswering")


def _draw_marks(axes: Sequence[Any], marks: Marks, labels: Mapping[str, str], origin: float, width: float) -> None:
    previous, line, before = float("-inf"), 0, ""
    for name, label in labels.items():
        value = getattr(marks, name)
        if value is None:
            continue
        at = value - origin
        for axis in axes:
            axis.axvline(at, color=GREY, lw=0.7, ls=":")
        # Labels are written around their marks.
        apart = CLOSE * (0.8 + 0.16 * len(before + label)) * width
        line = line + 1 if at - previous < apart else 0
        axes[0].annotate(
            label, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2 + 9 * line),
            textcoords="offset points", ha="center", va="bottom",
        )  # fmt: skip
        previous, before = at, label


def _versions(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record.version for record in records if record.version is not None))


def _colours(count: int) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(count)]
