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

Where several members answer, each taught without a part of the units, no units need be set aside: each unit's score is
by the quantiles of the member that has not seen it, and is compared with that member's quantiles of the coming window
(CV+: Barber, Candes, Ramdas & Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 49, 2021;
with quantiles as nested sets: Gupta, Kuchibhotla & Ramdas, "Nested conformal prediction and quantile out-of-bag
ensemble methods", Pattern Recognition 127, 2022; with units: Lee, Barber & Willett). All bands are one then: where
units are few, an offset for each is wide. It covers about as promised, over all windows of a new unit; what is proven
is less (`cross_guarantee`), and only as far as a member knows nothing of the units that it must not know: regimes and
the scale of its inputs come from all, and the step at which training stops is chosen for their mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.labels import bands

NOMINAL = 0.90
CROSSED = "cv+"
"""How metadata call CV+; all other calibration is split conformal."""
LEAST_UNITS = 9
"""With fewer units the conformal quantile at NOMINAL is infinite: K / (K + 1) is below it."""
ATOMS = 100
"""Scores that stand for those of a part of the units, each at least as large as those it stands for."""


class Crossed(NamedTuple):
    """What CV+ compares a window with."""

    scores: NDArray[np.float32]
    """Of each member, in steps: `[members, ATOMS]`."""
    weights: NDArray[np.float32]
    """Of each of these scores, `[members, ATOMS]`: they add up to K / (K + 1) with K units."""


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


def crossed(
    scores: NDArray[np.floating], units: NDArray[np.integer], parts: NDArray[np.integer], members: int
) -> Crossed:
    """What CV+ needs of windows `[n]`, whose `scores` are by the member `parts` that has not seen their unit."""
    found = np.zeros((members, ATOMS), dtype=np.float32)
    weights = np.zeros_like(found)
    count = len(np.unique(units))
    for member in range(members):
        chosen = parts == member
        if chosen.any():
            found[member] = _atoms(scores[chosen], units[chosen])
            weights[member] = len(np.unique(units[chosen])) / (count + 1) / ATOMS
    return Crossed(found, weights)


def _atoms(scores: NDArray[np.floating], units: NDArray[np.integer]) -> NDArray[np.floating]:
    """The scores at ATOMS even steps of their distribution over units, the last one being the largest."""
    _, position, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1.0 / sizes[position[order]]) / len(sizes)
    at = np.searchsorted(reached, np.arange(1, ATOMS + 1) / ATOMS - 1e-9)
    return np.asarray(scores[order[np.minimum(at, len(order) - 1)]])


def cross_guarantee(units: int, members: int, nominal: float = NOMINAL) -> float:
    """The coverage that CV+ with `members` parts of `units` exchangeable units has at the least; 0 for too few."""
    parts, least = min(members, units), 1.0 - 2.0 * (1.0 - nominal)
    if parts < 2:
        return 0.0
    excess = min(2 * (1 - 1 / parts) / (units / parts + 1), (1 - parts / units) / (parts + 1))
    return max(0.0, least - excess)


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
