"""A model version ready to answer: the bundle's graph in ONNX Runtime, its baseline's bins and its metadata."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from driftloop.drift.baseline import read_bins
from driftloop.drift.bins import Binner
from driftloop.durable import now
from driftloop.errors import BundleError
from driftloop.fleets.cmapss.schema import N_COLUMNS, N_SENSORS, N_SETTINGS, RUL_CAP
from driftloop.model import bundle
from driftloop.model.bundle import Metadata
from driftloop.model.signature import UNSEEN_REGIME

STUB_VERSION = "stub"
MOST_AT_ONCE = 64
"""Windows in one run of the graph: larger batches are no faster and would keep short requests waiting."""
EXAMPLE_TOLERANCE = 1e-3
"""Cycles by which an answer may differ from the one that the exporter recorded."""

_INPUT = "rows"
_OUTPUTS = ["rul", "lower", "upper", "regime", "newest"]
_OUTPUT_SHAPES = {
    "rul": ("tensor(float)", 1),
    "lower": ("tensor(float)", 1),
    "upper": ("tensor(float)", 1),
    "regime": ("tensor(int64)", 1),
    "newest": ("tensor(float)", 2),
}

Rows = Sequence[Sequence[float | None]]
Float32 = NDArray[np.float32]


class Outputs(NamedTuple):
    """What a model says of n windows: the graph's outputs (driftloop.model.bundle) and the newest row's settings."""

    rul: Float32
    lower: Float32
    upper: Float32
    regime: NDArray[np.int64]
    newest: Float32
    """`[n, 21]`, regime-normalised."""
    settings: Float32
    """`[n, 3]`."""


class Engine(Protocol):
    """Answers windows with one model version."""

    version: str
    digest: str
    loaded_at: str
    window: int
    metadata: Metadata | None
    binner: Binner | None

    def predict(self, windows: Sequence[Rows]) -> Outputs:
        """Answers for `windows`, each `[cycles >= 1][24]`, in their order."""


class Slot:
    """The engine that is serving. A swap is the assignment of one reference, so a batch sees one engine or another."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine


class StubEngine:
    """Serves until a model is registered: RUL 125 for everything, with the widest interval, marked as a stub."""

    version, digest, window = STUB_VERSION, "", 1
    metadata: Metadata | None = None
    binner: Binner | None = None

    def __init__(self) -> None:
        self.loaded_at = now()

    def predict(self, windows: Sequence[Rows]) -> Outputs:
        """RUL 125, interval 0 to 125."""
        n = len(windows)
        cap = np.full(n, RUL_CAP, dtype=np.float32)
        settings = np.array([rows[-1][:N_SETTINGS] for rows in windows], dtype=np.float32)
        unseen = np.full(n, UNSEEN_REGIME, dtype=np.int64)
        return Outputs(cap, np.zeros_like(cap), cap, unseen, np.zeros((n, N_SENSORS), dtype=np.float32), settings)


class OnnxEngine:
    """A bundle's graph; made by `load`."""

    def __init__(
        self, version: str, digest: str, session: ort.InferenceSession, metadata: Metadata, binner: Binner
    ) -> None:
        self.version, self.digest, self.loaded_at = version, digest, now()
        self.metadata: Metadata | None = metadata
        self.binner: Binner | None = binner
        self.window = metadata.window
        self._session = session

    def predict(self, windows: Sequence[Rows]) -> Outputs:
        """One run of the graph per length of history, and per `MOST_AT_ONCE` windows."""
        seen = [rows[-self.window :] for rows in windows]
        by_length: dict[int, list[int]] = {}
        for index, rows in enumerate(seen):
            by_length.setdefault(len(rows), []).append(index)
        pieces = [
            (part, self._run(_array([seen[index] for index in part], length)))
            for length, indices in by_length.items()
            for part in (indices[i : i + MOST_AT_ONCE] for i in range(0, len(indices), MOST_AT_ONCE))
        ]
        if len(pieces) == 1:
            return pieces[0][1]
        order = np.argsort(np.concatenate([part for part, _ in pieces]))
        return Outputs(*(np.concatenate(column)[order] for column in zip(*(out for _, out in pieces), strict=True)))

    def _run(self, rows: Float32) -> Outputs:
        rul, lower, upper, regime, newest = self._session.run(_OUTPUTS, {_INPUT: rows})
        return Outputs(rul, lower, upper, regime, newest, rows[:, -1, :N_SETTINGS].copy())


