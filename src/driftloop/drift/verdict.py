"""The verdict: is this traffic what the model was made for, and if not, what is to blame."""

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import ArrayLike, NDArray

from driftloop.drift import calibration
from driftloop.drift.baseline import Baseline
from driftloop.drift.few_units import ANY_UNITS, Units
from driftloop.drift.limits import Limits, calibrated, thresholds_at
from driftloop.drift.mixture import by_group, fit
from driftloop.drift.sensors import COUNTED, Fault, faults
from driftloop.drift.statistics import Floats, conditional, ks, psi, shares, shifts
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT, CauseKind

DRIFT, NO_DRIFT, FLEET_AGE, NOT_ENOUGH_DATA = "drift", "no_drift", "fleet_age", "not_enough_data"
WITHOUT_DRIFT = frozenset({NO_DRIFT, FLEET_AGE})
"""Verdicts that the model may go on with: it knows these engines, of whatever age."""
STUCK_LIVE, STUCK_EXPECTED = 0.98, 0.8
"""A sensor is stuck when this share of it is in one bin where at most that share is expected."""

OTHERS_BELOW = 0.65
"""One sensor is at fault when everything else stays below this score, as healthy traffic does nearly always; what
lies between this and 1 hints at a change of the fleet that shows in one sensor first."""
SUSPECTS = 3
"""Sensors, the worst first, of which one may be at fault alone."""

ENDS_BELOW = 0.8
"""Score below which an alert ends: lower than where it begins, or one near its threshold would flutter."""

CONFIRMATIONS = 3
"""Checks in a row that must say a sensor fault before it is reported, or a change of the fleet before it takes a sensor
fault's place: in its first seconds one can look like the other, and only the second is trained on."""


class FeatureVerdict(msgspec.Struct, frozen=True):
    """One feature: its distances to what the known engines explain, and where drift would begin."""

    feature: str
    psi: float
    ks: float
    shift: float
    """How far its location is from what the other features let expect, in standard deviations of healthy traffic."""
    spread: float
    """The same of its spread."""
    threshold_psi: float
    threshold_ks: float
    threshold_shift: float
    threshold_spread: float
    score: float
    """The largest of the four, and of a setting or regime how many requests are new, in units of its threshold."""
    psi_plain: float
    """PSI against the baseline's stored mixture and ages, with nothing fitted."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What n requests say; `score` > 1 means drift, and is 0 where n is too small to say anything."""

    verdict: str
    n: int
    units: float | None = None
    """How many units these requests rest on, as if each had sent as many; None where that is not known."""
    min_n: int
    """Requests that `no_drift` needs."""
    score: float
    features: list[FeatureVerdict]
    blamed: list[str]
    """Features beyond their threshold, the worst first; of a sensor fault, that sensor alone, or what the settings
    misreport."""
    kind: CauseKind | None
    """`fleet_change` or `sensor_fault` where there is drift."""
    stuck: list[str]
    """Sensors that hardly move although they should."""
    faults: list[Fault] = []
    """Columns whose readings are missing, out of range or stuck more often than in healthy traffic."""
    mixture: dict[str, float]
    """Share of each known domain in the traffic."""
    ages: dict[str, float]
    """Share of each age band, by the least remaining cycles of the band."""
    age_shift: float
    """How far the fleet's mean age is from the baseline's, in units of its threshold: above 1 the fleet is younger,
    below -1 older."""


class Streak(NamedTuple):
    """How many checks in a row have said the same kind of drift."""

    kind: str | None = None
    checks: int = 0

    def then(self, kind: str | None) -> "Streak":
        """After one more check, which said `kind`."""
        return Streak(kind, self.checks + 1 if kind == self.kind else 1)

    @property
    def alarms(self) -> bool:
        """Whether there is an alert where there was none: of a change of the fleet at once, of a sensor confirmed."""
        return self.kind == FLEET_CHANGE or (self.kind == SENSOR_FAULT and self.checks >= CONFIRMATIONS)


