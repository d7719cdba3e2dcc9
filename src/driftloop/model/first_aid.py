"""First aid: a model for an operating domain that it has not seen, from unlabelled windows of units alone.

Most of the damage that a new operating regime does is in the normalisation, which needs no labels. So the model stays
as it is, but for its regimes: those that the windows show and it lacks are appended, with the mean and standard
deviation at which the windows' rows look as units of their age do. (Units in service are younger than the whole lives
that a model is trained on, and what is usual at an age is known from training.) Known regimes are not touched. It
cannot see a bias, a new way to fail, or anything else that changes within a known regime. Needs onnx and ONNX Runtime,
not torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop import durable
from driftloop.drift import provisional
from driftloop.drift.baseline import Baseline, baseline_bytes, read_baseline
from driftloop.drift.baseline_build import Trace
from driftloop.fleet.labels import window_ends
from driftloop.fleet.runs import Run, windows_at
from driftloop.model import bundle, grafting, regimes
from driftloop.model.answers import Model, open_session, outputs_for
from driftloop.model.bundle import BASELINE, CHECKPOINT, FIRST_AID, MODEL, Ages, Metadata
from driftloop.model.regimes import RADIUS, Regimes

LEAST_UNITS = 10
"""Units with rows in regimes that the model does not know."""
LEAST_ROWS = 500
"""Rows of these units together, in whatever regime."""
LEAST_OF_REGIME = 20
"""Rows from which a regime's mean and standard deviation can be taken."""
LEAST_SPREAD = 0.2
"""Standard deviation that units of an age have at least, in those of a whole life."""
NOTHING: Mapping[str, int] = {}
ALONG = 60
"""Newest rows of a unit that the model is asked after each of."""
BELOW_CAP = 0.95
"""Share of the cap below which an answer counts as below it."""
LEAST_ANSWERS = 10
"""Answers of a unit below the cap from which it can be seen how they change."""


@dataclass(frozen=True, eq=False)
class Known:
    """What first aid needs of the model that is served."""

    folder: Path
    metadata: Metadata
    content: bytes
    """Of its graph."""
    regimes: Regimes
    baseline: Baseline
    model: Model


@dataclass(frozen=True, eq=False)
class Aided:
    """A model that was given first aid, with what it says along the windows it was given."""

    content: bytes
    """Of its graph."""
    regimes: Regimes
    added: int
    """Regimes that were appended."""
    model: Model
    baseline: Baseline
    strange: list[Run]
    """Windows with rows in regimes that were not known."""
    familiar: list[Run]
    """Those without."""
    traces: list[Trace]
    """What the aided model answers along the strange windows."""


def impossible(metadata: Metadata) -> str | None:
    """Why a model cannot be given first aid whatever the traffic is, in words; None where it can."""
    use = metadata.schema.use_settings
    if use == "none":
        return "the fleet's model uses no settings: nothing says where a unit is run, so that nothing can be grown"
    if use == "continuous":
        return (
            "settings are continuous: a regression beyond what was seen is a guess that nothing without labels judges"
        )
    if metadata.rehearsal is None:
        return "the model was made before first aid was rehearsed in training: train it anew"
    return None


def read(folder: Path) -> Known:
    """The model of a bundle's folder; raises BundleError where it is damaged, or has no regimes to append to."""
    metadata, content = bundle.read_metadata(folder), (folder / MODEL).read_bytes()
    model = Model(open_session(content), metadata.window, metadata.schema, metadata.cap)
    return Known(folder, metadata, content, grafting.known_regimes(content), read_baseline(folder), model)


def newest(runs: Sequence[Run]) -> list[Run]:
    """The windows in the order of their units, of each unit the longest: its rows are measured once."""
    longest: dict[str, Run] = {}
    for run in runs:
        if run.run_id not in longest or len(run.rows) > len(longest[run.run_id].rows):
            longest[run.run_id] = run
    return [longest[unit] for unit in sorted(longest)]


