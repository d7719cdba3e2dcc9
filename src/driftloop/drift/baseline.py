"""The baseline: what healthy traffic of one model version looks like, as `baseline.json` in its bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.drift import calibration
from driftloop.drift.bins import (
    PREDICTION,
    REGIME,
    SETTINGS_BEFORE,
    Binner,
    FeatureBins,
    category_bins,
    numeric_bins,
)
from driftloop.drift.calibration import Lives, Threshold
from driftloop.drift.mixture import Components, by_group, fit
from driftloop.drift.statistics import EPSILON, Floats, normal_scores, shares
from driftloop.durable import decode_json
from driftloop.errors import BundleError, JsonError
from driftloop.fleet.labels import age_edges
from driftloop.fleet.schema import Schema
from driftloop.model.bundle import BASELINE

FORMAT = 2
"""Of `baseline.json`; raised when what is in it changes."""
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


class Age(msgspec.Struct, frozen=True):
    """The rows of a domain's engines in one age band: how many, and counts per bin of all features side by side."""

    band: int
    rows: int
    counts: list[int]


class Domain(msgspec.Struct, frozen=True):
    """One operating domain: the engines that first appeared in one training."""

    domain: int
    runs: int
    rows: int
    probabilities: dict[str, list[float]]
    """Share of rows in each bin of each feature."""
    ages: list[Age]


class FalseAlarms(msgspec.Struct, frozen=True):
    """What the thresholds promise, and what that rests on."""

    requests_per_false_alarm: int
    requests_per_check: int
    engines: int
    """Traffic is assumed to come from at least this many engines, in no particular order."""
    replicates: int
    units: int | None = None
    """Units that the baseline rests on; None in one that was made before this was said."""
    bounded_by_units: bool = False
    """Whether they are so few that they, and not the bootstrap, bound what is promised."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Bins, distributions, mixture weights and thresholds; written with `baseline_bytes`."""

    format: int
    features: list[FeatureBins]
    settings: int = SETTINGS_BEFORE
    """How many of the features, after the prediction, are settings."""
    setting_units: int | None = None
    """Units whose settings never change, where nearly all are such: then new settings are counted in units."""
    fleet: str | None = None
    """Digest of the fleet's schema; None before fleets had one."""
    domains: list[Domain]
    weights: list[float]
    """Share of each domain in the traffic at the time of building, in the order of `domains`."""
    ages: list[int]
    """Remaining cycles that bound the age bands."""
    thresholds: list[Threshold]
    min_n: int
    """Requests that `no_drift` needs."""
    power: float | None
    """Share of 25 % admixtures of the newest domain that the other domains' baseline finds at `min_n`; null where
    there is one domain only, and `min_n` is a default."""
    power_by_n: dict[str, float]
    eps: float
    """Share that an empty bin counts for in PSI."""
    false_alarms: FalseAlarms
    seed: int

    @cached_property
    def binner(self) -> Binner:
        """The bins, ready to count with."""
        return Binner(self.features, self.settings)

    @cached_property
    def components(self) -> Components:
        """The distribution of each domain at each age."""
        return _components(self.domains, self.binner)

    @cached_property
    def start(self) -> Floats:
        """Weight of each component in healthy traffic, `[C]`."""
        return _start(self.domains, np.asarray(self.weights))

    @cached_property
    def threshold_table(self) -> Floats:
        """Logarithms of n, PSI and KS thresholds per feature and age threshold: a row per calibrated n."""
        return np.log([[t.n, *t.psi, *t.ks, max(t.age, 1e-9)] for t in self.thresholds])

    @cached_property
    def shift_limits(self) -> Floats:
        """Where the conditional shifts, of location and of spread, say drift, `[calibrated n, 2, F]`."""
        return np.array([threshold.shift for threshold in self.thresholds])

    @cached_property
    def covariances(self) -> Floats:
        """Of the features' shifts in healthy traffic, `[calibrated n, 2, F, F]`."""
        return np.stack([calibration.full_covariance(threshold) for threshold in self.thresholds])

    @cached_property
    def precisions(self) -> Floats:
        """Their inverses, `[calibrated n, 2, F, F]`."""
        return calibration.precision_of(self.covariances)

    @cached_property
    def rows(self) -> int:
        """Rows of all domains."""
        return sum(domain.rows for domain in self.domains)

    @cached_property
    def new(self) -> NDArray[np.bool_]:
        """Bins that no row of any domain is in, `[total]`."""
        return np.asarray(self.components.probabilities.max(axis=0) == 0)

    @cached_property
    def new_exceedance(self) -> float:
        """Chance at which new settings may alarm in one check, in either of two windows."""
        promised = self.false_alarms
        return calibration.NEW_SHARE / 2 * promised.requests_per_check / promised.requests_per_false_alarm

    @cached_property
    def scores(self) -> Floats:
        """Normal scores of all bins, `[2, total]`; 0 for features without order or variation."""
        return _scores(self.binner, self.expected)

    @cached_property
    def expected(self) -> Floats:
        """Shares of all bins in traffic with the stored weights and engines of all ages, `[total]`."""
        return np.asarray(self.start @ self.components.probabilities)


