"""How a baseline is made: from what a model answered over whole healthy lives of its fleet's units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from driftloop.drift import calibration, few_units, sensors
from driftloop.drift.baseline import FORMAT, Age, Baseline, Domain, FalseAlarms, components_of, scores_of, start_of
from driftloop.drift.bins import PREDICTION, REGIME, Binner, FeatureBins, category_bins, numeric_bins
from driftloop.drift.calibration import Lives
from driftloop.drift.statistics import EPSILON, Floats
from driftloop.fleet.labels import age_edges
from driftloop.fleet.schema import Schema

MANY_UNITS = 45
"""With fewer reference units no rarer alarms are claimed than the units themselves can show."""
CONSTANT_SHARE = 0.9
"""Settings count as belonging to the unit where they never change in this share of the units."""
CALIBRATION_ENGINES = 100
"""Engines of one domain that the bootstrap draws from; more only cost memory and time."""
REFERENCE_ROLES = frozenset({"train", "early_stop", "calibrate"})


@dataclass(frozen=True, eq=False)
class Trace:
    """What the model answered over one completed run, one row per cycle from the first to the failure."""

    run_id: str
    domain: int
    role: str
    prediction: NDArray[np.float32]
    """RUL in cycles, `[n]`."""
    settings: NDArray[np.float32]
    """Raw settings, `[n, settings]`."""
    newest: NDArray[np.float32]
    """Normalised sensors, `[n, sensors]`."""
    regime: NDArray[np.int64]
    """Regime, `[n]`; -1 for one never seen."""
    quality: sensors.Life | None = None
    """How the readings were; None for a fleet whose readings are not judged."""
    remaining: NDArray[np.floating] | None = None
    """Steps left after each row, `[n]`, where the life did not end with the last one; None where it did."""

    @property
    def left(self) -> NDArray[np.floating]:
        """Steps left after each row, `[n]`."""
        if self.remaining is not None:
            return self.remaining
        return np.arange(len(self.prediction) - 1, -1, -1, dtype=np.float64)

    def bands(self, edges: Sequence[int]) -> NDArray[np.int64]:
        """Age band of each row, `[n]`."""
        return np.searchsorted(edges, self.left, side="right")


def build_baseline(
    traces: Sequence[Trace],
    schema: Schema,
    cap: int,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    replicates: int = calibration.REPLICATES,
    requests_per_false_alarm: int = calibration.REQUESTS_PER_FALSE_ALARM,
) -> Baseline:
    """The baseline of a model from its answers to the runs it was made from.

    `traces`: complete lives of engines of the roles train, early_stop and calibrate; any order gives the same
    baseline. `weights`: share of each domain in the traffic, in the order of the domains' numbers, any positive
    scale; None takes the shares of the engines. `requests_per_false_alarm` is what the thresholds promise (ARL0),
    with a check every calibration.REQUESTS_PER_CHECK requests; `replicates` the size of the bootstrap. `cap`, in steps,
    is that of the labels. Of fewer than MANY_UNITS units no more is promised than one alarm in as many requests as one
    unit more than they send in their lives: among units that are alike, the next is beyond all of U seen ones with
    probability 1 / (U + 1), whatever a bootstrap of the U says (Wilks, "Determination of sample sizes for setting
    tolerance limits", Annals of Mathematical Statistics 12, 1941). The thresholds are no looser for it.
    Raises ValueError for traces that are empty, of the roles gate or live, or for weights that do not fit.
    """
    traces = sorted(traces, key=lambda trace: (trace.domain, trace.run_id))
    if not traces or any(len(trace.prediction) == 0 for trace in traces):
        raise ValueError("a baseline needs at least one trace, and no empty one")
    strangers = [trace.run_id for trace in traces if trace.role not in REFERENCE_ROLES]
    if strangers:
        raise ValueError(f"{strangers[0]} and {len(strangers) - 1} more engines only judge or send traffic")
    numbers = sorted({trace.domain for trace in traces})
    share = _domain_weights(traces, numbers, weights)
    ages = age_edges(cap)
    binner = Binner(_bins(traces, numbers, share, schema), schema.n_settings)
    domains = [domain_of([t for t in traces if t.domain == number], number, binner, ages) for number in numbers]
    components, start = components_of(domains, binner), start_of(domains, share)
    lives = lives_of(traces, numbers, binner, ages, np.random.default_rng(seed))
    exceedance = calibration.REQUESTS_PER_CHECK / requests_per_false_alarm
    scores = scores_of(binner, start @ components.probabilities)
    thresholds = calibration.calibrate(
        lives, components, start, share, scores, np.random.default_rng(seed), replicates, exceedance
    )
    powers = few_units.powers_of(lives, components, start, share, scores, thresholds, np.random.default_rng(seed))
    power_by_n: dict[int, float] = {}
    if len(numbers) > 1:
        newest = len(numbers) - 1
        power_by_n = calibration.admixture_power(
            lives,
            components,
            start,
            share,
            newest,
            lambda expected: scores_of(binner, expected),
            np.random.default_rng(seed),
            exceedance,
        )
    min_n = calibration.least_n(power_by_n) if power_by_n else calibration.DEFAULT_MIN_N
    return Baseline(
        format=FORMAT,
        features=list(binner.features),
        settings=binner.settings,
        setting_units=_setting_units(traces),
        fleet=schema.digest,
        domains=domains,
        weights=[round(float(weight), 6) for weight in share],
        ages=list(ages),
        thresholds=thresholds,
        min_n=min_n,
        power=power_by_n.get(min_n),
        power_by_n={str(n): round(power, 4) for n, power in power_by_n.items()},
        eps=EPSILON,
        false_alarms=_promise(traces, requests_per_false_alarm, replicates),
        seed=seed,
        windows=calibration.WINDOWS,
        quality=_quality(traces, schema),
        by_regime=regimes_of(traces, binner, ages),
        few_units=powers,
    )


def _domain_weights(traces: Sequence[Trace], numbers: list[int], weights: Sequence[float] | None) -> Floats:
    if weights is None:
        share = np.array([sum(trace.domain == number for trace in traces) for number in numbers], dtype=np.float64)
    else:
        share = np.asarray(weights, dtype=np.float64)
    if share.shape != (len(numbers),) or not np.all(np.isfinite(share)) or share.min() < 0 or share.sum() <= 0:
        raise ValueError(f"{weights} are not the weights of {len(numbers)} domains")
    # Whole millionths that add up: the stored weights give the same baseline when it is built again from them.
    millionths = np.round(share / share.sum() * 1e6)
    millionths[np.argmax(millionths)] += 1e6 - millionths.sum()
    return np.asarray(millionths / 1e6)


def _promise(traces: Sequence[Trace], wanted: int, replicates: int) -> FalseAlarms:
    """The false alarms that so many units can speak for: see `build_baseline`."""
    units = len(traces)
    sent = round((units + 1) * sum(len(trace.prediction) for trace in traces) / units)
    few = units < MANY_UNITS and sent < wanted
    return FalseAlarms(sent if few else wanted, calibration.REQUESTS_PER_CHECK, 1, replicates, units, few)


def _quality(traces: Sequence[Trace], schema: Schema) -> sensors.Quality | UnsetType:
    lives = [trace.quality for trace in traces if trace.quality is not None]
    return sensors.usual(lives, schema.columns) if len(lives) == len(traces) else UNSET


def _setting_units(traces: Sequence[Trace]) -> int | None:
    """How many units there are, where nearly all of them have settings of their own that never change."""
    if not traces[0].settings.shape[1]:
        return None
    constant = [bool((trace.settings == trace.settings[:1]).all()) for trace in traces]
    return len(traces) if np.mean(constant) >= CONSTANT_SHARE else None


def _bins(traces: Sequence[Trace], numbers: list[int], share: Floats, schema: Schema) -> list[FeatureBins]:
    # Edges follow the traffic, but every domain keeps a say in them: it may come back.
    say = (share + 1 / len(share)) / 2
    rows = np.array([sum(len(t.prediction) for t in traces if t.domain == number) for number in numbers])
    per_row = dict(zip(numbers, say / rows, strict=True))
    weight = np.concatenate([np.full(len(trace.prediction), per_row[trace.domain]) for trace in traces])
    prediction = np.concatenate([trace.prediction for trace in traces])
    settings = np.concatenate([trace.settings for trace in traces])
    newest = np.concatenate([trace.newest for trace in traces])
    regimes = max(int(trace.regime.max()) for trace in traces) + 1
    bins = [numeric_bins(PREDICTION, prediction, weight)]
    bins += [numeric_bins(name, settings[:, i], weight) for i, name in enumerate(schema.setting_names)]
    bins += [numeric_bins(name, newest[:, i], weight) for i, name in enumerate(schema.sensor_names)]
    return [*bins, category_bins(REGIME, max(regimes, 1))]


def domain_of(traces: Sequence[Trace], number: int, binner: Binner, edges: Sequence[int]) -> Domain:
    """The distributions of an operating domain from whole lives of its engines, on given bins; `edges` of age bands."""
    index = np.concatenate([_indices(trace, binner) for trace in traces])
    band = np.concatenate([trace.bands(edges) for trace in traces])
    ages = []
    for age in np.unique(band):
        inside = index[band == age]
        counts = np.bincount((inside + binner.offsets).ravel(), minlength=binner.total)
        ages.append(Age(int(age), len(inside), counts.tolist()))
    whole = np.sum([age.counts for age in ages], axis=0)
    probabilities = {name: [round(int(c) / len(index), 6) for c in part] for name, part in binner.split(whole).items()}
    return Domain(number, len(traces), len(index), probabilities, ages)


def regimes_of(traces: Sequence[Trace], binner: Binner, edges: Sequence[int]) -> list[Domain] | UnsetType:
    """The distributions of each regime that rows are in, as `domain_of` a domain; UNSET where all are in one."""
    numbers = [int(number) for number in np.unique(np.concatenate([trace.regime for trace in traces])) if number >= 0]
    if len(numbers) < 2:
        return UNSET
    parted = ((number, [_within(trace, number) for trace in traces if number in trace.regime]) for number in numbers)
    return [domain_of(inside, number, binner, edges) for number, inside in parted]


def _within(trace: Trace, regime: int) -> Trace:
    """The rows of a trace that are in one regime."""
    inside = trace.regime == regime
    return replace(
        trace,
        prediction=trace.prediction[inside],
        settings=trace.settings[inside],
        newest=trace.newest[inside],
        regime=trace.regime[inside],
        remaining=trace.left[inside],
    )


def _indices(trace: Trace, binner: Binner) -> NDArray[np.int64]:
    return binner.indices(trace.prediction, trace.settings, trace.newest, trace.regime)


def lives_of(
    traces: Sequence[Trace], numbers: list[int], binner: Binner, ages: Sequence[int], rng: np.random.Generator
) -> Lives:
    """What the bootstrap draws from: traces of the domains `numbers`, of each some of at most CALIBRATION_ENGINES."""
    chosen: list[Trace] = []
    for number in numbers:
        members = [trace for trace in traces if trace.domain == number]
        if len(members) > CALIBRATION_ENGINES:
            picked = np.sort(rng.choice(len(members), CALIBRATION_ENGINES, replace=False))
            members = [members[i] for i in picked]
        chosen += members
    length = np.array([len(trace.prediction) for trace in chosen])
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    cumulative = np.zeros((int(length.sum()) + 1, binner.total), dtype=np.int32)
    by_age = np.zeros((len(chosen), len(ages) + 1, binner.total))
    age_rows = np.zeros((len(chosen), len(ages) + 1))
    for engine, trace in enumerate(chosen):
        index = _indices(trace, binner) + binner.offsets
        rows = np.arange(len(index))[:, None]
        cumulative[1 + start[engine] + rows, index] = 1
        band = trace.bands(ages)
        np.add.at(by_age[engine], (band[:, None], index), 1)
        age_rows[engine] = np.bincount(band, minlength=len(ages) + 1)
    np.cumsum(cumulative, axis=0, out=cumulative)
    domain = np.array([numbers.index(trace.domain) for trace in chosen])
    return Lives(cumulative, start, length, domain, by_age, age_rows)
