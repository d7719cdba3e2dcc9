"""How far healthy traffic of n requests gets from the baseline by chance, and so where drift begins.

Requests of one engine follow each other and resemble each other; a textbook p-value for n independent rows would
alarm all the time. The null is therefore a bootstrap over engines that mimics live traffic: ENGINES engines, each
contributing n / ENGINES consecutive cycles of its life from a random one on, and going on with another engine
where the life ends. The engines of a replicate are left out of the reference it is compared with, so that the
difference between engines counts too. Part of the replicates come from fleets of one age, and part from one
domain alone, since both happen without drift.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftloop.drift.mixture import Components, fit
from driftloop.drift.statistics import EPSILON, Floats, conditional, ks, psi, shares, shifts, tail_quantile

GRID = (50, 100, 200, 300, 500, 1000, 2000)
"""Sample sizes that thresholds are made for; the first is the least that anything is said about."""
QUICK, LONG = GRID[1], GRID[-1]
"""Requests of the shortest and of the longest one of three windows that are judged."""
WINDOWS = 3
"""How many windows share the false alarms."""
ENGINES = 10
"""Engines that live traffic is assumed to come from, at the least: fewer vary more."""
REPLICATES = 1000
REQUESTS_PER_FALSE_ALARM = 2_000_000
"""What is promised (ARL0, in requests), with a check every REQUESTS_PER_CHECK requests."""
REQUESTS_PER_CHECK = 100
ONE_AGE_SHARE, ONE_DOMAIN_SHARE = 0.25, 0.5
"""Share of replicates whose engines are all of about one age; and of those with one domain alone."""
UNIT_EXCEEDANCE = 0.01
"""Each statistic is measured in units of its own null quantile, so that all features count alike."""
LEAST_SHARE, LEAST_REQUESTS = 0.03, 5
"""What no engine of the bootstrap does (a constant that moves) must be done by this share of the requests and by this
many of them before PSI and KS alarm."""
NEW_SHARE = 0.1
"""Share of the false alarms that new settings may cause (`new_limit`); distances and shifts, over each of the WINDOWS,
have the rest in equal parts."""
UNVARIED = 1e-4
"""Unit of PSI and KS for what never varies in the bootstrap."""
LEAST_SHIFT = 0.5
"""Least unit of a conditional shift, in standard deviations."""
SHRINKAGE, LEAST_STD = 0.1, 0.02
"""Share of a feature's own variance, and standard deviation, that its shift keeps beyond what other features explain:
the replicates come from a few dozen engines, and correlations among so few look closer than they are."""
AGE_EXCEEDANCE = 1e-2
"""Chance that a healthy fleet of ENGINES engines of random ages is called older or younger; larger fleets vary less."""
MARGIN = 1.2
"""On the level: the replicates' engines come from the same few as the reference, new ones differ a little more."""
POWER_REPLICATES = 200
ADMIXTURE, POWER = 0.25, 0.95
DEFAULT_MIN_N = 300


class Threshold(msgspec.Struct, frozen=True):
    """Where drift begins at `n` requests: PSI and KS per feature, and the shift of the mean age."""

    n: int
    psi: list[float]
    ks: list[float]
    shift: list[list[float]]
    """Conditional shift per feature: of location, and of spread."""
    age: float
    covariance: list[list[float]]
    """Of the features' shifts of location, and of spread, in healthy traffic: lower triangles, row by row."""


@dataclass(frozen=True)
class Lives:
    """Engines' binned lives, one after the other."""

    cumulative: NDArray[np.int32]
    """Counts of all rows before each row, `[rows + 1, total]`."""
    start: NDArray[np.int64]
    """First row of each engine, `[E]`."""
    length: NDArray[np.int64]
    """Cycles of each engine, `[E]`."""
    domain: NDArray[np.int64]
    """Position of each engine's domain, `[E]`."""
    by_age: Floats
    """Counts of each engine in each age band, `[E, ages, total]`."""
    age_rows: Floats
    """Cycles of each engine in each age band, `[E, ages]`."""


@dataclass(frozen=True)
class Draw:
    """Engines and phases of R replicates with k engines each."""

    engine: NDArray[np.int64]
    """`[R, k]`"""
    phase: NDArray[np.int64]
    """Cycle at which each engine's segment begins, `[R, k]`."""
    excluded: NDArray[np.bool_]
    """Engines that the reference must not contain, `[R, E]`."""
    random_ages: NDArray[np.bool_]
    """Replicates whose engines are not of one age, `[R]`."""