class _Kept(msgspec.Struct, frozen=True):
    """What is the same in every format."""

    features: list[FeatureBins]
    weights: list[float]
    settings: int = SETTINGS_BEFORE
    format: int = 1


_REMEDY = "run `driftloop baseline refresh`"


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
    components, start = _components(domains, binner), _start(domains, share)
    lives = _lives(traces, numbers, binner, ages, np.random.default_rng(seed))
    exceedance = calibration.REQUESTS_PER_CHECK / requests_per_false_alarm
    scores = _scores(binner, start @ components.probabilities)
    thresholds = calibration.calibrate(
        lives, components, start, share, scores, np.random.default_rng(seed), replicates, exceedance
    )
    power_by_n: dict[int, float] = {}
    if len(numbers) > 1:
        newest = len(numbers) - 1
        power_by_n = calibration.admixture_power(
            lives,
            components,
            start,
            share,
            newest,
            lambda expected: _scores(binner, expected),
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
    )


def baseline_bytes(baseline: Baseline) -> bytes:
    """`baseline.json`; equal baselines give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(baseline, order="deterministic"), indent=0) + b"\n"


def decode_baseline(content: bytes, where: str = BASELINE) -> Baseline:
    """A baseline from its bytes; raises BundleError where they are damaged, of another format or contradict
    themselves."""
    try:
        found = decode_json(content, _Kept).format
        if found != FORMAT:
            raise BundleError(
                f"has format {found}; this version of driftloop reads {FORMAT}", where=where, remedy=_REMEDY
            )
        baseline = decode_json(content, Baseline)
    except JsonError as error:
        raise BundleError(error.what, where=where, remedy=_REMEDY) from error
    total = baseline.binner.total
    good = len(baseline.weights) == len(baseline.domains) > 0 and len(baseline.thresholds) > 0
    good = good and all(len(age.counts) == total and age.rows > 0 for d in baseline.domains for age in d.ages)
    triangle = len(baseline.features) * (len(baseline.features) + 1) // 2
    good = good and all(len(t.psi) == len(t.ks) == len(baseline.features) for t in baseline.thresholds)
    good = good and all([len(part) for part in t.shift] == [len(baseline.features)] * 2 for t in baseline.thresholds)
    good = good and all([len(part) for part in t.covariance] == [triangle] * 2 for t in baseline.thresholds)
    if not good:
        raise BundleError("domains, bins and thresholds do not fit together", where=where)
    return baseline


def read_baseline(folder: Path) -> Baseline:
    """`baseline.json` of a bundle's folder; raises BundleError where it is missing, damaged or of another format."""
    return decode_baseline(_read(folder), str(folder / BASELINE))


def read_binner(folder: Path) -> Binner:
    """The bins alone of a bundle's baseline, whatever its format, so that every bundle can be served and counted.

    Raises BundleError where the baseline is missing or damaged.
    """
    kept = _decode_kept(folder)
    return Binner(kept.features, kept.settings)


