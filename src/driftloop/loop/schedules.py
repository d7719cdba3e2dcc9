"""What is done by the clock: periodic retrainings, and watches that say when something has been so for too long.

An entry is due every so many seconds or at the times of a cron expression (UTC). What was missed while the retrainer
was away is done once, however often it was missed. Lengths are measured by the monotonic clock; after another boot of
the machine, what the wall clock says is left of them, which is never more than their own length. A cron expression is
about the wall clock: where that is set back, the next time is the next one that the clock will show.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop import waits
from driftloop.loop.waits import Now, Wait
from driftloop.training.modes import Mode

Act = Literal["retrain", "overdue", "error"]
"""Retrain; say that nothing has been trained for `days`; say that the live or estimated RMSE is above `above`."""
WATCHES: tuple[Act, ...] = ("overdue", "error")
MOST = 50
"""Entries, and muted causes."""
LOOKED_AT_S = 60.0
"""How often a watch looks where nothing else was said."""
ENDS_AT = 0.9
"""Share of its threshold below which an error is no longer too high: at the threshold itself it would flutter."""


class Schedule(msgspec.Struct):
    """One entry."""

    name: str
    act: Act
    every_s: float | None = None
    cron: str | None = None
    """Either of the two."""
    mode: Mode = "warm_start"
    """Of a retraining."""
    days: float | None = None
    above: float | None = None
    who: str = ""
    """Who added it."""
    wait: Wait | None = None
    """Until the next time, of an interval."""
    next: str = ""
    """When that is; for a cron expression this counts."""
    last: str | None = None
    """When it was done last."""
    firing: bool = False
    """Whether a watch says so now."""
    since: str | None = None

    def shown(self) -> dict[str, Any]:
        """It as people see it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        del found["wait"]
        return found

    def left_s(self, now: Now) -> float:
        """Seconds until it is due; 0 where it is."""
        if self.wait is not None:
            return self.wait.left(now)
        return max(0.0, (durable.parse_time(self.next) - durable.parse_time(now.time)).total_seconds())

    def advance(self, now: Now) -> None:
        """It was done: when it is due next."""
        self.last = now.time
        self.begin(now)

    def begin(self, now: Now) -> None:
        """When it is due first, or next."""
        if self.every_s is not None:
            self.wait, self.next = waits.begin(self.every_s, now), waits.later(now, self.every_s)
        else:
            self.wait, self.next = None, _times(self.cron or "", now.time, 1)[0]

    def carry_over(self, now: Now) -> None:
        """After a restart, and now and then: go on from what is left, by whichever clock can tell."""
        if self.wait is not None and self.wait.since.boot != now.boot:
            left = (durable.parse_time(self.next) - durable.parse_time(now.time)).total_seconds()
            left = min(max(0.0, left), self.wait.length_s)
            # The wait keeps its length; it began so long ago that this is left.
            since = waits.Moment(now.boot, now.seconds - (self.wait.length_s - left))
            self.wait, self.next = Wait(self.wait.length_s, since), waits.later(now, left)
        if self.wait is None:
            soon = _times(self.cron or "", now.time, 2)
            if self.next > soon[1]:
                self.next = soon[0]  # the wall clock was set back


class Muted(msgspec.Struct, frozen=True):
    """A cause that nobody is told of for a while; what the loop does about it stays the same."""

    cause: str
    """A cause, or a kind of causes."""
    since: str
    until: str
    reason: str
    who: str
    wait: Wait

    def shown(self) -> dict[str, str]:
        """It as people see it."""
        return {name: getattr(self, name) for name in ("cause", "since", "until", "reason", "who")}


def make(posted: Schedule, now: Now) -> Schedule:
    """An entry that begins now; raises DriftloopError naming what does not fit together."""
    if posted.every_s is None and posted.cron is None and posted.act in WATCHES:
        posted.every_s = LOOKED_AT_S
    if (posted.every_s is None) == (posted.cron is None):
        raise DriftloopError("either every_s or cron is needed", where="every_s")
    for act, name, value in (("overdue", "days", posted.days), ("error", "above", posted.above)):
        if posted.act == act and value is None:
            raise DriftloopError(f"`{act}` needs `{name}`", where=name)
        if posted.act != act and value is not None:
            raise DriftloopError(f"is of `{act}` alone, not of `{posted.act}`", where=name)
    posted.begin(now)
    return posted


def named(entries: Sequence[Schedule], name: str) -> Schedule | None:
    """The entry of a name; None where there is none (any more)."""
    return next((entry for entry in entries if entry.name == name), None)


def due(entries: Sequence[Schedule], now: Now) -> list[Schedule]:
    """The entries that are due, in their order."""
    return [entry for entry in entries if entry.left_s(now) <= 0]


def too_high(entry: Schedule, rmse: float) -> bool:
    """Whether a watch of the error says so, of a figure: it ends lower than it begins."""
    assert entry.above is not None
    return rmse > entry.above * (ENDS_AT if entry.firing else 1.0)


def is_muted(muted: Sequence[Muted], cause: str, now: Now) -> bool:
    """Whether nobody is told of a cause now."""
    return any(cause in (each.cause, f"{each.cause}:{_rest(cause)}") and each.wait.left(now) > 0 for each in muted)


def _rest(cause: str) -> str:
    return cause.partition(":")[2]


def _times(cron: str, after: str, count: int) -> list[str]:
    """The next times of a cron expression; raises DriftloopError for one that is none, or never comes."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise DriftloopError(
            "schedules by cron need the package cronsim", remedy="pip install 'driftloop[notify]', or use every_s"
        ) from error
    try:
        coming = CronSim(cron, durable.parse_time(after))
        return [durable.format_time(next(coming)) for _ in range(count)]
    except (CronSimError, StopIteration) as error:
        what = "never comes" if isinstance(error, StopIteration) else str(error)
        raise DriftloopError(
            f"{cron!r} is no cron expression: {what}", where="cron", remedy="five fields, such as `0 3 * * 1`"
        ) from error
