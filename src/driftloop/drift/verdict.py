"""The verdict: is this traffic what the model was made for, and if not, what is to blame."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.cmapss.schema import SENSORS
from driftloop.drift import calibration
from driftloop.drift.baseline import Baseline
from driftloop.drift.bins import FEATURES, PREDICTION
from driftloop.drift.mixture import by_group, fit
from driftloop.drift.statistics import Floats, ks, psi, shares

DRIFT, NO_DRIFT, NOT_ENOUGH_DATA = "drift", "no_drift", "not_enough_data"
FLEET_CHANGE, SENSOR_FAULT = "fleet_change", "sensor_fault"
STUCK_LIVE, STUCK_EXPECTED = 0.98, 0.8
"""A sensor is stuck when this share of it is in one bin where at most that share is expected."""

OTHERS_BELOW = 0.6
"""One sensor is at fault when everything else stays below this score, as healthy traffic does nearly always; what
lies between this and 1 hints at a change of the fleet that shows in one sensor first."""

_SENSOR = np.isin(FEATURES, SENSORS)


class FeatureVerdict(msgspec.Struct, frozen=True):
    """One feature: its distances to what the known engines explain, and where drift would begin."""

    feature: str
    psi: float
    ks: float
    threshold_psi: float
    threshold_ks: float
    score: float
    """The larger of the two, in units of its threshold."""
    psi_plain: float
    """PSI against the baseline's stored mixture and ages, with nothing fitted."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What n requests say; `score` > 1 means drift, and is 0 where n is too small to say anything."""

    verdict: str
    n: int
    min_n: int
    """Requests that `no_drift` needs."""
    score: float
    features: list[FeatureVerdict]
    blamed: list[str]
    """Features beyond their threshold, the worst first; of a sensor fault, that sensor alone."""
    kind: str | None
    """`fleet_change` or `sensor_fault` where there is drift."""
    stuck: list[str]
    """Sensors that hardly move although they should."""
    mixture: dict[str, float]
    """Share of each known domain in the traffic."""
    ages: dict[str, float]
    """Share of each age band, by the least remaining cycles of the band."""
    age_shift: float
    """How far the fleet's ages are from the baseline's, in units of its threshold; says nothing about drift."""


def judge(counts: dict[str, NDArray[np.int64]], baseline: Baseline) -> Verdict:
    """The verdict on `counts`: for each feature, how many requests fell into each bin of `baseline`.

    The traffic is compared with the mixture of known domains and ages that explains it best (mixture.fit). A shift
    among domains that the model was trained on, or of the fleet's age, is therefore `no_drift`: the model knows
    these engines; the new `mixture` and `age_shift` are reported. What is left is PSI and binned KS per feature,
    in units of thresholds calibrated for this n. `drift` can be said from calibration.GRID[0] requests on,
    `no_drift` from `baseline.min_n` on. It is a sensor fault when one sensor is out of line and, with that sensor
    left out of the fit, nothing else comes near (OTHERS_BELOW) but the prediction that is computed from it.

    Raises BundleError where the counts are not on the baseline's bins.
    """
    binner, components = baseline.binner, baseline.components
    flat = binner.join(counts)
    n = int(np.add.reduceat(flat, binner.offsets).min())
    live = shares(flat, binner.offsets)
    weights = fit(live, components, baseline.start) if n else baseline.start
    expected = weights @ components.probabilities
    distance_psi, distance_ks, score = _distances(live, expected, baseline, n)
    plain = psi(live, baseline.expected, binner.offsets, baseline.eps)
    # Fewer requests than the smallest calibrated n say nothing, not even a score.
    worst = float(score.max()) if n >= calibration.GRID[0] else 0.0
    order = [int(i) for i in np.argsort(-score, kind="stable") if score[i] > 1]
    kind = None
    if n < max(calibration.GRID[0], 0 if worst > 1 else baseline.min_n):
        verdict = NOT_ENOUGH_DATA
    elif worst <= 1:
        verdict = NO_DRIFT
    else:
        verdict = DRIFT
        faulty = _faulty_sensor(live, score, baseline, n)
        kind = FLEET_CHANGE if faulty is None else SENSOR_FAULT
        order = order if faulty is None else [faulty]
    limits = thresholds_at(baseline, n)
    return Verdict(
        verdict=verdict,
        n=n,
        min_n=baseline.min_n,
        score=round(worst, 4),
        features=[
            FeatureVerdict(
                name,
                *(round(float(value), 5) for value in (*row, score[i], plain[i])),
            )
            for i, (name, row) in enumerate(
                zip(FEATURES, zip(distance_psi, distance_ks, *limits[:2], strict=True), strict=True)
            )
        ],
        blamed=[FEATURES[i] for i in order] if verdict == DRIFT else [],
        kind=kind,
        stuck=_stuck(live, expected, baseline) if n >= calibration.GRID[0] else [],
        mixture=_named(
            [str(domain.domain) for domain in baseline.domains],
            by_group(weights, components.domain, len(baseline.domains)),
        ),
        ages=_named(
            [str(age) for age in (0, *baseline.ages)], by_group(weights, components.age, len(baseline.ages) + 1)
        ),
        age_shift=round(
            float(calibration.age_shift(weights, components, baseline.start, len(baseline.domains))) / limits[2], 4
        ),
    )


def thresholds_at(baseline: Baseline, n: int) -> tuple[Floats, Floats, float]:
    """PSI `[F]`, KS `[F]` and age threshold at `n` requests, interpolated between the calibrated sizes on log scales.

    Outside of the calibrated sizes the nearest one's count.
    """
    table = baseline.threshold_table
    at = np.log(max(n, 1))
    values = np.exp([np.interp(at, table[:, 0], column) for column in table[:, 1:].T])
    count = len(FEATURES)
    return values[:count], values[count : 2 * count], float(values[-1])


def _distances(live: Floats, expected: Floats, baseline: Baseline, n: int) -> tuple[Floats, Floats, Floats]:
    limits = thresholds_at(baseline, n)
    offsets = baseline.binner.offsets
    distance_psi = psi(live, expected, offsets, baseline.eps)
    distance_ks = ks(live, expected, offsets)
    return distance_psi, distance_ks, np.maximum(distance_psi / limits[0], distance_ks / limits[1])


def _faulty_sensor(live: Floats, score: Floats, baseline: Baseline, n: int) -> int | None:
    """The sensor without which nothing is out of line, or None."""
    suspect = int(np.argmax(np.where(_SENSOR, score, -1.0)))
    others = np.ones(len(FEATURES), dtype=bool)
    others[[FEATURES.index(PREDICTION), suspect]] = False
    weights = fit(live, baseline.components, baseline.start, others)
    again = _distances(live, weights @ baseline.components.probabilities, baseline, n)[2]
    return suspect if again[suspect] > 1 and not (again[others] > OTHERS_BELOW).any() else None


def _stuck(live: Floats, expected: Floats, baseline: Baseline) -> list[str]:
    offsets = baseline.binner.offsets
    largest, usual = np.maximum.reduceat(live, offsets), np.maximum.reduceat(expected, offsets)
    stuck = _SENSOR & (largest >= STUCK_LIVE) & (usual <= STUCK_EXPECTED)
    return [FEATURES[i] for i in np.flatnonzero(stuck)]


def _named(names: list[str], values: Floats) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}
