"""What an exported model answers: predictions for judging it, traces for its baseline. ONNX Runtime, no torch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from driftloop.drift import live_error, sensors
from driftloop.drift.baseline_build import REFERENCE_ROLES, Trace
from driftloop.drift.bins import Binner
from driftloop.drift.live_error import LiveErrors
from driftloop.errors import BundleError, DataError
from driftloop.fleet.labels import capped, window_ends
from driftloop.fleet.quality import is_judged, of_life
from driftloop.fleet.runs import Run, windows
from driftloop.fleet.schema import Schema
from driftloop.model.bundle import MODEL, ErrorTable, ManifestEntry, read_metadata
from driftloop.model.signature import INPUT, OUTPUTS

BATCH = 32
"""Windows that are answered together; of many more, the inputs leave the processor's cache before they are used."""
WITNESS_ROLES = frozenset({"calibrate", "gate"})
"""Units that no weight was fitted on and no epoch chosen on."""
LEAST_WITNESSES, WITNESS_STRIDE = 5, 5
TRACED = 100
"""Engines of one domain that a baseline is made from: more change its distributions less than a fleet changes."""


@dataclass(frozen=True, eq=False)
class Model:
    """An exported model, ready to answer."""

    session: Any
    """`onnxruntime.InferenceSession`, one thread per call; calls may run side by side."""
    window: int
    schema: Schema
    cap: int
    """Of its labels, in steps."""


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers to windows of some runs, `[n]` where not said otherwise, and side by side."""

    engine: NDArray[np.str_]
    cycle: NDArray[np.int64]
    """1 for an engine's first row."""
    true: NDArray[np.float64]
    """Capped RUL, cycles."""
    rul: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    regime: NDArray[np.int64]
    newest: NDArray[np.float32]
    """Normalised sensors, `[n, sensors]`."""


def open_model(folder: Path) -> Model:
    """The model of a bundle's folder; raises BundleError where it cannot be loaded."""
    metadata = read_metadata(folder)
    return Model(open_session(folder / MODEL), metadata.window, metadata.schema, metadata.cap)


def open_session(graph: Path | bytes) -> Any:
    """An ONNX Runtime session of a graph, or of its file, with one thread per call; raises BundleError where it is
    missing or damaged."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        source = graph if isinstance(graph, bytes) else str(graph)
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise BundleError(
            f"cannot be loaded: {error}", where=MODEL if isinstance(graph, bytes) else str(graph)
        ) from error


def evaluate(model: Model, runs: Sequence[Run], *, stride: int = 1, threads: int = 2) -> Answers:
    """The answers to every `stride`-th window of `runs`, the last one of each included.

    Raises DataError where there is no run to evaluate on.
    """
    if not runs:
        raise DataError("there is no run to evaluate a model on")
    found = list(outputs(model, runs, threads, stride))
    lengths = [len(answer[0]) for answer in found]
    cycles = [window_ends(len(run.rows), stride) for run in runs]
    labels = [capped(run.rul[ends], model.cap) for run, ends in zip(runs, cycles, strict=True)]
    rul, lower, upper, regime, newest = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Answers(
        engine=np.repeat([run.run_id for run in runs], lengths),
        cycle=np.concatenate(cycles).astype(np.int64) + 1,
        true=np.concatenate(labels).astype(np.float64),
        rul=rul,
        lower=lower,
        upper=upper,
        regime=regime,
        newest=newest,
    )


def error_table(found: Answers, binner: Binner, seed: int) -> ErrorTable:
    """How wrong answers are, by their bins of a baseline."""
    bins = binner.of_predictions(found.rul)
    inside = (found.lower <= found.true) & (found.true <= found.upper)
    unit = np.unique(found.engine, return_inverse=True)[1]
    error = found.rul.astype(np.float64) - found.true
    return live_error.fit(live_error.Outcomes(bins, error, inside, unit), int(binner.sizes[0]), seed)


def live_errors(
    model: Model, runs: Sequence[Run], manifest: Sequence[ManifestEntry], binner: Binner, regimes: int, seed: int
) -> LiveErrors | UnsetType:
    """What the live error of a model of so many regimes is estimated from: units that no weight was fitted to."""
    usable = {entry.run_id for entry in manifest if entry.role in WITNESS_ROLES and not entry.superseded}
    chosen = [run for run in runs if run.run_id in usable and not run.censored]
    if len(chosen) < LEAST_WITNESSES:
        return UNSET
    chosen = sorted(chosen, key=lambda run: run.run_id)[:TRACED]
    return LiveErrors(error_table(evaluate(model, chosen, stride=WITNESS_STRIDE), binner, seed), regimes)


def traces(model: Model, runs: Sequence[Run], manifest: Sequence[ManifestEntry], *, threads: int = 2) -> list[Trace]:
    """The model's answers over every cycle of the manifest's engines with a role in its making, for its baseline.

    Of a domain with more than TRACED such engines the first by id stand for all: an id is a hash. Runs outside the
    manifest, and those that judge or only send traffic, are passed over.
    """
    domain = {entry.run_id: entry.domain for entry in manifest}
    left = dict.fromkeys(domain.values(), TRACED)
    chosen = []
    for run in sorted(runs, key=lambda run: run.run_id):
        if run.run_id in domain and run.role in REFERENCE_ROLES and left[domain[run.run_id]]:
            left[domain[run.run_id]] -= 1
            chosen.append(run)
    return [
        Trace(
            run_id=run.run_id,
            domain=domain[run.run_id],
            role=run.role,
            prediction=rul,
            settings=run.rows[:, : model.schema.n_settings].astype(np.float32),
            newest=newest,
            regime=regime,
            quality=sensors.Life(*of_life(run.rows, model.schema, model.window)) if is_judged(model.schema) else None,
        )
        for run, (rul, _, _, regime, newest) in zip(chosen, outputs(model, chosen, threads), strict=True)
    ]


def outputs(model: Model, runs: Sequence[Run], threads: int, stride: int = 1) -> Iterator[list[NDArray[Any]]]:
    """All outputs for the windows of each run; the runs share the threads."""

    def answer(run: Run) -> list[NDArray[Any]]:
        rows, _ = windows(run, model.window, model.cap, stride, counted=model.schema.padding == "counted")
        return outputs_for(model, rows)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        yield from pool.map(answer, runs)


def outputs_for(model: Model, rows: NDArray[np.float32]) -> list[NDArray[Any]]:
    """All outputs for windows `[n, steps, columns]`."""
    parts = [model.session.run(list(OUTPUTS), {INPUT: rows[i : i + BATCH]}) for i in range(0, len(rows), BATCH)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
