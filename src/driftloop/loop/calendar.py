"""Does what is due by the clock (driftloop.loop.schedules), and ends what was muted, on a thread of its own."""

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop import by_hand, schedules, waits
from driftloop.loop.by_hand import Busy, TooFew, Unknown
from driftloop.loop.judge import promotion
from driftloop.loop.schedules import Muted, Schedule
from driftloop.loop.state import Change
from driftloop.loop.worker import Worker
from driftloop.model.bundle import FIRST_AID
from driftloop.protocol.events import EventKind

LONGEST_S = 60.0
"""Between two looks: the wall clock may be set."""
BUSY_S = 5.0
"""Before something due that could not be done is tried again."""

log = logging.getLogger(__name__)


class LiveError(NamedTuple):
    """An RMSE of the model in production, and where it comes from: `live` or `estimated`."""

    model_version: str
    rmse: float
    source: str


class Calendar:
    """The entries of one retrainer. `work` does what is due until `stop`; the rest is for whoever asks."""

    def __init__(self, worker: Worker, error: Callable[[], LiveError | None]) -> None:
        """`error` says how wrong the model in production is, as far as anybody knows."""
        self._worker, self._store, self._error = worker, worker.store, error
        self._wake, self._stopping = threading.Event(), False

    # The thread.

    def work(self) -> None:
        """Do what is due, until `stop`; survives whatever that raises."""
        while not self._stopping:
            self._wake.clear()
            try:
                pause = self.turn()
            except DriftloopError as error:
                log.warning("what is due by the clock waits: %s", error)
                pause = BUSY_S
            except Exception:
                # One entry that cannot be done must not stop the others for ever.
                log.exception("what is due by the clock failed")
                pause = LONGEST_S
            self._wake.wait(pause)

    def stop(self) -> None:
        """End `work`."""
        self._stopping = True
        self._wake.set()

    def turn(self) -> float:
        """Do what is due; seconds until something may be due again."""
        now = self._worker.clock()
        with self._store.change() as change:
            for entry in change.state.schedules:
                entry.carry_over(now)
            self._unmute(change)
        waiting = False
        for entry in schedules.due(self._store.state.schedules, now):
            waiting = not self._do(entry) or waiting
        state, now = self._store.state, self._worker.clock()
        left = [entry.left_s(now) for entry in state.schedules] + [muted.wait.left(now) for muted in state.muted]
        return min([BUSY_S if waiting else LONGEST_S, *(seconds for seconds in left if seconds > 0)])

    def _do(self, entry: Schedule) -> bool:
        """Do one entry; False where it could not be done yet."""
        if entry.act == "retrain":
            return self._retrain(entry)
        if entry.act == "overdue":
            self._watch(entry, *self._overdue(entry))
        else:
            self._watch(entry, *self._too_high(entry))
        return True

    def _retrain(self, entry: Schedule) -> bool:
        who = f"schedule {entry.name}"
        try:
            by_hand.retrain(self._worker, entry.mode, who, also=lambda change: self._done(change, entry, "started"))
        except TooFew as error:
            with self._store.change() as change:
                self._done(change, entry, f"nothing to learn from: {error}")
        except Busy as error:
            log.info("schedule %s waits: %s", entry.name, error)
            return False
        return True

    def _done(self, change: Change, entry: Schedule, result: str) -> None:
        """In the transaction of what was done, so that it is done once."""
        kept = schedules.named(change.state.schedules, entry.name)
        if kept is not None:
            kept.advance(self._worker.clock())
        coming = kept.next if kept is not None else None
        change.tell("schedule_due", schedule=entry.name, act=entry.act, result=result, next=coming)

    def _watch(self, entry: Schedule, fires: bool | None, version: str | None, reason: str) -> None:
        """Note what a watch says: an event where it begins and where it ends; None is that it cannot tell."""
        now = self._worker.clock()
        with self._store.change() as change:
            kept = schedules.named(change.state.schedules, entry.name)
            if kept is None:
                return
            kept.advance(now)
            if fires is None or fires == kept.firing:
                return
            kept.firing, kept.since = fires, now.time if fires else None
            kind: EventKind = "watch_firing" if fires else "watch_resolved"
            change.tell(kind, schedule=kept.name, act=kept.act, model_version=version, reason=reason)

    def _overdue(self, entry: Schedule) -> tuple[bool | None, str | None, str]:
        trained = [
            version
            for version in self._worker.registry.versions()
            if version.tags.get("decision") == promotion.PROMOTED and version.tags.get("training") != FIRST_AID
        ]
        if not trained:
            return None, None, "nothing has been trained yet"
        newest = max(trained, key=lambda version: version.created)
        now = durable.parse_time(self._worker.clock().time).timestamp()
        days = (now - newest.created) / 86_400.0
        assert entry.days is not None
        return days > entry.days, newest.version, f"the last successful training was {days:.1f} days ago"

    def _too_high(self, entry: Schedule) -> tuple[bool | None, str | None, str]:
        known = self._error()
        if known is None:
            return None, None, "nothing says how wrong the model is"
        fires = schedules.too_high(entry, known.rmse)
        reason = f"the {known.source} RMSE is {known.rmse:.1f}, the limit {entry.above:g}"
        return fires, known.model_version, reason

    # For whoever asks.

    def add(self, posted: Schedule, who: str) -> Schedule:
        """Add an entry, in the place of one of its name; raises DriftloopError for one that does not fit."""
        posted.who = who
        made = schedules.make(posted, self._worker.clock())
        with self._store.change() as change:
            state = change.state
            state.schedules = [entry for entry in state.schedules if entry.name != made.name]
            if len(state.schedules) >= schedules.MOST:
                raise DriftloopError(f"there are {schedules.MOST} schedules already", remedy="cancel one")
            state.schedules.append(made)
            about = {"every_s": made.every_s, "cron": made.cron, "next": made.next}
            change.tell("schedule_added", schedule=made.name, act=made.act, who=who, **about)
        self._wake.set()
        return made

    def cancel(self, name: str, who: str) -> Schedule:
        """Take an entry away; raises Unknown."""
        with self._store.change() as change:
            found = schedules.named(change.state.schedules, name)
            if found is None:
                raise Unknown(f"there is no schedule {name!r}", remedy="driftloop schedules list")
            change.state.schedules.remove(found)
            change.tell("schedule_removed", schedule=name, act=found.act, who=who)
        return found

    def mute(self, cause: str, for_s: float, reason: str, who: str) -> Muted:
        """Tell nobody of a cause for so many seconds; raises Busy where as many are muted as may be."""
        now = self._worker.clock()
        until = waits.later(now, for_s)
        muted = Muted(cause, now.time, until, reason, who, waits.begin(for_s, now))
        with self._store.change() as change:
            others = [each for each in change.state.muted if each.cause != cause]
            if len(others) >= schedules.MOST:
                raise Busy(f"{schedules.MOST} causes are muted already", remedy="driftloop unmute CAUSE")
            change.state.muted = [*others, muted]
            change.tell("muted", cause=cause, until=until, reason=reason or None, who=who)
        self._wake.set()
        return muted

    def unmute(self, cause: str, who: str) -> Muted:
        """Tell of a cause again; raises Unknown where it was not muted."""
        with self._store.change() as change:
            found = next((each for each in change.state.muted if each.cause == cause), None)
            if found is None:
                raise Unknown(f"{cause!r} is not muted", remedy="driftloop status --json shows `muted`")
            change.state.muted.remove(found)
            change.tell("unmuted", cause=cause, who=who)
        return found

    def _unmute(self, change: Change) -> None:
        now = self._worker.clock()
        over = [each for each in change.state.muted if each.wait.left(now) <= 0]
        for each in over:
            change.state.muted.remove(each)
            change.tell("unmuted", cause=each.cause, reason=f"it was muted until {each.until}")
