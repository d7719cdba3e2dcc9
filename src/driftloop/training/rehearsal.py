"""A rehearsal of first aid (driftloop.model.first_aid) on the units that a model was not fitted to.

The known regimes are hidden: the rows of each are dealt over invented ones, INVENTED in all, each with settings of its
own and an affine change of every sensor. First aid from one window a unit, cut at a random age, takes the changes out
again as well as it can; what it cannot, since few rows of units of unlike age tell little of a regime, makes errors
grow. By how much is what intervals in new regimes are widened by, for each band of the label as in
driftloop.training.intervals. What is usual at each age is kept from first aid here: these units age exactly as those
that it is known from, and with it hardly any error would be left, while units of a new domain age otherwise. They may
fail in a way, too, that nobody can rehearse: so no widening is below LEAST of the cap.

Beside it: what healthy answers look like, for the judge without labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.drift.bins import Binner
from driftloop.fleet.labels import bands
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.model import answers, first_aid, grafting
from driftloop.model.answers import Answers, Model
from driftloop.model.bundle import Ages, Rehearsal
from driftloop.model.regimes import Regimes
from driftloop.training.intervals import band_offsets

ROLES = ("early_stop", "calibrate")
LEARNT = ("train", *ROLES)
BAND = 25
"""Steps of an age band."""
MOST = 6.0
"""Normalised sensors are clipped here, as the weights see them."""
LEAST = 0.3
"""Fixed on C-MAPSS with FD001 and FD003 as sources: half of FD004's units fail in a way that FD001's do not."""
INVENTED = 6
"""Regimes that the known ones are dealt over; C-MAPSS's fleets have as many where they have several."""
FAR = 10.0
"""Scales that invented settings are away from the known ones."""
GAIN, SHIFT = 0.3, 5.0
"""Spread of the logarithm of a sensor's invented gain, and of its shift in standard deviations."""
STRIDE = 5
LEAST_CYCLES = 20
"""Age at which a unit's window is cut, at the least."""
WINDOWS = 2
"""Windows a unit: the units are fewer than those in service."""


@dataclass(frozen=True)
class Rehearsed:
    """A rehearsal before the bins of the baseline are known."""

    rest: Rehearsal
    asked: Answers
    seed: int

    def on(self, binner: Binner) -> Rehearsal:
        """The whole, with how wrong answers were by the bins of the baseline."""
        return msgspec.structs.replace(self.rest, errors=answers.error_table(self.asked, binner, self.seed))


def rehearse(content: bytes, model: Model, runs: Sequence[Run], seed: int) -> Rehearsed | None:
    """What first aid does to the model of the graph `content`; None where settings tell no regimes, or nobody's do."""
    units = [run for run in sorted(with_role(runs, *ROLES), key=lambda run: run.run_id) if not run.censored]
    if model.schema.use_settings != "regimes" or not units:
        return None
    rng = np.random.default_rng(seed)
    known = grafting.known_regimes(content)
    windows = _snapshot(units, model.window, rng)
    healthy = [first_aid.along(model, window)[0] for window in windows]
    short = [Run(window.run_id, window.rows[-first_aid.ALONG :]) for window in windows]
    slopes = first_aid.slopes(healthy, model.cap)
    if not slopes:
        return None
    hidden = _hidden(known, units, rng)
    ages = _ages(known, with_role(runs, *LEARNT))
    found = first_aid.grown(known, _snapshot(hidden, model.window, rng), ages)
    bare = _asked(content, found, np.zeros(len(bands(model.cap)), np.float32), model, hidden)
    scores = np.maximum(np.maximum(bare.lower - bare.true, bare.true - bare.upper), 0.0)
    offsets = band_offsets(scores, bare.true, bare.engine, model.cap)
    widening = [round(max(float(by), LEAST * model.cap), 3) for by in offsets]
    rest = Rehearsal(
        widening=widening,
        slope=round(float(np.median(slopes)), 4),
        at_cap=round(first_aid.at_cap(healthy, model.cap), 4),
        units=len(units),
        ages=ages,
        short_at_cap=round(first_aid.at_cap([first_aid.along(model, one)[0] for one in short], model.cap), 4),
        rows=(_mean_rows(short), _mean_rows(windows)),
    )
    # What is told of intervals in service is of those that are served: widened ones.
    return Rehearsed(rest, _asked(content, found, np.asarray(widening, np.float32), model, hidden), seed)


def _asked(
    content: bytes, found: Regimes, widening: NDArray[np.float32], model: Model, units: Sequence[Run]
) -> Answers:
    """What the model of the graph `content` answers about `units` with the regimes `found`, so widened."""
    aided = answers.open_session(grafting.appended(content, found, widening))
    return answers.evaluate(Model(aided, model.window, model.schema, model.cap), units, stride=STRIDE, threads=1)


def _mean_rows(windows: Sequence[Run]) -> float:
    return round(float(np.mean([len(window.rows) for window in windows])), 1)


def _ages(known: Regimes, runs: Sequence[Run]) -> Ages:
    """What is usual at each age."""
    values = np.concatenate([known.normalised(run.rows) for run in runs]).clip(-MOST, MOST)
    edges = list(range(BAND, max(len(run.rows) for run in runs), BAND))
    band = np.concatenate([np.searchsorted(edges, np.arange(len(run.rows)), side="right") for run in runs])
    mean, square = ([[0.0] * values.shape[1]] * (len(edges) + 1) for _ in range(2))
    for at in range(len(edges) + 1):
        inside = values[band == at]
        mean[at] = [round(float(value), 4) for value in np.nan_to_num(np.nanmean(inside, axis=0))]
        square[at] = [round(float(value), 4) for value in np.nan_to_num(np.nanmean(inside**2, axis=0))]
    return Ages(edges, mean, square)


def _snapshot(units: Sequence[Run], width: int, rng: np.random.Generator) -> list[Run]:
    """WINDOWS windows of each unit, cut at random ages."""
    found = []
    for run in units:
        for number in range(WINDOWS):
            end = int(rng.integers(min(LEAST_CYCLES, len(run.rows)), len(run.rows) + 1))
            found.append(Run(f"{run.run_id}-{number}", run.rows[max(0, end - width) : end]))
    return found


def _hidden(known: Regimes, units: Sequence[Run], rng: np.random.Generator) -> list[Run]:
    """The units as they would be run in invented regimes."""
    each, n = max(1, round(INVENTED / len(known))), known.centres.shape[1]
    count = each * len(known)
    gain = np.exp(rng.normal(0.0, GAIN, (count, known.mean.shape[1])))
    shift = rng.normal(0.0, SHIFT, gain.shape)
    return [Run(run.run_id, _moved(run.rows, known, n, rng, each, gain, shift)) for run in units]


def _moved(
    rows: NDArray[np.float64],
    known: Regimes,
    n: int,
    rng: np.random.Generator,
    each: int,
    gain: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> NDArray[np.float64]:
    regime = known.assign(np.nan_to_num(rows[:, :n]))[0]
    to = regime * each + rng.integers(0, each, len(rows))
    settings = known.centres[regime] + FAR * (1 + to[:, None]) * known.scales
    apart = (rows[:, n:] - known.mean[regime]) * gain[to] + shift[to] * known.std[regime]
    sensors = np.where(known.varies[regime] > 0, known.mean[regime] + apart, rows[:, n:])
    return np.concatenate([settings, sensors], axis=1)
