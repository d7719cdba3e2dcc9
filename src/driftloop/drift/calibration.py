"""How far healthy traffic of n requests gets from the baseline by chance, and so where drift begins.

Requests of one engine follow each other and resemble each other; a textbook p-value for n independent rows would
alarm all the time. The null is therefore a bootstrap over engines that mimics live traffic: ENGINES engines, each
contributing n / ENGINES consecutive cycles of its life from a random one on, and going on with another engine
where the life ends. The engines of a replicate are left out of the reference it is compared with, so that the
difference between engines counts too. Part of the replicates come from fleets of one age, and part from one
domain alone, since both happen without drift.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.drift.mixture import Components, by_group, fit
from driftloop.drift.statistics import Floats, ks, psi, shares, tail_quantile

GRID = (50, 100, 200, 300, 500, 1000, 2000)
"""Sample sizes that thresholds are made for; the first is the least that anything is said about."""
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
LEAST_PSI, LEAST_KS = 0.05, 0.05
"""Least unit: what never varies in the bootstrap (constants, unseen regimes) must not alarm at one odd request."""
AGE_EXCEEDANCE = 1e-3
MARGIN = 1.2
"""On the level: the replicates' engines come from the same few as the reference, new ones differ a little more."""
POWER_REPLICATES = 200
ADMIXTURE, POWER = 0.25, 0.95
DEFAULT_MIN_N = 300


class Threshold(msgspec.Struct, frozen=True):
    """Where drift begins at `n` requests: PSI and KS per feature, and the shift of ages (total variation)."""

    n: int
    psi: list[float]
    ks: list[float]
    age: float


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

    def of_domains(self, domains: NDArray[np.int64]) -> NDArray[np.int64]:
        """The engines of `domains`."""
        return np.flatnonzero(np.isin(self.domain, domains))


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


def draw(lives: Lives, weights: Floats, replicates: int, rng: np.random.Generator, engines: int = ENGINES) -> Draw:
    """Engines for each replicate: domains by `weights` `[D]` (partly one domain alone), at most half of a domain's."""
    domains = len(weights)
    possible = np.flatnonzero(weights > 0)
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
    """Statistics of healthy replicates at one n."""

    psi: Floats
    ks: Floats
    age: Floats


def statistics_of(
    counts: NDArray[np.int64], reference: Floats, components: Components, start: Floats, domains: int
) -> Null:
    """PSI and KS `[R, F]` of `counts` `[R, total]` against what the fitted mixture of `reference` `[R, C, total]`
    expects, and how far the fitted ages are from `start`'s, `[R]`."""
    live = shares(counts, components.offsets)
    weights = fit(live, components, start)
    expected = np.matmul(weights[:, None, :], reference)[:, 0]
    return Null(
        psi(live, expected, components.offsets),
        ks(live, expected, components.offsets),
        age_shift(weights, components, start, domains),
    )


def age_shift(weights: Floats, components: Components, start: Floats, domains: int) -> Floats:
    """Total variation between the ages that `weights` `[..., C]` shows and those of `start` `[C]` at the same mixture
    of domains."""
    own = by_group(start, components.domain, domains)
    within = start / np.maximum(own[components.domain], 1e-300)
    usual = by_group(weights, components.domain, domains)[..., components.domain] * within
    ages = int(components.age.max()) + 1
    difference = by_group(weights, components.age, ages) - by_group(usual, components.age, ages)
    return np.asarray(np.abs(difference).sum(axis=-1) / 2)


def calibrate(
    lives: Lives,
    components: Components,
    start: Floats,
    weights: Floats,
    rng: np.random.Generator,
    replicates: int,
    exceedance: float,
) -> list[Threshold]:
    """Thresholds for every n of GRID, which a healthy check exceeds with probability `exceedance`.

    `start` `[C]`: weights of the components in healthy traffic; `weights` `[D]`: of the domains.
    """
    drawn = draw(lives, weights, replicates, rng)
    reference = references(lives, drawn, components)
    units: list[tuple[Floats, Floats]] = []
    levels, ages = [], []
    for n in GRID:
        null = statistics_of(traffic(lives, drawn, n), reference, components, start, len(weights))
        unit_psi = np.maximum(np.quantile(null.psi, 1 - UNIT_EXCEEDANCE, axis=0), LEAST_PSI)
        unit_ks = np.maximum(np.quantile(null.ks, 1 - UNIT_EXCEEDANCE, axis=0), LEAST_KS)
        worst = np.maximum((null.psi / unit_psi).max(axis=1), (null.ks / unit_ks).max(axis=1))
        units.append((unit_psi, unit_ks))
        levels.append(max(1.0, tail_quantile(worst, exceedance)))
        ages.append(tail_quantile(null.age[drawn.random_ages], AGE_EXCEEDANCE))
    # The units carry what depends on n; the level that remains is the same up to the noise of its tail fit.
    level = MARGIN * float(np.median(levels))
    return [
        Threshold(n, _rounded(unit_psi * level), _rounded(unit_ks * level), _rounded([age])[0])
        for n, (unit_psi, unit_ks), age in zip(GRID, units, ages, strict=True)
    ]


def admixture_power(
    lives: Lives,
    components: Components,
    start: Floats,
    weights: Floats,
    newest: int,
    rng: np.random.Generator,
    exceedance: float,
) -> dict[int, float]:
    """How often a 25 % admixture of domain `newest` is found at each n by a baseline that does not know it."""
    known = components.domain != newest
    old = Components(
        components.probabilities[known], components.domain[known], components.age[known], components.offsets
    )
    old_start = start[known] + 1e-6
    old_start = old_start / old_start.sum()
    old_weights = np.where(np.arange(len(weights)) == newest, 0.0, weights + 1e-6)
    thresholds = calibrate(lives, old, old_start, old_weights / old_weights.sum(), rng, REPLICATES // 3, exceedance)
    only_new = (np.arange(len(weights)) == newest).astype(np.float64)
    new_engines = max(1, round(ADMIXTURE * ENGINES))
    healthy = draw(lives, old_weights / old_weights.sum(), POWER_REPLICATES, rng, ENGINES - new_engines)
    foreign = draw(lives, only_new, POWER_REPLICATES, rng, new_engines)
    reference = references(lives, healthy, old)
    power = {}
    for threshold in thresholds:
        share = round(ADMIXTURE * threshold.n)
        counts = traffic(lives, healthy, threshold.n - share) + traffic(lives, foreign, share)
        found = statistics_of(counts, reference, old, old_start, len(weights))
        score = np.maximum((found.psi / threshold.psi).max(axis=1), (found.ks / threshold.ks).max(axis=1))
        power[threshold.n] = float((score > 1).mean())
    return power


def least_n(power: dict[int, float]) -> int:
    """The smallest n from which on the power is at least POWER; the largest n of all where it never is."""
    enough = [n for n in power if all(power[m] >= POWER for m in power if m >= n)]
    return min(enough, default=max(power))


def _rounded(values: Floats | list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
