"""Distances between binned distributions, and the tail of a statistic. numpy alone.

Distributions may be one feature's `[..., bins]`, or all features' side by side `[..., total]` with `offsets`,
the index at which each feature begins.
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPSILON = 1e-3
"""What an empty bin counts for in PSI, as a share; PSI therefore never exceeds 2 ln(1 / EPSILON) = 13.8 by much."""

Floats = NDArray[np.float64]
WHOLE = np.array([0])
_NORMAL = NormalDist()
_LEAST = 1 - _NORMAL.cdf(3.0)


def psi(actual: ArrayLike, expected: ArrayLike, offsets: NDArray[np.int64] = WHOLE, eps: float = EPSILON) -> Floats:
    """Population stability index, sum of (a - e) ln(a / e) over bins, with shares below `eps` set to `eps`.

    `actual`, `expected`: shares `[..., total]`; returns `[..., features]`, each >= 0.
    """
    a = np.maximum(np.asarray(actual, dtype=np.float64), eps)
    e = np.maximum(np.asarray(expected, dtype=np.float64), eps)
    return np.asarray(np.add.reduceat((a - e) * np.log(a / e), offsets, axis=-1))


def ks(actual: ArrayLike, expected: ArrayLike, offsets: NDArray[np.int64] = WHOLE) -> Floats:
    """Kolmogorov-Smirnov distance at the bins' edges: the largest gap between the two cumulative distributions.

    Arguments and shape as for `psi`; each result is between 0 and 1. For a category the order is that of its ids.
    """
    difference = np.asarray(actual, dtype=np.float64) - np.asarray(expected, dtype=np.float64)
    # Each feature's differences add up to 0, so that one running sum serves them all.
    gap = np.abs(np.cumsum(difference, axis=-1))
    return np.asarray(np.maximum.reduceat(gap, offsets, axis=-1))


def normal_scores(expected: ArrayLike, offsets: NDArray[np.int64] = WHOLE) -> Floats:
    """What a request in each bin says about a feature's location and spread, if it follows `expected` `[total]`.

    `[2, total]`: the quantile of the bin's middle on the scale of a standard normal variable, kept within 3, and its
    square. Source: the scores of van der Waerden for location and of Klotz for scale, e.g. in Hajek and Sidak,
    "Theory of rank tests", 1967, section III.2.
    """
    shares_of_bins = np.asarray(expected, dtype=np.float64)
    location = np.empty_like(shares_of_bins)
    for begin, end in zip(offsets, [*offsets[1:], len(location)], strict=True):
        part = shares_of_bins[begin:end]
        middle = (np.cumsum(part) - part / 2) / max(float(part.sum()), 1e-300)
        location[begin:end] = [_NORMAL.inv_cdf(min(max(float(m), _LEAST), 1 - _LEAST)) for m in middle]
    return np.stack([location, location**2])


def shifts(actual: ArrayLike, expected: ArrayLike, scores: Floats, offsets: NDArray[np.int64] = WHOLE) -> Floats:
    """How far each feature's mean scores are from the expected ones, `[..., 2, features]`: location and spread.

    `actual`, `expected` as for `psi`, `scores` `[2, total]` as from `normal_scores`.
    """
    difference = np.asarray(actual, dtype=np.float64) - np.asarray(expected, dtype=np.float64)
    return np.asarray(np.add.reduceat(difference[..., None, :] * scores, offsets, axis=-1))


def conditional(shift: Floats, precision: Floats) -> Floats:
    """How far each shift `[..., F]` is from what the other features' shifts let expect, in standard deviations.

    `precision` `[..., F, F]` is the inverse of the shifts' covariance in healthy traffic. Sensors of an engine rise
    and fall together; what one does alone therefore stands out although each by itself varies much.
    Source: the regression adjustment of Hawkins, "Multivariate quality control based on regression-adjusted
    variables", Technometrics 33 (1991).
    """
    diagonal = np.diagonal(precision, axis1=-2, axis2=-1)
    return np.asarray(np.abs(np.matmul(shift[..., None, :], precision)[..., 0, :]) / np.sqrt(diagonal))


def shares(counts: ArrayLike, offsets: NDArray[np.int64] = WHOLE) -> Floats:
    """Counts `[..., total]` as shares of each feature's sum; an empty feature has shares 0."""
    counts = np.asarray(counts, dtype=np.float64)
    sums = np.add.reduceat(counts, offsets, axis=-1)
    sizes = np.diff(np.append(offsets, counts.shape[-1]))
    return np.asarray(counts / np.repeat(np.maximum(sums, 1e-300), sizes, axis=-1))


def tail_quantile(sample: ArrayLike, exceedance: float, top: float = 0.1) -> float:
    """The value that is exceeded with probability `exceedance`, also where that is rarer than 1 in the sample.

    Peaks over threshold: a generalised Pareto distribution fitted by probability-weighted moments to the largest
    `top` share of `sample` `[n]`. Its shape is kept within [0, 0.25]: a tail lighter than exponential is not believed,
    and a heavier one is mostly the noise of the estimate for statistics that are bounded.
    Source: Hosking and Wallis, "Parameter and quantile estimation for the generalized Pareto distribution",
    Technometrics 29 (1987).
    """
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    if exceedance >= top:
        return float(np.quantile(ordered, 1 - exceedance))
    threshold = float(np.quantile(ordered, 1 - top))
    excess = ordered[ordered > threshold] - threshold
    if len(excess) < 2:
        return float(ordered[-1])
    rank = (np.arange(1, len(excess) + 1) - 0.35) / len(excess)
    mean, lower = float(excess.mean()), float((excess * (1 - rank)).mean())
    shape = min(max(2 - mean / max(mean - 2 * lower, 1e-12), 0.0), 0.25)
    scale = mean * (1 - shape)
    ratio = top / exceedance
    if shape < 1e-6:
        return threshold + scale * float(np.log(ratio))
    return threshold + scale / shape * (float(ratio**shape) - 1)
