"""Detectors on one stream of requests: ours, and what else is commonly used, each as a series of statistics.

A detector alarms where its statistic exceeds its threshold. Window detectors look at the newest WINDOW requests at
every check; stream detectors see every request of every feature, standardised by the reference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.drift.baseline import Baseline
from driftloop.drift.calibration import LONG, QUICK
from driftloop.drift.few_units import BUCKETS, Units, bucket, units_in
from driftloop.drift.statistics import psi, shares
from driftloop.drift.verdict import Streak, Verdict, judge, longer_decides, measure
from driftloop_bench.drift.champions import Champion, Lives
from driftloop_bench.drift.traffic import bins, snapshots, windows

WINDOW = 500
"""Requests, as the watch's default."""
REFERENCE_ROWS = 5000
FEW = 5
"""Different values up to which Evidently takes a column for a category."""
BATCH = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the watch sees of a stream: its windows at every scrape, each `[scrapes, total]`."""

    newest: NDArray[np.int64]
    held: NDArray[np.int64]
    quick: NDArray[np.int64]
    units: Floats
    """How many units each window rests on, `[scrapes, 3]`; NaN where that is not known."""

    def since(self, first: int) -> "Seen":
        """The scrapes from `first` on."""
        return Seen(self.newest[first:], self.held[first:], self.quick[first:], self.units[first:])


@dataclass(frozen=True, eq=False)
class Alarm:
    """Ours: the first alarm of a stream."""

    delay: int
    """Requests after the change."""
    verdict: Verdict


def seen(champion: Champion, stream: Lives, step: int) -> Seen:
    """What the watch sees with a scrape every `step` requests."""
    return seen_of(champion.baseline, bins(stream, champion.baseline.binner), step)


def seen_of(baseline: Baseline, binned: NDArray[np.int16], step: int, units: NDArray[np.int64] | None = None) -> Seen:
    """The same for requests whose bins `[n, F]` are known, and where given whose numbers of units `[n]`."""
    counts = snapshots(binned, step, baseline.binner.total)
    size = max(WINDOW, baseline.min_n)
    sizes = (size, max(size, LONG), QUICK)
    many = np.full((len(counts) - 1, len(sizes)), np.nan)
    if units is not None:
        named = np.array([bucket(str(unit)) for unit in range(units.max() + 1)])[units]
        by_bucket = snapshots(named[:, None].astype(np.int16), step, BUCKETS + 1)
        many = np.stack([units_in(windows(by_bucket, step, each)) for each in sizes], axis=1)
    newest, held, quick = (windows(counts, step, each) for each in sizes)
    return Seen(newest, held, quick, many)


def scored(windows_seen: Seen, baseline: Baseline) -> tuple[Floats, Floats]:
    """The drift score and the newest window's age shift at each scrape, some at a time to save memory."""
    scores, ages = [], []
    for begin in range(0, len(windows_seen.newest), BATCH):
        batch = slice(begin, begin + BATCH)
        newest, held, quick = (
            measure(counts[batch], baseline, units[batch])
            for counts, units in zip(
                (windows_seen.newest, windows_seen.held, windows_seen.quick), windows_seen.units.T, strict=True
            )
        )
        score, longer, sooner = (found.score.max(axis=-1) for found in (newest, held, quick))
        score = np.where(longer_decides(score, longer), longer, score)
        scores.append(np.where((score <= 1) & longer_decides(score, sooner), sooner, score))
        ages.append(newest.age_shift)
    return np.concatenate(scores), np.concatenate(ages)


def verdict_at(windows_seen: Seen, baseline: Baseline, at: int) -> Verdict:
    """What the watch says at a scrape."""
    split = baseline.binner.split
    newest, held, quick = (split(counts[at]) for counts in (windows_seen.newest, windows_seen.held, windows_seen.quick))
    return judge(newest, baseline, held, quick=quick, units=Units(*windows_seen.units[at].tolist()))


def first_alarm(champion: Champion, windows_seen: Seen, step: int, before: int, checks: int = 1) -> Alarm | None:
    """The first alert after the change, and what it would say; with `checks` of the watch from a scrape to the next."""
    first, streak = before // step, Streak()
    for at, score in enumerate(scored(windows_seen.since(first), champion.baseline)[0], start=first):
        if score <= 1:
            streak = Streak()
            continue
        verdict = verdict_at(windows_seen, champion.baseline, at)
        for check in range(checks):
            streak = streak.then(verdict.kind)
            if streak.alarms:
                return Alarm((at + 1) * step + check * step // checks - before, verdict)
    return None


def values(stream: Lives) -> Floats:
    """What was asked and answered, `[n, 25]`: the prediction, three settings, 21 sensors."""
    return np.column_stack([stream.prediction, stream.settings, stream.newest]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Reference:
    """A sample of the rows that the baseline was made of."""

    rows: Floats
    """`[m, 25]`"""
    ordered: Floats
    """Each column by itself in ascending order, `[m, 25]`."""
    mean: Floats
    std: Floats
    """`[25]`; constants have 1."""
    varies: NDArray[np.bool_]
    discrete: NDArray[np.bool_]
    """Columns with at most five different values, `[25]`."""


def reference(champion: Champion, most: int = REFERENCE_ROWS) -> Reference:
    """A fixed sample of a champion's reference rows."""
    rows = values(champion.reference)
    rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), min(most, len(rows)), replace=False))]
    std = rows.std(axis=0)
    varies = std > 1e-6 * np.maximum(1.0, np.abs(rows.mean(axis=0)))
    discrete = np.array([len(np.unique(column)) <= FEW for column in rows.T])
    return Reference(rows, np.sort(rows, axis=0), rows.mean(axis=0), np.where(varies, std, 1.0), varies, discrete)


