"""What first aid gets to see: unlabelled windows of live units, as the servers would remember them.

Each unit is looked at once, at an age drawn at random; all looks of a case draw the same ages.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from driftloop.fleet.runs import Run
from driftloop.model.first_aid import LEAST_ROWS, LEAST_UNITS
from driftloop.protocol.windows import UnitWindow
from driftloop.training.rehearsal import LEAST_CYCLES

ROWS = 60
"""Newest rows of a unit in the looks that are not whole windows."""
LOOKS: Mapping[str, str] = {
    "500 rows": f"the first units, newest {ROWS} rows each, that come to {LEAST_ROWS} rows",
    "60 rows a unit": f"the newest {ROWS} rows of each live unit",
    "60 rows, ages unknown": "the same from requests that do not say how old their unit is",
    "whole windows": "the newest rows of each live unit, as many as the model looks at",
}
HEADLINE = "60 rows a unit"
"""The look that the picture, the variants and the live error are of."""


def seen(runs: Sequence[Run], window: int, rng: np.random.Generator) -> dict[str, list[UnitWindow]]:
    """The windows of each of LOOKS, for a model that looks at `window` rows."""
    order = [runs[at] for at in rng.permutation(len(runs))]
    ends = [int(rng.integers(min(LEAST_CYCLES, len(run.rows)), len(run.rows) + 1)) for run in order]
    short = [_window(run, end, ROWS) for run, end in zip(order, ends, strict=True)]
    return {
        "500 rows": _first(short),
        "60 rows a unit": short,
        "60 rows, ages unknown": [UnitWindow(one.unit, one.rows) for one in short],
        "whole windows": [_window(run, end, window) for run, end in zip(order, ends, strict=True)],
    }


def _window(run: Run, end: int, width: int) -> UnitWindow:
    return UnitWindow(run.run_id, run.rows[max(0, end - width) : end].astype(np.float32), end)


def _first(windows: Sequence[UnitWindow]) -> list[UnitWindow]:
    """The first windows that come to LEAST_ROWS rows of LEAST_UNITS units; all where they never do."""
    rows = np.cumsum([len(one.rows) for one in windows])
    enough = int(np.searchsorted(rows, LEAST_ROWS)) + 1
    return list(windows[: max(enough, LEAST_UNITS)])
