"""The predictive distribution of what is left of a unit's life, from the three numbers that a prediction is.

`rul` is taken as the median, `lower` and `upper` as the ends of the central 90 %. Between and beyond them a two-piece
normal distribution is drawn (Wallis, "The two-piece normal, binormal, or double Gaussian distribution", Statistical
Science 29, 2014, with both halves of the same mass), cut off at 0 since the unit runs. Where `upper` is the cap,
nothing is known of what lies above it: the upper half is then at least as wide as the lower one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z_90 = 1.6448536269514722
"""Standard deviations from the middle of a normal distribution to either end of its central 90 %."""
_LEAST_SPREAD = 0.5
"""Standard deviation of an interval of no width: a life ends within a step, not at its end."""


def survival(rul: ArrayLike, lower: ArrayLike, upper: ArrayLike, cap: float, horizon: int) -> Floats:
    """Chance that a unit runs at least k more steps, for k from 0 to `horizon`: `[n, horizon + 1]`.

    `rul`, `lower` and `upper` `[n]` are predictions in steps, of a model whose labels are capped at `cap`.
    """
    from scipy.special import ndtr

    middle, low, high = (np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in (rul, lower, upper))
    below = np.maximum((middle - low) / Z_90, _LEAST_SPREAD)
    above = np.maximum((high - middle) / Z_90, _LEAST_SPREAD)
    above = np.where(high >= cap - 1, np.maximum(above, below), above)
    # A life that ends in step k is one of k - 1/2 to k + 1/2.
    at = np.arange(horizon + 1) - 0.5
    away = at[None, :] - middle[:, None]
    beyond = ndtr(-away / np.where(away < 0, below[:, None], above[:, None]))
    return np.asarray(np.minimum(beyond / beyond[:, :1], 1.0))