def is_strange(known: Regimes, run: Run) -> NDArray[np.bool_]:
    """Which rows of a window have settings that no known regime has, `[n]`."""
    settings = run.rows[:, : known.centres.shape[1]]
    there = np.isfinite(settings).all(axis=1)
    inside = np.ones(len(settings), dtype=bool)
    if there.any():
        inside[there] = known.assign(settings[there])[1]
    return ~inside


def lacking(known: Regimes, runs: Sequence[Run]) -> str | None:
    """What the windows are still too few of, in words; None where there are enough."""
    lengths = [len(run.rows) for run in runs if is_strange(known, run).any()]
    units, rows = len(lengths), sum(lengths)
    if units < LEAST_UNITS or rows < LEAST_ROWS:
        return (
            f"{units} of {LEAST_UNITS} units in regimes that the model does not know, with {rows} of {LEAST_ROWS} rows"
        )
    return None


def grown(known: Regimes, runs: Sequence[Run], ages: Ages, begins: Mapping[str, int] = NOTHING) -> Regimes:
    """`known` with the regimes appended that enough rows of `runs` show, apart from every known one.

    `begins` are the steps of each unit's life before its window; a unit that is not among them may be of any age.
    A centre nearer to a known one than two radii would take rows from it: it is left out, as what is known stays.
    """
    found = regimes.extend(known, runs)
    rows = np.concatenate([run.rows[is_strange(known, run)] for run in runs])
    settings = rows[:, : known.centres.shape[1]]
    settings = settings[np.isfinite(settings).all(axis=1)]
    keep = list(range(len(known)))
    for at in range(len(known), len(found)):
        apart = np.sqrt((((found.centres[at] - known.centres) / known.scales) ** 2).sum(axis=1))
        inside = np.sqrt((((settings - found.centres[at]) / known.scales) ** 2).sum(axis=1)) <= RADIUS
        if apart.min(initial=np.inf) > 2 * RADIUS and inside.sum() >= LEAST_OF_REGIME:
            keep.append(at)
    kept = Regimes(found.centres[keep], found.mean[keep], found.std[keep], found.varies[keep], known.scales)
    return _of_their_age(kept, known, runs, ages, begins)


def _of_their_age(
    found: Regimes, known: Regimes, runs: Sequence[Run], ages: Ages, begins: Mapping[str, int]
) -> Regimes:
    """`found` with the new regimes' mean and standard deviation such that their rows look as units of their age do.

    Of a sensor that is constant in all known regimes the weights have learnt nothing: it is so in the new ones too.
    """
    rows = np.concatenate([run.rows for run in runs])
    band = np.concatenate([_bands(ages, begins.get(run.run_id), len(run.rows)) for run in runs])
    there = np.isfinite(rows[:, : known.centres.shape[1]]).all(axis=1)
    at, inside = found.assign(rows[there, : known.centres.shape[1]])
    band = band[there]
    # At last what is usual at no age in particular, which is what sensors are normalised to.
    sensors = known.mean.shape[1]
    usual, square = np.vstack([ages.mean, np.zeros(sensors)]), np.vstack([ages.square, np.ones(sensors)])
    mean, std, varies = found.mean.copy(), found.std.copy(), found.varies.copy()
    for regime in range(len(known), len(found)):
        here = band[inside & (at == regime)]
        middle = usual[here].mean(axis=0)
        spread = np.sqrt(np.maximum(square[here].mean(axis=0) - middle**2, LEAST_SPREAD**2))
        varying = varies[regime] * known.varies.max(axis=0) > 0
        std[regime] = np.where(varying, std[regime] / spread, std[regime])
        mean[regime] = np.where(varying, mean[regime] - middle * std[regime], mean[regime])
        varies[regime] = varying
    return Regimes(found.centres, mean, std, varies, found.scales)


