"""Bundles: what an engine answers, and what is not let in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from driftloop.drift.bins import FeatureBins
from driftloop.errors import BundleError
from driftloop.fleet.quality import MISSING
from driftloop.fleet.schema import Channel
from driftloop.model import bundle
from driftloop.model.bundle import Example
from driftloop.model.signature import OUTPUTS, UNSEEN_REGIME
from driftloop.serving.engine import MOST_AT_ONCE, OnnxEngine, StubEngine, load
from serving_bundles import BINS, CMAPSS, PUMPS, WINDOW, metadata, row, write


def test_answers_come_in_the_order_of_the_windows_whatever_their_lengths(tmp_path: Path) -> None:
    engine = load(write(tmp_path, 2), "2")
    lengths = [1 + n % (WINDOW + 3) for n in range(2 * MOST_AT_ONCE + 3)]
    windows = [[row(900.0)] * (length - 1) + [row(float(n))] for n, length in enumerate(lengths)]
    outputs = engine.predict(windows)
    assert outputs.rul.tolist() == [2000.0 + n for n in range(len(windows))]
    assert outputs.newest[:, 0].tolist() == [float(n) for n in range(len(windows))]
    assert outputs.settings.shape == (len(windows), 3)


def test_a_regime_that_was_not_seen_is_marked(tmp_path: Path) -> None:
    engine = load(write(tmp_path, 1), "1")
    assert engine.predict([[row()], [row(setting_1=1e30)]]).regime.tolist() == [0, UNSEEN_REGIME]


def test_the_largest_float32_gives_finite_answers(tmp_path: Path) -> None:
    engine = load(write(tmp_path, 1), "1")
    outputs = engine.predict([[[3.4028235e38] * 24], [[-3.4028235e38] * 24]])
    assert all(np.isfinite(column).all() for column in outputs)


def test_the_stub_answers_125_for_everything() -> None:
    outputs = StubEngine(CMAPSS).predict([[row()], [row()] * 7])
    assert (outputs.rul.tolist(), outputs.lower.tolist(), outputs.upper.tolist()) == (
        [125.0] * 2,
        [0.0] * 2,
        [125.0] * 2,
    )


def test_the_stub_answers_the_cap_of_its_fleet_or_100_where_that_is_found_by_training() -> None:
    assert StubEngine(PUMPS).predict([[row(schema=PUMPS)]]).rul.tolist() == [100.0]
    capped = msgspec.structs.replace(PUMPS, cap=40)
    assert StubEngine(capped).predict([[[None] * 4]]).upper.tolist() == [40.0]


@pytest.fixture
def pumps(tmp_path: Path) -> OnnxEngine:
    return load(write(tmp_path, 1, schema=PUMPS), "1")


def test_windows_of_any_lengths_share_a_run_where_padding_is_counted(
    pumps: OnnxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    class Session:
        def run(self, _: Any, feed: dict[str, Any], of: Any = pumps._session) -> Any:
            runs.append(feed["rows"])
            return of.run(list(OUTPUTS), feed)

    monkeypatch.setattr(pumps, "_session", Session())
    windows = [[row(float(n), schema=PUMPS)] * (1 + n % 7) for n in range(9)]
    outputs = pumps.predict(windows)
    assert outputs.rul.tolist() == [1000.0 + n for n in range(9)]
    (rows,) = runs
    assert rows.shape == (9, WINDOW, 4)
    assert np.isnan(rows[0, :-1]).all(), "what is not there is not a number"
    assert outputs.missing.tolist() == [0.0] * 9, "padding is not missing"


def test_what_is_missing_is_noted_and_a_setting_keeps_its_last_value(tmp_path: Path) -> None:
    loose = msgspec.structs.replace(PUMPS, settings=(Channel(name="speed"),))
    engine = load(write(tmp_path, 1, schema=loose), "1")
    outputs = engine.predict([
        [[7.0, 1.0, 2.0, 3.0], [None, None, 2.0, 3.0]],
        [[None, 1.0, 2.0, 3.0]],
        [[9.0, 1.0, 2.0, 3.0]] * 9 + [[9.0, 1.0, 2.0, None]],
    ])  # fmt: skip
    assert np.array_equal(outputs.settings[:, 0], [7.0, np.nan, 9.0], equal_nan=True)
    assert (outputs.quality == MISSING).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert outputs.missing.tolist() == pytest.approx([2 / 8, 1 / 4, 1 / (4 * WINDOW)])


def test_a_graph_that_cannot_do_without_a_value_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, 1, schema=PUMPS, holds=False)
    with pytest.raises(BundleError, match="not finite"):
        load(folder, "1")


def example(**changes: object) -> Example:
    whole = {name: getattr(metadata(1).example, name) for name in Example.__struct_fields__}
    return Example(**{**whole, **changes})


NINE = [*BINS[:-1], FeatureBins("regime", "category", [], 2)]
NINE[3] = FeatureBins("sensor_9", "quantile", [0.0], 2)

BROKEN: dict[str, Callable[[Path], object]] = {
    "no graph": lambda f: (f / "model.onnx").unlink(),
    "no baseline": lambda f: (f / "baseline.json").unlink(),
    "no metadata": lambda f: (f / "metadata.json").unlink(),
    "an empty graph": lambda f: (f / "model.onnx").write_bytes(b""),
    "half a graph": lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:300]),
    "a graph of noise": lambda f: (f / "model.onnx").write_bytes(bytes(range(256)) * 9),
    "a graph of another model": lambda f: (f / "model.onnx").write_bytes(
        (write(f / "other", 2) / "model.onnx").read_bytes()
    ),
    "half a baseline": lambda f: (f / "baseline.json").write_bytes((f / "baseline.json").read_bytes()[:-90]),
    "a baseline of something else": lambda f: (f / "baseline.json").write_bytes(b"{}"),
    "a baseline of other features": lambda f: write(f, 1, bins=NINE),
    "a baseline with edges out of order": lambda f: write(
        f, 1, bins=[FeatureBins("prediction", "quantile", [2.0, 1.0], 3), *BINS[1:]]
    ),
    "metadata that are a list": lambda f: (f / "metadata.json").write_bytes(b"[]"),
    "metadata of other columns": lambda f: write(f, 1, fleet=PUMPS),
    "a window of no rows": lambda f: write(f, 1, window=0),
    "another input name": lambda f: write(f, 1, input_name="x"),
    "a fixed batch": lambda f: write(f, 1, fixed_batch=True),
    "a missing output": lambda f: write(f, 1, drop="upper"),
    "answers that are NaN": lambda f: write(f, 1, nan=True),
    "no example": lambda f: write(f, 1, example=example(rows=[])),
    "an example with short rows": lambda f: write(f, 1, example=example(rows=[[[1.0]], [[1.0]]])),
    "an example with other answers": lambda f: write(f, 1, example=example(rul=[1002.0, 1003.01])),
    "an example with too few answers": lambda f: write(f, 1, example=example(lower=[992.0])),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_bundle_is_refused(damage: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "1", 1)
    BROKEN[damage](folder)
    with pytest.raises(BundleError) as caught:
        load(folder, "1")
    print(caught.value)


def test_a_bundle_with_another_digest_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    load(folder, "1", bundle.digest(folder))
    with pytest.raises(BundleError, match="digest"):
        load(folder, "1", "0" * 64)


def test_an_answer_within_a_thousandth_of_the_example_is_good_enough(tmp_path: Path) -> None:
    load(write(tmp_path, 1, example=example(rul=[1002.0009, 1002.9991])), "1")
