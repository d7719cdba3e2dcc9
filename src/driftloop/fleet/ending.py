"""Does a run look like one that ended in failure? What its content says, beside those that are archived.

The measure is a run's wear: how far its last readings lie from its own first ones, in units of its noise. Each row at
the end is compared with the unit's first rows at the same settings; the noise of a sensor at these settings is read
from second differences, which wear hardly touches; what counts is the root of the mean square over all sensors.
Nothing but the run itself goes into it, so that runs of other operating conditions can be compared.

A run is doubtful where it shows less than half of the wear that 95 % of the archived failures showed, and no more than
twice its noise; or where its life is less than three quarters of the shortest before, and it is less worn than any.
Where too few failures are archived to compare with, the newcomers are looked at together: when a fifth of at least
eight show no wear beyond their noise, these are doubtful. On NASA's C-MAPSS files every archive of one subset lets
all engines of the others' train files in and stops half of the engines of every test file; all cells of the two real
fleets that were tried (100 and 42 that failed) pass in every order. A unit that was taken out when nearly worn out
looks like one that failed: only the fleet file's end rule, or a person, can tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema

LEAST_FAILURES = 8
"""Archived failures that say how worn units are at their end."""
MOST_FAILURES = 200
"""Archived failures that are looked at; more say the same."""
SHARE_OF_USUAL, BEYOND_NOISE = 0.5, 2.0
SHARE_OF_SHORTEST, SHARE_OF_LEAST_WORN = 0.75, 0.8
NO_WEAR, TOO_MANY = 1.0, 0.2

_LAST = 10
_FIRST = 1 / 3
_CELLS = 20
"""Settings within a twentieth of their span are the same."""
_SPAN = 0.02
"""A setting that varies by less than this share of its size does not vary."""


@dataclass(frozen=True)
class Ending:
    """What a run shows of its end."""

    life: int
    wear: float | None
    """Times its noise; None where there are too few rows to say."""


@dataclass(frozen=True)
class Doubt:
    """A run that does not look like one that has failed, and why."""

    run_id: str
    reason: str


def ending(run: Run, schema: Schema) -> Ending:
    """How long a run is and how worn its unit was at the end."""
    return Ending(len(run.rows), wear(run, schema))


def doubtful(
    runs: Sequence[Run], endings: Mapping[str, Ending], failures: Sequence[Ending], schema: Schema
) -> list[Doubt]:
    """Those of `runs` that do not look like failures; `endings` are theirs by id, `failures` those of archived ones."""
    known = [failure.wear for failure in failures if failure.wear is not None]
    if len(known) < LEAST_FAILURES:
        return _without_reference(runs, endings)
    usual = float(np.quantile(known, 0.05))
    limit = min(SHARE_OF_USUAL * usual, BEYOND_NOISE)
    shortest, least_worn = min(failure.life for failure in failures), min(known)
    found = []
    for run in runs:
        seen = endings[run.run_id]
        short = seen.life < SHARE_OF_SHORTEST * shortest
        if seen.wear is None and short:
            reason = f"{seen.life} {schema.steps}, where no failed {schema.unit} before had fewer than {shortest}"
        elif seen.wear is not None and seen.wear < limit:
            reason = (
                f"no wear towards the end: its last readings are {seen.wear:.1f} times the noise away from its first, "
                f"those of 95 % of the failed {schema.units} before at least {usual:.1f}"
            )
        elif seen.wear is not None and short and seen.wear < min(SHARE_OF_LEAST_WORN * least_worn, 2 * BEYOND_NOISE):
            reason = (
                f"{seen.life} {schema.steps}, where no failed {schema.unit} before had fewer than {shortest}, and less "
                f"worn than any of them ({seen.wear:.1f} times the noise, at least {least_worn:.1f} before)"
            )
        else:
            continue
        found.append(Doubt(run.run_id, reason))
    return found


def _without_reference(runs: Sequence[Run], endings: Mapping[str, Ending]) -> list[Doubt]:
    """Those that show no wear, where many of many newcomers do not."""
    unworn = [
        Doubt(run.run_id, f"no wear towards the end: its last readings are {wear:.1f} times the noise from its first")
        for run in runs
        if (wear := endings[run.run_id].wear) is not None and wear < NO_WEAR
    ]
    return unworn if len(runs) >= LEAST_FAILURES and len(unworn) > TOO_MANY * len(runs) else []


def wear(run: Run, schema: Schema) -> float | None:
    """How far a run's last readings lie from its first, in units of its noise; None where it is too short to say."""
    sensors, count = run.rows[:, schema.n_settings :], len(run.rows)
    where = _cells(run.rows[:, : schema.n_settings]) if schema.use_settings == "regimes" else np.zeros(count, np.int64)
    if schema.use_settings == "continuous":
        sensors = _without_settings(run.rows[:, : schema.n_settings], sensors)
    first = np.arange(max(int(count * _FIRST), min(8, count // 2)))
    last = np.arange(count - min(_LAST, max(int(count * _FIRST), 1)), count)
    moved = []
    with np.errstate(all="ignore"):
        for cell in np.unique(where[last]):
            young, old = sensors[first[where[first] == cell]], sensors[last[where[last] == cell]]
            noise = _noise(sensors[where == cell])
            if len(young) and noise is not None:
                # A sensor without noise, such as a demanded value, tells nothing of wear.
                blind = ~(noise > 1e-7 * np.maximum(np.abs(_mean(young)), 1e-30))
                moved.append((old - _mean(young)) / np.where(blind, np.inf, noise))
        if not moved:
            return None
        shift = np.nan_to_num(_mean(np.concatenate(moved)))
    return float(np.sqrt((shift**2).mean()))


def _cells(settings: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row, which of the run's combinations of settings it was measured at."""
    if not settings.shape[1]:
        return np.zeros(len(settings), np.int64)
    known = np.where(np.isfinite(settings), settings, 0.0)
    low, span = known.min(axis=0), np.ptp(known, axis=0)
    span = np.where(span < _SPAN * np.maximum(np.abs(known).max(axis=0), 1.0), np.inf, span)
    cells = np.round((known - low) / span * _CELLS).astype(np.int64)
    place = np.zeros(len(cells), np.int64)
    for column in cells.T:
        # Numbered anew each time, so that no number of settings is too many.
        place = np.unique(place * (_CELLS + 1) + column, return_inverse=True)[1]
    return place


def _noise(rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The noise of each sensor by second differences, outliers clipped; None for too few rows."""
    if len(rows) < 7:
        return None
    bends = np.diff(rows, 2, axis=0) / np.sqrt(6)
    quantile = np.nanquantile if np.isnan(bends).any() else np.quantile  # the one for gaps is slow
    bound = 4 * quantile(np.abs(bends), 0.75, axis=0) + 1e-30
    return np.asarray(np.sqrt(_mean(np.clip(bends, -bound, bound) ** 2)), np.float64)


def _without_settings(settings: NDArray[np.float64], sensors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sensors less what a line through the settings explains of them."""
    known = np.where(np.isfinite(settings), settings, 0.0)
    design = np.column_stack([known - known.mean(axis=0), np.ones(len(known))])
    level = np.where(np.isfinite(sensors), sensors, _mean(sensors))
    slope = np.linalg.lstsq(design, np.nan_to_num(level), rcond=None)[0]
    return np.asarray(sensors - design[:, :-1] @ slope[:-1], np.float64)


def _mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each column over what is there; NaN where nothing is."""
    present = np.isfinite(rows)
    return np.asarray(np.where(present, rows, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1), np.float64) + (
        np.where(present.any(axis=0), 0.0, np.nan)
    )
