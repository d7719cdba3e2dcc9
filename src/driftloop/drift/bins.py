"""The bins that the server counts traffic on, and that the baseline's distributions are over: one definition for both.

numpy and msgspec alone, since the server imports it.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftloop.errors import BundleError

PREDICTION, REGIME = "prediction", "regime"
"""The first and the last of what is watched; between them raw settings, then normalised sensors of the newest row."""
SETTINGS_BEFORE = 3
"""Settings of a baseline that was made before it said how many there are."""
QUANTILES = 10
CONSTANT_TOLERANCE = 1e-4
"""Deciles nearer than this, relative to max(1, |value|), make a constant: float32 arithmetic differs between kernels
by about 1e-7 of the raw value, which normalisation may enlarge."""

SAME_VALUE = 1e-3
"""Of a feature that is not constant, values nearer than this share of the spread of its deciles are one value."""


class FeatureBins(msgspec.Struct, frozen=True):
    """The bins of one feature.

    `quantile`, `constant`: bin i holds edges[i-1] < x <= edges[i]; a constant has two edges: below, equal, above.
    `category`: no edges; bin i is category i, and the last bin any other value.
    """

    name: str
    kind: str
    edges: list[float]
    bins: int


class Binner:
    """Puts rows into bins; made once per model version, then cheap for batches of any size."""

    def __init__(self, features: Sequence[FeatureBins], settings: int = SETTINGS_BEFORE) -> None:
        """`features`: the prediction, `settings` settings, sensors, the regime. Raises BundleError where they are not,
        or where an edge is out of order."""
        self.names = tuple(feature.name for feature in features)
        """What is watched, in order."""
        if len(features) < settings + 3 or (self.names[0], self.names[-1]) != (PREDICTION, REGIME):
            what = f"not of the {PREDICTION}, {settings} settings, sensors and the {REGIME}"
            raise BundleError(f"the bins are of {list(self.names)}, {what}", remedy="rebuild the baseline")
        for feature in features:
            _check(feature)
        self.features, self.settings = tuple(features), settings
        place = np.arange(len(features))
        self.is_sensor = (place > settings) & (place < len(features) - 1)
        """`[F]`"""
        self.is_operation = ~self.is_sensor & (place > 0)
        """Settings and regime: how a unit is run, `[F]`."""
        self.sizes = np.array([feature.bins for feature in features])
        """Bins of each feature, `[F]`."""
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        """Where each feature's bins begin in a flat array of all bins, `[F]`."""
        self.total = int(self.sizes.sum())
        """Bins of all features together."""
        numeric = [feature.edges for feature in features[:-1]]
        self._edges = np.full((len(numeric), max(1, *map(len, numeric))), np.inf, dtype=np.float32)
        for row, edges in zip(self._edges, numeric, strict=True):
            row[: len(edges)] = edges
        self._categories = features[-1].bins - 1

    def indices(
        self, prediction: ArrayLike, settings: ArrayLike, newest: ArrayLike, regime: ArrayLike
    ) -> NDArray[np.int64]:
        """The bin of each feature, `[n, F]`, for predictions `[n]` in cycles, raw settings
        `[n, settings]`, normalised sensors `[n, sensors]` and regimes `[n]` (-1: unseen)."""
        prediction, settings = np.asarray(prediction, dtype=np.float32), np.asarray(settings)
        index = np.empty((len(prediction), len(self.names)), dtype=np.int64)
        values = np.empty((len(prediction), len(self.names) - 1), dtype=np.float32)
        first = 1 + settings.shape[1]
        values[:, 0] = prediction
        with np.errstate(over="ignore"):
            values[:, 1:first] = settings
        values[:, first:] = newest
        # NaN compares false with every edge: it lands in the first bin.
        (values[:, :, None] > self._edges).sum(axis=2, out=index[:, :-1])
        category = np.asarray(regime)
        index[:, -1] = np.where((category >= 0) & (category < self._categories), category, self._categories)
        return index

    def of_predictions(self, prediction: ArrayLike) -> NDArray[np.int64]:
        """The bin of each prediction `[n]` alone, as `indices` finds it."""
        values = np.asarray(prediction, dtype=np.float32)
        return np.asarray((values[:, None] > self._edges[0]).sum(axis=1), dtype=np.int64)

    def counts(
        self, prediction: ArrayLike, settings: ArrayLike, newest: ArrayLike, regime: ArrayLike
    ) -> NDArray[np.int64]:
        """How many of the rows fall into each bin of all features, flat `[total]`; arguments as for `indices`."""
        index = self.indices(prediction, settings, newest, regime)
        return np.bincount((index + self.offsets).ravel(), minlength=self.total)

    def split(self, flat: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Flat counts `[total]` as one array of counts per feature."""
        parts = np.split(flat, self.offsets[1:])
        return dict(zip(self.names, parts, strict=True))

    def join(self, counts: dict[str, NDArray[np.int64]]) -> NDArray[np.int64]:
        """Counts per feature as one flat array `[total]`; raises BundleError where they are not on these bins."""
        for feature in self.features:
            if len(counts.get(feature.name, ())) != feature.bins:
                raise BundleError(f"counts of {feature.name} are not over the baseline's {feature.bins} bins")
        return np.concatenate([np.asarray(counts[name], dtype=np.int64) for name in self.names])


def numeric_bins(name: str, values: ArrayLike, weights: ArrayLike | None = None) -> FeatureBins:
    """Bins at the distinct deciles of `values` `[n]` (with `weights` `[n]`), or of a constant where all are equal.

    An edge stands midway between a decile and the next larger value, so that rounding in another process
    does not move values of a discrete feature over it.
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    mass = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    cumulative = np.cumsum(mass[order])
    levels = cumulative[-1] * np.arange(1, QUANTILES) / QUANTILES
    deciles = ordered[np.minimum(np.searchsorted(cumulative, levels), len(ordered) - 1)]
    if deciles[-1] - deciles[0] <= _tolerance(deciles[4]):
        middle = float(deciles[4])
        half = _tolerance(middle)
        return FeatureBins(name, "constant", _float32([middle - half, middle + half]), 3)
    near = SAME_VALUE * (deciles[-1] - deciles[0])
    edges: list[float] = []
    for decile in deciles:
        if edges and decile <= edges[-1]:
            continue
        above = np.searchsorted(ordered, decile + near, side="right")
        if above < len(ordered):
            edges.append(float((decile + ordered[above]) / 2))
    distinct = sorted(set(_float32(edges)))
    return FeatureBins(name, "quantile", distinct, len(distinct) + 1)


def category_bins(name: str, categories: int) -> FeatureBins:
    """Bins of a categorical feature with values 0 to `categories` - 1, and one for everything else."""
    return FeatureBins(name, "category", [], categories + 1)


def _check(feature: FeatureBins) -> None:
    if feature.kind == "category":
        good = feature.name == REGIME and not feature.edges and feature.bins >= 1
    else:
        good = feature.kind in {"quantile", "constant"} and feature.bins == len(feature.edges) + 1
        good = good and bool(np.all(np.isfinite(feature.edges))) and bool(np.all(np.diff(feature.edges) > 0))
    if not good:
        raise BundleError(f"the bins of {feature.name} contradict themselves", remedy="rebuild the baseline")


def _tolerance(value: float) -> float:
    return CONSTANT_TOLERANCE * max(1.0, abs(float(value)))


def _float32(edges: Sequence[float]) -> list[float]:
    return [float(edge) for edge in np.asarray(edges, dtype=np.float32)]