@dataclass(frozen=True, eq=False)
class Measured:
    """The statistics of one window, or of many at once: every array may have more axes in front."""

    n: NDArray[np.int64]
    """Requests, `[]`."""
    live: Floats
    """Shares of all bins, `[total]`."""
    weights: Floats
    """Of the components that explain the window best, `[C]`."""
    expected: Floats
    """Shares of all bins that they explain, `[total]`."""
    psi: Floats
    """`[F]`"""
    ks: Floats
    """`[F]`"""
    shift: Floats
    """Conditional on the other features, of location and of spread, `[2, F]`."""
    new: NDArray[np.int64]
    """Requests in bins that are empty in all of the baseline, `[F]`."""
    limits: Limits
    """Where drift begins with this many requests."""
    score: Floats
    """The largest statistic in units of its threshold, `[F]`; below calibration.GRID[0] requests that of new settings
    and regimes alone."""
    age_shift: Floats
    """In units of its threshold, `[]`; above 0 younger."""


def measure(flat: NDArray[np.int64], baseline: Baseline, units: ArrayLike | None = None) -> Measured:
    """Statistics of the counts `flat` `[..., total]` of all features' bins side by side, of `units` `[...]` units."""
    components, offsets = baseline.components, baseline.binner.offsets
    n = np.add.reduceat(flat, offsets, axis=-1).min(axis=-1)
    live = shares(flat, offsets)
    weights = fit(np.where(n[..., None] > 0, live, baseline.expected), components, baseline.start)
    expected = weights @ components.probabilities
    at = calibrated(baseline, n)
    shift = conditional(shifts(live, expected, baseline.scores, offsets), baseline.precisions[at])
    limits = thresholds_at(baseline, n, units)
    distance_psi, distance_ks = psi(live, expected, offsets, baseline.eps), ks(live, expected, offsets)
    new = np.add.reduceat(flat * baseline.new, offsets, axis=-1)
    enough = (n >= calibration.GRID[0])[..., None]
    score = np.where(enough, _score(distance_psi, distance_ks, shift, limits), 0.0)
    return Measured(
        n=n,
        live=live,
        weights=weights,
        expected=expected,
        psi=distance_psi,
        ks=distance_ks,
        shift=shift,
        new=new,
        limits=limits,
        score=np.maximum(score, _new_score(new, limits, baseline.binner.is_operation)),
        age_shift=calibration.age_shift(weights, components, baseline.start) / limits.age,
    )


def judge(
    counts: dict[str, NDArray[np.int64]],
    baseline: Baseline,
    longer: dict[str, NDArray[np.int64]] | None = None,
    quality: NDArray[np.int64] | None = None,
    longer_quality: NDArray[np.int64] | None = None,
    quick: dict[str, NDArray[np.int64]] | None = None,
    units: Units = ANY_UNITS,
) -> Verdict:
    """The verdict on `counts`: for each feature, how many requests fell into each bin of `baseline`.

    `longer` are the counts of a window that reaches further back: it sees smaller changes, later. It has the say
    where its score is the larger one and is not below where alerts end. `quick` are those of a window that holds the
    newest requests alone: it sees large changes, sooner, and has the say where it alone sees drift.

    The traffic is compared with the mixture of known domains and ages that explains it best (mixture.fit). A shift
    among domains that the model was trained on, or of the fleet's age, is therefore no drift: the model knows these
    engines; the new `mixture` is reported, and engines that are older or younger than healthy chance allows are
    `fleet_age`. What is left is PSI and binned KS per feature, and how far each feature's location and spread are
    from what the other features let expect, all in units of thresholds calibrated for this n. Of settings and regimes
    that the baseline has never seen a few requests are enough (calibration.new_limit). These can be `drift` at any n,
    everything else from calibration.GRID[0] requests on, `no_drift` and `fleet_age` from `baseline.min_n` on. It is
    a sensor fault when, with one sensor left out, nothing else comes near (OTHERS_BELOW) but the prediction that is
    computed from it; or when settings are new and no sensor has noticed.

    `quality` and `longer_quality`, flat `[columns * sensors.COUNTED]`, are how the readings of the same requests were.
    Where some are worse than in healthy traffic (driftloop.drift.sensors), it is a sensor fault too, unless the columns
    that are not to blame have drifted beyond their own thresholds.

    `units` says how many units each window rests on: few of them vary more (driftloop.drift.few_units).

    Raises BundleError where the counts are not on the baseline's bins.
    """
    verdict = _judge(baseline.binner.join(counts), baseline, quality, units.newest)
    if longer is not None:
        later = _judge(baseline.binner.join(longer), baseline, longer_quality, units.longer)
        if longer_decides(verdict.score, later.score):
            verdict = later
    if quick is not None and baseline.windows == calibration.WINDOWS and verdict.verdict != DRIFT:
        sooner = _judge(baseline.binner.join(quick), baseline, None, units.quick)
        if sooner.verdict == DRIFT:
            return sooner
        if longer_decides(verdict.score, sooner.score):
            return msgspec.structs.replace(verdict, score=sooner.score)
    return verdict


