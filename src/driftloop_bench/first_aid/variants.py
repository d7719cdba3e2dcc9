"""What else unsupervised adaptation offers beyond growing; measured here, and not part of the product.

All but plain growing touch regimes that the model knows. Each is a change of every sensor reading, as the network sees
it: normalised by the regimes that first aid has grown, and back. Statistics of the target come from what first aid
sees.

- plain growing: a new regime has the mean and standard deviation of its rows, whatever the age of their units;
- found anew: so has every regime, the known ones too;
- found anew by age: every regime is set so that its rows look as units of their age do;
- CORAL: the covariance of all sensors becomes that of training, each with 1 added to the diagonal as in its source
  (Sun, Feng & Saenko, "Return of frustratingly easy domain adaptation", AAAI 2016);
- quantile maps: each sensor's distribution becomes that of training, by age or not.

The judge says what it would of each, but for the rule that known regimes stay: answers that fall, the share of them at
the cap, drift that is left.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from driftloop.drift import provisional
from driftloop.fleet.runs import Run
from driftloop.loop.judge import first_aid as judging
from driftloop.model import answers, first_aid, grafting, regimes
from driftloop.model.answers import Model
from driftloop.model.bundle import Ages
from driftloop.model.first_aid import LEAST_OF_REGIME, LEAST_SPREAD, Known
from driftloop.model.regimes import Regimes
from driftloop.protocol.windows import UnitWindow
from driftloop.training.rehearsal import MOST

Floats = NDArray[np.float64]
Change = Callable[[Floats, NDArray[np.int64]], Floats]
"""New normalised sensors `[n, sensors]` of such and the regime of each row `[n]`."""
REFERENCE_ROLES = ("train", "early_stop", "calibrate")
GROWN_SHARE = 0.99
"""Of the new domain in the traffic that is judged, where there is one."""
QUANTILES = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class Variant:
    """A model, what is done to readings before it is asked, and what the judge says against it."""

    model: Model
    regimes: Regimes
    change: Change
    refusal: str | None = None

    def moved(self, runs: Sequence[Run]) -> list[Run]:
        """The runs as the model is to see them."""
        return [replace(run, rows=self._moved(run.rows)) for run in runs]

    def _moved(self, rows: Floats) -> Floats:
        n = self.regimes.centres.shape[1]
        at = self.regimes.assign(rows[:, :n])[0]
        mean, std, varies = (part[at] for part in (self.regimes.mean, self.regimes.std, self.regimes.varies))
        found = self.change(self.regimes.normalised(rows), at)
        return np.concatenate([rows[:, :n], np.where(varies > 0, found * std + mean, rows[:, n:])], axis=1)


@dataclass(frozen=True, eq=False)
class Rows:
    """Normalised sensors `[n, sensors]`, the regime of each row, and its step of its unit's life."""

    values: Floats
    regime: NDArray[np.int64]
    step: NDArray[np.int64]


def made(known: Known, seen: Sequence[UnitWindow], reference: Sequence[Run]) -> Iterator[tuple[str, Variant]]:
    """Each variant by its name, made from the windows `seen`; `reference` are the units that `known` was fitted to."""
    assert known.metadata.rehearsal is not None
    runs = first_aid.newest([Run(one.unit, one.rows.astype(np.float64)) for one in seen])
    begins = judging.begins(seen)
    ages = known.metadata.rehearsal.ages
    enough = first_aid.lacking(known.regimes, runs) is None
    aided = first_aid.give(known, runs, begins) if enough else None
    model, found = (known.model, known.regimes) if aided is None else (aided.model, aided.regimes)
    rows, usual = _rows(found, runs, begins), _rows(found, reference, {})

    def judged(change: Change, model: Model = model, found: Regimes = found) -> Variant:
        variant = Variant(model, found, change)
        return replace(variant, refusal=_refusal(known, variant, runs))

    yield "growing by age", judged(_same)
    if aided is None:
        yield "plain growing", judged(_same)
    else:
        plain = regimes.extend(known.regimes, runs)
        widening = np.asarray(known.metadata.rehearsal.widening, np.float32)
        bare = answers.open_session(grafting.appended(known.content, plain, widening))
        yield "plain growing", judged(_same, replace(model, session=bare), plain)
    yield "found anew", judged(_anew(rows, None))
    yield "found anew by age", judged(_anew(rows, ages))
    yield "CORAL", judged(_coral(rows, usual))
    yield "quantile maps", judged(_quantiles(rows, usual, None))
    yield "quantile maps by age", judged(_quantiles(rows, usual, ages))


