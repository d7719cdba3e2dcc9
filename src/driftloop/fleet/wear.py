"""Whether units look worn at their last row: one that was taken out, and not failed, does not.

Every sensor is compared with itself: how far the last rows of a unit lie from its first ones, in the direction and
measure in which those of most failed units do. 1 is the usual failure, 0 a unit like new.

This is for units that belong together, those of one data set: it names more of those that were taken out than
`ending` does, which the archive asks, but it also names units that failed in another way, under other conditions.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema

LEAST_UNITS = 8
"""Failed units from which on there is something to compare with."""
LEAST_STEPS = 10
"""A shorter life has no first and last rows to compare."""
_FRACTION, _UNLIKE = 0.6, 5
_PARTS = 20
"""Settings are alike where they differ by less than a twentieth of their range."""


def alike(settings: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number for each row `[n, settings]`, the same where settings are alike."""
    if not settings.shape[1]:
        return np.zeros(len(settings), dtype=np.int64)
    low = np.min(settings, axis=0, where=np.isfinite(settings), initial=math.inf)
    high = np.max(settings, axis=0, where=np.isfinite(settings), initial=-math.inf)
    low = np.where(high >= low, low, 0.0)
    parts = np.nan_to_num(np.round((settings - low) / np.where(high > low, high - low, 1.0) * _PARTS), nan=-1)
    return np.unique(parts, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def wear(runs: Sequence[Run], schema: Schema, reference: Sequence[Run]) -> NDArray[np.float64] | None:
    """How worn each of `runs` is at its last row, against the failed `reference`; NaN for lives that are too short.

    None where the reference is too small, or its units do not wear alike.
    """
    known = [run for run in reference if len(run.rows) >= LEAST_STEPS and not run.censored]
    if len(known) < LEAST_UNITS:
        return None
    everything = [*known, *runs]
    rows = np.concatenate([run.rows for run in everything])
    sensors = _levelled(rows[:, schema.n_settings :], alike(rows[:, : schema.n_settings]))
    cuts = np.cumsum([len(run.rows) for run in everything])[:-1]
    shifts = np.array([_shift(part) for part in np.split(sensors, cuts)])
    ends = shifts[: len(known)]
    told = np.isfinite(ends).sum(axis=0) * 2 >= len(known)
    usual, spread = np.zeros(len(told)), np.zeros(len(told))
    usual[told] = np.nanmedian(ends[:, told], axis=0)
    spread[told] = np.nanmedian(np.abs(ends[:, told] - usual[told]), axis=0)
    weight = np.where(np.abs(usual) > spread, usual, 0.0)
    if not np.sum(weight**2) > 0:
        return None
    worn = np.nansum(shifts * weight, axis=1) / np.sum(weight**2)
    worn[np.isnan(shifts).all(axis=1)] = math.nan
    return np.asarray(worn[len(known) :])


def _levelled(sensors: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sensors without what the settings do to them, in units of what is left of their spread."""
    count = np.bincount(group)
    left = np.empty_like(sensors)
    for at in range(sensors.shape[1]):
        there = np.isfinite(sensors[:, at])
        total = np.bincount(group, np.where(there, sensors[:, at], 0.0), len(count))
        mean = total / np.maximum(np.bincount(group, there, len(count)), 1)
        left[:, at] = sensors[:, at] - mean[group]
        spread = np.nanstd(left[:, at]) if there.any() else 0.0
        left[:, at] /= spread if spread > 0 else math.inf
    return left


def _shift(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the last rows of a unit lie from its first ones, in each sensor."""
    if len(rows) < LEAST_STEPS:
        return np.full(rows.shape[1], math.nan)
    first, last = rows[: max(len(rows) // 4, 3)], rows[-max(len(rows) // 20, 3) :]
    counts = np.isfinite(first).sum(axis=0), np.isfinite(last).sum(axis=0)
    means = [np.nansum(part, axis=0) / np.maximum(count, 1) for part, count in zip((first, last), counts, strict=True)]
    return np.where((counts[0] > 0) & (counts[1] > 0), means[1] - means[0], math.nan)


def taken_out(runs: Sequence[Run], schema: Schema, reference: Sequence[Run]) -> list[tuple[Run, float]]:
    """Those of `runs` that look as if they had not failed, each with how worn it is; empty where nobody can tell.

    A unit is named where it is less worn than 0.6 of what 19 of 20 units of the failed `reference` are at their end.
    On C-MAPSS that names none of the engines that failed, and nine of ten of those with 50 or more cycles left.
    """
    known, worn = wear(reference, schema, reference), wear(runs, schema, reference)
    if known is None or worn is None or np.isfinite(known).sum() < LEAST_UNITS:
        return []
    least = _FRACTION * float(np.nanquantile(known, 0.05))
    return [(run, float(value)) for run, value in zip(runs, worn, strict=True) if value < least]


def unlike(runs: Sequence[Run], schema: Schema) -> tuple[float, float] | None:
    """How worn the least and the most worn tenth of units are, where these do not go together with failures.

    Units that failed end alike: on C-MAPSS and on cells one tenth is at most 3 times as worn as another, and on
    units that were cut off anywhere 10 times and more. None where units end alike, or nobody can tell.
    """
    worn = wear(runs, schema, runs)
    if worn is None or np.isfinite(worn).sum() < LEAST_UNITS:
        return None
    low, high = (float(value) for value in np.nanquantile(worn, [0.1, 0.9]))
    return (low, high) if high > _UNLIKE * max(low, 0.0) else None
