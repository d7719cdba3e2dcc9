"""How wrong a model probably is, from what it answers alone: an estimate of RMSE and coverage without labels.

Direct loss estimation: what a model answers says how wrong it tends to be (errors are small near the end of a life and
at the cap, large in between). On reference units that no weight was fitted to, the mean square error and the coverage
are found for each bin of the answer, when the baseline is made; the distribution of answers in traffic, which the
server counts on the same bins, weighs them. Answers in regimes that were grown by first aid are weighed by what a
rehearsal of first aid found, where units with labels were run in invented regimes.

It holds where traffic is what the reference was: nothing is said while the watch sees drift, or where answers come
from regimes that nobody knows. It cannot see that labels have changed.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.drift.statistics import Floats
from driftloop.model.bundle import ErrorTable

DRAWS = 100
"""Bootstrap replicates over reference units that are kept."""
LEAST_ANSWERS = 100
MOST_UNSEEN = 0.05
"""Share of answers in regimes that nobody knows above which nothing is said."""
PRIOR = 2.0
"""Answers with the mean error of all that each unit adds to each bin: a bin that few units reach is no sure thing."""
LEVEL = 0.95
GROWN = (0.55, 1.9)
"""What the true RMSE in grown regimes was, at the least and at the most, of what the rehearsal let expect, with models
of FD001 and FD003 (docs/live-error.md): nobody can rehearse a new way to fail, and most domains are no such thing."""


class LiveErrors(msgspec.Struct, frozen=True):
    """What an estimate is made from."""

    known: ErrorTable
    regimes: int
    """Regimes that `known` is of: those before them are the first ones."""
    grown: ErrorTable | None = None
    """Of regimes that first aid has appended."""


class Estimate(msgspec.Struct, frozen=True):
    """How wrong a model probably is; `known` says whether anything can be said, else `why` not."""

    known: bool
    why: str | None = None
    rmse: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    answers: int = 0


class Outcomes(NamedTuple):
    """Answers whose truth is known, `[n]` each: the answer's bin, the error in steps, whether the interval held it."""

    bins: NDArray[np.int64]
    error: NDArray[np.float64]
    inside: NDArray[np.bool_]
    unit: NDArray[np.int64]


def fit(found: Outcomes, bins: int, seed: int) -> ErrorTable:
    """The table of reference outcomes. Each unit counts alike within a bin that it reaches."""
    names, unit = np.unique(found.unit, return_inverse=True)
    units = len(names)
    count, square, inside = (np.zeros((units, bins)) for _ in range(3))
    np.add.at(count, (unit, found.bins), 1.0)
    np.add.at(square, (unit, found.bins), found.error**2)
    np.add.at(inside, (unit, found.bins), found.inside.astype(np.float64))
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(units, np.full(units, 1.0 / units), size=DRAWS)
    everyone = np.ones((1, units))
    return ErrorTable(
        units,
        [round(float(value), 3) for value in _means(everyone, count, square)[0]],
        [round(float(value), 4) for value in _means(everyone, count, inside)[0]],
        [[round(float(value), 2) for value in row] for row in _means(chosen.astype(np.float64), count, square)],
    )


def _means(weights: Floats, count: Floats, total: Floats) -> Floats:
    """Mean of each bin under weights of units `[draws, units]`: `[draws, bins]`."""
    counts, totals = weights @ count, weights @ total
    overall = totals.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return np.asarray((totals + PRIOR * overall) / (counts + PRIOR))


def estimate(errors: LiveErrors | None, answers: Floats, regimes: Floats, units: float, drift: bool) -> Estimate:
    """The estimate for traffic of which the server has counted answers and regimes on the baseline's bins.

    `regimes` has a last bin for those that nobody knows; `units` are those that traffic comes from at the least.
    """
    n = int(answers.sum())
    unknown = _unknown(errors, n, regimes, drift)
    if unknown is not None or errors is None:
        return Estimate(False, unknown, answers=n)
    share, grown = answers / n, float(regimes[errors.regimes : -1].sum()) / max(float(regimes.sum()), 1.0)
    tables = [(1.0 - grown, errors.known)] + ([(grown, errors.grown)] if errors.grown is not None else [])
    mean = sum(part * float(share @ np.array(table.square)) for part, table in tables)
    inside = sum(part * float(share @ np.array(table.inside)) for part, table in tables)
    draws = np.sum([part * (np.array(table.draws) @ share) for part, table in tables], axis=0)
    # Traffic is a sample of units too: its own errors vary as those of so many units do.
    spread = np.sqrt(1.0 + min(table.units for _, table in tables) / units)
    low, high = np.quantile(mean + (draws - mean) * spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    lower, upper = (1.0 + grown * (factor - 1.0) for factor in GROWN)
    return Estimate(
        True,
        None,
        round(float(np.sqrt(mean)), 3),
        round(float(np.sqrt(max(0.0, min(low, mean)))) * lower, 3),
        round(float(np.sqrt(max(high, mean))) * upper, 3),
        round(inside, 4),
        n,
    )


def _unknown(errors: LiveErrors | None, n: int, regimes: Floats, drift: bool) -> str | None:
    """Why nothing can be said; None where something can."""
    if errors is None:
        return "the model was made before errors were estimated: train it anew"
    if n < LEAST_ANSWERS:
        return f"not enough data: {n} answers, {LEAST_ANSWERS} are needed"
    total = max(float(regimes.sum()), 1.0)
    unseen, grown = float(regimes[-1]) / total, float(regimes[errors.regimes : -1].sum()) / total
    if unseen > MOST_UNSEEN:
        return f"{unseen:.0%} of the answers are in regimes that nobody knows"
    if grown > MOST_UNSEEN and errors.grown is None:
        return f"{grown:.0%} of the answers are in regimes that were grown, and first aid was not rehearsed"
    if drift:
        return "the watch sees drift: traffic is not what the reference was"
    return None