def _bands(ages: Ages, begin: int | None, rows: int) -> NDArray[np.int64]:
    """The age band of each row of a window, `[rows]`; -1 where nobody knows the unit's age."""
    if begin is None:
        return np.full(rows, -1)
    return np.searchsorted(ages.edges, begin + np.arange(rows), side="right")


def give(known: Known, runs: Sequence[Run], begins: Mapping[str, int] = NOTHING) -> Aided | None:
    """First aid for `known` from `runs`, one window a unit (`newest`), `begins` as for `grown`.

    None where they show no new regime.
    """
    assert known.metadata.rehearsal is not None
    found = grown(known.regimes, runs, known.metadata.rehearsal.ages, begins)
    added = len(found) - len(known.regimes)
    if not added:
        return None
    content = grafting.appended(known.content, found, np.asarray(known.metadata.rehearsal.widening, np.float32))
    model = Model(open_session(content), known.metadata.window, known.metadata.schema, known.metadata.cap)
    marks = [bool(is_strange(known.regimes, run).any()) for run in runs]
    strange = [run for run, mark in zip(runs, marks, strict=True) if mark]
    familiar = [run for run, mark in zip(runs, marks, strict=True) if not mark]
    number = 1 + max(domain.domain for domain in known.baseline.domains)
    traces = [trace_of(model, run, number) for run in strange]
    share = min(0.99, len(strange) / len(runs))
    baseline = provisional.with_domain(known.baseline, traces, len(found), share)
    if baseline.errors is not msgspec.UNSET:
        errors = msgspec.structs.replace(baseline.errors, grown=known.metadata.rehearsal.errors)
        baseline = msgspec.structs.replace(baseline, errors=errors)
    return Aided(content, found, added, model, baseline, strange, familiar, traces)


def trace_of(model: Model, run: Run, domain: int = 0) -> Trace:
    """What a model answers after each of the newest ALONG rows of a window, as if they had arrived one by one."""
    rul, _, _, regime, normalised = along(model, run)
    settings = run.rows[-len(rul) :, : model.schema.n_settings].astype(np.float32)
    return Trace(run.run_id, domain, "train", rul, settings, normalised, regime, remaining=rul)


def along(model: Model, run: Run) -> list[NDArray[Any]]:
    """All outputs after each of the newest ALONG rows of a window, oldest first."""
    rows = windows_at(
        run, window_ends(len(run.rows), 1)[-ALONG:], model.window, counted=model.schema.padding == "counted"
    )
    return outputs_for(model, rows)


def slopes(answers: Sequence[NDArray[np.floating]], cap: float) -> list[float]:
    """By how much each unit's successive `answers` below the cap change a step: a line's slope by least squares."""
    found = []
    for each in answers:
        at = np.flatnonzero(each < BELOW_CAP * cap)
        if len(at) >= LEAST_ANSWERS:
            found.append(float(np.polyfit(at, each[at].astype(np.float64), 1)[0]))
    return found


def at_cap(answers: Sequence[NDArray[np.floating]], cap: float) -> float:
    """The share of all units' `answers` that are at the cap."""
    return float(np.mean(np.concatenate(answers) >= BELOW_CAP * cap))


def write(known: Known, aided: Aided, folder: Path, *, parent_version: str, cause: str | None) -> Path:
    """Write the provisional version's bundle into `folder` and return it.

    Manifest and checkpoint are the labelled version's, so that a retraining goes on from what had labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_atomically(folder / MODEL, aided.content)
    durable.write_atomically(folder / BASELINE, baseline_bytes(aided.baseline))
    if (known.folder / CHECKPOINT).exists():
        durable.write_atomically(folder / CHECKPOINT, (known.folder / CHECKPOINT).read_bytes())
    bundle.write_metadata(
        folder,
        msgspec.structs.replace(
            known.metadata,
            training=FIRST_AID,
            regimes=len(aided.regimes),
            parent_version=parent_version,
            cause=cause,
            created=durable.now(),
        ),
    )
    return folder