def _rows(found: Regimes, runs: Sequence[Run], begins: Mapping[str, int]) -> Rows:
    rows = np.concatenate([run.rows for run in runs])
    step = np.concatenate([begins.get(run.run_id, 0) + np.arange(len(run.rows)) for run in runs])
    return Rows(found.normalised(rows).clip(-MOST, MOST), found.assign(rows[:, : found.centres.shape[1]])[0], step)


def _same(values: Floats, _: NDArray[np.int64]) -> Floats:
    return values


def _anew(rows: Rows, ages: Ages | None) -> Change:
    """Each regime's mean and standard deviation as its rows have them, against what is usual at their ages."""
    sensors, regime = rows.values.shape[1], int(rows.regime.max()) + 1
    shift, scale = np.zeros((regime, sensors)), np.ones((regime, sensors))
    to_mean, to_std = np.zeros((regime, sensors)), np.ones((regime, sensors))
    for at in range(regime):
        here = rows.regime == at
        if here.sum() < LEAST_OF_REGIME:
            continue
        shift[at], scale[at] = rows.values[here].mean(axis=0), np.maximum(rows.values[here].std(axis=0), LEAST_SPREAD)
        if ages is not None:
            band = np.searchsorted(ages.edges, rows.step[here], side="right")
            to_mean[at] = np.asarray(ages.mean)[band].mean(axis=0)
            square = np.asarray(ages.square)[band].mean(axis=0)
            to_std[at] = np.sqrt(np.maximum(square - to_mean[at] ** 2, LEAST_SPREAD**2))

    def change(values: Floats, at: NDArray[np.int64]) -> Floats:
        known = np.minimum(at, regime - 1)
        moved = (values - shift[known]) / scale[known] * to_std[known] + to_mean[known]
        return np.where((at < regime)[:, None], moved, values)

    return change


def _coral(rows: Rows, usual: Rows) -> Change:
    """The rows' covariance turned into the usual one, and their mean."""
    seen, known = (np.cov(part.values.T) + np.eye(part.values.shape[1]) for part in (rows, usual))
    turn = _power(seen, -0.5) @ _power(known, 0.5)
    return lambda values, _: (values - rows.values.mean(axis=0)) @ turn + usual.values.mean(axis=0)


def _power(matrix: Floats, exponent: float) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * values**exponent) @ vectors.T)


def _quantiles(rows: Rows, usual: Rows, ages: Ages | None) -> Change:
    """Each sensor's quantiles among the rows put where the usual ones are; beyond the ends it is a shift."""
    weight = np.ones(len(usual.step))
    if ages is not None:
        seen, known = (np.searchsorted(ages.edges, part.step, side="right") for part in (rows, usual))
        share = np.bincount(seen, minlength=len(ages.mean)) / np.maximum(
            np.bincount(known, minlength=len(ages.mean)), 1
        )
        weight = share[known]
    before = np.quantile(rows.values, QUANTILES, axis=0)
    after = np.stack([_weighted(column, weight) for column in usual.values.T], axis=1)

    def change(values: Floats, _: NDArray[np.int64]) -> Floats:
        found = np.empty_like(values)
        for at in range(values.shape[1]):
            inside = np.interp(values[:, at], before[:, at], after[:, at])
            beyond = values[:, at] - values[:, at].clip(before[0, at], before[-1, at])
            found[:, at] = inside + beyond
        return found

    return change


def _weighted(values: Floats, weight: Floats) -> Floats:
    """QUANTILES of `values` `[n]` under weights `[n]`."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return np.asarray(np.interp(QUANTILES * total[-1], total, values[order]))


def _refusal(known: Known, variant: Variant, runs: Sequence[Run]) -> str | None:
    """What the judge says against a variant, from the answers along the windows that it was made from."""
    assert known.metadata.rehearsal is not None
    number = 1 + max(domain.domain for domain in known.baseline.domains)
    traces = [first_aid.trace_of(variant.model, run, number) for run in variant.moved(runs)]
    answered, baseline = [trace.prediction for trace in traces], known.baseline
    if len(variant.regimes) > len(known.regimes):
        baseline = provisional.with_domain(baseline, traces, len(variant.regimes), GROWN_SHARE)
    evidence = judging.Evidence(
        familiar_equal=True,
        finite=all(np.isfinite(each).all() for each in answered),
        drift_before=judging.drift(known.baseline, [first_aid.trace_of(known.model, run) for run in runs]),
        drift_after=judging.drift(baseline, traces),
        slopes=first_aid.slopes(answered, known.metadata.cap),
        at_cap=first_aid.at_cap(answered, known.metadata.cap),
        units=len(answered),
        rows=float(np.mean([len(run.rows) for run in runs])),
    )
    return judging.refusal(evidence, known.metadata.rehearsal)
