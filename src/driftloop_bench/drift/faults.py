"""What may be wrong with a sensor, as new rows of the same engines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import N_SENSORS, N_SETTINGS
from driftloop_bench.experiment.traffic import spread_within_regimes

KINDS = ("bias", "gain", "stuck", "noise")
ALTITUDE = "altitude"


@dataclass(frozen=True)
class Fault:
    """One sensor's fault; `amount` is in standard deviations of the sensor within an operating regime, but for gain."""

    kind: str
    """`altitude` adds `amount` thousand feet to the altitude that is reported; `bias` adds `amount`; `gain` multiplies
    by `amount`; `stuck` repeats one reading; `noise` adds white noise whose standard deviation is `amount` times that
    of the sensor's own differences between cycles."""
    sensor: int
    """1 to 21; 0 for the altitude."""
    amount: float = 0.0

    @property
    def name(self) -> str:
        """A short name, fit for a file."""
        return f"{self.kind}-{self.sensor}-{self.amount:g}"


def faulty(runs: Sequence[Run], fault: Fault, seed: int) -> list[Run]:
    """The same engines with the fault in every row, past rows of a window included."""
    if fault.kind == ALTITUDE:
        return [Run(run.run_id, run.rows + fault.amount * (np.arange(run.rows.shape[1]) == 0)) for run in runs]
    column = N_SETTINGS + fault.sensor - 1
    readings = np.concatenate([run.rows for run in runs])
    spread = spread_within_regimes(readings)[fault.sensor - 1]
    rng = np.random.default_rng([seed, fault.sensor, KINDS.index(fault.kind)])
    stuck = float(readings[rng.integers(len(readings)), column])
    noise = fault.amount * noise_within_regimes(runs)[fault.sensor - 1]
    changed = []
    for run in runs:
        rows = run.rows.copy()
        if fault.kind == "bias":
            rows[:, column] += fault.amount * spread
        elif fault.kind == "gain":
            rows[:, column] *= fault.amount
        elif fault.kind == "stuck":
            rows[:, column] = stuck
        else:
            rows[:, column] += rng.normal(0, noise, len(rows))
        changed.append(Run(run.run_id, rows))
    return changed


def varying_sensors(runs: Sequence[Run]) -> list[int]:
    """Numbers of the sensors that take more than a handful of values within an operating regime."""
    rows = np.concatenate([run.rows for run in runs])
    regime = np.round(rows[:, [0, 2]])
    largest, count = np.unique(regime, axis=0, return_counts=True)
    inside = rows[(regime == largest[count.argmax()]).all(axis=1)]
    return [number + 1 for number in range(N_SENSORS) if len(np.unique(inside[:, N_SETTINGS + number])) > 5]


def noise_within_regimes(runs: Sequence[Run]) -> NDArray[np.float64]:
    """Standard deviation `[21]` of the measurement noise, from differences of successive rows of the same regime."""
    differences = []
    for run in runs:
        regime = np.round(run.rows[:, [0, 2]])
        same = (regime[1:] == regime[:-1]).all(axis=1)
        differences.append(np.diff(run.rows[:, N_SETTINGS:], axis=0)[same])
    return np.asarray(np.concatenate(differences).std(axis=0) / np.sqrt(2), dtype=np.float64)
