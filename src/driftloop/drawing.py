"""What all pictures share: type, lines, and colours that people with any colour vision tell apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, SKY, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
"""Okabe and Ito's colours."""
PALETTE = (BLUE, ORANGE, GREEN, RED, PINK, SKY)
"""In the order in which groups take them."""
GREY = "#666666"
WIDTH_IN, DPI = 7.1, 200
"""180 mm, a page's width in print."""
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def picture(
    path: Path, rows: int = 1, columns: int = 1, *, height: float, width: float = WIDTH_IN, **layout: Any
) -> Iterator[tuple["Figure", NDArray[Any]]]:
    """A figure and its axes `[rows, columns]`, saved to `path` where the block ends; `width` and `height` in inches."""
    # Costs half a second, and most of what imports this module draws nothing.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, np.asarray(figure.subplots(rows, columns, squeeze=False, **layout), dtype=object)
        figure.savefig(path, dpi=DPI)


def name(figure: "Figure", data_source: str, title: str = "") -> None:
    """Put the title on top of a figure, and before it that its data is simulated, where it is."""
    simulated = data_source == "simulated"
    heading = " — ".join(part for part in ("SIMULATED DATA" if simulated else "", title) if part)
    if heading:
        figure.suptitle(heading, fontsize=9, color=RED if simulated else "black")
