"""A model version ready to answer: the bundle's graph in ONNX Runtime, its baseline's bins and its metadata."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import ArrayLike, NDArray

from driftloop.drift.baseline import read_binner
from driftloop.drift.bins import PREDICTION, REGIME, Binner
from driftloop.durable import now
from driftloop.errors import BundleError
from driftloop.fleet.quality import is_judged, of_newest
from driftloop.fleet.schema import Schema
from driftloop.model import bundle
from driftloop.model.bundle import Metadata
from driftloop.model.drivers import Drivers, drivers
from driftloop.model.signature import INPUT, OUTPUTS, SIGNATURE, UNSEEN_REGIME
from driftloop.serving.reader import Reader
from driftloop.serving.requests import Rows

STUB_VERSION = "stub"
MOST_AT_ONCE = 64
"""Windows in one run of the graph: larger batches are no faster and would keep short requests waiting."""
EXAMPLE_TOLERANCE = 1e-3
"""Steps by which an answer may differ from the one that the exporter recorded."""

_TENSORS = {"float32": "tensor(float)", "int64": "tensor(int64)"}
STUB_CAP = 100
"""Steps that the stub answers where a fleet's cap is found by its first training only."""

Float32 = NDArray[np.float32]


class Outputs(NamedTuple):
    """What a model says of n windows: the graph's outputs (driftloop.model.signature), and what was sent."""

    rul: Float32
    lower: Float32
    upper: Float32
    regime: NDArray[np.int64]
    newest: Float32
    """`[n, sensors]`, normalised."""
    settings: Float32
    """`[n, settings]` of the newest row; where one is missing, its last value, NaN where there is none."""
    quality: NDArray[np.int8]
    """`[n, columns]`, driftloop.fleet.quality of the newest row; `[n, 0]` of a fleet whose values are not judged."""
    begins: NDArray[np.bool_]
    """`[n, columns]` or `[n, 0]`, where a missing or implausible value is the first one."""
    missing: Float32
    """`[n]`, share of the values that are missing from the rows that the model looks at."""


class Engine(Protocol):
    """Answers windows with one model version."""

    version: str
    digest: str
    loaded_at: str
    window: int
    cap: float
    metadata: Metadata | None
    binner: Binner | None
    reader: Reader
    """Reads requests with the rows that this engine takes."""
    judged: bool
    """Whether values may be missing or out of a range, so that they are counted."""

    def predict(self, windows: Sequence[Rows]) -> Outputs:
        """Answers for `windows`, each `[steps >= 1][columns]`, in their order."""

    def explain(self, rows: Rows) -> Drivers:
        """What drives the answer to one window."""


