"""Whether a model still tells the truth: live errors of completed engines against control limits.

Inputs can look as ever while the remaining life that belongs to them has changed (concept drift); only completed
engines, whose true RUL is known, can show it. Three figures are watched: RMSE, bias (mean of predicted - true) and
coverage of the prediction intervals. Predictions of one engine resemble each other, so the engine is the unit:
each engine's errors are averaged first, and each engine counts alike.

What a healthy fleet shows is a bootstrap over reference engines, completed ones that the model was not fitted on.
A live engine is drawn from the reference engines, at the live engine's own mixture of true RUL (errors are larger
in mid-life than at the end), and compared with a reference that is drawn again too, since that is a sample like
any other. The limits are LIMIT standard deviations of that difference, as in Shewhart's control charts, more where
few reference engines say what that is (Student's t) and where the difference is skewed towards the limit (skewness
correction: Chan & Cui, "Skewness correction X-bar and R charts for skewed distributions", Naval Research Logistics
2003). Coverage is: most engines are covered nearly always, and a few for half of their lives.

The newest k engines are judged for every k from LEAST to MOST: few show a large change soon, many show a small one
at all. Where the change began is the k at which the change of the mean is most likely (the generalised likelihood
ratio: Basseville & Nikiforov, "Detection of Abrupt Changes", 1993, chapter 2).
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftloop.drift.statistics import Floats
from driftloop.fleet.labels import bands, capped

DRIFT, NO_DRIFT, NOT_ENOUGH_DATA = "drift", "no_drift", "not_enough_data"
RMSE, BIAS, COVERAGE = "rmse", "bias", "coverage"

LEAST, MOST = 8, 50
"""Completed engines that a verdict needs, and the newest ones that it looks at."""
LEAST_REFERENCE = 5
"""Reference engines without which there are no limits."""
LIMIT = 4.25
"""Standard deviations from what a healthy fleet shows to the control limits; see docs/architecture.md for the
false alarms that this leaves."""
DRAWS = 1000
LEAST_DEVIATION = {RMSE: 0.05, BIAS: 0.5, COVERAGE: 0.02}
"""Least standard deviation (of RMSE: as a share of it): what never varies among few reference engines may do so."""

_COUNT, _ERROR, _SQUARE, _INSIDE = range(4)


class Figure(msgspec.Struct, frozen=True):
    """A live figure and its control limits; no limit on the side that nobody minds."""

    value: float
    expected: float
    """What a healthy fleet shows at the same mixture of true RUL."""
    lower: float | None
    upper: float | None
    score: float
    """Distance from what is expected in units of its limit's: above 1 it is out of control."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What completed engines say of a model: `drift`, `no_drift` or `not_enough_data`."""

    verdict: str
    engines: int
    """Completed engines that could be looked at, at most MOST."""
    least: int
    """Engines that a verdict needs."""
    window: int
    """Newest engines that the figures are of: those since the change, or all where there is none."""
    reference: int
    """Engines that the limits come from."""
    score: float
    figures: dict[str, Figure]
    """By name: `rmse` and `bias` in cycles, `coverage` as a share; empty without enough data."""


def tabulate(rul: ArrayLike, lower: ArrayLike, upper: ArrayLike, true: ArrayLike, cap: int) -> Floats:
    """One engine's outcomes `[n]`, as sums per band of true RUL: `[bands, (number, error, square, inside)]`.

    Errors are alike within the bands of driftloop.fleet.labels. True RUL above `cap`, in steps, counts as the cap.
    Raises ValueError for unequal lengths or no outcome.
    """
    predicted, low, high = (np.asarray(values, dtype=np.float64) for values in (rul, lower, upper))
    label = capped(np.asarray(true, dtype=np.float64), cap)
    if not len(label) or not predicted.shape == low.shape == high.shape == label.shape == (len(label),):
        raise ValueError("an engine needs as many predictions and intervals as labels, and at least one")
    error = predicted - label
    values = np.stack([np.ones_like(error), error, error**2, (low <= label) & (label <= high)], axis=1)
    starts = [first for first, _ in bands(cap)]
    table = np.zeros((len(starts), 4))
    np.add.at(table, np.searchsorted(starts[1:], label, side="right"), values)
    return table


def judge(
    live: Sequence[Floats], reference: Sequence[Floats], weights: Sequence[float] | None = None, seed: int = 0
) -> Judgement:
    """The verdict on completed engines `live`, in the order of their arrival, against `reference` engines.

    Both are tables of `tabulate`. `weights[i]` is how likely an engine like reference engine i is in today's fleet,
    in any positive scale, by default the same for all.
    """
    known = np.array([table[:, _COUNT].sum() > 0 for table in reference], dtype=bool)
    shape = next((table.shape for table in (*live, *reference)), (1, 4))
    tables = np.array([table for table, use in zip(reference, known, strict=True) if use]).reshape(-1, *shape)
    seen = tables[:, :, _COUNT].sum(axis=0) > 0
    newest = [table * seen[:, None] for table in reversed(live)]
    newest = [table for table in newest if table[:, _COUNT].sum() > 0][:MOST]
    if len(newest) < LEAST or len(tables) < LEAST_REFERENCE:
        return Judgement(
            verdict=NOT_ENOUGH_DATA, engines=len(newest), least=LEAST, window=len(newest), reference=len(tables),
            score=0.0, figures={},
        )  # fmt: skip
    share = np.ones(len(known)) if weights is None else np.asarray(weights, dtype=np.float64)
    # No engine is impossible: its domain may be the only one that shows a band.
    share = share[known] / share[known].sum() + 1e-6
    share /= share.sum()
    expected = _healthy(tables, share, np.array(newest))
    by_window = _figures(np.array(newest), expected, share, np.random.default_rng(seed))
    scores = {k: max(figure.score for figure in figures.values()) for k, figures in by_window.items()}
    worst = max(scores, key=lambda k: (scores[k], k))
    window = _since_change(by_window, worst) if scores[worst] > 1 else len(newest)
    return Judgement(
        verdict=DRIFT if scores[worst] > 1 else NO_DRIFT,
        engines=len(newest),
        least=LEAST,
        window=window,
        reference=len(tables),
        score=round(scores[worst], 4),
        figures=by_window[window],
    )


