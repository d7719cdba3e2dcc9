"""What all figures of the notebooks share: size, type, and colours that people with any colour vision tell apart."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftloop.experiment.figures import BLUE, GREEN, GREY, ORANGE, RED

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PALETTE", "RED", "panels"]

PALETTE = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9")
"""Okabe and Ito's colours, in the order in which groups take them."""
WIDTH_IN, DPI = 7.6, 90
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
}


def panels(
    rows: int = 1, columns: int = 1, *, height: float = 2.6, data_source: str = "nasa", **layout: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes `[rows, columns]`; `height` in inches. Simulated data is named on top of it."""
    # For good, not in a context: text that is added later takes its size from here too.
    mpl.rcParams.update(_STYLE)
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, layout="constrained")
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False, **layout), dtype=object)
    if data_source == "simulated":
        figure.suptitle("SIMULATED DATA", color=RED, fontsize=9)
    return figure, axes
