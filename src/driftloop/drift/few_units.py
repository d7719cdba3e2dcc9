"""How many units a window of traffic rests on, and how far thresholds widen where these are fewer than they assume.

Thresholds are made for calibration.ENGINES units that send alike. What one unit does that others do not averages out
among many and not among few: distances grow as a power of how few there are. The powers come from the same bootstrap
as the thresholds, with fleets of FEW units.

Servers count requests by BUCKETS hashes of the unit's name, so that counts of servers, workers and scrapes add up like
those of bins. The number of units is the effective one, 1 over the sum of the squares of their shares (Kish, "Survey
Sampling", 1965; Simpson's index): one unit that sends nearly everything is hardly more than one.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftloop.drift import calibration
from driftloop.drift.calibration import Lives, Null, Threshold
from driftloop.drift.mixture import Components
from driftloop.drift.statistics import Floats, conditional

BUCKETS = 64
UNNAMED = BUCKETS
"""Where requests are counted that name no unit: nobody knows of how many they are, so they are taken for one."""
FEW = (1, 2, 4)
"""Sizes of the fleets that the powers are found with."""
SIZES = (calibration.QUICK, calibration.LONG)
"""Requests in the windows that they are found for; in between they are interpolated on the log scale."""
REPLICATES = 300
REACHED = 0.95
"""Share of the replicates: the powers of the far tail are those of the near one, and need fewer replicates."""


class Units(NamedTuple):
    """How many units the windows rest on that are judged together; None where that is not known."""

    newest: float | None = None
    longer: float | None = None
    quick: float | None = None


ANY_UNITS = Units()


class Powers(msgspec.Struct, frozen=True):
    """By which power of (ENGINES / units) each threshold grows, one for each of SIZES."""

    psi: list[float]
    ks: list[float]
    shift: list[float]
    age: list[float]


@lru_cache(maxsize=16_384)
def bucket(unit: str | None) -> int:
    """Where requests of a unit are counted, by a hash that puts names with successive numbers anywhere."""
    if unit is None:
        return UNNAMED
    return hashlib.blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] % BUCKETS


def counts_of(units: Sequence[str | None]) -> NDArray[np.int64]:
    """Requests in each bucket, `[BUCKETS + 1]`; `units` has the name of each request's unit."""
    return np.bincount([bucket(unit) for unit in units], minlength=BUCKETS + 1)


def units_in(counts: ArrayLike) -> Floats:
    """How many units, each sending as much, `counts` `[..., BUCKETS + 1]` are as good as; NaN for nothing.

    Units that share a bucket are allowed for: among so many buckets the sum of the squares of the shares is too large
    by what chance puts together.
    """
    share = np.asarray(counts, dtype=np.float64)
    total = share.sum(axis=-1)
    share = share / np.maximum(total, 1e-300)[..., None]
    named = share[..., :UNNAMED]
    squares = (named**2).sum(axis=-1)
    by_chance = named.sum(axis=-1) ** 2 / BUCKETS
    alone = np.maximum((squares - by_chance) / (1 - 1 / BUCKETS), 0.0) + share[..., UNNAMED] ** 2
    return np.where(total > 0, 1 / np.maximum(alone, 1e-6), np.nan)


def widened(powers: Powers | msgspec.UnsetType, n: ArrayLike, units: ArrayLike | None) -> Floats:
    """By what the thresholds of PSI, KS, shift and age are multiplied, `[..., 4]`, for `n` `[...]` requests of `units`.

    1 where the number of units is not known (None, or NaN), where it is ENGINES or more, and without powers.
    """
    n = np.asarray(n, dtype=np.float64)
    if units is None or powers is msgspec.UNSET:
        return np.ones((*n.shape, 4))
    few = calibration.ENGINES / np.clip(np.nan_to_num(units, nan=np.inf), 1, calibration.ENGINES)
    at, grid = np.log(np.maximum(n, 1)), np.log(SIZES)
    found = [np.interp(at, grid, power) for power in (powers.psi, powers.ks, powers.shift, powers.age)]
    return np.asarray(few[..., None] ** np.stack(found, axis=-1))


def powers_of(
    lives: Lives,
    components: Components,
    start: Floats,
    weights: Floats,
    scores: Floats,
    thresholds: Sequence[Threshold],
    rng: np.random.Generator,
) -> Powers:
    """The powers for thresholds that calibration.calibrate has made of the same."""
    sizes = (*FEW, calibration.ENGINES)
    by_n = {threshold.n: threshold for threshold in thresholds}
    reached = np.empty((len(sizes), len(SIZES), 4))
    for at, size in enumerate(sizes):
        drawn = calibration.draw(lives, weights, REPLICATES, rng, size, known=np.unique(components.domain))
        reference = calibration.references(lives, drawn, components)
        for place, n in enumerate(SIZES):
            counts = calibration.traffic(lives, drawn, n)
            null = calibration.statistics_of(counts, reference, components, start, scores)
            reached[at, place] = _reached(null, by_n[n], drawn.random_ages)
    # Least squares of the logarithms through what ENGINES units reach.
    steps = np.log(calibration.ENGINES / np.array(FEW))
    gained = np.log(np.maximum(reached[:-1], 1e-9) / np.maximum(reached[-1], 1e-9))
    power = np.maximum(np.einsum("k,kns->ns", steps, gained) / (steps @ steps), 0.0).round(4)
    return Powers(*(column.tolist() for column in power.T))


def _reached(null: Null, threshold: Threshold, random_ages: NDArray[np.bool_]) -> Floats:
    """What the largest of each kind of statistic reaches in most replicates, in units of its threshold, `[4]`."""
    precision = calibration.precision_of(calibration.full_covariance(threshold))
    shift = conditional(null.shift, precision) / threshold.shift
    each = (
        (null.psi / threshold.psi).max(axis=1),
        (null.ks / threshold.ks).max(axis=1),
        shift.max(axis=(1, 2)),
        np.abs(null.age[random_ages]) / threshold.age,
    )
    return np.array([np.quantile(values, REACHED) for values in each])
