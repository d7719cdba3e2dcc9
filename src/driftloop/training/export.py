"""From the torch network to `model.onnx`, and the proof that both answer alike."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from driftloop.durable import write_atomically
from driftloop.errors import BundleError
from driftloop.model.bundle import MODEL
from driftloop.model.signature import INPUT
from driftloop.training.network import Outputs, RulNetwork

OPSET = 17
TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and torch: absolute, or relative for values above 1."""
PADDED_ROWS = 7


def export(network: RulNetwork, rows: NDArray[np.floating], folder: Path) -> Path:
    """Write `model.onnx` into `folder` and compare it with torch on histories cut out of `rows`.

    `rows` `[cycles, columns]` are real rows of one engine at least. Batches of one and more, histories of one row,
    shorter than the window, as long and longer are compared, and values far outside anything measured.
    Raises BundleError where any answer differs by more than `TOLERANCE` or is not finite.
    """
    content = onnx_bytes(network)
    loaded = session(content)
    # Statistics over gaps and standard scores magnify what float32 rounds off; a share of the cap is what matters then.
    allowed = TOLERANCE * (network.form.cap if network.form.counted else 1)
    for batch in _batches(rows.astype(np.float32), network.architecture.window, network.form.counted):
        with torch.no_grad():
            expected = network(torch.from_numpy(batch))
        got = loaded.run(list(Outputs._fields), {INPUT: batch})
        for name, want, have in zip(Outputs._fields, expected, got, strict=True):
            if not np.isfinite(have).all() or not np.allclose(want.numpy(), have, rtol=TOLERANCE, atol=allowed):
                worst = float(np.abs(want.numpy().astype(np.float64) - have).max())
                raise BundleError(
                    f"output {name!r} differs from torch by {worst:.3g} on a batch of shape {list(batch.shape)}",
                    where=str(folder / MODEL),
                    remedy="torch and onnxruntime do not fit together; install the versions of the lock file",
                )
    write_atomically(folder / MODEL, content)
    return folder / MODEL


def onnx_bytes(network: RulNetwork) -> bytes:
    """The network as an ONNX file with free batch and cycles axes; equal networks give equal bytes."""
    buffer = io.BytesIO()
    network.eval()
    sample = torch.zeros(2, network.architecture.window, network.form.settings + network.form.sensors)
    with warnings.catch_warnings():
        # The exporter warns of its age.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (sample,),
            buffer,
            input_names=[INPUT],
            output_names=list(Outputs._fields),
            dynamic_axes={INPUT: {0: "batch", 1: "cycles"}} | {name: {0: "batch"} for name in Outputs._fields},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def session(content: bytes) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session of an exported network, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _batches(rows: NDArray[np.float32], window: int, counted: bool) -> list[NDArray[np.float32]]:
    """Histories `[batch, cycles, columns]` of several lengths and batch sizes, the last far outside the data."""
    found = []
    for size in (1, 3, 32):
        for cycles in (1, PADDED_ROWS, window, window + 25):
            ends = np.linspace(0, len(rows) - 1, size).astype(int)
            index = np.clip(ends[:, None] + np.arange(1 - cycles, 1), 0, None)
            found.append(rows[index])
    far = np.stack([rows[:PADDED_ROWS] + 50.0, rows[:PADDED_ROWS] * -3.0, np.full_like(rows[:PADDED_ROWS], 3e38)])
    return [*found, far.astype(np.float32), *(_with_gaps(found) if counted else [])]


def _with_gaps(batches: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """The same histories with missing values here and there, and with leading rows that have none at all."""
    rng = np.random.default_rng(0)
    gaps = []
    for batch in batches:
        lacking = batch.copy()
        lacking[rng.random(batch.shape) < 0.3] = np.nan
        lacking[0, : batch.shape[1] // 2] = np.nan
        gaps.append(lacking)
    return gaps