class Slot:
    """The engine that is serving. A swap is the assignment of one reference, so a batch sees one engine or another."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine


def stub_cap(schema: Schema) -> float:
    """What the stub answers, in steps."""
    return float(STUB_CAP if schema.cap == "auto" else schema.cap)


class StubEngine:
    """Serves until a model is registered: the cap for everything, with the widest interval, marked as a stub."""

    version, digest, window = STUB_VERSION, "", 1
    metadata: Metadata | None = None
    binner: Binner | None = None

    def __init__(self, schema: Schema) -> None:
        self.loaded_at, self.reader = now(), Reader(schema)
        self.cap = stub_cap(schema)
        self._rows = _Rows(schema)
        self.judged = self._rows.judged

    def predict(self, windows: Sequence[Rows]) -> Outputs:
        """The cap, with an interval from 0 to it."""
        n = len(windows)
        cap = np.full(n, self.cap, dtype=np.float32)
        newest = np.zeros((n, self._rows.schema.n_sensors), dtype=np.float32)
        sent = self._rows.sent(self._rows.array([rows[-1:] for rows in windows], 1), np.ones(n), 1)
        return Outputs(cap, np.zeros_like(cap), cap, np.full(n, UNSEEN_REGIME, dtype=np.int64), newest, *sent)

    def explain(self, rows: Rows) -> Drivers:  # noqa: ARG002 (nothing moves the stub)
        """Nothing drives an answer that is always the same."""
        return Drivers(self.cap, self.cap, np.zeros(self._rows.schema.n_sensors), 0.0)


class OnnxEngine:
    """A bundle's graph; made by `load`."""

    def __init__(
        self, version: str, digest: str, session: ort.InferenceSession, metadata: Metadata, binner: Binner
    ) -> None:
        self.version, self.digest, self.loaded_at = version, digest, now()
        self.metadata: Metadata | None = metadata
        self.binner: Binner | None = binner
        self.window, self.cap = metadata.window, float(metadata.cap)
        self.reader = Reader(metadata.schema)
        self._rows = _Rows(metadata.schema)
        self.judged = self._rows.judged
        self._session = session

    def predict(self, windows: Sequence[Rows]) -> Outputs:
        """One run of the graph per `MOST_AT_ONCE` windows; of a fleet that does not count padding, of one length."""
        seen = [rows[-self.window :] for rows in windows]
        pieces = [
            (part, self._run([seen[index] for index in part]))
            for indices in self._together(seen)
            for part in (indices[i : i + MOST_AT_ONCE] for i in range(0, len(indices), MOST_AT_ONCE))
        ]
        if len(pieces) == 1:
            return pieces[0][1]
        order = np.argsort(np.concatenate([part for part, _ in pieces]))
        return Outputs(*(np.concatenate(column)[order] for column in zip(*(out for _, out in pieces), strict=True)))

    def explain(self, rows: Rows) -> Drivers:
        """What drives the answer to one window: the graph is asked about some hundred to some thousand others."""
        seen = rows[-self.window :]
        window = self._rows.array([seen], len(seen))[0]

        def ask(windows: Float32) -> tuple[Float32, Float32]:
            parts = [
                self._session.run(("rul", "newest"), {INPUT: windows[i : i + MOST_AT_ONCE]})
                for i in range(0, len(windows), MOST_AT_ONCE)
            ]
            rul, newest = zip(*parts, strict=True)
            return np.concatenate(rul), np.concatenate(newest)

        return drivers(ask, window, self._rows.schema.n_settings)

    def _together(self, windows: list[Rows]) -> list[list[int]]:
        """Which windows may share a run."""
        if self._rows.counted:
            return [list(range(len(windows)))]
        by_length: dict[int, list[int]] = {}
        for index, rows in enumerate(windows):
            by_length.setdefault(len(rows), []).append(index)
        return list(by_length.values())

    def _run(self, windows: list[Rows]) -> Outputs:
        lengths = [len(rows) for rows in windows]
        rows = self._rows.array(windows, max(lengths))
        rul, lower, upper, regime, newest = self._session.run(OUTPUTS, {INPUT: rows})
        return Outputs(rul, lower, upper, regime, newest, *self._rows.sent(rows, lengths, self.window))