def read_weights(folder: Path) -> list[float]:
    """The mixture weights alone of a bundle's baseline, whatever its format; raises BundleError as `read_binner`."""
    return _decode_kept(folder).weights


def _decode_kept(folder: Path) -> _Kept:
    try:
        return decode_json(_read(folder), _Kept)
    except JsonError as error:
        raise BundleError(error.what, where=str(folder / BASELINE), remedy=_REMEDY) from error


def _read(folder: Path) -> bytes:
    path = folder / BASELINE
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}", where=str(path)) from error


def fit_mixture(counts: dict[str, NDArray[np.int64]], baseline: Baseline) -> list[float]:
    """The share of each domain in the traffic that `counts` (per feature) show, in the order of `domains`."""
    live = shares(baseline.binner.join(counts), baseline.components.offsets)
    weights = fit(live, baseline.components, baseline.start)
    return [float(w) for w in by_group(weights, baseline.components.domain, len(baseline.domains))]


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
    return FalseAlarms(
        sent if few else wanted, calibration.REQUESTS_PER_CHECK, calibration.ENGINES, replicates, units, few
    )


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


def _bands(cycles: int, ages: Sequence[int]) -> NDArray[np.int64]:
    """Age band of each row of a life of `cycles` rows."""
    return np.searchsorted(ages, np.arange(cycles - 1, -1, -1), side="right")


def domain_of(traces: Sequence[Trace], number: int, binner: Binner, edges: Sequence[int]) -> Domain:
    """The distributions of an operating domain from whole lives of its engines, on given bins; `edges` of age bands."""
    index = np.concatenate([_indices(trace, binner) for trace in traces])
    band = np.concatenate([_bands(len(trace.prediction), edges) for trace in traces])
    ages = []
    for age in np.unique(band):
        inside = index[band == age]
        counts = np.bincount((inside + binner.offsets).ravel(), minlength=binner.total)
        ages.append(Age(int(age), len(inside), counts.tolist()))
    whole = np.sum([age.counts for age in ages], axis=0)
    probabilities = {name: [round(int(c) / len(index), 6) for c in part] for name, part in binner.split(whole).items()}
    return Domain(number, len(traces), len(index), probabilities, ages)


def _indices(trace: Trace, binner: Binner) -> NDArray[np.int64]:
    return binner.indices(trace.prediction, trace.settings, trace.newest, trace.regime)


def _components(domains: Sequence[Domain], binner: Binner) -> Components:
    return Components(
        probabilities=np.array([np.array(age.counts) / age.rows for d in domains for age in d.ages]),
        domain=np.array([position for position, d in enumerate(domains) for _ in d.ages]),
        age=np.array([age.band for d in domains for age in d.ages]),
        offsets=binner.offsets,
    )


def _scores(binner: Binner, expected: Floats) -> Floats:
    """Normal scores of all bins where `expected` `[total]` is healthy; 0 for features without order or variation."""
    ordered = np.array([feature.kind == "quantile" for feature in binner.features])
    return np.where(np.repeat(ordered, binner.sizes), normal_scores(expected, binner.offsets), 0.0)


def _start(domains: Sequence[Domain], share: Floats) -> Floats:
    return np.array([w * age.rows / d.rows for d, w in zip(domains, share, strict=True) for age in d.ages])


def _lives(
    traces: Sequence[Trace], numbers: list[int], binner: Binner, ages: Sequence[int], rng: np.random.Generator
) -> Lives:
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
        band = _bands(len(index), ages)
        np.add.at(by_age[engine], (band[:, None], index), 1)
        age_rows[engine] = np.bincount(band, minlength=len(ages) + 1)
    np.cumsum(cumulative, axis=0, out=cumulative)
    domain = np.array([numbers.index(trace.domain) for trace in chosen])
    return Lives(cumulative, start, length, domain, by_age, age_rows)
