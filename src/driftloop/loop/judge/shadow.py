"""What a challenger says to requests that the champion answers, before it may take its place. Pure.

Only what no champion may do speaks against it: an answer that is not finite or outside of 0 to the cap, or answers
that take more than twice as long. That the two disagree does not: after a change of the fleet it is the point. Where
they do is shown, by operating regime and by the age of the units.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

SLOWER = 2.0
"""Times the champion's p99 that a challenger's may be."""
LEAST_TIMED = 20
"""Answers below which a p99 says nothing."""
AGES = 3
"""Bands of age, with as many answers each."""
MOST_REGIMES = 24
"""Regimes that are shown, those with most answers."""
TOLERANCE = 1e-3
"""Steps by which rounding may leave the range."""


class Difference(msgspec.Struct, frozen=True):
    """Challenger minus champion, in steps, over a group of answers."""

    by: str
    """`all`, `regime` (as the challenger sees it; -1: none that it knows), or `age` (steps at the request)."""
    group: str
    answers: int
    mean: float
    mean_absolute: float


class Report(msgspec.Struct, frozen=True):
    """How a challenger did in the shadow."""

    answers: int
    seconds: float
    """From the begin to the end, waiting for requests included."""
    passed: bool = True
    reasons: list[str] = []
    """What speaks against it."""
    note: str | None = None
    """What could not be seen."""
    p99_ms: dict[str, float] | None = None
    """Milliseconds of one answer, by model, side by side on one thread."""
    differences: list[Difference] = []
    broken: bool = False
    """Whether it could not be asked at all, which is no judgement of it: another training may do."""


class Said(NamedTuple):
    """One model's answers to the same n requests."""

    rul: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    seconds: NDArray[np.float64]
    """That each took."""


def judge(
    champion: Said,
    challenger: Said,
    regime: NDArray[np.int64],
    step: NDArray[np.int64],
    cap: float,
    seconds: float,
    note: str | None = None,
) -> Report:
    """The report on n answers; `regime` is the challenger's, `step` the age of each unit, `cap` the challenger's."""
    n = len(challenger.rul)
    if not n:
        return Report(0, round(seconds, 3), note=note or "no requests came")
    reasons = _out_of_range(challenger, cap)
    p99 = {
        name: round(float(np.quantile(said.seconds, 0.99)) * 1000.0, 3)
        for name, said in (("champion", champion), ("challenger", challenger))
    }
    if n >= LEAST_TIMED and p99["challenger"] > SLOWER * p99["champion"]:
        said = f"{p99['challenger']:.2f} ms against {p99['champion']:.2f} ms"
        reasons.append(f"its answers are slower than {SLOWER:g} times the champion's (p99 {said})")
    differences = _differences(challenger.rul - champion.rul, regime, step)
    return Report(n, round(seconds, 3), not reasons, reasons, note, p99, differences)


def _out_of_range(said: Said, cap: float) -> list[str]:
    found = []
    for name in ("rul", "lower", "upper"):
        values = getattr(said, name)
        broken = int((~np.isfinite(values)).sum())
        if broken:
            found.append(f"{broken} of {len(values)} values of {name} are not finite")
        outside = int(((values < -TOLERANCE) | (values > cap + TOLERANCE)).sum())
        if outside:
            found.append(f"{outside} of {len(values)} values of {name} are outside of 0 to {cap:g}")
    return found


def _differences(by: NDArray[np.float64], regime: NDArray[np.int64], step: NDArray[np.int64]) -> list[Difference]:
    finite = np.isfinite(by)
    by, regime, step = by[finite], regime[finite], step[finite]
    if not len(by):
        return []
    found = [_difference("all", "all", by)]
    names, counts = np.unique(regime, return_counts=True)
    for name in sorted(names[np.argsort(-counts, kind="stable")][:MOST_REGIMES]):
        found.append(_difference("regime", str(name), by[regime == name]))
    for band in np.array_split(np.argsort(step, kind="stable"), AGES):
        if len(band):
            ages = step[band]
            found.append(_difference("age", f"{ages.min()} to {ages.max()}", by[band]))
    return found


def _difference(by: str, group: str, values: NDArray[np.float64]) -> Difference:
    mean, absolute = float(values.mean()), float(np.abs(values).mean())
    return Difference(by, group, len(values), round(mean, 3), round(absolute, 3))
