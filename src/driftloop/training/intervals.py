"""Prediction intervals that hold for a new engine: split conformal calibration, with engines as the unit.

A label's score is by how much it lies outside the network's two quantiles, negative inside them (conformalised
quantile regression: Romano, Patterson & Candes, NeurIPS 2019). The interval holds every label whose score is at most
the offset of that label's band, and what lies between; a band's offset is such that on calibrate-role engines as many
of its labels are held as promised. So coverage is promised for each band of the true RUL and not just on average
(label-conditional conformal prediction: Vovk, "Conditional validity of inductive conformal predictors", 2013).

Windows of one engine are not exchangeable with those of another, engines are; so each engine weighs the same,
its windows share its weight, and one more engine, the coming one, is given infinite scores (hierarchical
conformal prediction: Lee, Barber & Willett, "Distribution-free inference with hierarchical data", 2023).
For a random window of a new engine in a band coverage is then at least nominal.

OUT_OF_BAG is what is done where a model is the mean of several members and few units only calibrate: every unit that
was learnt from is scored too, by the one member that was taught without it (out-of-bag conformal prediction:
Johansson, Bostrom, Lofstrom & Linusson, "Regression conformal prediction with random forests", Machine Learning 97,
2014). The mean errs less than its members, so that intervals come out wide rather than narrow; but no bound is proven
for any number of units. CV+ and the jackknife+-after-bootstrap have one, 1 - 2 (1 - NOMINAL) = 80 % less a little
(Barber, Candes, Ramdas & Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 49, 2021; Kim,
Xu & Barber, NeurIPS 2020): they take every score around the answer of the very member that it came from, and this
takes all around the mean. Nor could the members' scores keep that proof as they are: the step at which training stops
is chosen for the mean.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.labels import bands

NOMINAL = 0.90
OUT_OF_BAG = "out_of_bag"
"""How metadata call the calibration of a mean of several members; all others are split conformal."""
LEAST_UNITS = 9
"""With fewer units the conformal quantile at NOMINAL is infinite: K / (K + 1) is below it."""


def band_offsets(
    scores: NDArray[np.floating], labels: NDArray[np.floating], engines: NDArray[np.generic], cap: int
) -> NDArray[np.float32]:
    """The conformal offset of each band, from the windows `[n]` whose capped label lies in it: `[bands]`, steps.

    Where fewer than LEAST_UNITS units have a label in a band, it shares its offset with its neighbours. Of a band in
    which no unit has one nothing is known: it is held whole.
    """
    inside = [(labels >= first) & (labels <= last) for first, last in bands(cap)]
    offsets = np.full(len(inside), cap, dtype=np.float32)
    for group in _merged([set(engines[chosen].tolist()) for chosen in inside]):
        together = np.logical_or.reduce([inside[at] for at in group])
        offsets[group] = conformal_offset(scores[together], engines[together], largest=cap)
    return offsets


def _merged(units: Sequence[set[object]]) -> list[list[int]]:
    """Neighbouring bands that have units, grouped so that each group has LEAST_UNITS where all have as many."""
    groups: list[list[int]] = []
    waiting: list[int] = []
    for at in (at for at, here in enumerate(units) if here):
        waiting.append(at)
        if len(set().union(*(units[one] for one in waiting))) >= LEAST_UNITS:
            groups.append(waiting)
            waiting = []
    if waiting and groups:
        groups[-1] += waiting
    elif waiting:
        groups.append(waiting)
    return groups


def conformal_offset(
    scores: NDArray[np.floating], engines: NDArray[np.generic], nominal: float = NOMINAL, *, largest: float
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
