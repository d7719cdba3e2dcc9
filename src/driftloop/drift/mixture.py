"""Which known fleets, of which age, explain the traffic: weights of known distributions, fitted by EM.

Engines change as they age and fleets change their make-up with nothing wrong. Both move the distribution of every
sensor along directions that are known from training. The fit takes these directions out, so that what is left
over is what no mixture of known engines explains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.drift.statistics import Floats

ITERATIONS = 40
RELAXATION = 1.8
"""Exponent of a step; below 2 it converges where plain EM (1) does, in about half the steps."""
SMOOTHING = 2e-3
"""Share of the uniform distribution that is mixed into each component, so that no count is impossible."""
INFORMATIVE = 0.1
"""A feature helps to tell components apart when one is this far (total variation) from their mean."""


@dataclass(frozen=True)
class Components:
    """Known distributions: one per operating domain and age of the engine."""

    probabilities: Floats
    """`[C, total]`, the shares of all features' bins side by side."""
    domain: NDArray[np.int64]
    """Position of the domain that each component belongs to, `[C]`."""
    age: NDArray[np.int64]
    """Age band of each component, `[C]`."""
    offsets: NDArray[np.int64]
    """Where each feature begins, `[F]`."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bins of each feature, `[F]`."""
        return np.diff(np.append(self.offsets, self.probabilities.shape[1]))

    def smoothed(self) -> Floats:
        """The probabilities with SMOOTHING of the uniform distribution, `[C, total]`."""
        uniform = np.repeat(1 / self.sizes, self.sizes)
        return (1 - SMOOTHING) * self.probabilities + SMOOTHING * uniform

    def informative(self) -> NDArray[np.bool_]:
        """Which features differ between components, `[F]`."""
        distance = np.abs(self.probabilities - self.probabilities.mean(axis=0)) / 2
        return np.asarray(np.add.reduceat(distance, self.offsets, axis=1).max(axis=0) > INFORMATIVE)


def fit(live: Floats, components: Components, start: Floats, features: NDArray[np.bool_] | None = None) -> Floats:
    """Weights `[..., C]` of the components that make the shares `live` `[..., total]` most likely.

    `start` `[C]` is where the fit begins; it is mixed with equal weights so that no component starts at 0.
    `features` `[F]` limits the fit to some features. The features are taken as independent (a composite
    likelihood), and only those that differ between components are looked at. EM for mixture proportions is in
    Dempster, Laird and Rubin, J. Royal Statistical Society B 39 (1977).
    """
    use = components.informative()
    if features is not None:
        use = use & features
    weights = np.broadcast_to((start + 1 / len(start)) / 2, (*live.shape[:-1], len(start)))
    if len(start) == 1 or not use.any():
        return weights.copy()
    columns = np.repeat(use, components.sizes)
    known, seen = components.smoothed()[:, columns], live[..., columns] / use.sum()
    across = np.ascontiguousarray(known.T)
    for _ in range(ITERATIONS):
        gain = (seen / (weights @ known)) @ across
        weights = weights * gain**RELAXATION
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    return weights


def by_group(weights: Floats, group: NDArray[np.int64], groups: int) -> Floats:
    """Weights `[..., C]` summed over the components of each group (a domain, an age), `[..., groups]`."""
    member = (group[:, None] == np.arange(groups)[None, :]).astype(np.float64)
    return np.asarray(weights @ member)
