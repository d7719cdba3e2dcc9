"""Traffic as counting sees it: which row each request brings, and how many requests fell into each bin.

A fleet has places, each with an engine in service. All engines age at once: every request lets a random place fly
one more cycle, so that successive requests of an engine resemble each other as they do in service. An engine that
has failed is replaced by another one from its first cycle on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.drift.bins import Binner
from driftloop_bench.drift.champions import Lives

PLACES = 20
"""Engines in service at once."""

Rows = NDArray[np.int64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Engines:
    """Where the lives of a fleet's engines are among the rows of `Lives`."""

    start: NDArray[np.int64]
    """First row of each engine, `[E]`."""
    length: NDArray[np.int64]
    """Cycles that each flies in this fleet, `[E]`, at least 1."""


def engines(lives: Lives, youngest: int | None = None, oldest: int = 0) -> Engines:
    """All engines of `lives`; or the part of each life between `youngest` and `oldest` remaining cycles.

    Engines enter such a fleet with `youngest` cycles left and leave it with `oldest`.
    """
    ends = np.cumsum(lives.length) - oldest
    first = ends - lives.length + oldest
    if youngest is not None:
        first = np.maximum(first, ends + oldest - youngest)
    kept = ends > first
    return Engines(first[kept], (ends - first)[kept])


def requests(fleet: Engines, n: int, rng: np.random.Generator, places: int = PLACES) -> Rows:
    """The row that each of `n` requests brings, `[n]`; every place begins with an engine at a random cycle."""
    return of_units(fleet, n, rng, places)[0]


def of_units(fleet: Engines, n: int, rng: np.random.Generator, places: int) -> tuple[Rows, Rows]:
    """The same, and the number of the unit that each request is of: whoever takes a place is another one."""
    place = rng.integers(places, size=n)
    order = np.argsort(place, kind="stable")
    rows, units, known = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), 0
    ends = np.cumsum(np.bincount(place, minlength=places))
    for begin, end in zip(ends - np.diff(ends, prepend=0), ends, strict=True):
        rows[order[begin:end]], taken = _service(fleet, int(end - begin), rng)
        units[order[begin:end]] = known + taken
        known += int(taken.max(initial=-1)) + 1
    return rows, units


def _service(fleet: Engines, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """The rows of `n` successive flights at one place, and how many engines were there before."""
    # A cycle in service is met with a chance proportional to the engine's life.
    engine = int(rng.choice(len(fleet.start), p=fleet.length / fleet.length.sum()))
    flown = int(rng.integers(fleet.length[engine]))
    pieces, total = [np.empty(0, dtype=np.int64)], 0
    while total < n:
        pieces.append(np.arange(fleet.start[engine] + flown, fleet.start[engine] + fleet.length[engine]))
        total += len(pieces[-1])
        engine, flown = int(rng.integers(len(fleet.start))), 0
    before = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    return np.concatenate(pieces)[:n], before[:n]


def bins(lives: Lives, binner: Binner) -> NDArray[np.int16]:
    """The flat bin of each feature of each row, `[rows, F]`."""
    index = binner.indices(lives.prediction, lives.settings, lives.newest, lives.regime) + binner.offsets
    return np.asarray(index, dtype=np.int16)


def snapshots(binned: NDArray[np.int16], step: int, total: int) -> Counts:
    """What a scrape sees after every `step` requests `[n, F]`: the running counts, `[1 + n // step, total]`."""
    scrapes = len(binned) // step
    taken = binned[: scrapes * step]
    scrape = np.repeat(np.arange(scrapes, dtype=np.int64) * total, step)
    increments = np.bincount((taken + scrape[:, None]).ravel(), minlength=scrapes * total).reshape(scrapes, total)
    counts = np.zeros((scrapes + 1, total), dtype=np.int64)
    np.cumsum(increments, axis=0, out=counts[1:])
    return counts


def windows(counts: Counts, step: int, size: int) -> Counts:
    """The newest requests at every scrape after the first, `[scrapes, total]`: at least `size` where there are as many,
    as drift.source.Window holds them."""
    back = -(-size // step)
    return counts[1:] - counts[np.maximum(np.arange(1, len(counts)) - back, 0)]
