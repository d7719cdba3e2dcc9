"""The bundle of a trained model: graph, baseline, metadata and checkpoint, written as files that belong together."""

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from driftloop import durable
from driftloop.drift.baseline import Baseline, baseline_bytes, read_weights
from driftloop.drift.baseline_build import build_baseline
from driftloop.errors import BundleError, DataError
from driftloop.fleet.archive import Archive
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.model import answers, bundle
from driftloop.model.answers import Model, traces
from driftloop.model.bundle import BASELINE, CHECKPOINT, MODEL, Example, ManifestEntry, Metadata
from driftloop.model.signature import INPUT

if TYPE_CHECKING:
    from driftloop.training.train import TrainConfig, Trained

EXAMPLE_CYCLES = 20
"""Rows of each window of the example: fewer than the model's window, so that padding is checked with it."""

__all__ = [
    "EXAMPLE_CYCLES",
    "build_bundle",
    "check_runs",
    "extended_manifest",
    "first_manifest",
    "git_commit",
    "rebuild_baseline",
    "traces",
]


def first_manifest(runs: Sequence[Run]) -> list[ManifestEntry]:
    """The manifest of a first champion: all runs form the operating domain 0."""
    return extended_manifest([], runs)


def extended_manifest(known: Sequence[ManifestEntry], runs: Sequence[Run]) -> list[ManifestEntry]:
    """`known` with the runs that it lacks, in the order of their ids, as the next operating domain."""
    ids = {entry.run_id for entry in known}
    domain = 1 + max((entry.domain for entry in known), default=-1)
    new = sorted((run for run in runs if run.run_id not in ids), key=lambda run: run.run_id)
    return [*known, *(entry_of(run, domain) for run in new)]


def entry_of(run: Run, domain: int) -> ManifestEntry:
    """The entry of a new run; one that is censored has no label that could hold."""
    return ManifestEntry(run.run_id, run.sha256, run.role, domain, len(run.rows), superseded=run.censored)


def check_runs(runs: Sequence[Run], manifest: Sequence[ManifestEntry], where: str) -> None:
    """Raise DataError, saying what to do, unless the runs are those of the manifest, in its order and unchanged."""
    changed = [run.run_id for run, entry in zip(runs, manifest, strict=True) if run.sha256 != entry.sha256]
    if changed:
        raise DataError(
            f"run {changed[0]} and {len(changed) - 1} others are not what the manifest says",
            where=where,
            remedy="the archive is append-only: restore it from a backup",
        )


def build_bundle(
    trained: "Trained",
    runs: Sequence[Run],
    manifest: Sequence[ManifestEntry],
    folder: Path,
    weights: Sequence[float] | None = None,
    *,
    data_source: str,
    parent_version: str | None = None,
    cause: str | None = None,
    dvc_revision: str | None = None,
    created: str | None = None,
) -> Path:
    """Write model.onnx, baseline.json, metadata.json and checkpoint.npz into `folder` and return it.

    `runs` are those that the model was trained on, `manifest` all that it knows. `weights` is the share of each
    domain in today's traffic, in the order of the domains' numbers; None takes the shares of the engines.
    Equal arguments, `created` included, give equal bytes. Raises BundleError where the exported graph does not
    answer as torch does.
    """
    from driftloop.training import export, intervals, rehearsal
    from driftloop.training import train as training

    config = trained.config
    known = {entry.run_id for entry in manifest}
    unknown = [run.run_id for run in runs if run.run_id not in known]
    if unknown:
        raise ValueError(f"run {unknown[0]} and {len(unknown) - 1} others are not in the manifest")
    folder.mkdir(parents=True, exist_ok=True)
    learnt = with_role(sorted(runs, key=lambda run: run.run_id), "train")
    export.export(trained.network, learnt[0].rows, folder)
    arrays = training.checkpoint_arrays(trained.network)
    _write_checkpoint(folder, arrays)
    schema, cap = trained.schema, trained.network.form.cap
    model = Model(answers.open_session(folder / MODEL), config.architecture.window, schema, cap)
    regimes = len(arrays["centres"])
    with ThreadPoolExecutor(1) as beside:
        rehearsing = beside.submit(rehearsal.rehearse, (folder / MODEL).read_bytes(), model, runs, config.seed)
        baseline = _baseline(model, runs, manifest, regimes, weights, config.seed)
        rehearsed = rehearsing.result()
    durable.write_atomically(folder / BASELINE, baseline_bytes(baseline))
    bundle.write_metadata(
        folder,
        Metadata(
            window=config.architecture.window,
            regimes=regimes,
            manifest=list(manifest),
            example=_example(model, learnt[0]),
            data_source=data_source,
            seed=config.seed,
            training=trained.training,
            parent_version=parent_version,
            cause=cause,
            git_commit=git_commit(),
            dvc_revision=dvc_revision,
            parameters=_parameters(config),
            interval_method=intervals.CROSSED if trained.network.architecture.crossed else UNSET,
            metrics={name: round(value, 6) for name, value in trained.metrics.items()},
            cap=cap,
            fleet=schema,
            rehearsal=rehearsed.on(baseline.binner) if rehearsed is not None else None,
            created=created or durable.now(),
        ),
    )
    return folder


def rebuild_baseline(folder: Path, archive: Archive) -> bytes:
    """The baseline of a bundle made once more from its model, its manifest and the archive: the same bytes.

    The mixture weights are those of the baseline that is there, since they were read off traffic that is gone;
    where there is none, they are the shares of the engines. Nothing is written. Raises DataError where the
    archive lacks a run of the manifest or has another one under its id.
    """
    metadata, model = bundle.read_metadata(folder), answers.open_model(folder)
    runs = archive.read_all(entry.run_id for entry in metadata.manifest)
    check_runs(runs, metadata.manifest, "archive")
    try:
        weights: list[float] | None = read_weights(folder)
    except BundleError:
        weights = None
    return baseline_bytes(_baseline(model, runs, metadata.manifest, metadata.regimes, weights, metadata.seed))


def _baseline(
    model: Model,
    runs: Sequence[Run],
    manifest: Sequence[ManifestEntry],
    regimes: int,
    weights: Sequence[float] | None,
    seed: int,
) -> Baseline:
    """The baseline of a model of so many regimes, with what its live error is estimated from."""
    made = build_baseline(traces(model, runs, manifest), model.schema, model.cap, weights, seed=seed)
    errors = answers.live_errors(model, runs, manifest, made.binner, regimes, seed)
    return msgspec.structs.replace(made, errors=errors)


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from; None where it is installed without one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _write_checkpoint(folder: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    path = folder / CHECKPOINT
    temporary = folder / f".{CHECKPOINT}"
    with temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    durable.write_atomically(path, temporary.read_bytes())
    temporary.unlink()


def _example(model: Model, run: Run) -> Example:
    """Windows of an engine's youth, middle age and end, with what the exported model answers."""
    cycles = min(EXAMPLE_CYCLES, len(run.rows))
    ends = np.linspace(cycles, len(run.rows), 3).astype(int)
    batch = np.stack([run.rows[end - cycles : end] for end in ends])
    rul, lower, upper = model.session.run(["rul", "lower", "upper"], {INPUT: batch.astype(np.float32)})
    return Example(batch.tolist(), rul.tolist(), lower.tolist(), upper.tolist())


def _parameters(config: "TrainConfig") -> dict[str, float | int | str | bool]:
    flat: dict[str, float | int | str | bool] = asdict(config)
    sizes: dict[str, float | int | str | bool] = asdict(config.architecture)
    del flat["architecture"]
    return sizes | flat