def longer_decides(score: ArrayLike, longer: ArrayLike) -> NDArray[np.bool_]:
    """Whether the window that reaches further back has the say, from both scores; not below where alerts end."""
    return np.greater_equal(longer, np.maximum(score, ENDS_BELOW))


def _judge(
    flat: NDArray[np.int64], baseline: Baseline, quality: NDArray[np.int64] | None, units: float | None
) -> Verdict:
    components = baseline.components
    found = measure(flat, baseline, units)
    n, score = int(found.n), found.score
    plain = psi(found.live, baseline.expected, baseline.binner.offsets, baseline.eps)
    worst = float(score.max())
    order = [int(i) for i in np.argsort(-score, kind="stable") if score[i] > 1]
    kind = None
    bad = _bad(quality, n, baseline)
    blamed = list(dict.fromkeys(baseline.binner.names.index(fault.feature) for fault in bad if fault.score > 1))
    if blamed and left_without(blamed, found, baseline)[0] <= 1:
        verdict, order, kind = DRIFT, blamed, SENSOR_FAULT
    elif worst > 1:
        verdict = DRIFT
        faulty = _faulty_sensor(found, baseline)
        order = order if faulty is None else [faulty]
        kind = FLEET_CHANGE if faulty is None and not _settings_misreported(found, baseline) else SENSOR_FAULT
    elif n < max(calibration.GRID[0], baseline.min_n):
        verdict = NOT_ENOUGH_DATA
    else:
        verdict = FLEET_AGE if abs(found.age_shift) > 1 else NO_DRIFT
    worst = max([worst, *(fault.score for fault in bad)])
    limits = found.limits
    return Verdict(
        verdict=verdict,
        n=n,
        units=None if units is None or np.isnan(units) else round(float(units), 1),
        min_n=baseline.min_n,
        score=round(worst, 4),
        features=[
            FeatureVerdict(
                name,
                *(round(float(value), 5) for value in (*row, score[i], plain[i])),
            )
            for i, (name, row) in enumerate(
                zip(
                    baseline.binner.names,
                    zip(found.psi, found.ks, *found.shift, limits.psi, limits.ks, *limits.shift, strict=True),
                    strict=True,
                )
            )
        ],
        blamed=[baseline.binner.names[i] for i in order] if verdict == DRIFT else [],
        kind=kind,
        stuck=_stuck(found.live, found.expected, baseline) if n >= calibration.GRID[0] else [],
        faults=[fault for fault in bad if fault.score > 1],
        mixture=_named(
            [str(domain.domain) for domain in baseline.domains],
            by_group(found.weights, components.domain, len(baseline.domains)),
        ),
        ages=_named(
            [str(age) for age in (0, *baseline.ages)], by_group(found.weights, components.age, len(baseline.ages) + 1)
        ),
        age_shift=round(float(found.age_shift), 4),
    )


def _score(distance_psi: Floats, distance_ks: Floats, shift: Floats, limits: Limits) -> Floats:
    """The largest of a feature's statistics in units of their thresholds, `[..., F]`."""
    parts = (distance_psi / limits.psi, distance_ks / limits.ks, (shift / limits.shift).max(axis=-2))
    return np.asarray(np.max(parts, axis=0))