class _Rows:
    """Windows of one fleet as arrays, and what is noted of them."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.counted = schema.padding == "counted"
        self._holds = any(channel.missing == "hold" for channel in schema.channels)
        self.judged = is_judged(schema)

    def array(self, windows: list[Rows], length: int) -> Float32:
        """`[n, length, columns]`; None is NaN, and rows of NaN stand before a window with fewer rows."""
        columns = self.schema.n_columns
        if any(isinstance(rows, np.ndarray) for rows in windows):
            found = np.full((len(windows), length, columns), np.nan, dtype=np.float32)
            for at, rows in enumerate(windows):
                found[at, length - len(rows) :] = np.asarray(rows, dtype=np.float32)
            return found
        if self.counted:
            nothing = (None,) * columns
            windows = [rows if len(rows) == length else [*[nothing] * (length - len(rows)), *rows] for rows in windows]
        # fromiter over the flattened lists is half as slow as np.array on nested ones.
        numbers = chain.from_iterable(chain.from_iterable(windows))
        count = len(windows) * length * columns
        return np.fromiter(numbers, dtype=np.float32, count=count).reshape(len(windows), length, columns)

    def sent(
        self, rows: Float32, lengths: ArrayLike, window: int
    ) -> tuple[Float32, NDArray[np.int8], NDArray[np.bool_], Float32]:
        """What Outputs says of `rows` `[n, steps, columns]`, of which `lengths` `[n]` were sent: settings and after."""
        n, steps, columns = rows.shape
        newest = rows[:, -1]
        settings = newest[:, : self.schema.n_settings].copy()
        nothing = np.zeros((n, 0), dtype=np.int8)
        quality = of_newest(rows, self.schema, window) if self.judged else (nothing, nothing.astype(np.bool_))
        if not self._holds:
            return settings, *quality, np.zeros(n, dtype=np.float32)
        gone = np.isnan(rows)
        given = np.asarray(lengths)
        share = (gone.sum(axis=(1, 2)) - (steps - given) * columns) / (given * columns)
        for at, column in np.argwhere(np.isnan(settings)):
            known = rows[at, ~gone[at, :, column], column]
            settings[at, column] = known[-1] if len(known) else np.nan
        return settings, *quality, share.astype(np.float32)


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
    binner = read_binner(folder)
    watched = (PREDICTION, *metadata.schema.columns, REGIME)
    if binner.names != watched:
        raise BundleError(f"the bins are of {list(binner.names)}, not of {list(watched)}", where=str(folder))
    path = folder / bundle.MODEL
    session = _session(path)
    _check_graph(session, metadata.schema, path)
    engine = OnnxEngine(version, found, session, metadata, binner)
    _check_answers(engine, metadata, path)
    return engine


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


def _check_graph(session: ort.InferenceSession, schema: Schema, path: Path) -> None:
    inputs = session.get_inputs()
    if [one.name for one in inputs] != [INPUT]:
        raise BundleError(f"takes {[one.name for one in inputs]}; a graph takes {INPUT} alone", where=str(path))
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)" or len(shape) != 3 or shape[2] != schema.n_columns:
        wanted = f"float [batch, {schema.steps}, {schema.n_columns}]"
        raise BundleError(f"{INPUT} is {inputs[0].type} {shape}, not {wanted}", where=str(path))
    if any(isinstance(size, int) for size in shape[:2]):
        raise BundleError(f"{INPUT} has shape {shape}; batch and {schema.steps} must be free", where=str(path))
    outputs = {one.name: one for one in session.get_outputs()}
    for output in SIGNATURE:
        if output.name not in outputs:
            raise BundleError(f"gives {sorted(outputs)}; {output.name} is missing", where=str(path))
        got, kind, rank = outputs[output.name], _TENSORS[output.dtype], 2 if output.per_sensor else 1
        if got.type != kind or len(got.shape) != rank:
            raise BundleError(
                f"gives {output.name} as {got.type} {got.shape}, not {kind} of rank {rank}", where=str(path)
            )


def _check_answers(engine: OnnxEngine, metadata: Metadata, path: Path) -> None:
    example, schema = metadata.example, metadata.schema
    n, columns = len(example.rows), schema.n_columns
    if not n or any(not rows or {len(row) for row in rows} != {columns} for rows in example.rows):
        raise BundleError("has no usable example", where=str(path.with_name(bundle.METADATA)))
    try:
        answers = engine.predict(example.rows)
        probed = engine.predict(_probes(example.rows[0], engine.window, schema))
    except Exception as error:
        raise BundleError(f"fails on its example: {error}", where=str(path)) from error
    shapes = [getattr(answers, output.name).shape for output in SIGNATURE]
    if shapes != [(n, schema.n_sensors) if output.per_sensor else (n,) for output in SIGNATURE]:
        raise BundleError(f"answers {n} windows with shapes {shapes}", where=str(path))
    for name in ("rul", "lower", "upper"):
        wanted, got = np.array(getattr(example, name), dtype=np.float64), getattr(answers, name)
        # Not "difference > tolerance": that would let NaN pass.
        if wanted.shape != got.shape or not np.all(np.abs(got - wanted) <= EXAMPLE_TOLERANCE):
            raise BundleError(f"gives another {name} for its example than when it was exported", where=str(path))
    for name in ("rul", "lower", "upper", "newest"):
        if not (np.all(np.isfinite(getattr(answers, name))) and np.all(np.isfinite(getattr(probed, name)))):
            raise BundleError(f"gives values of {name} that are not finite", where=str(path))


def _probes(example: Rows, window: int, schema: Schema) -> list[Rows]:
    """One row, more rows than the window, numbers that no unit sends, and every column missing where it may be."""
    far, columns = 1e30, schema.n_columns
    probes: list[Rows] = [
        [[far] * columns],
        [[-far] * columns],
        [[0.0] * columns] * (window + 1),
        [*example, [(far, -far)[column % 2] for column in range(columns)]],
    ]
    holding = [channel.missing == "hold" for channel in schema.channels]
    if any(holding):
        bare = [None if holds else 0.0 for holds in holding]
        probes += [[bare], [*example, bare]]
    return probes
