"""How an attempt ends, and what opens its cause again."""

from dataclasses import replace

import msgspec

from driftloop.loop import questions, waits
from driftloop.loop.judge import promotion
from driftloop.loop.moves import Settle
from driftloop.loop.state import Attempt, Change, Decision, Phase, With
from driftloop.protocol.causes import Cause

OPEN_ENDS = ("resolved", "switched_off")
"""Ends of a retraining that say nothing against another one for the same cause."""
FAILED = "failed"
IN_VAIN = (promotion.REJECTED, promotion.ROLLED_BACK, FAILED)
"""Ends after which the same completed runs are not tried again."""


def admit(change: Change, why: Cause, *, first: bool, archived: int, how: With) -> str:
    """Queue a cause unless something speaks against it; tells of a refusal only the first time.

    `queued`, `recorded` (retraining is switched off), `duplicate` or `refused`.
    """
    cause, champion = str(why), why.model_version or ""
    if not why.learnable:
        return "refused"
    if not how.enabled:
        return "recorded"
    if change.state.pending(cause):
        return "duplicate"
    settled = change.state.settled.get(cause)
    if settled is not None and settled.decision in promotion.TOOK_OVER:
        return "duplicate"
    tried, labels = (settled.tried, settled.labels) if settled is not None else (0, 0)
    nothing_new = settled is not None and settled.decision not in OPEN_ENDS and archived <= settled.archived
    # A change of the inputs waits for more runs, since first aid needs none; of another kind nothing can be done yet.
    if settled is not None and nothing_new and not (why.of_inputs and tried):
        if first:
            reason = f"{settled.decision} before ({settled.reason}) and no new runs since"
            change.tell("retraining_refused", model_version=champion, cause=cause, reason=reason)
        return "refused"
    aid_refused = settled.aid_refused if settled is not None else None
    change.state.queue.append(
        Attempt(cause, champion, how.now.time, archived=tried, labels=labels, aid_refused=aid_refused)
    )
    return "queued"


def end(change: Change, attempt: Attempt, settled: Settle, how: With) -> None:
    """End an attempt: keep how, begin the pause after it, and queue its cause again where that stands."""
    state = change.state
    decision = settled.decision
    questions.close(change, settled.reason, how.now.time)
    passed = attempt.started.passed(how.now) if attempt.started is not None else None
    in_vain, waited = decision in IN_VAIN and not settled.by_hand, state.phase == "waiting_for_labels"
    turned_down = in_vain and decision != FAILED
    state.settle(
        Decision(
            attempt.cause,
            decision,
            settled.reason,
            how.now.time,
            attempt.archived if attempt.run else settled.archived,
            settled.version or None,
            None if passed is None else round(passed, 3),
            attempt.archived if in_vain or waited else 0,
            attempt.labels if turned_down or waited else 0,
        )
    )
    if state.confirming is not None and decision not in promotion.TOOK_OVER:
        state.confirming = None
    after: Phase = "cooling_down" if settled.cool_down else "idle"
    state.attempt, state.phase = None, after
    if settled.cool_down:
        state.pause = waits.begin(how.cool_down_s, how.now)
    provisional = attempt.aided is not None and decision != promotion.ROLLED_BACK
    if in_vain and (provisional or attempt.aid_withdrawn):
        # What serves is no answer to the change: the retraining that is goes on with more labels.
        tried = {"archived": attempt.archived, "labels": attempt.labels if turned_down else 0}
        state.queue.append(attempt.again(**tried, failures=0, by_hand=attempt.by_hand))
    elif (
        decision not in (*promotion.TOOK_OVER, *OPEN_ENDS)
        and attempt.cause in state.firing
        and settled.champion in (None, attempt.why.model_version)
    ):
        # The cause stands: runs that arrived while it was decided are tried, others waited for.
        admit(change, attempt.why, first=False, archived=settled.archived, how=how)


def gone_back(attempt: Attempt, move: Settle) -> bool:
    """Whether the attempt's champion was first aid, and the version that its cause is about serves again."""
    back = move.champion is not None and move.champion == attempt.why.model_version
    return back and move.decision == promotion.SUPERSEDED and attempt.aided is not None and not attempt.by_hand


def go_back(change: Change, attempt: Attempt, move: Settle, how: With) -> None:
    """End such an attempt; while its cause stands another one follows, of the version that serves.

    There is no first aid for the cause any more: a person went back from it.
    """
    state = change.state
    waited = state.phase == "waiting_for_labels"
    archived, labels = (attempt.archived, attempt.labels) if waited else (0, 0)
    end(change, attempt, replace(move, archived=0, cool_down=False), how)
    # Under first aid its alert has mostly ended: when it comes again, nothing speaks against it.
    kept = state.settled[attempt.cause]
    state.settled[attempt.cause] = msgspec.structs.replace(
        kept, archived=0, tried=archived, labels=labels, aid_refused=move.reason
    )
    state.leave_queue(attempt.cause)
    if attempt.cause in state.firing:
        again = attempt.again(failures=0, archived=archived, labels=labels)
        without_aid(again, move.champion or "", move.reason)
        state.queue.insert(0, again)


def without_aid(attempt: Attempt, champion: str, reason: str) -> None:
    """Make an attempt at a provisional version one at the version before it."""
    attempt.champion, attempt.aided, attempt.aid_refused = champion, None, reason
