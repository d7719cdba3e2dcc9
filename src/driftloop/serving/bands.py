"""Between what readings lie in a regime: found by asking the served graph, which normalises them.

Within a regime the graph's normalisation is linear in each sensor, so two readings of one row tell its line, whatever
the model is made of. The band is where most readings of the regime's training units lie.
"""

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.schema import Schema
from driftloop.model.signature import UNSEEN_REGIME
from driftloop.protocol.answers import Band
from driftloop.serving.engine import Engine

WIDTH = 2.0
"""Standard deviations to each side: 95 of 100 readings of a normal distribution."""
_STEP = 0.01
"""By how much of its size a reading is moved."""


def bands(engine: Engine, rows: NDArray[np.float32]) -> list[Band]:
    """The sensors of one unit's rows `[n, columns]`, each reading with the band of its row's regime."""
    schema = engine.reader.form.schema
    low, high = _limits(engine, rows, schema)
    sensors = rows[:, schema.n_settings :]
    return [
        Band(channel.name, channel.unit, _plain(sensors[:, at]), _plain(low[:, at]), _plain(high[:, at]))
        for at, channel in enumerate(schema.sensors)
    ]


def _limits(engine: Engine, rows: NDArray[np.float32], schema: Schema) -> tuple[NDArray[np.float64], ...]:
    """Both ends of each reading's band, `[n, sensors]`; NaN where there is none."""
    sensors = rows[:, schema.n_settings :].astype(np.float64)
    nothing = np.full(sensors.shape, np.nan)
    if engine.metadata is None or not len(rows):
        return nothing, nothing
    given = np.where(np.isfinite(sensors), sensors, 0.0)
    moved = given + _STEP * np.maximum(np.abs(given), 1.0)
    at, regime = _normalised(engine, rows, given, schema)
    beyond, _ = _normalised(engine, rows, moved, schema)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (moved - given) / (beyond - at)
        middle = given - at * spread
    # A sensor that does not vary in its regime is told by its value alone, with 1 for its standard deviation.
    varies = ~(np.isclose(spread, 1.0, atol=1e-3) & (np.abs(at) < 1e-4).all(axis=0))
    known = varies & np.isfinite(spread) & (spread > 0) & (regime != UNSEEN_REGIME)[:, None]
    spread, middle = np.where(known, spread, np.nan), np.where(known, middle, np.nan)
    return middle - WIDTH * spread, middle + WIDTH * spread


def _normalised(
    engine: Engine, rows: NDArray[np.float32], sensors: NDArray[np.float64], schema: Schema
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What the graph makes of `sensors` `[n, sensors]` beside the settings of `rows`, and the regime of each row."""
    asked = rows.copy()
    asked[:, schema.n_settings :] = sensors
    said = engine.predict([[[None if np.isnan(value) else float(value) for value in row]] for row in asked])
    return said.newest.astype(np.float64), said.regime


def _plain(values: NDArray[np.floating]) -> list[float | None]:
    """Numbers for JSON, with the digits of a float32."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values]
