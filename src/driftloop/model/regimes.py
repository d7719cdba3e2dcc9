"""Operating regimes: the distinct combinations of settings an engine is flown at, and what sensors read there.

The rule. Each setting is divided by its scale: the fleet file's, else the span that the first training shows.
Leader clustering with radius `RADIUS` goes through the rows, engines in the order of their ids, oldest row
first: the first row that no leader covers becomes a leader and covers what lies within the radius of it.
A regime is a leader that covers at least `MIN_SHARE` of the rows; its centre is their mean. Where no leader does,
all rows are one regime. Source of leader clustering: Hartigan, "Clustering Algorithms", 1975, chapter 3. On C-MAPSS
this finds one regime in FD001 and FD003 and six in FD002 and FD004.

A known regime is never changed, so that its id, and what a model has learnt about it, stay valid for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema

NO_SLOPES = np.zeros((0, 0), np.float32)
RADIUS = 0.05
MIN_SHARE = 0.005
RIDGE = 0.01
MARGIN = 0.1
"""Share of a continuous setting's scale by which a new unit's may lie beyond what training units show."""
MAX_LEADERS = 64
"""Bounds the work on settings that vary continuously; rows of later leaders belong to their nearest regime."""


@dataclass(frozen=True, eq=False)
class Regimes:
    """`K` regimes; a regime's id is its position.

    Constant sensors of a regime have their value as mean, exactly in float32, and standard deviation 1.
    """

    centres: NDArray[np.float32]
    """`[K, settings]`, raw units."""
    mean: NDArray[np.float32]
    """`[K, sensors]`, raw units."""
    std: NDArray[np.float32]
    """`[K, sensors]`, raw units, above 0."""
    varies: NDArray[np.float32]
    """`[K, sensors]`, 1 for a sensor that varied within the regime, 0 for a constant one."""
    scales: NDArray[np.float64]
    """`[settings]`, raw units: what distances are measured in."""
    slopes: NDArray[np.float32] = field(default_factory=NO_SLOPES.copy)
    """`[settings, sensors]`: where settings are continuous, a sensor's change over the scale of each setting."""
    known: NDArray[np.float32] = field(default_factory=NO_SLOPES.copy)
    """`[2, settings]`: where settings are continuous, the lowest and highest ones that count as seen."""

    def __len__(self) -> int:
        return len(self.centres)

    def assign(self, settings: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The nearest regime of each row of settings `[n, settings]`, and whether it lies within its radius."""
        distance = _distance(settings[:, None, :], self.centres[None, :, :].astype(np.float64), self.scales)
        nearest = distance.argmin(axis=1)
        return nearest.astype(np.int64), distance.min(axis=1) <= RADIUS

    def normalised(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sensors of rows `[n, columns]` normalised as the network does it, `[n, sensors]`; missing ones stay NaN."""
        n = self.centres.shape[1]
        settings, sensors = rows[:, :n], rows[:, n:]
        if not self.slopes.size:
            at = self.assign(settings)[0] if len(self) > 1 else np.zeros(len(rows), dtype=np.int64)
            return np.asarray((sensors - self.mean[at]) / self.std[at] * self.varies[at], dtype=np.float64)
        moved = (settings - self.centres[0]) / self.scales @ self.slopes
        return np.asarray((sensors - self.mean[0] - moved) / self.std[0] * self.varies[0], dtype=np.float64)


def find(runs: Sequence[Run], schema: Schema) -> Regimes:
    """The regimes of these runs, or their regression on continuous settings; raises DataError where there is none."""
    if schema.use_settings != "regimes":
        return continuous(runs, schema)
    rows = np.concatenate([run.rows for run in runs]) if runs else np.zeros((0, schema.n_columns))
    sensors = np.zeros((0, schema.n_sensors), np.float32)
    nothing = Regimes(np.zeros((0, schema.n_settings), np.float32), sensors, sensors, sensors, scales_of(rows, schema))
    return extend(nothing, runs)


def scales_of(rows: NDArray[np.float64], schema: Schema) -> NDArray[np.float64]:
    """The scale of each setting, `[settings]`: the fleet file's, else the span in `rows` `[n, columns]`.

    What is constant in them is on the scale of its own value.
    """
    scales = np.ones(schema.n_settings)
    for at, channel in enumerate(schema.settings):
        values = rows[:, at][np.isfinite(rows[:, at])]
        if channel.span is not None:
            scales[at] = channel.span
        elif len(values):
            span = float(values.max() - values.min())
            scales[at] = span if span > 0 else max(abs(float(values[0])), 1.0)
    return scales


def continuous(runs: Sequence[Run], schema: Schema) -> Regimes:
    """One regime, in which the mean of each sensor is a linear function of the settings, fitted by ridge regression.

    Each unit weighs the same. The penalty is RIDGE of the units' number, on settings in their scales: settings that
    hardly vary among few units say little. Settings count as seen up to MARGIN of their scale beyond what the runs
    show. Where the schema uses no settings the slopes are 0 and every setting counts as seen. Raises DataError where
    there is no row. Source of the penalty: Hoerl & Kennard, "Ridge regression", Technometrics 12 (1970).
    """
    ordered = sorted(runs, key=lambda run: run.run_id)
    if not ordered:
        raise DataError("no operating regime can be found", remedy="train on at least one run with rows")
    rows = np.concatenate([run.rows for run in ordered])
    weight = np.concatenate([np.full(len(run.rows), 1.0 / len(run.rows)) for run in ordered])
    settings, sensors = rows[:, : schema.n_settings], rows[:, schema.n_settings :]
    given = np.isfinite(settings).all(axis=1) if schema.n_settings else np.ones(len(rows), dtype=bool)
    if not given.any():
        raise DataError("no row has all its settings", remedy="train on runs with settings, or use none of them")
    scales = scales_of(rows, schema)
    centre = np.average(settings[given], axis=0, weights=weight[given])
    slopes = np.zeros((schema.n_settings, schema.n_sensors))
    if schema.use_settings == "continuous":
        place = (settings - centre) / scales
        for at in range(schema.n_sensors):
            use = given & np.isfinite(sensors[:, at])
            if use.any():
                slopes[:, at] = _ridge(place[use], sensors[use, at], weight[use], RIDGE * len(ordered))
    expected = (np.where(np.isfinite(settings), settings, centre) - centre) / scales @ slopes
    mean, std, varies = _statistics(sensors - expected)
    span = MARGIN * scales
    low, high = settings[given].min(axis=0, initial=np.inf) - span, settings[given].max(axis=0, initial=-np.inf) + span
    return Regimes(
        centre.astype(np.float32)[None], mean[None], std[None], varies[None], scales,
        slopes.astype(np.float32), np.stack([low, high]).astype(np.float32),
    )  # fmt: skip


def _ridge(
    place: NDArray[np.float64], values: NDArray[np.float64], weight: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """Slopes `[settings]` of `values` `[n]` over `place` `[n, settings]`, with weights `[n]`."""
    centred = place - np.average(place, axis=0, weights=weight)
    moved = values - np.average(values, weights=weight)
    gram = (centred * weight[:, None]).T @ centred + penalty * np.eye(place.shape[1])
    return np.asarray(np.linalg.solve(gram, (centred * weight[:, None]).T @ moved))


def extend(known: Regimes, runs: Sequence[Run]) -> Regimes:
    """`known` with the regimes of `runs` that it does not cover appended; the known ones stay as they are.

    A regime's mean and standard deviation are taken over the rows within its radius. Raises DataError where
    the result would have no regime at all.
    """
    n_settings = known.centres.shape[1]
    ordered = sorted(runs, key=lambda run: run.run_id)
    rows = np.concatenate([run.rows for run in ordered]) if ordered else np.zeros((0, n_settings + known.mean.shape[1]))
    # A row that lacks a setting says nothing about where it was measured.
    rows = rows[np.isfinite(rows[:, :n_settings]).all(axis=1)]
    settings, sensors = rows[:, :n_settings], rows[:, n_settings:]
    free = np.ones(len(rows), dtype=bool)
    if len(known):
        free = ~known.assign(settings)[1]
    found = []
    for _ in range(MAX_LEADERS):
        candidates = np.flatnonzero(free)
        if not len(candidates):
            break
        covered = candidates[_distance(settings[candidates], settings[candidates[0]], known.scales) <= RADIUS]
        free[covered] = False
        if len(covered) >= MIN_SHARE * len(rows):
            found.append((settings[covered].mean(axis=0).astype(np.float32), *_statistics(sensors[covered])))
    if not found and not len(known) and len(rows):
        # Settings without any cluster: one regime of everything, outside whose radius most rows will be.
        found = [(settings.mean(axis=0).astype(np.float32), *_statistics(sensors))]
    if not found and not len(known):
        raise DataError("no operating regime can be found", remedy="train on at least one run with rows")
    parts = [known.centres, known.mean, known.std, known.varies]
    centres, mean, std, varies = (
        np.concatenate([old, *(new[i][None] for new in found)]) for i, old in enumerate(parts)
    )
    return Regimes(centres, mean, std, varies, known.scales)


def _distance(a: NDArray[np.floating], b: NDArray[np.floating], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distance between settings in units of their scales, over the last axis."""
    return np.asarray(np.sqrt((((a - b) / scales) ** 2).sum(axis=-1)), dtype=np.float64)


def _statistics(sensors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean, standard deviation and the mark of varying sensors over rows `[n, sensors]`, each `[sensors]`.

    Missing readings are passed over; a sensor without any reading is one that is constant at 0.
    """
    present = np.isfinite(sensors)
    if not present.all():
        return _statistics_of_present(sensors, present)
    first = sensors[0].astype(np.float32)
    constant = (sensors.astype(np.float32) == first).all(axis=0)
    return _cleaned(constant, first, sensors.mean(axis=0), sensors.std(axis=0))


def _statistics_of_present(
    sensors: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, sensors, 0.0)
    mean = values.sum(axis=0) / count
    std = np.sqrt(np.where(present, (values - mean) ** 2, 0.0).sum(axis=0) / count)
    first = np.take_along_axis(values, present.argmax(axis=0)[None], axis=0)[0].astype(np.float32)
    constant = ((values.astype(np.float32) == first) | ~present).all(axis=0)
    return _cleaned(constant, first, mean, std)


def _cleaned(
    constant: NDArray[np.bool_], first: NDArray[np.float32], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    centre = np.where(constant, first, mean.astype(np.float32))
    # Below the resolution of float32 a spread would be rounding noise, blown up to unit variance.
    floor = 1e-6 * np.maximum(np.abs(centre), 1.0)
    spread = np.where(constant, 1.0, np.maximum(std, floor))
    return centre.astype(np.float32), spread.astype(np.float32), (~constant).astype(np.float32)
