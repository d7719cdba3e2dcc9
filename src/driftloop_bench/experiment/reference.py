"""The model that a recovered one is measured against: the same architecture, trained from scratch.

It is trained on exactly the engines of the challenger's manifest, by `driftloop train` in a process of its own,
after the traffic has stopped; then it answers the same requests.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DriftloopError
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.model.bundle import METADATA, MODEL, Metadata, read_metadata
from driftloop.model.registry import Registry
from driftloop.settings import Settings
from driftloop_bench.experiment.recording import Recording
from driftloop_bench.experiment.traffic import Record, SentEngine

BATCH = 256
LIMIT_S = 1800.0


def fetch_metadata(version: str, settings: Settings) -> Metadata:
    """The metadata of a registered version, its manifest included."""
    with tempfile.TemporaryDirectory() as folder, Registry(settings.mlflow_url, settings.model) as registry:
        registry.fetch(version, Path(folder))
        return read_metadata(Path(folder))


def seed_of(manifest_of: Metadata, seed: int) -> int:
    """The seed of the reference for a version: `seed`, or the next one where the version was itself trained in full
    with it. The reference would be the version itself, and as good as it whatever it is worth.
    """
    return seed + 1 if manifest_of.training == "full" and manifest_of.seed == seed else seed


def train_reference(
    manifest_of: Metadata,
    known: Sequence[Run],
    settings: Settings,
    folder: Path,
    *,
    seed: int = 0,
) -> Path:
    """Train the reference model on the runs of `manifest_of`; returns the folder with its `model.onnx`.

    `known` are the runs that the experiment knows. A reference that was trained before on the same
    manifest with the same seed is used again. Raises DriftloopError for a run that is not among them, and
    with the end of the output where training fails.
    """
    manifest = msgspec.json.encode(manifest_of.manifest)
    target = folder / f"reference-{hashlib.sha256(manifest).hexdigest()[:12]}-{seed}"
    if (target / MODEL).exists():
        return target
    with tempfile.TemporaryDirectory(dir=_made(folder)) as temporary:
        runs_folder, manifest_file = Path(temporary) / "runs", Path(temporary) / "manifest.json"
        open_archive(runs_folder, settings.schema).add_all(_runs_of(manifest_of, known))
        manifest_file.write_bytes(manifest)
        output = Path(temporary) / "bundle"
        command = [
            sys.executable, "-m", "driftloop.cli", "train", "--mode", "full", "--no-register", "--seed", str(seed),
            "--runs-dir", str(runs_folder), "--manifest", str(manifest_file), "--output", str(output),
        ]  # fmt: skip
        _call(command)
        output.rename(target)
    return target


def predict(folder: Path, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """RUL in steps `[n]` that the model in `folder` gives for windows `[steps, columns]` of any lengths."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
    found = np.empty(len(windows))
    by_length: dict[int, list[int]] = {}
    for index, window in enumerate(windows):
        by_length.setdefault(len(window), []).append(index)
    for indices in by_length.values():
        for first in range(0, len(indices), BATCH):
            part = indices[first : first + BATCH]
            found[part] = session.run(["rul"], {"rows": np.stack([windows[index] for index in part])})[0]
    return found


def windows_of(recording: Recording, records: Sequence[Record]) -> list[NDArray[np.float32]]:
    """The windows that were sent in `records`, `[steps, columns]` each."""
    found = []
    for record in records:
        engines: dict[str, SentEngine] = recording.changed if record.changed else recording.healthy
        rows = engines[record.engine_id].rows
        found.append(rows[max(0, record.cycle - recording.window) : record.cycle])
    return found


def _runs_of(metadata: Metadata, known: Sequence[Run]) -> list[Run]:
    by_id = {run.run_id: run for run in known}
    missing = [entry.run_id for entry in metadata.manifest if entry.run_id not in by_id]
    if missing:
        raise DriftloopError(
            f"{len(missing)} runs of the challenger's manifest are in no part of the fleet that the experiment knows",
            where=METADATA,
            remedy="run the experiment on a fresh platform, or leave the reference out with --no-reference",
        )
    return [by_id[entry.run_id] for entry in metadata.manifest]


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DriftloopError(f"took longer than {LIMIT_S:g} s", where="driftloop train (reference)") from error
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise DriftloopError(f"failed with exit code {done.returncode}:\n{tail}", where="driftloop train (reference)")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
