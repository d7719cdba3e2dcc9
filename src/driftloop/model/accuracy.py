"""Errors of RUL predictions and their uncertainty over engines; numpy alone, so that every room may use it.

Predictions of one engine are anything but independent, so every interval here resamples engines, not windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS, LEVEL = 2000, 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its two-sided bootstrap interval."""

    value: float
    lower: float
    upper: float


def rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root mean squared error, in cycles; raises ValueError for no values or unequal shapes."""
    error = _errors(predicted, true)
    return float(np.sqrt(np.mean(error**2)))


def phm08_score(predicted: ArrayLike, true: ArrayLike, *, per_engine: bool = False) -> float:
    """NASA's score of the PHM 2008 challenge: late predictions cost more than early ones.

    The sum of exp(-d/13) - 1 for d < 0 and exp(d/10) - 1 otherwise, d = predicted - true; with `per_engine`
    divided by the number of predictions, of which the benchmark has one per engine. Source: Saxena, Goebel,
    Simon & Eklund, "Damage propagation modeling for aircraft engine run-to-failure simulation", PHM 2008.
    """
    costs = phm08_costs(predicted, true)
    score = float(costs.sum())
    return score / len(costs) if per_engine else score


def phm08_costs(predicted: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """The part of NASA's score that each prediction has, `[n]`."""
    error = _errors(predicted, true)
    return np.expm1(np.where(error < 0, -error / 13.0, error / 10.0))


