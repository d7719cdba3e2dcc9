"""The retrainer: a durable state machine from alerts to verified recoveries.

    idle -> running -> verifying -> cooling_down -> idle
              |  ^          |            ^
              v  |          +-- rollback-+
    waiting_for_labels

One worker calls `tick` again and again; `tick` makes the next move that is due and says when the following one
may be. Everything it needs to go on after a crash is in `state.json`, and what a pipeline run decided is read
from the registry, not remembered: whether a challenger was promoted is where the alias `production` points.

A warm start that forgot old engines goes from running to idle, with a training in full at the head of the queue.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from driftloop import durable
from driftloop.drift.verdict import WITHOUT_DRIFT
from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.fleet import roles
from driftloop.loop import state
from driftloop.loop.events import EventLog
from driftloop.loop.jobs.local import Backend, Job
from driftloop.loop.judge import gate, plan, promotion, retention
from driftloop.loop.state import Attempt, Decision
from driftloop.model.bundle import ManifestEntry, read_metadata
from driftloop.model.follower import Bundles
from driftloop.model.registry import PRODUCTION, Registry, Version
from driftloop.protocol import causes
from driftloop.protocol.alerts import Alert
from driftloop.protocol.causes import Cause
from driftloop.protocol.events import Event, EventKind
from driftloop.settings import Settings
from driftloop.training.modes import Mode

MAX_FAILURES = 3
MAX_RESTARTS = 5
"""Failures and restarts of the retrainer after which a cause is given up until new runs arrive."""
BACK_OFF_S = 5.0
"""Pause after the first failure; four times as long after each further one."""
RETRY_S = 1.0
"""Pause while the registry or the archive is away."""
POLL_S = 0.05
"""How often a running pipeline is looked at."""
VERIFY_POLL_S = 0.2
SETTLE_S, SETTLE_LIMIT_S = 0.3, 10.0
"""A fleet's runs arrive in many calls: wait for 0.3 s of silence, but not longer than ten seconds."""
GRACE_S = 60.0
"""Time for the watch to confirm a recovery after the retrainer itself was restarted."""

OPEN_ENDS = ("resolved", "switched_off")
"""Ends of a retraining that say nothing against another one for the same cause."""
SWITCHED_OFF = "retraining is switched off (ENABLE_RETRAINING)"

log = logging.getLogger(__name__)


class Archive(Protocol):
    """What the retrainer asks of the archive."""

    def failed_ids(self) -> list[str]:
        """The ids of the archived runs that have labels: neither withdrawn nor censored."""
        ...

    def total(self) -> int:
        """How many runs were ever archived."""
        ...

    def roles(self) -> dict[str, str]:
        """The roles that were dealt."""
        ...


class Busy(DriftloopError):
    """Something asked for by hand that cannot be done now."""


