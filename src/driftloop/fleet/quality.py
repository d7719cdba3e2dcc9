"""What can be wrong with a reading as it was sent: it is missing, out of its plausible range, or stuck.

One definition for requests, whose newest row is judged, and for whole lives, whose every row was a newest one once.
A reading is stuck where the newest STILL readings of its sensor are all there and equal. Sensors that are quantised or
at rest do that too, and healthy ones now and then lack a value: what is usual is what the lives say. A missing or
implausible value begins an episode where the row before it had none; of the first row nobody knows.
"""

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.schema import Schema

OK, MISSING, OUT_OF_RANGE, STUCK = 0, 1, 2, 3
QUALITIES = ("ok", "missing", "out_of_range", "stuck")
"""Every reading has one of these, by its code."""
BEGINS = {MISSING: "missing_begins", OUT_OF_RANGE: "out_of_range_begins"}
"""And where an episode begins it is counted as that too."""
STILL = 20
"""Equal readings in a row, all of a unit's that a model looks at where it looks at fewer, that are stuck."""


def is_judged(schema: Schema) -> bool:
    """Whether values of a fleet may be missing or have a range, so that they are counted."""
    return any(channel.missing == "hold" or channel.range is not None for channel in schema.channels)


def ranges(schema: Schema) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest plausible value of each column, infinite where there is no range."""
    low, high = np.array([channel.range or (-np.inf, np.inf) for channel in schema.channels], dtype=np.float32).T
    return low, high


def of_newest(rows: NDArray[np.floating], schema: Schema, window: int) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Quality of the newest row of each of `rows` `[n, steps, columns]`, and whether an episode begins: `[n, columns]`.

    `window`: rows that the model looks at. Rows of NaN before a short history are no readings.
    """
    low, high = ranges(schema)
    newest = rows[:, -1]
    quality = _plain(newest, low, high)
    begins = np.zeros(quality.shape, dtype=np.bool_)
    if rows.shape[1] > 1:
        begins = _begins(quality, rows[:, -2], low, high)
    still = min(STILL, window)
    if rows.shape[1] >= still > 1:
        same = (rows[:, -still:-1] == newest[:, None]).all(axis=1)
        same[:, : schema.n_settings] = False
        quality[same & (quality == OK)] = STUCK
    return quality, begins


def of_life(rows: NDArray[np.floating], schema: Schema, window: int) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The same of every row of a life `[steps, columns]`, each as the newest one: `[steps, columns]`."""
    low, high = ranges(schema)
    quality = _plain(rows, low, high)
    begins = np.zeros(quality.shape, dtype=np.bool_)
    begins[1:] = _begins(quality[1:], rows[:-1], low, high)
    still = min(STILL, window)
    if still > 1 and len(rows) >= still:
        equal = np.zeros(rows.shape, dtype=np.int64)
        equal[1:] = rows[1:] == rows[:-1]
        total = np.cumsum(equal, axis=0)
        same = np.zeros(rows.shape, dtype=bool)
        same[still - 1 :] = total[still - 1 :] - total[: len(rows) - still + 1] == still - 1
        same[:, : schema.n_settings] = False
        quality[same & (quality == OK)] = STUCK
    return quality, begins


def _begins(
    quality: NDArray[np.int8], before: NDArray[np.floating], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Where bad readings are of another kind than those `before` them; a row without any reading is none before."""
    known = ~np.isnan(before).all(axis=1, keepdims=True)
    return np.asarray((quality != _plain(before, low, high)) & (quality != OK) & known, dtype=np.bool_)


def _plain(values: NDArray[np.floating], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.int8]:
    beyond = (values < low) | (values > high)
    return np.where(np.isnan(values), MISSING, np.where(beyond, OUT_OF_RANGE, OK)).astype(np.int8)
