"""What a move makes of the state, and the events that tell of it.

A move is applied to a copy of the state, in one transaction with its events (driftloop.loop.store). Between deciding
and applying somebody else may have changed the state, and after a crash a move may be decided again: one that does
not fit any more changes nothing, so that applying it twice is applying it once.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from driftloop.loop import aid, ends, hands, questions, waits
from driftloop.loop.judge import promotion
from driftloop.loop.moves import (
    Aided,
    AidWithdrawn,
    AwaitLabels,
    Confirm,
    CooledDown,
    Fail,
    Move,
    NotAided,
    NotMoved,
    Overdue,
    Promoted,
    Refuse,
    RollBack,
    Settle,
    Shadowed,
    Start,
    TookOver,
    TrainInFull,
    WithdrawAid,
)
from driftloop.loop.state import CONFIRM_S, Attempt, Change, Confirming, With
from driftloop.loop.waits import Now

MAX_FAILURES = 3
"""Failures after which a cause is given up until new runs arrive."""
BACK_OFF_S = 5.0
"""Pause after the first failure; four times as long after each further one."""
_ERROR_CHARACTERS = 4000


def apply(change: Change, move: Move, how: With) -> bool:
    """Apply a move; returns whether it fitted."""
    applies = _APPLIES.get(type(move))
    return applies is not None and applies(change, move, how)


# The moves.


def _refuse(change: Change, move: Refuse, _: With) -> bool:
    queued = [item for item in change.state.queue if item.cause == move.cause]
    if not queued:
        return False
    change.state.leave_queue(move.cause)
    change.tell("retraining_refused", model_version=queued[0].champion, cause=move.cause, reason=move.reason)
    return True


def _await_labels(change: Change, move: AwaitLabels, _: With) -> bool:
    state, attempt = change.state, change.state.attempt_for(move.cause)
    if attempt is None or attempt.run != move.run or state.phase not in ("idle", "running"):
        return False
    if state.phase == "idle":
        state.leave_queue(move.cause)
        change.tell("waiting_for_labels", model_version=attempt.champion, cause=move.cause, reason=move.reason)
    else:
        # Some could not be used, and nothing was turned down.
        attempt.labels = 0
    attempt.waiting_for, attempt.step = move.reason, None
    state.attempt, state.phase = attempt, "waiting_for_labels"
    return True


def _start(change: Change, move: Start, how: With) -> bool:
    state, attempt = change.state, change.state.attempt_for(move.cause)
    if attempt is None or attempt.run == move.run or state.phase in ("verifying", "cooling_down"):
        return False
    resumed = state.phase == "running"
    if resumed:
        attempt.restarts += 1
    attempt.labels = move.labels
    begin(change, attempt, move.run, move.archived, how.now, resumed=resumed)
    return True


def begin(
    change: Change,
    attempt: Attempt,
    run: str,
    archived: int,
    now: Now,
    *,
    resumed: bool = False,
    who: str | None = None,
) -> None:
    """Write down that a pipeline run starts: before it does, so that none is ever forgotten."""
    questions.close(change, f"a retraining with {archived} runs has started", now.time)
    change.state.leave_queue(attempt.cause)
    attempt.run, attempt.archived = run, archived
    attempt.started_at, attempt.started, attempt.step = now.time, waits.moment(now), None
    attempt.challenger = attempt.training = attempt.promoted_at = attempt.waiting_for = attempt.problem = None
    attempt.shadow = None
    change.state.attempt, change.state.phase = attempt, "running"
    change.tell_of(
        attempt,
        "retraining_started",
        attempt.champion,
        time=now.time,
        mode=attempt.mode,
        resumed=resumed or None,
        who=who,
    )


def _promoted(change: Change, move: Promoted, how: With) -> bool:
    state, challenger = change.state, move.challenger
    attempt = change.state.current(move.run, "running", "awaiting_approval")
    if attempt is None:
        return False
    by_hand = attempt.promoted_at
    at = by_hand or next((str(event["time"]) for event in how.told), challenger.decided_at or how.now.time)
    questions.close(change, f"version {challenger.version} was promoted", how.now.time)
    attempt.challenger, attempt.promoted_at, attempt.reason = challenger.version, at, challenger.reason
    if how.told:
        change.pass_on({**event, "run": attempt.run} for event in how.told)
    elif by_hand is None:
        # The retrainer died between moving the alias and telling of it.
        change.tell_of(attempt, "promoted", challenger.version, from_version=attempt.champion, repaired=True)
    wait = waits.begin(CONFIRM_S, how.now)
    state.confirming = Confirming(challenger.version, attempt.cause, attempt.run, wait)
    if attempt.why.of_inputs:
        state.phase = "verifying"
    else:
        # The drift watch sees inputs; that labels fit again, the gate has shown, and the next engines will.
        settled = Settle(attempt.cause, attempt.run, promotion.PROMOTED, challenger.reason, challenger.version)
        ends.end(change, attempt, replace(settled, archived=attempt.archived), how)
    return True


def _shadowed(change: Change, move: Shadowed, _: With) -> bool:
    attempt = change.state.current(move.run, "running")
    if attempt is None or attempt.shadow is not None:
        return False
    attempt.shadow = move.report
    change.tell_of(attempt, "shadow_ended", move.version, **msgspec.to_builtins(move.report))
    return True


def _train_in_full(change: Change, move: TrainInFull, _: With) -> bool:
    attempt = change.state.current(move.run, "running")
    if attempt is None:
        return False
    change.tell_of(attempt, "rejected", move.challenger.version, reason=move.challenger.reason)
    reason = "the warm-started challenger is worse on old engines"
    change.tell_of(attempt, "retraining_in_full", move.challenger.version, reason=reason)
    change.state.queue.insert(0, attempt.again(mode="full", failures=0))
    change.state.attempt, change.state.phase = None, "idle"
    return True


def _settle(change: Change, move: Settle, how: With) -> bool:
    state, attempt = change.state, change.state.attempt
    if attempt is None or (attempt.cause, attempt.run) != (move.cause, move.run):
        return False
    if move.decision == "resolved" and move.cause in state.firing:
        return False  # it fires again meanwhile
    if state.phase in ("running", "awaiting_approval") and move.decision == promotion.REJECTED:
        change.tell_of(attempt, "rejected", move.version, reason=move.reason)
    if state.phase in ("running", "awaiting_approval") and move.decision == promotion.SUPERSEDED:
        change.tell_of(attempt, "retraining_superseded", attempt.champion, reason=move.reason)
    if state.phase == "verifying" and move.decision == promotion.PROMOTED:
        change.tell("recovery_verified", model_version=move.version, cause=attempt.cause, n=move.n)
    if state.phase == "verifying" and move.decision == promotion.KEPT:
        change.tell("recovery_failed", model_version=move.version, cause=attempt.cause, reason=move.reason)
        change.tell_of(attempt, "kept", move.version, from_version=attempt.champion, reason=move.reason)
    if attempt.condemned is not None and move.decision == promotion.ROLLED_BACK and not how.told:
        # The retrainer died between moving the alias back and telling of it.
        back = move.champion or attempt.champion
        change.tell_of(attempt, "rolled_back", back, from_version=move.version, reason=move.reason)
    change.pass_on(how.told)
    if ends.gone_back(attempt, move) and state.phase != "verifying":
        ends.go_back(change, attempt, move, how)
        return True
    ends.end(change, attempt, move, how)
    return True


def _fail(change: Change, move: Fail, how: With) -> bool:
    state, attempt = change.state, change.state.current(move.run, "running", "awaiting_approval")
    if attempt is None:
        return False
    questions.close(change, "it could not be promoted", how.now.time)
    attempt.failures += 1
    give_up = move.final or attempt.by_hand or attempt.failures >= MAX_FAILURES
    pause = BACK_OFF_S * 4 ** (attempt.failures - 1)
    change.tell_of(
        attempt,
        "retraining_failed",
        attempt.champion,
        step=attempt.step,
        error=move.error[-_ERROR_CHARACTERS:],
        failures=attempt.failures,
        retry_in_s=None if give_up else pause,
    )
    if give_up:
        error = move.error.splitlines()[0][:500] if move.error else ""
        settled = Settle(attempt.cause, attempt.run, ends.FAILED, error, attempt.challenger, archived=move.archived)
        ends.end(change, attempt, settled, how)
        return True
    state.queue.insert(0, attempt.again())
    state.attempt, state.phase, state.pause = None, "cooling_down", waits.begin(pause, how.now)
    return True


def _condemn(change: Change, move: RollBack, _: With) -> bool:
    """Write down that a version is to be rolled back, before the alias moves."""
    attempt = change.state.current(move.run, "verifying")
    if attempt is None or attempt.condemned is not None:
        return False
    attempt.condemned = move.reason
    change.tell("recovery_failed", model_version=move.version, cause=attempt.cause, reason=move.reason)
    return True


def _overdue(change: Change, move: Overdue, how: With) -> bool:
    return questions.overdue(change, move.question, how.now.time)


def _cooled_down(change: Change, _: CooledDown, how: With) -> bool:
    state = change.state
    if state.phase != "cooling_down" or (state.pause is not None and state.pause.left(how.now) > 0):
        return False
    state.phase, state.pause = "idle", None
    return True


def _confirm(change: Change, move: Confirm, how: With) -> bool:
    waiting = change.state.confirming
    if waiting is None or waiting.model_version != move.model_version:
        return False
    about = {"model_version": waiting.model_version, "cause": waiting.cause, "run": waiting.run}
    if move.confirmed:
        change.tell("serving_confirmed", **about, time=how.now.time)
    else:
        # Not a failure of the promotion: recovery is verified, or not, by what the watch sees.
        change.tell("serving_not_confirmed", **about, reason=f"not within {CONFIRM_S:.0f} s")
    change.state.confirming = None
    return True


_APPLIES: dict[type[Move], Callable[[Change, Any, With], bool]] = {
    Refuse: _refuse,
    AwaitLabels: _await_labels,
    Aided: aid.aided,
    NotAided: aid.refused,
    WithdrawAid: aid.condemned,
    AidWithdrawn: aid.withdrawn,
    Start: _start,
    Promoted: _promoted,
    TrainInFull: _train_in_full,
    Settle: _settle,
    Fail: _fail,
    RollBack: _condemn,
    CooledDown: _cooled_down,
    Confirm: _confirm,
    Overdue: _overdue,
    Shadowed: _shadowed,
    TookOver: hands.took_over,
    NotMoved: hands.forget,
}
"""The moves that change the state; the others only do something."""