class Retrainer:
    """The loop's one decision maker; alerts, reports and people may call it from any thread."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        registry: Registry,
        archive: Archive,
        events: EventLog,
        backend: Backend,
        clock: Callable[[], float] = time.time,
        changed_runs: Callable[[], list[str]] = list,
    ) -> None:
        """`changed_runs` says which archived runs show the labels as they are after a concept drift."""
        self.settings, self.registry, self.archive, self.events = settings, registry, archive, events
        self._folder, self._backend, self._clock, self._changed_runs = folder, backend, clock, changed_runs
        self._state_path = folder / "state.json"
        self._state = state.load(self._state_path)
        self._lock = threading.RLock()  # the state
        self._work = threading.RLock()  # one move at a time, of the worker or by hand
        self._wake = threading.Event()
        self._stopping = False
        self._recovered = False
        self._started = clock()
        self._arrived = 0.0
        self._bundles = Bundles(registry, folder / "bundles", keep=1)
        self._manifests: dict[str, list[ManifestEntry]] = {}
        self.blocked: str | None = "starting"
        """What the next move waits for, in words; None where nothing is in the way."""

    # The worker.

    def work(self) -> None:
        """Make moves until `stop`; survives whatever a move raises."""
        while not self._stopping:
            self._wake.clear()
            try:
                pause = self.tick()
            except RegistryUnavailable as error:
                self.blocked, pause = str(error), RETRY_S
            except DriftloopError as error:
                self.blocked, pause = str(error), BACK_OFF_S
            except Exception as error:
                # The worker is the loop: it must outlive a mistake in one move, and say so.
                log.exception("a move of the retrainer failed")
                self.blocked, pause = f"{type(error).__name__}: {error}", BACK_OFF_S
            self._wake.wait(pause)

    def stop(self) -> None:
        """End the worker, and a pipeline that needs it; the state file says where a new retrainer goes on."""
        self._stopping = True
        self._wake.set()
        with self._work:
            self._backend.leave()

    def tick(self) -> float | None:
        """Make the next move; returns the seconds after which another may be due, None for not before a poke.

        Raises DriftloopError while registry or archive cannot be used; nothing is lost then.
        """
        with self._work:
            if not self._recovered:
                self._recover()
                self._recovered = True
            moves: dict[state.Phase, Callable[[], float | None]] = {
                "idle": self._idle,
                "waiting_for_labels": self._waiting,
                "running": self._running,
                "verifying": self._verifying,
                "cooling_down": self._cooling_down,
            }
            pause = moves[self._state.phase]()
            self.blocked = None
            return pause

    # What comes in.

    def on_alert(self, alert: Alert) -> str:
        """Take an alert, durably, and say what became of it.

        `queued`, `recorded` (retraining is switched off), `duplicate`, `refused` or `resolved`.
        """
        with self._lock:
            cause = str(alert.cause)
            told = self._state.firing.get(cause)
            if not alert.firing:
                return self._on_resolved(alert, told)
            if told != alert.starts_at:
                self.events.append(
                    "alert_firing",
                    # The watch reports its alert as an event too, under the same id.
                    id=alert.event_id,
                    model_version=alert.model_version,
                    cause=cause,
                    drift=alert.drift,
                    starts_at=alert.starts_at,
                    features=alert.features,
                    n=alert.n,
                    score=alert.score,
                    summary=alert.summary,
                )
                self._state.fires(cause, alert.starts_at)
                self._save()
            answer = self._admit(alert.cause, alert.model_version, first=told != alert.starts_at)
            if not alert.cause.learnable and told != alert.starts_at:
                self._refuse(
                    cause,
                    alert.model_version,
                    f"a sensor fault ({', '.join(alert.features)}): a model must not learn it",
                )
        self._poke()
        return answer

    def on_event(self, event: Event) -> None:
        """Take notice of what a pipeline step or the watch reported."""
        with self._lock:
            attempt = self._state.attempt
            if attempt is not None and event.get("run") == attempt.run and self._state.phase == "running":
                if event["kind"] == "step_started":
                    if attempt.step is None and attempt.started_at is not None:
                        waited = durable.parse_time(event["time"]) - durable.parse_time(attempt.started_at)
                        self._tell(
                            attempt, "pipeline_started", attempt.champion, seconds=round(waited.total_seconds(), 3)
                        )
                    attempt.step = str(event.get("step"))
                elif event["kind"] == "challenger_registered":
                    attempt.challenger = str(event.get("model_version"))
                elif event["kind"] == "promoted":
                    attempt.promoted_at = event["time"]
                elif event["kind"] == "waiting_for_labels":
                    attempt.waiting_for = str(event.get("reason"))
                self._save()
        if event["kind"] == "verdict":
            self._poke()

    def on_runs(self, added: list[str]) -> None:
        """Take notice of new completed runs: they open settled causes whose alert still fires, and end a wait."""
        if not added:
            return
        with self._lock:
            self._arrived = self._clock()
            for cause in map(causes.parse, list(self._state.firing)):
                self._admit(cause, cause.model_version or "", first=False)
        self._poke()

    def retrain(self, mode: Mode) -> Attempt:
        """Start a retraining by hand; raises Busy where one is under way or too few new runs are there."""
        with self._work:
            self._not_while_running()
            if self._state.phase not in ("idle", "cooling_down"):
                raise Busy(f"the retrainer is {self._state.phase}", remedy="wait for it: driftloop status")
            champion = self.registry.alias(PRODUCTION)
            if champion is None:
                raise Busy("nothing is in production", remedy="train and promote a first model: driftloop train")
            missing = self._lacking(self._new_runs(champion), self.settings.schema.least)
            if missing is not None:
                raise Busy(missing, remedy="add completed runs: driftloop archive add FILE")
            now = durable.now()
            attempt = Attempt(str(causes.by_hand(champion, now)), champion, now, mode=mode, by_hand=True)
            self._start(attempt)
        self._poke()
        return attempt

    def promote(self, version: str) -> str | None:
        """Promote a version by hand; returns the one it replaced. Raises Busy while a pipeline runs."""
        with self._work:
            self._not_while_running()
            before, cause = self.registry.alias(PRODUCTION), self._cause_of(version)
            replaced = promotion.promote(self.registry, version, reason="by hand", cause=cause, report=self._append)
            if before != version:
                with self._lock:
                    self._state.reopen(version, f"version {version} was promoted again", self.archive.total())
                    self._state.answer(version, f"version {version} was promoted by hand")
                    self._save()
        self._poke()
        return replaced

    def rollback(self) -> tuple[str, str]:
        """Go back by hand; returns (version rolled back, version in production). Raises Busy while a pipeline runs."""
        with self._work:
            self._not_while_running()
            production = self.registry.alias(PRODUCTION)
            cause = self._cause_of(production) if production is not None else str(causes.by_hand(None))
            gone, now = promotion.rollback(self.registry, reason="by hand", cause=cause, report=self._append)
            with self._lock:
                attempt = self._state.attempt
                if attempt is not None and attempt.challenger == gone:
                    cause = attempt.cause
                    self._finish("rolled_back", "by hand", gone)
                else:
                    self._state.settle(self._decision(cause, "rolled_back", "by hand", gone))
                    self._save()
        self._poke()
        return gone, now

    def status(self) -> dict[str, Any]:
        """Everything a person wants to know about the loop, as plain JSON."""
        with self._lock:
            current, attempt = self._state, self._state.attempt
            return {
                "state": current.phase,
                "step": attempt.step if attempt is not None and current.phase == "running" else None,
                "cause": attempt.cause if attempt is not None else None,
                "blocked": self.blocked,
                "enable_retraining": self.settings.enable_retraining,
                "attempt": state.plain(attempt),
                "queue": [item.cause for item in current.queue],
                "firing": dict(current.firing),
                "history": [state.plain(item) for item in current.history],
                "cooling_down_s": round(max(0.0, current.not_before - self._clock()), 1),
                "last_event": self.events.last,
                **self._about_to(),
                **self._approval_needed(),
            }

    @property
    def ready(self) -> bool:
        """Whether the registry has been seen and what an earlier retrainer left has been put in order."""
        return self._recovered

    def known_roles(self) -> dict[str, str]:
        """The roles that the production model was trained with."""
        champion = self.registry.alias(PRODUCTION)
        if champion is None:
            return {}
        self._new_runs(champion)
        return {entry.run_id: entry.role for entry in self._manifests[champion]}

    def totals(self) -> dict[str, state.Total]:
        """All retrainings so far, by decision."""
        with self._lock:
            return copy.deepcopy(self._state.totals)

    # Moves.

    def _idle(self) -> float | None:
        if not self.settings.enable_retraining:
            # What was queued before it was switched off stays so; it is looked at again when it is switched on.
            return None
        self._backend.prepare()
        with self._lock:
            if not self._state.queue:
                return None
            attempt = self._state.queue[0]
        pause = self._still_arriving(attempt)
        if pause:
            return pause
        champion = self.registry.alias(PRODUCTION)
        if champion != attempt.champion:
            with self._lock:
                self._state.queue = [item for item in self._state.queue if item.cause != attempt.cause]
                self._refuse(attempt.cause, attempt.champion, f"version {champion} is in production")
                self._save()
            return 0.0
        missing = self._lacking_for(attempt)
        pause = self._pause_before(attempt) if missing is None else 0.0
        with self._lock:
            if pause or attempt not in self._state.queue:
                return pause
            self._state.queue.remove(attempt)
            if missing is None:
                self._start(attempt)
            else:
                self._wait_for_labels(attempt, missing)
                self.events.append(
                    "waiting_for_labels", model_version=attempt.champion, cause=attempt.cause, reason=missing
                )
        return 0.0

    def _waiting(self) -> float | None:
        with self._lock:
            attempt = self._current()
            end = None
            if self._is_switched_off(attempt):
                end = ("switched_off", SWITCHED_OFF)
            elif attempt.cause not in self._state.firing and not attempt.by_hand:
                end = ("resolved", "the alert was resolved before labels arrived")
            if end is not None:
                self._finish(*end, None, cool_down=False)
                return 0.0
        pause = self._still_arriving(attempt)
        if pause:
            return pause
        champion = self.registry.alias(PRODUCTION)
        if champion != attempt.champion:
            with self._lock:
                self._finish("superseded", f"version {champion} is in production", None, cool_down=False)
            return 0.0
        # Runs that a pipeline has already found unusable are no reason to start another one.
        if self.archive.total() <= attempt.archived:
            return None
        if self._lacking_for(attempt) is not None:
            return None
        pause = self._pause_before(attempt)
        if not pause:
            with self._lock:
                self._start(attempt)
        return pause

    def _running(self) -> float | None:
        outcome = self._backend.poll()
        if outcome is None:
            return POLL_S
        attempt = self._current()
        if self._conclude(attempt):
            return 0.0
        with self._lock:
            if attempt.waiting_for is not None:
                self._wait_for_labels(attempt, attempt.waiting_for)
            else:
                self._fail(attempt, outcome.error or "the pipeline ended, but nothing was decided")
        return 0.0

    def _verifying(self) -> float | None:
        attempt = self._current()
        version = attempt.challenger or ""
        verdict = self.events.find("verdict", model_version=version)
        if verdict is not None and verdict.get("verdict") in WITHOUT_DRIFT:
            with self._lock:
                self.events.append("recovery_verified", model_version=version, cause=attempt.cause, n=verdict.get("n"))
                self._finish("promoted", self._reason(version), version)
            return 0.0
        production = self.registry.alias(PRODUCTION)
        if production != version:
            with self._lock:
                self._finish("superseded", f"version {production} is in production", version)
            return 0.0
        left = self._verify_until(attempt) - self._clock()
        if left > 0:
            return min(left, VERIFY_POLL_S)
        reason = f"recovery was not verified within {self.settings.recovery_timeout_s:.0f} s"
        with self._lock:
            if self.events.find("recovery_timeout", model_version=version, cause=attempt.cause) is None:
                self.events.append("recovery_timeout", model_version=version, cause=attempt.cause, reason=reason)
        promotion.rollback(self.registry, reason=reason, cause=attempt.cause, report=self._append)
        with self._lock:
            self._finish("rolled_back", reason, version)
        return 0.0

    def _cooling_down(self) -> float | None:
        left = self._state.not_before - self._clock()
        if left > 0:
            return left
        self._forget()
        with self._lock:
            self._state.phase = "idle"
            self._save()
        return 0.0

    # Parts of moves.

    def _recover(self) -> None:
        """After a start: end what an earlier retrainer left running or take it over, repair the registry, pick up the
        attempt.
        """
        attempt = self._state.attempt
        if self._state.phase == "running" and attempt is not None and self._backend.adopt(attempt.run):
            self._tell(attempt, "retraining_adopted", attempt.champion)
            return
        self._backend.clear()
        if self.registry.alias(PRODUCTION) is not None:
            promotion.repair(self.registry)
        if self._state.phase != "running" or attempt is None:
            return
        if self._conclude(attempt):
            return
        with self._lock:
            attempt.restarts += 1
            if attempt.restarts > MAX_RESTARTS:
                self._fail(attempt, f"the retrainer was restarted {MAX_RESTARTS} times during it", final=True)
            elif self.registry.alias(PRODUCTION) != attempt.champion:
                self._finish("superseded", "another version is in production", attempt.challenger)
            elif self._is_switched_off(attempt):
                self._finish("switched_off", SWITCHED_OFF, attempt.challenger)
            else:
                self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        with self._lock:
            now = durable.now()
            resumed = attempt.run != "" and self._state.phase == "running"
            attempt.run = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
            attempt.archived = self.archive.total()
            attempt.started_at, attempt.step = now, None
            attempt.challenger = attempt.promoted_at = attempt.waiting_for = None
            self._state.attempt, self._state.phase = attempt, "running"
            self._save()
            self.events.append(
                "retraining_started",
                time=now,
                model_version=attempt.champion,
                cause=attempt.cause,
                run=attempt.run,
                mode=attempt.mode,
                resumed=resumed or None,
            )
        self._backend.start(Job(attempt.run, attempt.cause, attempt.champion, attempt.mode))

    def _conclude(self, attempt: Attempt) -> bool:
        """Read from the registry what the run decided; False where it decided nothing.

        A challenger that was approved and not promoted has not been decided: the branch behind the gate did not run.
        """
        production = self.registry.alias(PRODUCTION)
        mine = [v for v in self.registry.versions() if v.tags.get(promotion.RETRAINING_TAG) == attempt.run]
        for version in mine:
            if version.version == production:
                self._on_promoted(attempt, version)
                return True
        for version in mine:
            if version.tags.get("decision") == promotion.REJECTED:
                reason = version.tags.get("decision_reason", "")
                with self._lock:
                    if self.events.find("rejected", model_version=version.version) is None:
                        self._tell(attempt, "rejected", version.version, reason=reason)
                    if not self._trains_in_full(attempt, version):
                        self._finish("rejected", reason, version.version)
                return True
        for version in mine:
            if version.tags.get("decision") == promotion.UNDECIDED:
                reason = version.tags.get("decision_reason", "")
                with self._lock:
                    if self.events.find("approval_needed", model_version=version.version) is None:
                        self._tell(attempt, "approval_needed", version.version, reason=reason)
                    self._finish(promotion.UNDECIDED, reason, version.version)
                return True
        for version in mine:
            promotion.decide(
                self.registry, version.version, promotion.ABANDONED, "the retraining ended before it was decided", None
            )
        promotion.repair(self.registry)
        return False

    def _trains_in_full(self, attempt: Attempt, rejected: Version) -> bool:
        """Whether a rejected challenger is followed by one that is trained in full, which is queued then.

        A warm start may forget what a training from scratch on all runs keeps. It is tried once, and not where a
        person chose the mode.
        """
        version = rejected.version
        registered = self.events.find("challenger_registered", model_version=version, run=attempt.run)
        in_full = attempt.mode == "full" or (registered is not None and registered.get("training") == "full")
        if attempt.by_hand or in_full or gate.FORGOT not in promotion.findings(rejected.tags):
            return False
        self._tell(attempt, "retraining_in_full", version, reason="the warm-started challenger is worse on old engines")
        self._state.queue.insert(0, Attempt(attempt.cause, attempt.champion, attempt.requested_at, "full"))
        self._state.attempt, self._state.phase = None, "idle"
        self._save()
        return True

    def _on_promoted(self, attempt: Attempt, version: Version) -> None:
        promotion.repair(self.registry)
        with self._lock:
            self._state.answer(version.version, f"version {version.version} was promoted")
            attempt.challenger = version.version
            if self.events.find("promoted", model_version=version.version, run=attempt.run) is None:
                # The step died between moving the alias and telling of it.
                self._tell(attempt, "promoted", version.version, from_version=attempt.champion, repaired=True)
            attempt.promoted_at = attempt.promoted_at or version.tags.get("decided_at") or durable.now()
            if not attempt.why.of_inputs:
                # The drift watch sees inputs; that labels fit again, the gate has shown, and the next engines will.
                self._finish("promoted", version.tags.get("decision_reason", ""), version.version)
                return
            self._state.phase = "verifying"
            self._save()

    def _wait_for_labels(self, attempt: Attempt, missing: str) -> None:
        attempt.waiting_for, attempt.step = missing, None
        if not attempt.run:
            attempt.archived = 0
        self._state.attempt, self._state.phase = attempt, "waiting_for_labels"
        self._save()

    def _fail(self, attempt: Attempt, error: str, *, final: bool = False) -> None:
        attempt.failures += 1
        give_up = final or attempt.by_hand or attempt.failures >= MAX_FAILURES
        pause = BACK_OFF_S * 4 ** (attempt.failures - 1)
        self.events.append(
            "retraining_failed",
            model_version=attempt.champion,
            cause=attempt.cause,
            run=attempt.run,
            step=attempt.step,
            error=error[-4000:],
            failures=attempt.failures,
            retry_in_s=None if give_up else pause,
        )
        if give_up:
            self._finish("failed", error.splitlines()[0][:500] if error else "", attempt.challenger)
            return
        again = Attempt(attempt.cause, attempt.champion, attempt.requested_at, attempt.mode, failures=attempt.failures)
        self._state.queue.insert(0, again)
        self._state.attempt, self._state.phase = None, "cooling_down"
        self._state.not_before = self._clock() + pause
        self._save()

    def _finish(self, decision: str, reason: str, version: str | None, *, cool_down: bool = True) -> None:
        attempt = self._current()
        self._state.settle(self._decision(attempt.cause, decision, reason, version, attempt))
        self._state.attempt = None
        self._state.phase = "cooling_down" if cool_down else "idle"
        if cool_down:
            self._state.not_before = self._clock() + self.settings.cool_down_s
        # Runs that arrived while it was decided open the cause again.
        if decision not in (promotion.PROMOTED, *OPEN_ENDS) and attempt.cause in self._state.firing:
            self._admit(attempt.why, attempt.champion, first=False)
        self._save()

    def _decision(
        self, cause: str, decision: str, reason: str, version: str | None, attempt: Attempt | None = None
    ) -> Decision:
        duration = None
        if attempt is not None and attempt.started_at is not None:
            duration = round(self._clock() - durable.parse_time(attempt.started_at).timestamp(), 3)
        archived = attempt.archived if attempt is not None and attempt.run else self.archive.total()
        return Decision(cause, decision, reason, durable.now(), archived, version, duration)

    def _admit(self, why: Cause, champion: str, *, first: bool) -> str:
        """Queue a cause unless something speaks against it; tells of a refusal only the first time."""
        if not why.learnable:
            return "refused"
        cause = str(why)
        if not self.settings.enable_retraining:
            return "recorded"
        attempt = self._state.attempt
        if any(item.cause == cause for item in self._state.queue) or (attempt is not None and attempt.cause == cause):
            return "duplicate"
        settled = self._state.settled.get(cause)
        if settled is not None and settled.decision == promotion.PROMOTED:
            return "duplicate"
        stands = settled is not None and settled.decision not in OPEN_ENDS
        if settled is not None and stands and self.archive.total() <= settled.archived:
            if first:
                self._refuse(cause, champion, f"{settled.decision} before ({settled.reason}) and no new runs since")
            return "refused"
        self._state.queue.append(Attempt(cause, champion, durable.now()))
        self._save()
        return "queued"

    def _on_resolved(self, alert: Alert, told: str | None) -> str:
        if told is not None:
            cause = str(alert.cause)
            if self.events.find("alert_resolved", cause=cause, starts_at=told) is None:
                self.events.append("alert_resolved", model_version=alert.model_version, cause=cause, starts_at=told)
            del self._state.firing[cause]
            self._state.queue = [item for item in self._state.queue if item.cause != cause]
            self._save()
            self._poke()
        return "resolved"

    def _refuse(self, cause: str, version: str, reason: str) -> None:
        self.events.append("retraining_refused", model_version=version, cause=cause, reason=reason)

    def _tell(self, attempt: Attempt, kind: EventKind, version: str, **detail: Any) -> None:
        self.events.append(kind, model_version=version, cause=attempt.cause, run=attempt.run, **detail)

    def _append(self, event: dict[str, Any]) -> None:
        self.events.append(event["kind"], **{key: value for key, value in event.items() if key != "kind"})

    def _reason(self, version: str) -> str:
        event = self.events.find("gate_decided", model_version=version)
        reasons = event.get("reasons") if event is not None else None
        return "; ".join(map(str, reasons)) if isinstance(reasons, list) else "approved by the gate"

    def _still_arriving(self, attempt: Attempt) -> float:
        """Seconds to wait for the rest of a fleet's runs; 0 where they have settled."""
        now = self._clock()
        waited = now - durable.parse_time(attempt.requested_at).timestamp()
        quiet = now - self._arrived
        return 0.0 if quiet >= SETTLE_S or waited >= SETTLE_LIMIT_S else SETTLE_S - quiet

    def _verify_until(self, attempt: Attempt) -> float:
        promoted = durable.parse_time(attempt.promoted_at or durable.now()).timestamp()
        timeout = self.settings.recovery_timeout_s
        return max(promoted + timeout, self._started + min(GRACE_S, timeout))

    def _new_runs(self, champion: str) -> list[str]:
        if champion not in self._manifests:
            with self._bundles.alone():
                self._manifests = {champion: read_metadata(self._bundles.fetch(champion)).manifest}
                self._bundles.prune()
        return plan.new_run_ids(self.archive.failed_ids(), self._manifests[champion])

    def _runs_for(self, attempt: Attempt) -> list[str]:
        """The runs that a retraining would learn anew from."""
        new = self._new_runs(attempt.champion)
        if not attempt.why.changes_labels:
            return new
        changed = set(self._changed_runs())
        return [run_id for run_id in new if run_id in changed]

    def _lacking_for(self, attempt: Attempt) -> str | None:
        # After a concept drift nothing older is learnt from.
        least = self.settings.schema.least
        least = roles.from_nothing(least) if attempt.why.changes_labels else least
        return self._lacking(self._runs_for(attempt), least)

    def _lacking(self, new: list[str], least: Mapping[str, int]) -> str | None:
        return plan.lacking(new, self.settings.new_units, least, self.archive.roles())

    def _pause_before(self, attempt: Attempt) -> float:
        """Seconds until a retraining may supersede all labels, having said that it will; 0 for any other.

        Whoever sees that the runs are wrong can withdraw them meanwhile: without them the alert ends.
        """
        if not attempt.why.changes_labels:
            return 0.0
        with self._lock:
            if attempt.announced_at is msgspec.UNSET:
                evidence = self._runs_for(attempt)
                entries = self._manifests[attempt.champion]
                labels = sum(not entry.superseded and entry.run_id not in evidence for entry in entries)
                attempt.announced_at = durable.format_time(datetime.fromtimestamp(self._clock(), UTC))
                self._save()
                self.events.append(
                    "about_to_supersede",
                    model_version=attempt.champion,
                    cause=attempt.cause,
                    labels=labels,
                    count=len(evidence),
                    runs=evidence[:100],
                    seconds=self.settings.supersede_pause_s,
                    reason=_announcement(labels, evidence),
                )
            announced = durable.parse_time(attempt.announced_at).timestamp()
        return max(0.0, announced + self.settings.supersede_pause_s - self._clock())

    def _forget(self) -> None:
        retention.prune_versions(self.registry, self.settings.keep_versions)
        attempt = self._state.attempt
        in_use = attempt.run if attempt is not None else None
        retention.prune_folders(self._folder / "pipelines", retention.KEEP_RUNS, in_use=in_use)

    def _not_while_running(self) -> None:
        if not self._recovered or self._state.phase == "running":
            what = "a retraining is running" if self._recovered else f"the retrainer is starting ({self.blocked})"
            raise Busy(what, remedy="wait for it: driftloop status")

    def _about_to(self) -> dict[str, str]:
        """What is about to happen to all labels, in words; nothing where nothing is."""
        pending = [
            *self._state.queue[:1],
            *([self._state.attempt] if self._state.phase == "waiting_for_labels" else []),
        ]
        announced = next(
            (item for item in pending if item is not None and item.announced_at is not msgspec.UNSET), None
        )
        event = self.events.find("about_to_supersede", cause=announced.cause) if announced is not None else None
        return {"about_to": str(event["reason"])} if event is not None else {}

    def _approval_needed(self) -> dict[str, dict[str, str]]:
        """The version that waits for a person, and why; nothing where none does."""
        waiting = self._state.undecided
        if not waiting or waiting[-1].model_version is None:
            return {}
        return {"approval_needed": {"model_version": waiting[-1].model_version, "reason": waiting[-1].reason}}

    def _is_switched_off(self, attempt: Attempt) -> bool:
        return not (self.settings.enable_retraining or attempt.by_hand)

    def _cause_of(self, version: str) -> str:
        """The cause in a version's tags; by hand where there is none, or a text of somebody's own."""
        text = self.registry.tags(version).get("cause", causes.BY_HAND)
        try:
            return str(causes.parse(text))
        except DriftloopError:
            return str(causes.by_hand(None))

    def _current(self) -> Attempt:
        attempt = self._state.attempt
        if attempt is None:
            raise DriftloopError(f"the state says {self._state.phase} without an attempt", where=str(self._state_path))
        return attempt

    def _save(self) -> None:
        state.save(self._state_path, self._state)

    def _poke(self) -> None:
        self._wake.set()


def _announcement(labels: int, evidence: list[str]) -> str:
    shown = ", ".join(evidence[:5]) + (", ..." if len(evidence) > 5 else "")
    return (
        f"about to supersede {labels} labels because of {len(evidence)} runs ({shown}); "
        "driftloop archive withdraw takes wrong ones back"
    )
