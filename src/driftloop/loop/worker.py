"""The worker: finds the facts, decides, carries the move out, writes down what became of it; again and again.

Everything it needs to go on after a crash is in the store. Whatever moves something outside is written down before
(a pipeline run, a rollback) or found again in the registry afterwards (a promotion), so that a kill between any two
lines loses nothing and does nothing twice.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.loop import decide, promoting, questions, waits
from driftloop.loop.aiding import Aider
from driftloop.loop.changes import BACK_OFF_S
from driftloop.loop.facts import Archive, Look, estimated, seen
from driftloop.loop.jobs.local import Backend, Job
from driftloop.loop.judge import promotion, retention
from driftloop.loop.judge.promotion import Tell
from driftloop.loop.moves import (
    AidWithdrawn,
    Announce,
    Ask,
    AwaitLabels,
    CooledDown,
    Fail,
    InShadow,
    Move,
    Promote,
    PromoteAid,
    Promoted,
    Rest,
    RollBack,
    Settle,
    Start,
    TookOver,
    TryFirstAid,
    WithdrawAid,
)
from driftloop.loop.shadow import Shadow
from driftloop.loop.state import Attempt
from driftloop.loop.store import Store
from driftloop.loop.tools import Tools, windows_of
from driftloop.loop.waits import Now
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.protocol.progress import Progress
from driftloop.protocol.windows import UnitWindow
from driftloop.settings import Settings

if TYPE_CHECKING:
    from driftloop.loop.first_aid import Outcome

RETRY_S = 1.0
"""Pause while the registry or the archive is away."""

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
        self.settings, self.store, self.registry = settings, store, registry
        self.look = Look(settings, folder, registry, archive, backend, changed_runs, served)
        self.clock = clock
        self.tools = Tools(settings, folder, store, registry, self.look, clock)
        read = windows or windows_of(settings)
        self._aider = Aider(self.tools, read)
        self._shadow = Shadow(
            registry,
            folder / "shadow",
            read,
            answers=settings.shadow_answers,
            seconds=settings.shadow_s,
            ended=self.poke,
        )
        self.work_lock = threading.RLock()
        """One move at a time, of the worker or by hand."""
        self._folder, self._backend = folder, backend
        self._wake = threading.Event()
        self._stopping = False
        self.ready = False
        """Whether the registry has been seen and what an earlier retrainer left has been put in order."""
        self.progress: Progress | None = None
        """How far a step of a run said that it is."""
        self.blocked: str | None = "starting"
        """What the next move waits for, in words; None where nothing is in the way."""
        verdict = store.newest("verdict")
        if verdict is not None:
            self.look.seen, self.look.estimate = seen(verdict), estimated(verdict)
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
        self._shadow.end()
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

    def start(self, attempt: Attempt, runs: str) -> None:
        """Start the pipeline run of an attempt that has been written down, about these packed runs."""
        self.look.lost = False
        self._backend.start(Job(attempt.run, attempt.cause, attempt.champion, attempt.mode, runs))

    def aid_now(self, attempt: Attempt, report: Tell) -> "Outcome":
        """Give the champion of an attempt first aid, if the windows allow it, and say what came of it."""
        return self._aider.give(attempt.champion, attempt.cause, report)

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

    def _carry_out(self, move: Move) -> float | None:  # noqa: PLR0912 (a branch each)
        tools = self.tools
        match move:
            case Rest():
                self._shadow_early()
                return move.seconds
            case InShadow():
                return promoting.look_in_shadow(tools, self._shadow, move)
            case Announce():
                self._announce(move)
            case TryFirstAid():
                return self._aider.attempt(move)
            case Start():
                self._start(move)
            case Ask():
                promoting.ask(tools, move)
            case Promote():
                promoting.promote(tools, move)
            case PromoteAid():
                promoting.promote_aid(tools, move)
            case Promoted():
                self._end_pipeline()
                promotion.repair(self.registry)
                tools.apply(move)
            case TookOver():
                # A person asked, and the retrainer died or lost the registry over it.
                promoting.finish(tools, move)
            case RollBack():
                promoting.roll_back(tools, move)
            case WithdrawAid():
                promoting.withdraw_aid(tools, move)
            case AidWithdrawn():
                # The retrainer died between moving the alias back and telling of it.
                promoting.tag_withdrawn(tools, move)
                tools.apply(move)
            case Settle() if move.decision == promotion.ROLLED_BACK:
                # The retrainer died between moving the alias back and telling of it.
                self._end_pipeline()
                promoting.tag_rolled_back(tools, move)
                tools.apply(move)
            case Settle() if move.decision == promotion.REJECTED:
                promoting.tag_rejected(tools, move)
                tools.abandon()
                tools.apply(move)
            case Settle() | Fail() | AwaitLabels():
                self._end_pipeline()
                tools.abandon()
                tools.apply(move)
            case CooledDown():
                tools.abandon_strays()
                retention.prune_versions(self.registry, self.settings.keep_versions)
                retention.prune_folders(self._folder / "pipelines", retention.KEEP_RUNS)
                tools.apply(move)
            case _:
                tools.apply(move)
        return 0.0

    def _shadow_early(self) -> None:
        """While the gate still judges a challenger, it may answer in the shadow already."""
        state = self.store.state
        if state.phase == "running" and state.attempt is not None and state.attempt.challenger is not None:
            self._shadow.begin(state.attempt.champion, state.attempt.challenger)

    def _end_pipeline(self) -> None:
        """End a pipeline that still runs: what it would find out is of no use any more."""
        if self.store.state.phase == "running":
            self._shadow.end()
            self._backend.stop()

    def _start(self, move: Start) -> None:
        self.tools.abandon()
        attempt = self.store.state.attempt_for(move.cause)
        if attempt is None:
            return
        runs = self.look.runs_for(attempt).packed()
        if self.tools.apply(move):
            started = self.store.state.attempt
            assert started is not None
            self.start(started, runs)

    def _announce(self, move: Announce) -> None:
        attempt = self.store.state.attempt_for(move.cause)
        if attempt is None:
            return
        evidence = self.look.runs_for(attempt).new
        entries = self.look.manifest(attempt.champion)
        labels = sum(not entry.superseded and entry.run_id not in evidence for entry in entries)
        with self.store.change() as change:
            questions.announce(change, move.cause, labels, evidence, self.settings.supersede_pause_s, self.clock())