def load(folder: Path, version: str, expected_digest: str | None = None) -> OnnxEngine:
    """A bundle's folder as an engine that has proved itself.

    Checked are the digest, the names, types and shapes of the graph's inputs and outputs, the bins of the
    baseline, the answers to the bundle's own example, and that rows far off give finite answers.
    Raises BundleError naming the file.
    """
    found = bundle.digest(folder)
    if expected_digest is not None and found != expected_digest:
        raise BundleError(f"has digest {found[:12]}, not {expected_digest[:12]}", where=str(folder))
    metadata = bundle.read_metadata(folder)
    if metadata.window < 1:
        raise BundleError(f"window is {metadata.window}; at least 1 is needed", where=str(folder / bundle.METADATA))
    bins = read_bins(folder)
    path = folder / bundle.MODEL
    session = _session(path)
    _check_graph(session, path)
    engine = OnnxEngine(version, found, session, metadata, Binner(bins))
    _check_answers(engine, metadata, path)
    return engine


def _array(windows: Sequence[Rows], length: int) -> Float32:
    # fromiter over the flattened lists is half as slow as np.array on nested ones.
    numbers = chain.from_iterable(chain.from_iterable(windows))
    count = len(windows) * length * N_COLUMNS
    return np.fromiter(numbers, dtype=np.float32, count=count).reshape(len(windows), length, N_COLUMNS)


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One window is too little work to share, and a spinning pool takes the core from the event loop.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception type per error code, and no common one.
        raise BundleError(f"is no model that ONNX Runtime can load: {error}", where=str(path)) from error


def _check_graph(session: ort.InferenceSession, path: Path) -> None:
    inputs = session.get_inputs()
    if [one.name for one in inputs] != [_INPUT]:
        raise BundleError(f"takes {[one.name for one in inputs]}; a graph takes {_INPUT} alone", where=str(path))
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)" or len(shape) != 3 or shape[2] != N_COLUMNS:
        raise BundleError(f"rows is {inputs[0].type} {shape}, not float [batch, cycles, {N_COLUMNS}]", where=str(path))
    if any(isinstance(size, int) for size in shape[:2]):
        raise BundleError(f"rows has shape {shape}; batch and cycles must be free", where=str(path))
    outputs = {one.name: one for one in session.get_outputs()}
    for name, (kind, rank) in _OUTPUT_SHAPES.items():
        if name not in outputs:
            raise BundleError(f"gives {sorted(outputs)}; {name} is missing", where=str(path))
        got = outputs[name]
        if got.type != kind or len(got.shape) != rank:
            raise BundleError(f"gives {name} as {got.type} {got.shape}, not {kind} of rank {rank}", where=str(path))


def _check_answers(engine: OnnxEngine, metadata: Metadata, path: Path) -> None:
    example = metadata.example
    n = len(example.rows)
    if not n or any(not rows or {len(row) for row in rows} != {N_COLUMNS} for rows in example.rows):
        raise BundleError("has no usable example", where=str(path.with_name(bundle.METADATA)))
    far = 1e30
    # One cycle, more cycles than the window, and numbers that no engine sends.
    probes: list[Rows] = [
        [[far] * N_COLUMNS],
        [[-far] * N_COLUMNS],
        [[0.0] * N_COLUMNS] * (engine.window + 1),
        [*example.rows[0], [far, -far] * (N_COLUMNS // 2)],
    ]
    try:
        answers = engine.predict(example.rows)
        probed = engine.predict(probes)
    except Exception as error:
        raise BundleError(f"fails on its example: {error}", where=str(path)) from error
    shapes = [answers.rul.shape, answers.lower.shape, answers.upper.shape, answers.regime.shape, answers.newest.shape]
    if shapes != [(n,)] * 4 + [(n, N_SENSORS)]:
        raise BundleError(f"answers {n} windows with shapes {shapes}", where=str(path))
    for name in ("rul", "lower", "upper"):
        wanted, got = np.array(getattr(example, name), dtype=np.float64), getattr(answers, name)
        # Not "difference > tolerance": that would let NaN pass.
        if wanted.shape != got.shape or not np.all(np.abs(got - wanted) <= EXAMPLE_TOLERANCE):
            raise BundleError(f"gives another {name} for its example than when it was exported", where=str(path))
    for name in ("rul", "lower", "upper", "newest"):
        if not (np.all(np.isfinite(getattr(answers, name))) and np.all(np.isfinite(getattr(probed, name)))):
            raise BundleError(f"gives values of {name} that are not finite", where=str(path))