def engine_bootstrap(
    predicted: ArrayLike,
    true: ArrayLike,
    engines: Sequence[str] | NDArray[np.generic],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """RMSE over all predictions `[n]` with its percentile interval from resampling whole engines.

    `engines[i]` is the engine of prediction i. Raises ValueError for no values or unequal lengths.
    """
    squares, counts = _sums(_errors(predicted, true) ** 2, engines)
    chosen = _resample(len(counts), draws, seed)
    drawn = np.sqrt((chosen @ squares) / (chosen @ counts))
    lower, upper = np.quantile(drawn, _tails(level))
    return Estimate(float(np.sqrt(squares.sum() / counts.sum())), float(lower), float(upper))


def training_bootstrap(
    costs: NDArray[np.floating],
    *,
    root: bool = False,
    total: bool = False,
    draws: int = DRAWS,
) -> Estimate:
    """A figure's mean over several trainings, with its 95 % percentile interval from resampling engines.

    `costs` `[trainings, engines]` holds one prediction per engine; each draw of engines is the same for every
    training. A training's figure is the mean of its costs, with `root` the square root of that (squared errors give
    RMSE), with `total` their sum.
    """
    chosen = _resample(costs.shape[1], draws, 0)
    drawn, whole = chosen @ costs.T, costs.sum(axis=1)
    if not total:
        drawn, whole = drawn / costs.shape[1], whole / costs.shape[1]
    if root:
        drawn, whole = np.sqrt(drawn), np.sqrt(whole)
    lower, upper = np.quantile(drawn.mean(axis=1), _tails(LEVEL))
    return Estimate(float(whole.mean()), float(lower), float(upper))


def training_difference(squares_a: NDArray[np.floating], squares_b: NDArray[np.floating]) -> Estimate:
    """Mean RMSE over trainings of model a minus that of model b on the same engines, resampled together; a 95 %
    interval.

    Both are squared errors `[trainings, engines]`.
    """
    chosen = _resample(squares_a.shape[1], DRAWS, 0)
    means = [np.sqrt(chosen @ squares.T / squares.shape[1]).mean(axis=1) for squares in (squares_a, squares_b)]
    whole = [float(np.sqrt(squares.mean(axis=1)).mean()) for squares in (squares_a, squares_b)]
    lower, upper = np.quantile(means[0] - means[1], _tails(LEVEL))
    return Estimate(whole[0] - whole[1], float(lower), float(upper))


@dataclass(frozen=True)
class PairedEstimate:
    """Two models on the same predictions: RMSE of a minus RMSE of b, and RMSE of a over RMSE of b."""

    difference: Estimate
    ratio: Estimate
    engines: int


def paired_engine_bootstrap(
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    true: ArrayLike,
    engines: Sequence[str] | NDArray[np.generic],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.90,
) -> PairedEstimate:
    """Compare two models on the same requests `[n]`, resampling whole engines, the same ones for both.

    At the default `level` of 0.90 each end is a one-sided 95 % bound. Two models without any error have ratio 1,
    a model with errors against one without has ratio infinity.
    Raises ValueError for no values or unequal lengths.
    """
    squares_a, counts = _sums(_errors(predicted_a, true) ** 2, engines)
    squares_b, _ = _sums(_errors(predicted_b, true) ** 2, engines)
    chosen = _resample(len(counts), draws, seed)
    weights = chosen @ counts
    drawn_a, drawn_b = np.sqrt((chosen @ squares_a) / weights), np.sqrt((chosen @ squares_b) / weights)
    whole_a, whole_b = np.sqrt(squares_a.sum() / counts.sum()), np.sqrt(squares_b.sum() / counts.sum())
    difference = np.quantile(drawn_a - drawn_b, _tails(level))
    # Inverted-CDF quantiles: interpolating between infinite ratios would give NaN.
    ratio = np.quantile(_ratio(drawn_a, drawn_b), _tails(level), method="inverted_cdf")
    return PairedEstimate(
        Estimate(float(whole_a - whole_b), float(difference[0]), float(difference[1])),
        Estimate(float(_ratio(whole_a, whole_b)), float(ratio[0]), float(ratio[1])),
        engines=len(counts),
    )


def coverage(
    lower: ArrayLike, upper: ArrayLike, true: ArrayLike, engines: Sequence[str] | NDArray[np.generic]
) -> float:
    """Share of labels inside their interval (ends included), averaged within each engine and then over engines."""
    inside = (np.asarray(true) >= np.asarray(lower)) & (np.asarray(true) <= np.asarray(upper))
    hits, counts = _sums(inside.astype(np.float64), engines)
    return float(np.mean(hits / counts))


def interval_scores(
    lower: ArrayLike, upper: ArrayLike, true: ArrayLike, *, nominal: float = 0.9
) -> NDArray[np.float64]:
    """What each interval of nominal coverage `nominal` costs, in the labels' unit and shape; less is better.

    Its width, and 2 / (1 - nominal) for each unit by which the label lies outside. Source: Gneiting & Raftery,
    "Strictly proper scoring rules, prediction, and estimation", JASA 2007, section 6.2.
    """
    low, high, label = (np.asarray(values, dtype=np.float64) for values in (lower, upper, true))
    outside = np.maximum(low - label, 0.0) + np.maximum(label - high, 0.0)
    return np.asarray(high - low + 2.0 / (1.0 - nominal) * outside)


def _errors(predicted: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"predictions {a.shape} and labels {b.shape} must be equally long lists")
    if not len(a):
        raise ValueError("no predictions to judge")
    return a - b


def _sums(
    values: NDArray[np.float64], engines: Sequence[str] | NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each engine."""
    if len(engines) != len(values):
        raise ValueError(f"{len(values)} values but {len(engines)} engines")
    _, position = np.unique(np.asarray(engines), return_inverse=True)
    return np.bincount(position, values).astype(np.float64), np.bincount(position).astype(np.float64)


def _resample(engines: int, draws: int, seed: int) -> NDArray[np.float64]:
    """How often each engine is in each draw of as many engines with replacement, `[draws, engines]`."""
    equal = np.full(engines, 1.0 / engines)
    return np.random.default_rng(seed).multinomial(engines, equal, size=draws).astype(np.float64)


def _tails(level: float) -> list[float]:
    return [(1.0 - level) / 2.0, (1.0 + level) / 2.0]


def _ratio(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    top, bottom = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((top == 0) & (bottom == 0), 1.0, top / bottom)
