"""Figures of a notebook's width that the notebook shows itself."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftloop import drawing
from driftloop.drawing import BLUE, GREEN, GREY, ORANGE, PALETTE, RED

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PALETTE", "RED", "panels"]

WIDTH_IN, DPI = 7.6, 90


def panels(
    rows: int = 1, columns: int = 1, *, height: float = 2.6, data_source: str = "nasa", **layout: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes `[rows, columns]`; `height` in inches. Simulated data is named on top of it."""
    # For good, not in a context: text that is added later takes its size from here too.
    mpl.rcParams.update(drawing.STYLE)
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, layout="constrained")
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False, **layout), dtype=object)
    drawing.name(figure, data_source)
    return figure, axes