def _new_score(new: NDArray[np.int64], limits: Limits, is_operation: NDArray[np.bool_]) -> Floats:
    """How many requests are new in units of their threshold, `[..., F]`; 0 for features that vary between engines."""
    return np.asarray(np.where(is_operation, new / limits.new[..., None], 0.0))


def _settings_misreported(found: Measured, baseline: Baseline) -> bool:
    """Whether settings are new and no sensor has noticed: an engine elsewhere would show it in its sensors too.

    Sensors that are constant in all known regimes tell, of whom elsewhere each request is new.
    """
    new, offsets = found.new, baseline.binner.offsets
    sensor, operation = baseline.binner.is_sensor, baseline.binner.is_operation
    could_tell = np.logical_or.reduceat(baseline.new, offsets)[sensor].any()
    silent = new[sensor].max() < new[operation].max() / 2 and found.score[sensor].max() <= OTHERS_BELOW
    return bool(could_tell and silent and new[operation].max() > found.limits.new)


def _faulty_sensor(found: Measured, baseline: Baseline) -> int | None:
    """The sensor without which nothing is out of line, or None.

    A fault can stand out most in a healthy sensor that otherwise goes with the faulty one. Where either explains
    everything, it is the one whose own distribution has changed more.
    """
    suspects = np.argsort(-np.where(baseline.binner.is_sensor, found.score, -1.0), kind="stable")[:SUSPECTS]
    if found.score[suspects[0]] <= 1:
        return None
    explaining = [int(i) for i in suspects if left_without([int(i)], found, baseline)[0] <= OTHERS_BELOW]
    changed = found.psi / found.limits.psi
    return max(explaining, key=lambda suspect: float(changed[suspect]), default=None)


def left_without(suspects: list[int], found: Measured, baseline: Baseline) -> tuple[Floats, Floats]:
    """With `suspects` left out of the fit: the largest score `[...]` of what neither is one of them nor computed from
    them, and the weights `[..., C]` of the components that explain it."""
    offsets = baseline.binner.offsets
    others = np.ones(len(baseline.features), dtype=bool)
    # The prediction, which comes first, is computed from it.
    others[[0, *suspects]] = False
    weights = fit(found.live, baseline.components, baseline.start, others)
    expected = weights @ baseline.components.probabilities
    # The others must explain each other without it.
    covariance = baseline.covariances[calibrated(baseline, found.n)]
    without = np.where((others[:, None] & others) | np.eye(len(others), dtype=bool), covariance, 0.0)
    shift = conditional(shifts(found.live, expected, baseline.scores, offsets), calibration.precision_of(without))
    distances = psi(found.live, expected, offsets, baseline.eps), ks(found.live, expected, offsets)
    score = np.maximum(
        _score(*distances, shift, found.limits), _new_score(found.new, found.limits, baseline.binner.is_operation)
    )
    return np.asarray(score[..., others].max(axis=-1)), weights


def _bad(quality: NDArray[np.int64] | None, n: int, baseline: Baseline) -> list[Fault]:
    """Readings that are worse than usual; none of a fleet whose readings are not judged."""
    if quality is None or not len(quality) or baseline.quality is UNSET:
        return []
    promised = baseline.false_alarms
    return faults(
        quality.reshape(-1, len(COUNTED)),
        n,
        baseline.quality,
        promised.requests_per_check,
        promised.requests_per_false_alarm,
    )


def _stuck(live: Floats, expected: Floats, baseline: Baseline) -> list[str]:
    offsets = baseline.binner.offsets
    largest, usual = np.maximum.reduceat(live, offsets), np.maximum.reduceat(expected, offsets)
    stuck = baseline.binner.is_sensor & (largest >= STUCK_LIVE) & (usual <= STUCK_EXPECTED)
    return [baseline.binner.names[i] for i in np.flatnonzero(stuck)]


def _named(names: list[str], values: Floats) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}
