"""The baseline: what healthy traffic of one model version looks like, as `baseline.json` in its bundle."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.drift import calibration
from driftloop.drift.bins import (
    SETTINGS_BEFORE,
    Binner,
    FeatureBins,
)
from driftloop.drift.calibration import Threshold
from driftloop.drift.few_units import Powers
from driftloop.drift.live_error import LiveErrors
from driftloop.drift.mixture import Components, by_group, fit
from driftloop.drift.sensors import Quality
from driftloop.drift.statistics import Floats, normal_scores, shares
from driftloop.durable import decode_json
from driftloop.errors import BundleError, JsonError
from driftloop.model.bundle import BASELINE

FORMAT = 2
"""Of `baseline.json`; raised when what is in it changes."""


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
    """Traffic must come from so many units for it: calibration.ENGINES before few units had thresholds of their own."""
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
    windows: int = 2
    """How many windows share the false alarms; 2 before the shortest one was judged."""
    quality: Quality | msgspec.UnsetType = msgspec.UNSET
    """How readings of healthy lives are; not there for a fleet whose readings are not judged, or before they were."""
    errors: LiveErrors | msgspec.UnsetType = msgspec.UNSET
    """What the live error is estimated from; not there without reference units, or before it was estimated."""
    by_regime: list[Domain] | msgspec.UnsetType = msgspec.UNSET
    """The rows of all domains by their regime, which `domain` numbers; not there where all are in one regime, or before
    they were parted."""
    few_units: Powers | msgspec.UnsetType = msgspec.UNSET
    """How thresholds grow where fewer units send than they are made for; not there before that was known."""

    @cached_property
    def binner(self) -> Binner:
        """The bins, ready to count with."""
        return Binner(self.features, self.settings)

    @cached_property
    def components(self) -> Components:
        """The distribution of each domain at each age."""
        return components_of(self.domains, self.binner)

    @cached_property
    def start(self) -> Floats:
        """Weight of each component in healthy traffic, `[C]`."""
        return start_of(self.domains, np.asarray(self.weights))

    @cached_property
    def in_any_mix(self) -> "Baseline | None":
        """The same with a domain for each regime: what it explains is known in whatever regimes. None without such."""
        if self.by_regime is msgspec.UNSET:
            return None
        rows = sum(regime.rows for regime in self.by_regime)
        weights = [regime.rows / rows for regime in self.by_regime]
        return msgspec.structs.replace(self, domains=self.by_regime, weights=weights)

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
        """Chance at which new settings may alarm in one check, in any one of the windows."""
        promised = self.false_alarms
        return calibration.NEW_SHARE / self.windows * promised.requests_per_check / promised.requests_per_false_alarm

    @cached_property
    def scores(self) -> Floats:
        """Normal scores of all bins, `[2, total]`; 0 for features without order or variation."""
        return scores_of(self.binner, self.expected)

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
    parted = [] if baseline.by_regime is msgspec.UNSET else baseline.by_regime
    every = [age for domain in [*baseline.domains, *parted] for age in domain.ages]
    good = good and all(len(age.counts) == total and age.rows > 0 for age in every)
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


def components_of(domains: Sequence[Domain], binner: Binner) -> Components:
    """The distributions of domains at each age, side by side."""
    return Components(
        probabilities=np.array([np.array(age.counts) / age.rows for d in domains for age in d.ages]),
        domain=np.array([position for position, d in enumerate(domains) for _ in d.ages]),
        age=np.array([age.band for d in domains for age in d.ages]),
        offsets=binner.offsets,
    )


def scores_of(binner: Binner, expected: Floats) -> Floats:
    """Normal scores of all bins where `expected` `[total]` is healthy; 0 for features without order or variation."""
    ordered = np.array([feature.kind == "quantile" for feature in binner.features])
    return np.where(np.repeat(ordered, binner.sizes), normal_scores(expected, binner.offsets), 0.0)


def start_of(domains: Sequence[Domain], share: Floats) -> Floats:
    """Weight of each component where the domains have these shares `[D]` of the traffic, `[C]`."""
    return np.array([w * age.rows / d.rows for d, w in zip(domains, share, strict=True) for age in d.ages])
