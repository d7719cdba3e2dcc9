"""Operating regimes: the distinct combinations of settings an engine is flown at, and what sensors read there.

The rule. Settings are put on fixed physical scales (altitude / 42 kft, Mach / 0.84, throttle angle / 100 %).
Leader clustering with radius `RADIUS` goes through the rows, engines in the order of their ids, oldest row
first: the first row that no leader covers becomes a leader and covers what lies within the radius of it.
A regime is a leader that covers at least `MIN_SHARE` of the rows; its centre is their mean. Where no leader does,
all rows are one regime. Source of leader clustering: Hartigan, "Clustering Algorithms", 1975, chapter 3. On C-MAPSS
this finds one regime in FD001 and FD003 and six in FD002 and FD004.

A known regime is never changed, so that its id, and what a model has learnt about it, stay valid for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import N_SENSORS, N_SETTINGS

SCALES = np.array([42.0, 0.84, 100.0])
RADIUS = 0.05
MIN_SHARE = 0.005
MAX_LEADERS = 64
"""Bounds the work on settings that vary continuously; rows of later leaders belong to their nearest regime."""


@dataclass(frozen=True, eq=False)
class Regimes:
    """`K` regimes; a regime's id is its position.

    Constant sensors of a regime have their value as mean, exactly in float32, and standard deviation 1.
    """

    centres: NDArray[np.float32]
    """`[K, 3]`, raw units."""
    mean: NDArray[np.float32]
    """`[K, 21]`, raw units."""
    std: NDArray[np.float32]
    """`[K, 21]`, raw units, above 0."""
    varies: NDArray[np.float32]
    """`[K, 21]`, 1 for a sensor that varied within the regime, 0 for a constant one."""

    def __len__(self) -> int:
        return len(self.centres)

    def assign(self, settings: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The nearest regime of each row of settings `[n, 3]`, and whether it lies within that regime's radius."""
        distance = _distance(settings[:, None, :], self.centres[None, :, :].astype(np.float64))
        nearest = distance.argmin(axis=1)
        return nearest.astype(np.int64), distance.min(axis=1) <= RADIUS


def no_regimes() -> Regimes:
    """What is known before any run has been seen."""
    sensors = np.zeros((0, N_SENSORS), np.float32)
    return Regimes(np.zeros((0, N_SETTINGS), np.float32), sensors, sensors, sensors)


def find(runs: Sequence[Run]) -> Regimes:
    """The regimes of these runs; raises DataError where there is none."""
    return extend(no_regimes(), runs)


def extend(known: Regimes, runs: Sequence[Run]) -> Regimes:
    """`known` with the regimes of `runs` that it does not cover appended; the known ones stay as they are.

    A regime's mean and standard deviation are taken over the rows within its radius. Raises DataError where
    the result would have no regime at all.
    """
    ordered = sorted(runs, key=lambda run: run.run_id)
    rows = np.concatenate([run.rows for run in ordered]) if ordered else np.zeros((0, N_SETTINGS + N_SENSORS))
    settings, sensors = rows[:, :N_SETTINGS], rows[:, N_SETTINGS:]
    free = np.ones(len(rows), dtype=bool)
    if len(known):
        free = ~known.assign(settings)[1]
    found = []
    for _ in range(MAX_LEADERS):
        candidates = np.flatnonzero(free)
        if not len(candidates):
            break
        covered = candidates[_distance(settings[candidates], settings[candidates[0]]) <= RADIUS]
        free[covered] = False
        if len(covered) >= MIN_SHARE * len(rows):
            found.append((settings[covered].mean(axis=0).astype(np.float32), *_statistics(sensors[covered])))
    if not found and not len(known) and len(rows):
        # Settings without any cluster: one regime of everything, outside whose radius most rows will be.
        found = [(settings.mean(axis=0).astype(np.float32), *_statistics(sensors))]
    if not found and not len(known):
        raise DataError("no operating regime can be found", remedy="train on at least one run with rows")
    parts = [known.centres, known.mean, known.std, known.varies]
    return Regimes(*(np.concatenate([old, *(new[i][None] for new in found)]) for i, old in enumerate(parts)))


def _distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Euclidean distance between settings on the fixed scales, over the last axis."""
    return np.asarray(np.sqrt((((a - b) / SCALES) ** 2).sum(axis=-1)), dtype=np.float64)


def _statistics(sensors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean, standard deviation and the mark of varying sensors over rows `[n, 21]`, each `[21]`."""
    first = sensors[0].astype(np.float32)
    constant = (sensors.astype(np.float32) == first).all(axis=0)
    mean = np.where(constant, first, sensors.mean(axis=0).astype(np.float32))
    # Below the resolution of float32 a spread would be rounding noise, blown up to unit variance.
    floor = 1e-6 * np.maximum(np.abs(mean), 1.0)
    std = np.where(constant, 1.0, np.maximum(sensors.std(axis=0), floor))
    return mean.astype(np.float32), std.astype(np.float32), (~constant).astype(np.float32)
