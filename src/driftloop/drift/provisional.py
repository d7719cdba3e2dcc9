"""A baseline that takes in an operating domain of which nothing but some windows is known: no lives, no labels.

The age of a row is what the model itself says is left of its unit. Few units are seen, so thresholds are the larger of
those that the baseline had and those of a bootstrap over the new units: what is unusual in either is no drift, and a
further change of settings is still new, since the bins of regimes are those of the model.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from driftloop.drift import baseline_build, calibration
from driftloop.drift.baseline import Age, Baseline, Domain
from driftloop.drift.baseline_build import Trace
from driftloop.drift.bins import REGIME, Binner, category_bins
from driftloop.drift.calibration import Threshold
from driftloop.drift.statistics import Floats

REPLICATES = 200
"""Of the bootstrap: it must not keep first aid waiting, and its thresholds are never below the baseline's own."""


def with_domain(known: Baseline, traces: Sequence[Trace], regimes: int, share: float) -> Baseline:
    """`known` with one more domain, of `traces`, on the bins of a model of `regimes` regimes.

    `share` is that of the domain in today's traffic, above 0 and below 1. Raises ValueError without traces.
    """
    if not traces:
        raise ValueError("a provisional domain needs at least one window")
    features = [*known.features[:-1], category_bins(REGIME, regimes)]
    binner, more = Binner(features, known.settings), regimes + 1 - known.features[-1].bins
    number = 1 + max(domain.domain for domain in known.domains)
    traces = sorted(traces, key=lambda trace: trace.run_id)
    added = baseline_build.domain_of(traces, number, binner, known.ages)
    domains = [*(_on_more_bins(domain, more) for domain in known.domains), added]
    weights = np.append(np.asarray(known.weights) * (1.0 - share), share)
    grown = msgspec.structs.replace(
        known,
        features=features,
        domains=domains,
        weights=[round(float(w), 6) for w in weights],
        # Too few rows are known of the new regimes to part them.
        by_regime=msgspec.UNSET,
    )
    return msgspec.structs.replace(grown, thresholds=_thresholds(grown, traces, number))


def _on_more_bins(domain: Domain, more: int) -> Domain:
    """The domain's distributions where `more` regimes are known: it has no row in them."""
    ages = [Age(age.band, age.rows, [*age.counts[:-1], *([0] * more), age.counts[-1]]) for age in domain.ages]
    regime = domain.probabilities[REGIME]
    return msgspec.structs.replace(
        domain, ages=ages, probabilities=domain.probabilities | {REGIME: [*regime[:-1], *([0.0] * more), regime[-1]]}
    )


def _thresholds(grown: Baseline, traces: Sequence[Trace], number: int) -> list[Threshold]:
    alone = msgspec.structs.replace(grown, domains=grown.domains[-1:], weights=[1.0])
    lives = baseline_build.lives_of(traces, [number], grown.binner, grown.ages, np.random.default_rng(grown.seed))
    promised = grown.false_alarms
    found = calibration.calibrate(
        lives, alone.components, alone.start, np.ones(1), alone.scores, np.random.default_rng(grown.seed), REPLICATES,
        promised.requests_per_check / promised.requests_per_false_alarm,
    )  # fmt: skip
    return [_larger(one, other) for one, other in zip(grown.thresholds, found, strict=True)]


def _larger(one: Threshold, other: Threshold) -> Threshold:
    """What alarms at neither threshold; covariances add up, as either may be what moves the features."""

    def larger(a: Floats | list[float], b: Floats | list[float]) -> list[float]:
        return [float(value) for value in np.maximum(a, b)]

    return Threshold(
        n=one.n,
        psi=larger(one.psi, other.psi),
        ks=larger(one.ks, other.ks),
        shift=[larger(a, b) for a, b in zip(one.shift, other.shift, strict=True)],
        age=max(one.age, other.age),
        covariance=[
            [a + b for a, b in zip(first, second, strict=True)]
            for first, second in zip(one.covariance, other.covariance, strict=True)
        ],
    )
