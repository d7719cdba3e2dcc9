"""What the live error of a window of traffic is, and whether it can be told (driftloop.drift.live_error).

It holds where traffic is what the reference was. Where the watch sees drift it may still be so: units that are all run
in one of six known regimes are a change of the fleet, yet each of their rows is one that the reference has too. So
traffic that has drifted is compared once more, with the known regimes in whatever mix explains it best. Its settings
are left out of that, as the model normalises sensors by regime and does not see settings otherwise, and so are its
answers, which follow from the sensors.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from driftloop.drift import calibration, live_error
from driftloop.drift.baseline import Baseline
from driftloop.drift.bins import PREDICTION, REGIME
from driftloop.drift.live_error import Estimate
from driftloop.drift.verdict import DRIFT, Verdict, left_without, measure
from driftloop.protocol.causes import FLEET_CHANGE

Counts = dict[str, NDArray[np.int64]]
"""For each feature, how many requests fell into each of its bins."""


def estimate(windows: Sequence[Counts], baseline: Baseline, verdict: Verdict, units: float) -> Estimate:
    """How wrong the model probably is about the requests of the first of `windows`.

    `verdict` is that on all of these windows; `units` are those that the traffic comes from at the least.
    """
    drift = verdict.verdict == DRIFT
    if verdict.kind == FLEET_CHANGE:
        drift = not all(only_the_mix_changed(counts, baseline) for counts in windows)
    counts = windows[0]
    return live_error.estimate(
        baseline.errors if baseline.errors is not UNSET else None,
        counts[PREDICTION].astype(np.float64),
        counts[REGIME].astype(np.float64),
        units,
        drift,
    )


def only_the_mix_changed(counts: Counts, baseline: Baseline) -> bool:
    """Whether requests are what the reference was, but for how many of them each known regime gets."""
    if baseline.in_any_mix is None:
        return False
    found = measure(baseline.binner.join(counts), baseline.in_any_mix)
    settings = list(range(1, 1 + baseline.settings))
    return bool(found.n >= calibration.GRID[0] and left_without(settings, found, baseline.in_any_mix)[0] <= 1)
