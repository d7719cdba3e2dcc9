"""The picture of the benchmark of first aid: each pair of parts in a row, each seed a point."""

from pathlib import Path
from typing import Any

import numpy as np

from driftloop import drawing
from driftloop.drawing import BLUE, GREEN, GREY, ORANGE, picture
from driftloop_bench.first_aid.looks import HEADLINE

_SCORES = (25, 50, 100, 200, 400, 800)
_MODELS = {"as it was": (ORANGE, "o"), "with first aid": (BLUE, "s"), "with labels": (GREEN, "^")}


def draw(summary: dict[str, Any], path: Path) -> None:
    """Draw RMSE, coverage and interval score of the three models over the pairs."""
    pairs = summary["pairs"]
    height = 1.1 + 0.26 * len(pairs)
    with picture(path, 1, 3, height=height, sharey=True, width_ratios=[1.3, 1, 1]) as (figure, ((error, held, score),)):
        for at, pair in enumerate(pairs):
            found = dict(zip(_MODELS, (pair["champion"], pair["looks"][HEADLINE], pair["labelled"]), strict=True))
            for number, (model, figures) in enumerate(found.items()):
                colour, mark = _MODELS[model]
                for axis, name in ((error, "rmse"), (held, "covered"), (score, "interval_score")):
                    values = np.array(figures[name]["of_seeds"]) * (100 if name == "covered" else 1)
                    place = np.full(len(values), at + 0.24 * (number - 1))
                    label = model if at == 0 and axis is error else None
                    axis.plot(values, place, mark, color=colour, ms=3.5, alpha=0.8, label=label)
        error.set_yticks(range(len(pairs)), [f"{pair['source']} to {pair['target']}" for pair in pairs])
        error.invert_yaxis()
        error.set_xlim(left=0)
        error.set_xlabel("RMSE (steps, labels capped)")
        held.axvline(90, color=GREY, lw=0.7, ls="--")
        held.set_xlabel("covered by 90 % intervals (%)")
        score.axvline(max(pair["cap"] for pair in pairs), color=GREY, lw=0.7, ls="--")
        score.set_xscale("log")
        score.set_xticks(_SCORES, [str(value) for value in _SCORES])
        score.minorticks_off()
        score.set_xlabel("interval score (dashed: [0, cap])")
        handles, labels = error.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        drawing.name(figure, summary["data_source"], f"First aid without labels, from {HEADLINE}")
