"""The pictures of the RUL benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driftloop import drawing
from driftloop.drawing import BLUE, GREY, ORANGE, picture
from driftloop.fleet.labels import bands
from driftloop.fleets.cmapss.schema import RUL_CAP
from driftloop_bench.rul.benchmark import SeedResult, capped

PANEL_IN = 2.0


def draw_predicted(results: Sequence[SeedResult], data_source: str, path: Path) -> None:
    """Draw the ensemble's prediction and interval over the label, an engine a point, a panel for each subset."""
    subsets = list(dict.fromkeys(result.subset for result in results))
    width = 0.3 + PANEL_IN * len(subsets)
    with picture(path, 1, len(subsets), height=2.4, width=width, sharex=True, sharey=True) as (figure, (axes,)):
        for axis, subset in zip(axes, subsets, strict=True):
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
            axis.set_title(subset)
            axis.set_xlabel("true RUL (cycles, capped)")
        axes[0].set_ylabel("predicted RUL (cycles)")
        drawing.name(figure, data_source)


def draw_bands(summary: dict[str, Any], titles: Mapping[str, str], path: Path) -> None:
    """Draw RMSE by band of the true RUL, a panel for each subset; `titles` names the models for people."""
    names = [str(first) if first == last else f"{first} to {last}" for first, last in bands(RUL_CAP)]
    colours = {"network": BLUE, "network_ensemble": BLUE, "boosting": ORANGE, "boosting_ensemble": ORANGE}
    subsets = summary["subsets"]
    width = 0.3 + PANEL_IN * len(subsets)
    with picture(path, 1, len(subsets), height=2.8, width=width, sharey=True) as (figure, (axes,)):
        for axis, (subset, content) in zip(axes, subsets.items(), strict=True):
            for model, colour in colours.items():
                values = [np.nan if value is None else value for value in content["bands"][model]]
                style = ":" if model.endswith("ensemble") else "-"
                axis.plot(
                    names, values, style, color=colour, marker=".", markersize=4, linewidth=1, label=titles[model]
                )
            axis.set_title(subset)
            axis.tick_params(axis="x", rotation=60)
            axis.set_xlabel("true RUL (cycles)")
        axes[0].set_ylabel("RMSE (cycles)")
        axes[0].set_ylim(bottom=0)
        lines, labels = axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=2, fontsize=7)
        drawing.name(figure, summary["data_source"])