def _healthy(tables: Floats, share: Floats, newest: Floats) -> Floats:
    """What each reference engine would show at each live engine's mixture of bands, `[I, K, (error, square, inside)]`.

    A band that a reference engine lacks is filled with what the others show there.
    """
    counts = tables[:, :, _COUNT]
    present = counts > 0
    means = tables[:, :, _ERROR:] / np.maximum(counts, 1)[:, :, None]
    weighted = present * share[:, None]
    filled = np.einsum("ib,ibs->bs", weighted, means) / np.maximum(weighted.sum(axis=0), 1e-300)[:, None]
    means = np.where(present[:, :, None], means, filled[None])
    mixture = newest[:, :, _COUNT] / newest[:, :, _COUNT].sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("kb,ibs->iks", mixture, means))


def _figures(newest: Floats, healthy: Floats, share: Floats, rng: np.random.Generator) -> dict[int, dict[str, Figure]]:
    """The figures of the newest k engines with their limits, by k."""
    engines, sizes = len(newest), np.arange(1, len(newest) + 1)[:, None]
    shown = newest[:, :, _ERROR:].sum(axis=1) / newest[:, :, _COUNT].sum(axis=1)[:, None]
    value = np.cumsum(shown, axis=0) / sizes
    centre = np.cumsum(np.einsum("i,iks->ks", share, healthy), axis=0) / sizes
    drawn = rng.choice(len(share), size=(DRAWS, engines), p=share)
    live = np.cumsum(healthy[drawn, np.arange(engines)], axis=1) / sizes
    again = rng.multinomial(len(share), share, size=DRAWS) / len(share)
    compared = np.cumsum(np.einsum("di,iks->dks", again, healthy), axis=1) / sizes
    # RMSE varies in proportion to itself, so its limits are made on the logarithm; half of that of the square.
    relative = 0.5 * (_log(live[:, :, 1]) - _log(compared[:, :, 1]))
    bias_away, inside_away = np.moveaxis((live - compared)[:, :, [0, 2]], -1, 0)
    rises = {name: _distances(away, len(share), name) for name, away in ((RMSE, relative), (BIAS, bias_away))}
    falls = {name: _distances(-away, len(share), name) for name, away in ((BIAS, bias_away), (COVERAGE, inside_away))}
    found = {}
    for k in range(LEAST, engines + 1):
        (bias, square, inside), (bias_0, square_0, inside_0) = value[k - 1], centre[k - 1]
        found[k] = {
            RMSE: _rmse(np.sqrt(square), np.sqrt(square_0), rises[RMSE][k - 1]),
            BIAS: _figure(bias, bias_0, falls[BIAS][k - 1], rises[BIAS][k - 1]),
            COVERAGE: _figure(inside, inside_0, falls[COVERAGE][k - 1]),
        }
    return found


def _distances(away: Floats, reference: int, name: str) -> Floats:
    """How far above what is expected a figure's limit is, `[K]`, from how far replicates `[R, K]` are.

    Student's quantile and the skewed one at LIMIT standard deviations, each by the first term of its Cornish-Fisher
    expansion. Skewness away from the limit moves it no nearer.
    """
    from_mean = away - away.mean(axis=0)
    spread = from_mean.std(axis=0)
    skewness = (from_mean**3).mean(axis=0) / np.maximum(spread, 1e-9) ** 3
    student = (LIMIT**3 + LIMIT) / (4 * (reference - 1))
    skewed = (LIMIT**2 - 1) / 6 * np.maximum(skewness, 0.0)
    # Few engines vary less among themselves than engines do.
    honest = np.sqrt(reference / (reference - 1))
    return np.asarray((LIMIT + student + skewed) * np.maximum(honest * spread, LEAST_DEVIATION[name]))


def _since_change(by_window: dict[int, dict[str, Figure]], worst: int) -> int:
    """The k for which a change of the worst figure's mean is most likely, whatever its limits."""
    name = max(by_window[worst], key=lambda each: by_window[worst][each].score)

    def likelihood(k: int) -> float:
        figure = by_window[k][name]
        away = figure.value - figure.expected
        if name == RMSE:
            away = float(_log(np.array(figure.value)) - _log(np.array(figure.expected)))
        return k * away**2

    return max(by_window, key=likelihood)


def _rmse(value: float, expected: float, distance: float) -> Figure:
    """RMSE with its limit `distance` above what is expected, on the logarithm."""
    away = float(_log(np.array(value)) - _log(np.array(expected)))
    return _rounded(value, expected, None, expected * np.exp(distance), away / distance)


def _figure(value: float, expected: float, below: float, above: float | None = None) -> Figure:
    """A figure with its limits so far `below` and `above` what is expected; None: nobody minds that side."""
    away = value - expected
    score = -away / below if above is None or away < 0 else away / above
    return _rounded(value, expected, expected - below, None if above is None else expected + above, score)


def _rounded(value: float, expected: float, lower: float | None, upper: float | None, score: float) -> Figure:
    numbers = (None if number is None else round(float(number), 4) for number in (value, expected, lower, upper, score))
    return Figure(*numbers)  # type: ignore[arg-type]


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(values, 1e-9)))
