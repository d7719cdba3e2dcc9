"""The pictures of the RUL benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driftloop.cmapss.schema import RUL_CAP
from driftloop.rul.benchmark import SeedResult, capped
from driftloop.rul.intervals import BANDS

# Okabe and Ito's palette, which people with any colour vision can tell apart.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#666666"
_STYLE = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6}


def draw_predicted(results: Sequence[SeedResult], data_source: str, path: Path) -> None:
    """Draw the ensemble's prediction and interval over the label, an engine a point, a panel for each subset."""
    plt = _pyplot()
    subsets = list(dict.fromkeys(result.subset for result in results))
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1, len(subsets), figsize=(0.3 + 2.0 * len(subsets), 2.4), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axis, subset in zip(axes[0], subsets, strict=True):
            found = [result for result in results if result.subset == subset]
            true = capped(found[0].true)
            predicted, lower, upper = (
                np.mean([getattr(one, name) for one in found], axis=0) for name in ("rul", "lower", "upper")
            )
            axis.plot([0, RUL_CAP], [0, RUL_CAP], color=GREY, linewidth=0.7)
            # Engines at the cap would hide one another.
            shown = true + np.where(true == RUL_CAP, np.linspace(0, 6, len(true)), 0)
            axis.vlines(shown, lower, upper, color=BLUE, alpha=0.15, linewidth=0.8)
            axis.plot(shown, predicted, ".", color=BLUE, markersize=3, markeredgewidth=0)
            axis.set_title(subset, fontsize=8)
            axis.set_xlabel("true RUL (cycles, capped)")
        axes[0][0].set_ylabel("predicted RUL (cycles)")
        _mark_simulated(figure, data_source)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def draw_bands(summary: dict[str, Any], path: Path) -> None:
    """Draw RMSE by band of the true RUL, a panel for each subset."""
    from driftloop.rul.benchmark_report import MODELS

    plt = _pyplot()
    names = [str(first) if first == last else f"{first} to {last}" for first, last in BANDS]
    colours = {"lstm": BLUE, "lstm_ensemble": BLUE, "boosting": ORANGE, "boosting_ensemble": ORANGE}
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1, len(summary["subsets"]), figsize=(0.3 + 2.0 * len(summary["subsets"]), 2.8), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axis, (subset, content) in zip(axes[0], summary["subsets"].items(), strict=True):
            for model, colour in colours.items():
                values = [np.nan if value is None else value for value in content["bands"][model]]
                style = ":" if model.endswith("ensemble") else "-"
                axis.plot(
                    names, values, style, color=colour, marker=".", markersize=4, linewidth=1, label=MODELS[model]
                )
            axis.set_title(subset, fontsize=8)
            axis.tick_params(axis="x", rotation=60)
            axis.set_xlabel("true RUL (cycles)")
        axes[0][0].set_ylabel("RMSE (cycles)")
        axes[0][0].set_ylim(bottom=0)
        lines, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=7)
        _mark_simulated(figure, summary["data_source"])
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _mark_simulated(figure: Any, data_source: str) -> None:
    if data_source == "simulated":
        figure.suptitle("SIMULATED DATA", fontsize=9, color=RED)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
