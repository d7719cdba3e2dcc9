"""The worker: finds the facts, decides, carries the move out, writes down what became of it; again and again.

Everything it needs to go on after a crash is in the store. Whatever moves something outside is written down before
(a pipeline run, a rollback) or found again in the registry afterwards (a promotion), so that a kill between any two
lines loses nothing and does nothing twice.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.loop import changes, decide, waits
from driftloop.loop.changes import BACK_OFF_S, With
from driftloop.loop.decide import (
    Aided,
    Announce,
    AwaitLabels,
    CooledDown,
    Fail,
    Move,
    NotAided,
    Promote,
    Promoted,
    Rest,
    RollBack,
    Settle,
    Start,
    TryFirstAid,
)
from driftloop.loop.facts import Archive, Look, seen
from driftloop.loop.jobs.local import Backend, Job
from driftloop.loop.judge import promotion, retention
from driftloop.loop.state import Attempt
from driftloop.loop.store import Store
from driftloop.loop.waits import Now
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.protocol.events import Event
from driftloop.protocol.windows import UnitWindow, WindowsUnavailable
from driftloop.settings import Settings

RETRY_S = 1.0
"""Pause while the registry or the archive is away."""
AID_POLL_S, AID_POLL_LONGEST_S, AID_POLL_FACTOR = 0.5, 10.0, 1.1
"""How often the servers' windows are looked at while they are too few for first aid: less and less, since a fleet may
send ten rows a day."""
PROMOTING = "promote"
"""What status and events call the step that follows the pipeline."""

log = logging.getLogger(__name__)


class Worker:
    """The loop's one worker. `tick` makes the next move; `poke`, from any thread, says that one may be due."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        store: Store,
        registry: Registry,
        archive: Archive,
        backend: Backend,
        *,
        changed_runs: Callable[[], list[str]] = list,
        served: Callable[[], str | None] | None = None,
        windows: Callable[[], Sequence[UnitWindow]] | None = None,
        clock: Callable[[], Now] = waits.now,
    ) -> None:
        """`changed_runs` says which archived runs show the labels as they are after a concept drift, `served` which
        version the server answers with, `windows` what the servers remember of units in service.
        """
        self.settings, self.store, self.registry, self.archive = settings, store, registry, archive
        self.look = Look(settings, folder, registry, archive, backend, changed_runs, served)
        self.clock, self._windows, self._aid_pause = clock, windows, AID_POLL_S
        self.work_lock = threading.RLock()
        """One move at a time, of the worker or by hand."""
        self._folder, self._backend = folder, backend
        self._wake = threading.Event()
        self._stopping = False
        self.ready = False
        """Whether the registry has been seen and what an earlier retrainer left has been put in order."""
        self.blocked: str | None = "starting"
        """What the next move waits for, in words; None where nothing is in the way."""
        verdict = store.newest("verdict")
        if verdict is not None:
            self.look.seen = seen(verdict)
        with store.change() as change:
            change.state.carry_over(clock())

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
                log.exception("a move of the loop failed")
                self.blocked, pause = f"{type(error).__name__}: {error}", BACK_OFF_S
            self._wake.wait(pause)

    def stop(self) -> None:
        """End the worker, and a pipeline that needs it; the store says where a new retrainer goes on."""
        self._stopping = True
        self.poke()
        with self.work_lock:
            self._backend.leave()

    def poke(self) -> None:
        """Look again at once."""
        self._wake.set()

    def tick(self) -> float | None:
        """Make the next move; returns the seconds after which another may be due, None for not before a poke.

        Raises DriftloopError while registry or archive cannot be used; nothing is lost then.
        """
        with self.work_lock:
            if not self.ready:
                self._put_in_order()
                self.ready = True
            state = self.store.state
            move = decide.decide(state, self.look.facts(state, self.clock()))
            pause = self._carry_out(move)
            self.blocked = None
            return pause

    def how(self, *told: Event) -> With:
        """What a move is applied with now."""
        settings = self.settings
        return With(self.clock(), settings.cool_down_s, settings.enable_retraining, told)

    def start(self, attempt: Attempt, runs: str) -> None:
        """Start the pipeline run of an attempt that has been written down, about these packed runs."""
        self.look.lost = False
        self._backend.start(Job(attempt.run, attempt.cause, attempt.champion, attempt.mode, runs))

    # Moves.

    def _put_in_order(self) -> None:
        """After a start: take over what an earlier retrainer left running, or end it and repair the registry."""
        state = self.store.state
        attempt = state.attempt
        if state.phase == "running" and attempt is not None and self._backend.adopt(attempt.run):
            with self.store.change() as change:
                change.tell_of(attempt, "retraining_adopted", attempt.champion)
            return
        self._backend.clear()
        if self.registry.alias(PRODUCTION) is not None:
            promotion.repair(self.registry)
        self.look.lost = state.phase == "running"

    def _carry_out(self, move: Move) -> float | None:
        match move:
            case Rest():
                return move.seconds
            case Announce():
                self._announce(move)
            case TryFirstAid():
                return self._first_aid(move)
            case Start():
                self._start(move)
            case Promote():
                self._promote(move)
            case Promoted():
                promotion.repair(self.registry)
                self._apply(move)
            case RollBack():
                self._roll_back(move)
            case Settle() if move.decision == promotion.ROLLED_BACK:
                # The retrainer died between moving the alias back and telling of it.
                self._tag_rolled_back(move)
                self._apply(move)
            case Settle() | Fail() | AwaitLabels():
                self._abandon()
                self._apply(move)
            case CooledDown():
                retention.prune_versions(self.registry, self.settings.keep_versions)
                retention.prune_folders(self._folder / "pipelines", retention.KEEP_RUNS)
                self._apply(move)
            case _:
                self._apply(move)
        return 0.0

    def _apply(self, move: Move, *told: Event) -> bool:
        with self.store.change() as change:
            return changes.apply(change, move, self.how(*told))

    def _start(self, move: Start) -> None:
        self._abandon()
        attempt = self._pending(move.cause)
        if attempt is None:
            return
        runs = self.look.runs_for(attempt).packed()
        if self._apply(move):
            started = self.store.state.attempt
            assert started is not None
            self.start(started, runs)

    def _pending(self, cause: str) -> Attempt | None:
        """The attempt for a cause; None where its alert has ended since it was decided on."""
        state = self.store.state
        found = (each for each in (state.attempt, *state.queue) if each is not None and each.cause == cause)
        return next(found, None)

    def _announce(self, move: Announce) -> None:
        attempt = self._pending(move.cause)
        if attempt is None:
            return
        evidence = self.look.runs_for(attempt).new
        entries = self.look.manifest(attempt.champion)
        labels = sum(not entry.superseded and entry.run_id not in evidence for entry in entries)
        with self.store.change() as change:
            changes.announce(change, move.cause, labels, evidence, self.settings.supersede_pause_s, self.clock())

    def _first_aid(self, move: TryFirstAid) -> float:
        """Seconds after which to look again."""
        told: list[Event] = []
        try:
            # Only where it is due: onnx is not in every image that a retrainer runs in.
            from driftloop.loop import first_aid

            read = self._windows or first_aid.of_replicas(self.settings)
            found = first_aid.give(self.registry, move.champion, read, self._folder, move.cause, told.append)
        except ImportError as error:
            self._apply(NotAided(move.cause, move.run, f"this retrainer cannot give it: {error}"))
            return 0.0
        except RegistryUnavailable:
            raise
        except WindowsUnavailable as error:
            log.info("first aid waits: %s", error)
            return self._aid_later()
        except DriftloopError as error:
            self._apply(NotAided(move.cause, move.run, str(error)))
            return 0.0
        if found.kind == "refused":
            self._apply(NotAided(move.cause, move.run, found.reason))
        elif found.model_version is not None:
            self._apply(Aided(move.cause, move.run, found.model_version), *told)
        if found.kind == "waiting":
            return self._aid_later()
        self._aid_pause = AID_POLL_S
        return 0.0

    def _aid_later(self) -> float:
        pause = self._aid_pause
        self._aid_pause = min(AID_POLL_LONGEST_S, pause * AID_POLL_FACTOR)
        return pause

    def _promote(self, move: Promote) -> None:
        attempt, challenger = self.store.state.attempt, move.challenger
        assert attempt is not None
        told: list[Event] = []
        try:
            promotion.promote(
                self.registry,
                challenger.version,
                reason=challenger.reason,
                cause=attempt.cause,
                report=told.append,
                # Somebody may have promoted another model by hand while this one was trained.
                champion=attempt.champion,
            )
        except RegistryUnavailable:
            raise
        except DriftloopError as error:
            if told:
                raise  # the alias has moved, and that is found again
            self._abandon()
            with self.store.change() as change:
                if change.state.attempt is not None:
                    change.state.attempt.step = PROMOTING
                changes.apply(change, Fail(move.run, str(error), archived=self.archive.total()), self.how())
            return
        self._apply(Promoted(move.run, challenger), *told)

    def _roll_back(self, move: RollBack) -> None:
        self._apply(move)
        attempt = self.store.state.attempt
        assert attempt is not None
        told: list[Event] = []
        promotion.rollback(self.registry, reason=move.reason, cause=attempt.cause, report=told.append)
        settled = Settle(attempt.cause, move.run, promotion.ROLLED_BACK, move.reason, move.version)
        self._apply(replace(settled, archived=self.archive.total()), *told)

    def _tag_rolled_back(self, move: Settle) -> None:
        assert move.version is not None
        promotion.decide(self.registry, move.version, promotion.ROLLED_BACK, move.reason, move.cause)
        promotion.repair(self.registry)

    def _abandon(self) -> None:
        """Tag what the run at hand registered and nobody decided: it will never be."""
        state = self.store.state
        if state.attempt is None or not state.attempt.run or state.phase != "running":
            return
        for version in self.look.versions_of(state.attempt.run):
            waits_for_a_person = version.tags.get("decision") == promotion.UNDECIDED
            if not (promotion.is_settled(version) or waits_for_a_person or PRODUCTION in version.aliases):
                reason = "the retraining ended before it was decided"
                promotion.decide(self.registry, version.version, promotion.ABANDONED, reason, None)
        promotion.repair(self.registry)