Series = Callable[[Champion, Reference, Lives, int, int], Floats]


def ours(champion: Champion, _: Reference, stream: Lives, step: int, first: int) -> Floats:
    """The drift score at each check from the scrape `first` on."""
    return scored(seen(champion, stream, step).since(first), champion.baseline)[0]


def plain_psi(champion: Champion, _: Reference, stream: Lives, step: int, first: int) -> Floats:
    """The largest PSI of any feature against the baseline as it is, nothing fitted."""
    baseline = champion.baseline
    offsets = baseline.binner.offsets
    live = shares(seen(champion, stream, step).newest[first:], offsets)
    return np.asarray(psi(live, baseline.expected, offsets, baseline.eps).max(axis=-1))


def plain_ks(_: Champion, known: Reference, stream: Lives, step: int, first: int) -> Floats:
    """The largest two-sample KS distance of any varying feature, times sqrt(mn / (m + n)): the p-value is below 5 %
    where this is above 1.358 (asymptotic)."""

    def statistic(window: Floats) -> float:
        m, n = len(known.rows), len(window)
        largest = 0.0
        for column in np.flatnonzero(known.varies):
            largest = max(largest, _ks(known.ordered[:, column], np.sort(window[:, column])))
        return largest * math.sqrt(m * n / (m + n))

    return _windowed(stream, step, first, statistic)


def evidently_distances(known: Reference, window: Floats) -> Floats:
    """Evidently's default drift statistic of every column of `window` `[n, 25]` where the reference has more than
    1,000 rows.

    It is the Wasserstein distance in units of the reference's standard deviation (at least 0.001), or the
    Jensen-Shannon distance where both together have at most five different values.
    """
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    distances = np.empty(window.shape[1])
    for column, (before, now) in enumerate(zip(known.rows.T, window.T, strict=True)):
        both = np.unique(np.concatenate([before, now])) if known.discrete[column] else None
        if both is not None and len(both) <= FEW:
            distances[column] = jensenshannon(*((part[:, None] == both).mean(axis=0) for part in (before, now)))
        else:
            distances[column] = wasserstein_distance(before, now) / max(float(before.std()), 0.001)
    return distances


def evidently(_: Champion, known: Reference, stream: Lives, step: int, first: int) -> Floats:
    """What Evidently's default compares with 0.1 before it says dataset drift: the distance that half of the columns
    reach."""
    needed = math.ceil(0.5 * known.rows.shape[1])
    return _windowed(stream, step, first, lambda window: float(np.sort(evidently_distances(known, window))[-needed]))


WINDOWED: dict[str, tuple[Series, float]] = {
    "ours": (ours, 1.0),
    "plain PSI": (plain_psi, 0.2),
    "plain KS": (plain_ks, 1.358),
    "Evidently": (evidently, 0.1),
}
"""Statistic and default threshold."""


def adwin(delta: float) -> Callable[[], Any]:
    """River's ADWIN; its default is delta = 0.002."""
    from river.drift import ADWIN

    return lambda: ADWIN(delta=delta)


def page_hinkley(threshold: float) -> Callable[[], Any]:
    """River's Page-Hinkley test; its default is threshold = 50."""
    from river.drift import PageHinkley

    return lambda: PageHinkley(threshold=threshold)


STREAMED: dict[str, tuple[Callable[[float], Callable[[], Any]], float, tuple[float, ...]]] = {
    "ADWIN": (adwin, 0.002, (0.002, 1e-4, 1e-6, 1e-9, 1e-14, 1e-20, 1e-30, 1e-50, 1e-80, 1e-120, 1e-200, 1e-300)),
    "Page-Hinkley": (page_hinkley, 50.0, tuple(50.0 * 2**doubled for doubled in range(24))),
}
"""How to make one for a parameter, the default, and the grid of ever stricter parameters to calibrate on."""


def streamed_alarms(make: Callable[[], Any], known: Reference, stream: Lives, *, first_only: bool = False) -> list[int]:
    """Requests at which one detector per varying feature alarms; after an alarm all of them start anew."""
    standard = ((values(stream) - known.mean) / known.std)[:, known.varies]
    detectors = [make() for _ in range(standard.shape[1])]
    alarms: list[int] = []
    for at, row in enumerate(standard.tolist()):
        found = False
        for detector, value in zip(detectors, row, strict=True):
            detector.update(value)
            found = found or detector.drift_detected
        if found:
            alarms.append(at)
            if first_only:
                break
            detectors = [make() for _ in detectors]
    return alarms


def first_after(alarms: Sequence[int], before: int) -> int | None:
    """Requests from the change to the first alarm after it; None where there is none."""
    return next((at + 1 - before for at in alarms if at >= before), None)


def _ks(one: Floats, other: Floats) -> float:
    """The two-sample KS distance of two sorted samples."""
    both = np.concatenate([one, other])
    first = np.searchsorted(one, both, side="right") / len(one)
    second = np.searchsorted(other, both, side="right") / len(other)
    return float(np.abs(first - second).max())


def _windowed(stream: Lives, step: int, first: int, statistic: Callable[[Floats], float]) -> Floats:
    rows = values(stream)
    ends = np.arange(first + 1, len(rows) // step + 1) * step
    return np.array([statistic(rows[max(0, end - WINDOW) : end]) for end in ends])
