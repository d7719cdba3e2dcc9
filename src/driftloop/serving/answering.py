"""One batch from windows to predictions, and what is remembered of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import UNSET

from driftloop.fleet.quality import MISSING
from driftloop.model.signature import UNSEEN_REGIME
from driftloop.serving.engine import Engine, Outputs, Slot
from driftloop.serving.inference_log import InferenceLog
from driftloop.serving.metrics import Metrics
from driftloop.serving.recent import Recent
from driftloop.serving.requests import Prediction, UnitPrediction, Window
from driftloop.serving.ring import Ring

MOST_MISSING = 0.3
"""Share of a window's values; beyond it an answer says nothing: its interval is the whole range."""


class Answered(NamedTuple):
    """Windows that one engine answered together."""

    engine: Engine
    windows: Sequence[Window]
    predictions: list[Prediction]
    outputs: Outputs


class Answerer:
    """Answers batches with the engine that is in the slot when they begin, counts, logs and remembers them."""

    def __init__(self, slot: Slot, metrics: Metrics, log: InferenceLog, ring: Ring, recent: Recent) -> None:
        self._slot, self._metrics, self._log, self._ring, self._recent = slot, metrics, log, ring, recent

    def __call__(self, windows: Sequence[Window]) -> list[Prediction]:
        """One prediction per window, all from one model version; every window has a `request_id`."""
        engine = self._slot.engine
        outputs = engine.predict([window.rows for window in windows])
        predictions = _predictions(engine, windows, outputs)
        self._ring.put(windows)
        self._recent.put(windows, predictions)
        traffic = [at for at, window in enumerate(windows) if not (isinstance(window, Window) and window.history)]
        told = predictions
        if len(traffic) < len(windows):
            # Of a history nothing is said of how the fleet is now.
            outputs = Outputs._make(each[traffic] for each in outputs)
            windows, told = [windows[at] for at in traffic], [predictions[at] for at in traffic]
        if told:
            self._metrics.predicted(engine, outputs, [window.engine_id for window in windows])
            self._log.put(engine.version, windows, told, outputs.newest)
        return predictions


def _predictions(engine: Engine, windows: Sequence[Window], outputs: Outputs) -> list[Prediction]:
    values = np.array((outputs.rul, outputs.lower, outputs.upper), dtype=np.float64).T
    finite = np.logical_and.reduce(np.isfinite(values), axis=1).tolist()
    if not all(finite):
        values[~np.array(finite)] = (0.0, 0.0, engine.cap)
    form, regimes = engine.reader.form, outputs.regime.tolist()
    if UNSEEN_REGIME in regimes:
        # Nothing is known of units that are run as none was: the interval says so.
        values[outputs.regime == UNSEEN_REGIME, 1:] = (0.0, engine.cap)
    gaps: dict[int, list[str]] = {}
    if form.holds:
        gaps = _gaps(outputs, form.schema.columns)
        values[outputs.missing > MOST_MISSING, 1:] = (0.0, engine.cap)
    # A ten-thousandth of a cycle is more than any model knows, and half the digits of a float32.
    rounded = values.round(4).tolist()
    stub = engine.metadata is None
    provisional = engine.metadata is not None and engine.metadata.provisional
    kind = UnitPrediction if form.synonyms else Prediction
    predictions: list[Prediction] = []
    for position, (window, (rul, lower, upper), regime, good) in enumerate(
        zip(windows, rounded, regimes, finite, strict=True)
    ):
        flags = []
        if stub:
            flags.append("stub")
        elif regime == UNSEEN_REGIME:
            flags += ("unseen_regime", "out_of_distribution")
        if provisional:
            flags.append("provisional")
        if len(window.rows) < engine.window:
            flags.append("short_history")
        if not good:
            flags.append("no_finite_answer")
        if position in gaps:
            flags += gaps[position]
        predictions.append(
            kind(
                rul=rul,
                lower=lower,
                upper=upper,
                regime=regime,
                flags=flags,
                model_version=engine.version,
                request_id=window.request_id or "",
                engine_id=UNSET if window.engine_id is None else window.engine_id,
                cycle=UNSET if window.cycle is None else int(window.cycle),
            )
        )
    if form.synonyms:
        for window, prediction in zip(windows, predictions, strict=True):
            _as_named(window, prediction)
    return predictions


def _gaps(outputs: Outputs, columns: Sequence[str]) -> dict[int, list[str]]:
    """The flags of windows that lack values, by their position."""
    flags: dict[int, list[str]] = {}
    for position, column in np.argwhere(outputs.quality == MISSING).tolist():
        flags.setdefault(position, []).append(f"held:{columns[column]}")
    for position in np.flatnonzero(outputs.missing > MOST_MISSING).tolist():
        flags.setdefault(position, []).append("too_much_missing")
    return flags


def _as_named(window: Window, prediction: Prediction) -> None:
    """Give unit and step back under the names by which they came."""
    assert isinstance(prediction, UnitPrediction)
    if window.unit_id is not None:
        prediction.unit_id, prediction.engine_id = window.unit_id, UNSET
    if window.step is not None:
        prediction.step, prediction.cycle = int(window.step), UNSET
