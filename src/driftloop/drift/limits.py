"""Where drift begins for so many requests of so many units, by a baseline."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftloop.drift import calibration
from driftloop.drift.baseline import Baseline
from driftloop.drift.few_units import widened
from driftloop.drift.statistics import Floats


class Limits(NamedTuple):
    """Where drift begins: PSI and KS `[..., F]`, conditional shifts `[..., 2, F]`, the shift of ages `[...]`, and
    requests with new settings `[...]`, midway between the last count without an alarm and the first with one."""

    psi: Floats
    ks: Floats
    shift: Floats
    age: Floats
    new: Floats


def thresholds_at(baseline: Baseline, n: ArrayLike, units: ArrayLike | None = None) -> Limits:
    """The thresholds at `n` `[...]` requests, which rest on `units` `[...]`.

    Those of PSI, KS and age are interpolated between the calibrated sizes on log scales; outside of them the nearest
    one's count. Those of the shift are of the calibrated size at or below n, as the covariance is.
    """
    table = baseline.threshold_table
    grid, values = table[:, 0], table[:, 1:]
    at = np.clip(np.log(np.maximum(n, 1)), grid[0], grid[-1])
    below = np.clip(np.searchsorted(grid, at, side="right") - 1, 0, len(grid) - 1)
    above = np.minimum(below + 1, len(grid) - 1)
    part = (at - grid[below]) / np.maximum(grid[above] - grid[below], 1e-300)
    limits = np.exp(values[below] + part[..., None] * (values[above] - values[below]))
    count = len(baseline.features)
    shift = baseline.shift_limits[calibrated(baseline, n)]
    new = _new_limit(baseline, np.asarray(n), units)
    psi_times, ks_times, shift_times, age_times = np.moveaxis(widened(baseline.few_units, n, units), -1, 0)
    return Limits(
        limits[..., :count] * psi_times[..., None],
        limits[..., count : 2 * count] * ks_times[..., None],
        shift * shift_times[..., None, None],
        limits[..., -1] * age_times,
        new,
    )


def calibrated(baseline: Baseline, n: ArrayLike) -> NDArray[np.int64]:
    """Position of the calibrated size at or below `n`; the smallest one's where n is below all."""
    sizes = [threshold.n for threshold in baseline.thresholds]
    return np.maximum(np.searchsorted(sizes, n, side="right") - 1, 0)


def _new_limit(baseline: Baseline, n: NDArray[np.int64], units: ArrayLike | None) -> Floats:
    """How many of `n` `[...]` requests must bring new settings, midway between the last count without an alarm and the
    first with one.

    Where settings belong to the unit, units are counted, and not the many requests of each: traffic comes from `units`
    `[...]` of them, at most calibration.ENGINES, each sending as much. One unit with new settings is no new fleet: of
    two it must be both.
    """
    if baseline.setting_units is None:
        return calibration.new_limit(n, baseline.rows, baseline.new_exceedance).astype(np.float64) - 0.5
    sending = calibration.ENGINES if units is None else np.nan_to_num(units, nan=calibration.ENGINES)
    sending = np.clip(np.round(sending), 2, calibration.ENGINES).astype(np.int64)
    new = calibration.new_limit(sending, baseline.setting_units, baseline.new_exceedance)
    new = np.minimum(new, sending)
    return np.asarray(np.maximum((new.astype(np.float64) - 0.5) * n / sending, 1.5))
