"""The baseline that the network has to beat: gradient boosting on rolling, regime-normalised features.

A row is described by its normalised sensors and, over several widths of the newest rows, their means, standard
deviations and least-squares slopes, by how the newest rows differ from the oldest ones within the largest width, and
by the number of rows up to it. Sensors are normalised by the same regimes as the network's, found on the same engines,
and nothing older than the largest width is used, which is the network's window.
Source of the method: Friedman, "Greedy function approximation", Annals of Statistics 2001, in scikit-learn's
histogram form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.labels import capped, window_ends
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.model import regimes
from driftloop.model.regimes import Regimes

OLDEST, RECENT = 30, 10
"""Rows that stand for what an engine was like, and for what it is like now."""


@dataclass(frozen=True)
class BoostingConfig:
    """What the baseline does; chosen by the same cross-validation over training engines as the network's."""

    widths: tuple[int, ...] = (5, 15, 40, 100, 256)
    """Newest rows that means, standard deviations and slopes are taken over."""
    history: bool = True
    """Whether it also sees how many rows there are and how the newest differ from the oldest."""
    stride: int = 3
    iterations: int = 300
    learning_rate: float = 0.05
    leaves: int = 31
    min_leaf: int = 100
    l2: float = 1.0
    feature_share: float = 0.3


@dataclass(frozen=True, eq=False)
class Boosted:
    """A fitted baseline."""

    model: Any
    regimes: Regimes
    config: BoostingConfig
    cap: int
    feeds: int
    """Settings that it sees beside the features, 0 where they only choose a regime."""

    def predict_last(self, runs: Sequence[Run]) -> NDArray[np.float64]:
        """RUL after the last row of each run, cycles, `[runs]`."""
        return self.predict(runs, [np.array([len(run.rows) - 1]) for run in runs])

    def predict(self, runs: Sequence[Run], ends: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """RUL after the rows `ends` of each run, in steps, side by side."""
        rows = [_shown(run, self.regimes, self.config, at, self.feeds) for run, at in zip(runs, ends, strict=True)]
        return np.asarray(self.model.predict(np.concatenate(rows)).clip(0.0, self.cap), dtype=np.float64)


def fit(runs: Sequence[Run], config: BoostingConfig, seed: int, schema: Schema = SCHEMA, cap: int = RUL_CAP) -> Boosted:
    """Fit on every `config.stride`-th row of `runs`, each one's last row included; labels are capped. One thread."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    known = regimes.find(runs, schema)
    feeds = schema.n_settings if schema.use_settings == "continuous" else 0
    inputs, labels = [], []
    for run in sorted(runs, key=lambda run: run.run_id):
        ends = window_ends(len(run.rows), config.stride)
        inputs.append(_shown(run, known, config, ends, feeds))
        labels.append(capped(run.rul[ends], cap))
    model = HistGradientBoostingRegressor(
        max_iter=config.iterations,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.min_leaf,
        l2_regularization=config.l2,
        max_features=config.feature_share,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):
        model.fit(np.concatenate(inputs), np.concatenate(labels))
    return Boosted(model, known, config, cap, feeds)


def _shown(
    run: Run, known: Regimes, config: BoostingConfig, ends: NDArray[np.int64], feeds: int
) -> NDArray[np.float32]:
    """Features of the rows `ends`, after the settings where it sees them."""
    shown = features(run, known, config, ends)
    return np.concatenate([run.rows[ends, :feeds].astype(np.float32), shown], axis=1) if feeds else shown


def features(run: Run, known: Regimes, config: BoostingConfig, ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features of the rows `ends` of a run, each from that row and older ones alone: `[len(ends), features]`.

    Columns: normalised sensors; for each width means, standard deviations and slopes per row. With `config.history`,
    before them the rows so far, up to the largest width, and after them the mean of the oldest rows within the largest
    width and by how much the newest differ from it.
    Where a history is shorter than a width, the rows that there are count.
    """
    normalised = _held(known.normalised(run.rows))
    cycle = np.arange(len(normalised), dtype=np.float64)[:, None]
    widest = max(config.widths)
    columns = [normalised[ends]]
    # Sums from the first row on; a window's sum is the difference of two of them.
    totals = [_from_zero(part) for part in (normalised, normalised**2, normalised * cycle, cycle, cycle**2)]
    for width in config.widths:
        begin = np.maximum(ends + 1 - width, 0)
        n = (ends + 1 - begin)[:, None].astype(np.float64)
        x, xx, xt, t, tt = (total[ends + 1] - total[begin] for total in totals)
        spread = tt / n - (t / n) ** 2
        slope = (xt / n - x / n * t / n) / np.where(n > 1, spread, 1.0)
        columns += [x / n, np.sqrt(np.maximum(xx / n - (x / n) ** 2, 0.0)), slope]
    if config.history:
        oldest = np.maximum(ends + 1 - widest, 0)
        until = np.minimum(oldest + OLDEST, ends + 1)
        first = (totals[0][until] - totals[0][oldest]) / (until - oldest)[:, None]
        newest = np.maximum(ends + 1 - RECENT, 0)
        recent = (totals[0][ends + 1] - totals[0][newest]) / np.minimum(ends + 1, RECENT)[:, None]
        columns = [np.minimum(cycle[ends] + 1.0, widest), *columns, first, recent - first]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _held(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` `[rows, columns]` with the last one in the place of a missing one, 0 before the first."""
    there = np.isfinite(values)
    if there.all():
        return values
    last = np.maximum.accumulate(np.where(there, np.arange(len(values))[:, None], -1), axis=0)
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), 0.0)


def _from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running sums with a leading zero, `[rows + 1, columns]`."""
    return np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
