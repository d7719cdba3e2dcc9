"""Tiny bundles that honour the contract, distinguishable by a constant, and a registry of them in memory.

The graph answers rul = 1000 x constant + the newest first sensor clipped to 0..900, lower and upper 10 steps off;
regime 0 where the first setting is within 100 of 0, else unseen; newest = the newest sensors, clipped. A missing value
is 0 to it.
"""

import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from driftloop import fleets
from driftloop.drift.baseline import FORMAT, Age, Baseline, Domain, FalseAlarms, baseline_bytes
from driftloop.drift.bins import FeatureBins
from driftloop.drift.calibration import Threshold
from driftloop.errors import BundleError, RegistryUnavailable
from driftloop.fleet.schema import Channel, Schema
from driftloop.model import bundle
from driftloop.model.bundle import Example, ManifestEntry, Metadata

WINDOW = 5
EDGES = [0.0, 10.0, 20.0]
CMAPSS = fleets.load("cmapss")
N_COLUMNS = CMAPSS.n_columns
PUMPS = Schema(
    name="pumps",
    unit="pump",
    step="hour",
    settings=(Channel(name="speed", unit="rpm", missing="refuse"),),
    sensors=(
        Channel(name="temperature_c", unit="°C", description="of the bearing", range=(-20.0, 150.0)),
        Channel(name="flow", unit="l/min"),
        Channel(name="vibration"),
    ),
    use_settings="regimes",
)
"""A fleet unlike C-MAPSS: four columns, three of which may be missing."""


def bins_of(schema: Schema) -> list[FeatureBins]:
    """Bins at 0, 10 and 20 for every column."""
    return [
        FeatureBins("prediction", "quantile", [1000.0 * k + 500.0 for k in range(1, 6)], 6),
        *(FeatureBins(name, "quantile", EDGES, 4) for name in schema.columns),
        FeatureBins("regime", "category", [], 2),
    ]


BINS = bins_of(CMAPSS)


def row(sensor_1: float = 1.0, setting_1: float = 0.0, schema: Schema = CMAPSS) -> list[float]:
    """A row with these values of the first sensor and the first setting, the rest 1."""
    values = [1.0] * schema.n_columns
    values[0], values[schema.n_settings] = setting_1, sensor_1
    return values


def model(constant: int, schema: Schema = CMAPSS, **changes: object) -> onnx.ModelProto:
    """The graph; `changes` break it: input_name, columns, drop (an output), nan, fixed_batch, holds."""
    columns = changes.get("columns", schema.n_columns)
    input_name = str(changes.get("input_name", "rows"))

    def const(name: str, value: object, dtype: type) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(value, dtype=dtype), name)

    constants = [
        const("last", -1, np.int64),
        const("three", [schema.n_settings], np.int64),
        const("four", [schema.n_settings + 1], np.int64),
        const("end", [schema.n_columns], np.int64),
        const("nothing", 0, np.float32),
        const("axis", [1], np.int64),
        const("zero", [0], np.int64),
        const("one", [1], np.int64),
        const("flat", [-1], np.int64),
        const("low", 0, np.float32),
        const("high", 900, np.float32),
        const("wide_low", -1e6, np.float32),
        const("wide_high", 1e6, np.float32),
        const("base", np.nan if changes.get("nan") else 1000 * constant, np.float32),
        const("ten", 10, np.float32),
        const("hundred", 100, np.float32),
        const("seen", 0, np.int64),
        const("unseen", -1, np.int64),
    ]
    node = helper.make_node
    nodes = [
        node("Gather", [input_name, "last"], ["row_sent"], axis=1),
        node("IsNaN", ["row_sent"], ["gone"]),
        node("Where", ["gone", "nothing" if changes.get("holds", True) else "row_sent", "row_sent"], ["row"]),
        node("Slice", ["row", "three", "four", "axis"], ["s1"]),
        node("Reshape", ["s1", "flat"], ["s1_flat"]),
        node("Clip", ["s1_flat", "low", "high"], ["s1_clipped"]),
        node("Add", ["s1_clipped", "base"], ["rul"]),
        node("Sub", ["rul", "ten"], ["lower"]),
        node("Add", ["rul", "ten"], ["upper"]),
        node("Slice", ["row", "zero", "one", "axis"], ["set1"]),
        node("Reshape", ["set1", "flat"], ["set1_flat"]),
        node("Abs", ["set1_flat"], ["set1_abs"]),
        node("Less", ["set1_abs", "hundred"], ["known"]),
        node("Where", ["known", "seen", "unseen"], ["regime"]),
        node("Slice", ["row", "three", "end", "axis"], ["sensors"]),
        node("Clip", ["sensors", "wide_low", "wide_high"], ["newest"]),
    ]
    batch = 1 if changes.get("fixed_batch") else "batch"
    vector = ["batch"]
    outputs = {
        "rul": helper.make_tensor_value_info("rul", TensorProto.FLOAT, vector),
        "lower": helper.make_tensor_value_info("lower", TensorProto.FLOAT, vector),
        "upper": helper.make_tensor_value_info("upper", TensorProto.FLOAT, vector),
        "regime": helper.make_tensor_value_info("regime", TensorProto.INT64, vector),
        "newest": helper.make_tensor_value_info("newest", TensorProto.FLOAT, ["batch", schema.n_sensors]),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, "cycles", columns])],
        [output for name, output in outputs.items() if name != changes.get("drop")],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def baseline(bins: list[FeatureBins] | None = None) -> Baseline:
    """Bins at 0, 10, 20 for everything; the rest says nothing of interest."""
    bins = bins or BINS
    counts = [1] * sum(feature.bins for feature in bins)
    each, triangle = [0.1] * len(bins), np.tril_indices(len(bins))
    probabilities = {feature.name: [1 / feature.bins] * feature.bins for feature in bins}
    return Baseline(
        format=FORMAT,
        features=bins,
        domains=[Domain(0, 1, 100, probabilities, [Age(0, 100, counts)])],
        weights=[1.0],
        ages=[25],
        thresholds=[Threshold(100, each, each, [each] * 2, 0.5, [np.eye(len(bins))[triangle].tolist()] * 2)],
        min_n=300,
        power=None,
        power_by_n={},
        eps=1e-4,
        false_alarms=FalseAlarms(1000, 100, 10, 100),
        seed=0,
    )


