"""Prediction intervals that hold for a new engine: split conformal calibration, with engines as the unit.

The network's two quantiles are moved apart (or together) so that on calibrate-role engines they contain the
label as often as promised (conformalised quantile regression: Romano, Patterson & Candes, NeurIPS 2019).
Windows of one engine are not exchangeable with those of another, engines are; so each engine weighs the same,
its windows share its weight, and one more engine, the coming one, is given infinite scores (hierarchical
conformal prediction: Lee, Barber & Willett, "Distribution-free inference with hierarchical data", 2023).
For a random window of a new engine coverage is then at least nominal.
"""

import numpy as np
from numpy.typing import NDArray

from driftloop.cmapss.schema import RUL_CAP

NOMINAL = 0.90


def conformal_offset(
    scores: NDArray[np.floating], engines: NDArray[np.generic], nominal: float = NOMINAL, largest: float = RUL_CAP
) -> float:
    """The smallest offset covering `nominal` of the score's distribution over engines.

    `scores[i]` is by how much label i lies outside its interval (negative: inside) and `engines[i]` its engine.
    Each of K engines has weight 1 / (K + 1) and an infinite score the remaining one; where the quantile is
    infinite, with too few engines, `largest` is returned, which makes the interval the whole range.
    """
    names, position, sizes = np.unique(engines, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1.0 / sizes[position[order]]) / (len(names) + 1)
    enough = np.flatnonzero(reached >= nominal - 1e-9)
    return float(min(scores[order[enough[0]]], largest)) if len(enough) else float(largest)
