"""The pictures of the drift benchmark: delay and score over severity, and the detectors side by side."""

from pathlib import Path
from typing import Any

import numpy as np

from driftloop import drawing
from driftloop.drawing import GREY, PALETTE, picture
from driftloop_bench.drift.run import AFTER, COMPARED
from driftloop_bench.drift.summary import compared_names, ladders

_MARKS = ("o", "s", "^", "D", "v", "P")
Json = dict[str, Any]


def draw_delays(summary: Json, path: Path) -> None:
    """Draw the median delay and its 90 % quantile over the share of foreign requests and over the bias."""
    with picture(path, 1, 2, height=2.7, sharey=True) as (figure, ((left, right),)):
        for colour, (label, rows) in zip(PALETTE, ladders(summary).items(), strict=False):
            axis = right if label == "bias" else left
            severity = [row["severity"] for row in rows]
            median = [row["median"] or np.nan for row in rows]
            late = [row["p90"] or AFTER for row in rows]
            axis.fill_between(severity, median, late, color=colour, alpha=0.15, linewidth=0)
            axis.plot(
                severity, median, "-o", color=colour, ms=3, lw=1, label=label if axis is left else "any one sensor"
            )
        _name_axes(left, right, "delay (requests)")
        for axis in (left, right):
            axis.legend()
        drawing.name(figure, summary["data_source"], "Detection delay: median, shaded up to the 90 % quantile")


def draw_scores(summary: Json, path: Path) -> None:
    """Draw the drift score 1,000 requests after the change over its severity, with its 10 % and 90 % quantiles."""
    with picture(path, 1, 2, height=2.7, sharey=True) as (figure, ((left, right),)):
        for colour, (label, rows) in zip(PALETTE, ladders(summary).items(), strict=False):
            axis = right if label == "bias" else left
            severity = [row["severity"] for row in rows]
            low, middle, high = np.array([row["score"] for row in rows]).T
            axis.fill_between(severity, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(
                severity, middle, "-o", color=colour, ms=3, lw=1, label=label if axis is left else "any one sensor"
            )
        healthy = summary["healthy"]["all"]["score_max"]
        for axis in (left, right):
            axis.axhline(1.0, color=GREY, lw=0.8, ls="--")
            axis.axhline(healthy, color=GREY, lw=0.8, ls=":")
            axis.legend()
        right.annotate("alarm", (1, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=GREY)
        right.annotate(
            "largest healthy", (1, healthy), xycoords=("axes fraction", "data"), ha="right", va="top", color=GREY
        )
        _name_axes(left, right, "drift score")
        title = "Drift score 1,000 requests after the change: median, 10 % to 90 %"
        drawing.name(figure, summary["data_source"], title)


def draw_detectors(summary: Json, path: Path) -> None:
    """Draw every detector's false alarms as it comes, and its delays once calibrated to none, corrupted requests among
    the healthy ones."""
    detectors = summary["detectors"]
    with picture(path, 1, 2, height=3.0, width_ratios=[1, 2.2]) as (figure, ((left, right),)):
        names = [detector["method"] for detector in detectors]
        alarms = [100 * detector["default_false_alarms"] for detector in detectors]
        left.barh(names, alarms, color=PALETTE[: len(names)])
        for at, value in enumerate(alarms):
            left.annotate(f" {value:.3g} %", (max(value, 0), at), va="center", color=GREY)
        left.set_xlim(0, 130)
        left.invert_yaxis()
        no_drift = {scenario.name for scenario in COMPARED if scenario.family in {"age", "corrupt"}}
        left.set_xlabel("healthy stretches of 500 requests\nwith an alarm, default threshold (%)")
        scenarios = {key: name for key, name in compared_names(detectors).items() if key not in no_drift}
        for number, (detector, colour) in enumerate(zip(detectors, PALETTE, strict=False)):
            # A detector that no threshold of the grid calibrates finds nothing.
            found = detector.get("robust_delays", {})
            medians = [found[name]["median"] if found else None for name in scenarios]
            places = np.arange(len(scenarios)) + 0.1 * (number - (len(detectors) - 1) / 2)
            shown = [np.nan if value is None else value for value in medians]
            mark = _MARKS[number % len(_MARKS)]
            right.plot(places, shown, mark, color=colour, ms=4, label=detector["method"])
            missed = [place for place, value in zip(places, medians, strict=True) if value is None]
            right.plot(missed, [3000] * len(missed), mark, mfc="none", color=colour, ms=4)
        right.set_yscale("log")
        right.axhline(2000, color=GREY, lw=0.6, ls=":")
        right.set_ylim(top=4500)
        right.annotate("missed", (1.01, 3000), xycoords=("axes fraction", "data"), va="center", color=GREY, fontsize=6)
        labels = [
            name.replace(": ", "\n").replace("% ", "%\n").replace("bias ", "bias\n") for name in scenarios.values()
        ]
        right.set_xticks(range(len(scenarios)), labels, fontsize=6)
        right.set_ylabel("median delay, calibrated (robust)")
        right.legend(fontsize=6, ncols=6, loc="upper center", bbox_to_anchor=(0.5, 1.12))
        drawing.name(figure, summary["data_source"], "Detectors on the same streams")


def _name_axes(left: Any, right: Any, what: str) -> None:
    """Axes of `what` over the share of foreign requests, on the left, and over the bias, on the right."""
    left.set(xscale="log", yscale="log", xlabel="share of foreign requests", ylabel=what)
    left.set_xticks([0.05, 0.1, 0.25, 0.5, 1.0], ["5 %", "10 %", "25 %", "50 %", "100 %"])
    left.minorticks_off()
    right.set(xlabel="bias (standard deviations within a regime)")