def metadata(constant: int, schema: Schema = CMAPSS, **changes: object) -> Metadata:
    """Metadata whose example is what the graph answers."""
    rows = [[row(1.0, schema=schema), row(2.0, schema=schema)], [row(3.0, schema=schema)] * 2]
    values = [1000.0 * constant + 2, 1000.0 * constant + 3]
    whole = {
        "window": WINDOW,
        "regimes": 1,
        "manifest": [ManifestEntry("eng-1", "0" * 64, "train", 0, 200)],
        "example": Example(rows, values, [v - 10 for v in values], [v + 10 for v in values]),
        "data_source": "simulated",
        "seed": 0,
        "training": "full",
        "parent_version": None if constant == 1 else str(constant - 1),
        "parameters": {"hidden": 1},
        "cap": 125 if schema.cap == "auto" else schema.cap,
        "fleet": None if schema is CMAPSS else schema,
    }
    return Metadata(**{**whole, **changes})  # type: ignore[arg-type]


def write(
    folder: Path,
    constant: int,
    *,
    schema: Schema = CMAPSS,
    bins: list[FeatureBins] | None = None,
    **changes: object,
) -> Path:
    """A bundle in `folder`; `changes` as for `model`, or fields of the metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: changes.pop(name) for name in list(changes) if name in Metadata.__struct_fields__}
    (folder / bundle.MODEL).write_bytes(model(constant, schema, **changes).SerializeToString())
    (folder / bundle.BASELINE).write_bytes(baseline_bytes(baseline(bins or bins_of(schema))))
    (folder / bundle.METADATA).write_bytes(msgspec.json.encode(metadata(constant, schema, **fields)))
    return folder


class FakeRegistry:
    """A registry in memory: versions are folders; it can be down, and its calls are counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.production: str | None = None
        self.down = False
        self.gate = threading.Event()
        """Calls wait for it: cleared, the registry is slow."""
        self.gate.set()
        self.alias_calls = self.fetch_calls = 0

    def publish(self, version: str, constant: int, **changes: object) -> Path:
        """Register a bundle and point production at it."""
        folder = write(self.folder / version, constant, **changes)
        self.production = version
        return folder

    def alias(self, name: str) -> str | None:
        """The production version."""
        assert name == "production"
        self.alias_calls += 1
        self._answer()
        return self.production

    def fetch(self, version: str, folder: Path) -> Path:
        """Copy the bundle, as the real one does: a folder with the same digest is left alone."""
        self.fetch_calls += 1
        self._answer()
        source = self.folder / version
        if not source.exists():
            raise BundleError(f"version {version} has no files")
        try:
            if bundle.digest(folder) == bundle.digest(source):
                return folder
        except BundleError:
            pass
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        return folder

    def _answer(self) -> None:
        assert self.gate.wait(30)
        if self.down:
            raise RegistryUnavailable("cannot be reached")
