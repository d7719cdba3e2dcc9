"""Are more readings missing, out of range or stuck than in healthy traffic? Judged for each sensor and each kind.

Two counts are compared with what the lives of the baseline's units did, and each sees what the other cannot.

*Rows.* A dead sensor is dead in every row that follows, so rows are no trials, units are: traffic is taken to come from
calibration.ENGINES units that send alike, and a unit that shows something in part of its rows counts as that part. If
units seen and to come are exchangeable and every rate is as likely before any was seen, how many of the next ones show
it is beta-binomial: Laplace's rule of succession, as for new settings (calibration.new_limit).

*Beginnings.* Values that are missing here and there never add up to so many units. What begins is an event of its own:
episodes are compared in the same way with those of the lives, requests being the trials; where episodes of the lives
come in clusters, both counts are divided by the design effect, the variance between units over that of independent rows
(Kish, "Survey Sampling", 1965). Whatever a single unit does, all of its values flapping, is no alarm.

All of this together may cause `SHARE` of the false alarms that the baseline promises, in addition to these: that is the
level that is divided among columns, kinds, the two counts and the two longer windows. The rule rests on healthy units
being alike and on ENGINES of them sending; fewer units send less than it takes for granted.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.drift import calibration
from driftloop.fleet.quality import BEGINS, QUALITIES

SHARE = 0.1
"""False alarms by quality for one of all others that are promised."""
KINDS = tuple(QUALITIES[1:])
COUNTED = (*QUALITIES, *BEGINS.values())
"""What is counted of each column, in the order in which counts stand side by side."""


class Usual(msgspec.Struct, frozen=True):
    """One kind of bad reading of one column in healthy lives."""

    feature: str
    kind: str
    units: float
    """Units that show it, each counted as the part of its rows."""
    begins: int
    """Episodes in all rows."""
    cluster: float
    """Design effect of the episodes: 1 where they are independent."""


class Quality(msgspec.Struct, frozen=True):
    """What healthy lives show; of what is not listed, nothing."""

    columns: list[str]
    units: int
    rows: int
    usual: list[Usual]


class Fault(msgspec.Struct, frozen=True):
    """A column and what is wrong with it more often than in healthy traffic."""

    feature: str
    kind: str
    """`missing`, `out_of_range` or `stuck`."""
    share: float
    """Of the requests."""
    usual: float
    """Of the rows of healthy lives."""
    score: float
    """How often it is or begins in units of the threshold: above 1 a fault."""

    @property
    def words(self) -> str:
        """For people: `temp_max_c (missing in 100 %)`."""
        return f"{self.feature} ({self.kind.replace('_', ' ')} in {self.share:.0%})"


class Life(NamedTuple):
    """Quality of every row of one unit's life: driftloop.fleet.quality.of_life."""

    codes: NDArray[np.int8]
    begins: NDArray[np.bool_]


def usual(lives: Sequence[Life], columns: Sequence[str]) -> Quality:
    """What the healthy lives show, as the baseline keeps it."""
    lengths = np.array([len(life.codes) for life in lives])
    found = []
    for code, kind in enumerate(KINDS, 1):
        here = np.array([(life.codes == code).sum(axis=0) for life in lives])
        begins = np.array([(life.begins & (life.codes == code)).sum(axis=0) for life in lives])
        for at in np.flatnonzero(here.any(axis=0)).tolist():
            rate = float((here[:, at] / lengths).sum())
            cluster = _cluster(begins[:, at], lengths)
            found.append(Usual(columns[at], kind, round(rate, 6), int(begins[:, at].sum()), round(cluster, 4)))
    return Quality(list(columns), len(lives), int(lengths.sum()), found)


def _cluster(begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> float:
    rate = begins.sum() / lengths.sum()
    if len(begins) < 2 or not 0 < rate < 1:
        return 1.0
    between = float(((begins - rate * lengths) ** 2).sum()) * len(begins) / (len(begins) - 1)
    return max(1.0, between / float(lengths.sum() * rate * (1 - rate)))


def faults(
    counts: NDArray[np.int64], n: int, healthy: Quality, requests_per_check: int, requests_per_false_alarm: int
) -> list[Fault]:
    """All that is worse than usual or nearly so (score of at least a half), the worst first.

    `counts` `[columns, COUNTED]` of `n` requests; below calibration.GRID[0] of them nothing is said. The last two are
    what the baseline promises.
    """
    if n < calibration.GRID[0]:
        return []
    known = {(one.feature, one.kind): one for one in healthy.usual}
    statistics = len(healthy.columns) * (len(KINDS) + len(BEGINS))
    level = SHARE * requests_per_check / requests_per_false_alarm / (2 * statistics)
    found = []
    for feature, row in zip(healthy.columns, counts.tolist(), strict=True):
        for code, kind in enumerate(KINDS, 1):
            one = known.get((feature, kind)) or Usual(feature, kind, 0.0, 0, 1.0)
            score = row[code] / n / _most_units(one.units, healthy.units, level)
            if code in BEGINS:
                limit = _most_begins(n, one.begins, one.cluster, healthy.rows, level)
                score = max(score, row[COUNTED.index(BEGINS[code])] / limit)
            if score >= 0.5:
                found.append(Fault(feature, kind, row[code] / n, one.units / healthy.units, round(score, 4)))
    return sorted(found, key=lambda fault: -fault.score)


@lru_cache(maxsize=4096)
def _most_units(seen: float, units: int, level: float) -> float:
    """Share of the requests, midway between the last number of units without an alarm and the first with one."""
    first = _first(calibration.ENGINES, seen, units, level)
    return (first - 0.5) / calibration.ENGINES if first <= calibration.ENGINES else np.inf


@lru_cache(maxsize=4096)
def _most_begins(n: int, seen: int, cluster: float, rows: int, level: float) -> float:
    """Episodes in `n` requests, midway between the last number without an alarm and the first with one."""
    first = _first(round(n / cluster), seen / cluster, rows / cluster, level) * cluster
    # A value that flaps begins in every second row of one unit.
    return max(first - 0.5, n / calibration.ENGINES / 2 + 1)


def _first(trials: int, seen: float, of: float, level: float) -> int:
    """The least k with P(k or more of `trials`) at most `level`, after `seen` of `of`; one more than can be for none.

    Beta-binomial with parameters `seen` + 1 and `of` - `seen` + 1; every probability from its neighbour's.
    """
    k = np.arange(trials, dtype=np.float64)
    alpha, beta = seen + 1, max(of - seen, 0.0) + 1
    steps = np.log((trials - k) * (alpha + k)) - np.log((k + 1) * (beta + trials - k - 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    chances = np.exp(logs - logs.max())
    tail = np.cumsum(chances[::-1])[::-1] / chances.sum()
    below = np.flatnonzero(tail <= level)
    return int(below[0]) if len(below) else trials + 1