def draw(
    lives: Lives,
    weights: Floats,
    replicates: int,
    rng: np.random.Generator,
    engines: int = ENGINES,
    known: NDArray[np.int64] | None = None,
) -> Draw:
    """Engines for each replicate: domains by `weights` `[D]`, at most half of a domain's.

    Part of the replicates are of one domain alone, which is any of `known`, or of those with a weight: one that sends
    nothing now may come back.
    """
    domains = len(weights)
    possible = np.flatnonzero(weights > 0) if known is None else known
    slot_domain = rng.choice(domains, size=(replicates, engines), p=weights / weights.sum())
    alone = rng.random(replicates) < (ONE_DOMAIN_SHARE if len(possible) > 1 else 0.0)
    slot_domain[alone] = rng.choice(possible, size=(int(alone.sum()), 1))
    engine = np.zeros((replicates, engines), dtype=np.int64)
    excluded = np.zeros((replicates, len(lives.start)), dtype=bool)
    for domain in range(domains):
        members = np.flatnonzero(lives.domain == domain)
        order = np.argsort(rng.random((replicates, len(members))), axis=1)
        here = slot_domain == domain
        half = max(1, len(members) // 2)
        rank = (np.cumsum(here, axis=1) - 1) % half
        chosen = members[np.take_along_axis(order, np.maximum(rank, 0), axis=1)]
        engine = np.where(here, chosen, engine)
    if len(lives.start) > 1:
        np.put_along_axis(excluded, engine, True, axis=1)
    one_age = rng.random(replicates) < ONE_AGE_SHARE
    common = rng.random((replicates, 1)) + rng.uniform(-0.1, 0.1, (replicates, engines))
    position = np.where(one_age[:, None], np.clip(common, 0, 0.999), rng.random((replicates, engines)))
    phase = (position * lives.length[engine]).astype(np.int64)
    return Draw(engine, phase, excluded, ~one_age)


def traffic(lives: Lives, drawn: Draw, n: int) -> NDArray[np.int64]:
    """Counts of `n` requests of each replicate, `[R, total]`: consecutive cycles from each engine's phase on."""
    replicates, engines = drawn.engine.shape
    left = np.full((replicates, engines), n // engines)
    left[:, : n % engines] += 1
    engine, phase = drawn.engine, drawn.phase
    counts = np.zeros((replicates, lives.cumulative.shape[1]), dtype=np.int64)
    while left.any():
        taken = np.minimum(left, lives.length[engine] - phase)
        rows, slots = np.nonzero(taken)
        begin = lives.start[engine[rows, slots]] + phase[rows, slots]
        piece = lives.cumulative[begin + taken[rows, slots]] - lives.cumulative[begin]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        counts[rows[first]] += np.add.reduceat(piece, first, axis=0)
        left = left - taken
        # The life ended: the requests go on with the next drawn engine, from its first cycle.
        engine, phase = np.roll(engine, 1, axis=1), np.zeros_like(phase)
    return counts


def references(lives: Lives, drawn: Draw, components: Components) -> Floats:
    """The components without each replicate's own engines, `[R, C, total]`."""
    replicates, total = len(drawn.engine), lives.cumulative.shape[1]
    left_out = np.empty((replicates, len(components.domain), total))
    for domain in np.unique(components.domain):
        members = np.flatnonzero(lives.domain == domain)
        kept = (~drawn.excluded[:, members]).astype(np.float64)
        ages = lives.by_age.shape[1]
        counts = (kept @ lives.by_age[members].reshape(len(members), -1)).reshape(replicates, ages, total)
        rows = kept @ lives.age_rows[members]
        for position in np.flatnonzero(components.domain == domain):
            age = components.age[position]
            some = rows[:, age] > 0
            left_out[:, position] = components.probabilities[position]
            left_out[some, position] = counts[some, age] / rows[some, age, None]
    return left_out


@dataclass(frozen=True)
class Null:
    """Statistics of replicates at one n."""

    psi: Floats
    ks: Floats
    shift: Floats
    age: Floats


def statistics_of(
    counts: NDArray[np.int64],
    reference: Floats,
    components: Components,
    start: Floats,
    scores: Floats,
) -> Null:
    """PSI and KS `[R, F]` and shifts `[R, 2, F]` of `counts` `[R, total]`, and how far the fitted mean age is from
    `start`'s, `[R]`; all against what the fitted mixture of `reference` `[R, C, total]` expects."""
    live = shares(counts, components.offsets)
    weights = fit(live, components, start)
    expected = np.matmul(weights[:, None, :], reference)[:, 0]
    return Null(
        psi(live, expected, components.offsets),
        ks(live, expected, components.offsets),
        shifts(live, expected, scores, components.offsets),
        age_shift(weights, components, start),
    )


def age_shift(weights: Floats, components: Components, start: Floats) -> Floats:
    """How far the mean age in `weights` `[..., C]` is from that in `start` `[C]`: above 0 younger, below 0 older.

    An engine's age is the share of its domain's healthy requests that come from older engines, from 0 to 1, so that
    a fleet without shift has the mean 0.5 in every domain.
    """
    rank = np.empty(len(start))
    for domain in np.unique(components.domain):
        own = np.flatnonzero(components.domain == domain)
        own = own[np.argsort(components.age[own])]
        share = start[own] / max(float(start[own].sum()), 1e-300)
        rank[own] = np.cumsum(share) - share / 2
    return np.asarray(weights @ rank - 0.5)


def covariance_of(shift: Floats) -> Floats:
    """The covariance `[2, F, F]` of replicates' shifts `[R, 2, F]` around 0; features that never shift stand alone."""
    raw = np.einsum("rsf,rsg->sfg", shift, shift) / len(shift)
    own = np.diagonal(raw, axis1=1, axis2=2)
    added = np.where(own > 0, SHRINKAGE * own + LEAST_STD**2, 1.0)
    return np.asarray(raw + added[:, :, None] * np.eye(shift.shape[-1]))


def precision_of(covariance: Floats) -> Floats:
    """The inverse of each covariance `[..., F, F]`."""
    return np.asarray(np.linalg.inv(covariance), dtype=np.float64)


def calibrate(
    lives: Lives,
    components: Components,
    start: Floats,
    weights: Floats,
    scores: Floats,
    rng: np.random.Generator,
    replicates: int,
    exceedance: float,
) -> list[Threshold]:
    """Thresholds for every n of GRID, which a healthy check exceeds with probability `exceedance`.

    `start` `[C]`: weights of the components in healthy traffic; `weights` `[D]`: of the domains; `scores` `[2, total]`:
    normal scores of the bins, 0 for features whose values have no order or do not vary.
    """
    part = exceedance * (1 - NEW_SHARE) / (2 * WINDOWS)
    drawn = draw(lives, weights, replicates, rng, known=np.unique(components.domain))
    reference = references(lives, drawn, components)
    units: list[tuple[Floats, Floats, Floats]] = []
    levels, shift_levels, ages, covariances = [], [], [], []
    for n in GRID:
        null = statistics_of(traffic(lives, drawn, n), reference, components, start, scores)
        covariance = covariance_of(null.shift)
        shift = conditional(null.shift, precision_of(covariance))
        unit_psi, unit_ks, unit_shift = (
            np.maximum(np.quantile(values, 1 - UNIT_EXCEEDANCE, axis=0), least)
            for values, least in ((null.psi, UNVARIED), (null.ks, UNVARIED), (shift, LEAST_SHIFT))
        )
        worst = np.maximum((null.psi / unit_psi).max(axis=1), (null.ks / unit_ks).max(axis=1))
        units.append((unit_psi, unit_ks, unit_shift))
        levels.append(max(1.0, tail_quantile(worst, part)))
        shift_levels.append(max(1.0, tail_quantile((shift / unit_shift).max(axis=(1, 2)), part)))
        ages.append(tail_quantile(np.abs(null.age[drawn.random_ages]), AGE_EXCEEDANCE))
        covariances.append(covariance)
    # The units carry what depends on n; the level that remains is the same up to the noise of its tail fit.
    level, shift_level = MARGIN * float(np.median(levels)), MARGIN * float(np.median(shift_levels))
    return [
        Threshold(
            n=n,
            psi=_rounded(np.maximum(unit_psi * level, _least(n)[0])),
            ks=_rounded(np.maximum(unit_ks * level, _least(n)[1])),
            shift=[_rounded(unit * shift_level) for unit in unit_shift],
            age=_rounded([age])[0],
            covariance=[_rounded(matrix[np.tril_indices(len(matrix))]) for matrix in covariance],
        )
        for n, (unit_psi, unit_ks, unit_shift), age, covariance in zip(GRID, units, ages, covariances, strict=True)
    ]


def new_limit(n: ArrayLike, rows: int, exceedance: float) -> NDArray[np.int64]:
    """How many of `n` `[...]` requests must bring what none of `rows` healthy rows did before that is no chance.

    It is the smallest k of at least 2, for one request may be a typing error, with P(k or more) at most `exceedance`.
    If healthy rows and requests are alike and any rate of the new is as likely before the rows were seen,
    P(k or more of n) = n (n - 1) ... (n - k + 1) / ((n + rows + 1) (n + rows) ... (n + rows - k + 2)): Laplace's
    rule of succession for several requests (the predictive beta-binomial distribution).
    """
    n = np.asarray(n)
    limit = np.full(n.shape, 2, dtype=np.int64)
    chance, k = np.ones(n.shape), 0
    while True:
        chance = chance * np.maximum(n - k, 0) / (n + rows + 1 - k)
        k += 1
        more = chance > exceedance
        if not more.any():
            return limit
        limit[more] = np.maximum(limit[more], k + 1)


def full_covariance(threshold: Threshold) -> Floats:
    """The covariances `[2, F, F]` whose lower triangles `threshold` holds."""
    features = len(threshold.psi)
    covariance = np.zeros((2, features, features))
    covariance[:, *np.tril_indices(features)] = threshold.covariance
    return np.asarray(covariance + np.tril(covariance, -1).swapaxes(1, 2))


def admixture_power(
    lives: Lives,
    components: Components,
    start: Floats,
    weights: Floats,
    newest: int,
    scores: Callable[[Floats], Floats],
    rng: np.random.Generator,
    exceedance: float,
) -> dict[int, float]:
    """How often a 25 % admixture of domain `newest` is found at each n by a baseline that does not know it.

    `scores` gives the normal scores of the bins for an expected distribution `[total]`.
    """
    known = components.domain != newest
    old = Components(
        components.probabilities[known], components.domain[known], components.age[known], components.offsets
    )
    old_start = start[known] + 1e-6
    old_start = old_start / old_start.sum()
    old_weights = np.where(np.arange(len(weights)) == newest, 0.0, weights + 1e-6)
    old_weights = old_weights / old_weights.sum()
    old_scores = scores(old_start @ old.probabilities)
    thresholds = calibrate(lives, old, old_start, old_weights, old_scores, rng, REPLICATES // 3, exceedance)
    only_new = (np.arange(len(weights)) == newest).astype(np.float64)
    new_engines = max(1, round(ADMIXTURE * ENGINES))
    healthy = draw(lives, old_weights, POWER_REPLICATES, rng, ENGINES - new_engines)
    foreign = draw(lives, only_new, POWER_REPLICATES, rng, new_engines)
    reference = references(lives, healthy, old)
    power = {}
    for threshold in thresholds:
        share = round(ADMIXTURE * threshold.n)
        counts = traffic(lives, healthy, threshold.n - share) + traffic(lives, foreign, share)
        found = statistics_of(counts, reference, old, old_start, old_scores)
        shift = conditional(found.shift, precision_of(full_covariance(threshold)))
        parts = (found.psi / threshold.psi, found.ks / threshold.ks, (shift / threshold.shift).max(axis=1))
        power[threshold.n] = float((np.max(parts, axis=(0, 2)) > 1).mean())
    return power


def least_n(power: dict[int, float]) -> int:
    """The smallest n from which on the power is at least POWER; the largest n of all where it never is."""
    enough = [n for n in power if all(power[m] >= POWER for m in power if m >= n)]
    return min(enough, default=max(power))


def _least(n: int) -> tuple[float, float]:
    """Least thresholds of PSI and KS at `n` requests: what they are where a bin that is empty in all healthy traffic
    receives LEAST_SHARE of the requests, or LEAST_REQUESTS."""
    share = max(LEAST_SHARE, LEAST_REQUESTS / n)
    return (share - EPSILON) * float(np.log(share / EPSILON)), share


def _rounded(values: Floats | list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
