"""A person moves the alias `production`: what is written down before it moves, and told once it has.

A retrainer that is killed in between finds out by where the alias points. What has moved is told of then; what has not
is forgotten, since nobody was told that it had.
"""

from dataclasses import replace

from driftloop.loop import ends
from driftloop.loop.intent import Intent
from driftloop.loop.judge import promotion
from driftloop.loop.moves import NotMoved, Settle, TookOver
from driftloop.loop.state import Attempt, Change, Decision, With


def took_over(change: Change, move: TookOver, how: With) -> bool:
    """Tell that the alias has moved, and settle what that decides.

    What becomes of a retraining that goes on, the next move says.
    """
    state, meant = change.state, change.state.intent
    if meant is None or meant != move.meant:
        return False
    state.intent = None
    _tell(change, meant, how)
    if state.confirming is not None and state.confirming.model_version != meant.version:
        state.confirming = None
    if meant.kind == "promoted":
        state.reopen(meant.version, f"version {meant.version} was promoted again", meant.archived)
    else:
        _rolled_back(change, meant, how)
    return True


def forget(change: Change, move: NotMoved, _: With) -> bool:
    """What was meant has not happened."""
    if change.state.intent != move.meant:
        return False
    change.state.intent = None
    return True


def _tell(change: Change, meant: Intent, how: With) -> None:
    attempt = change.state.attempt
    if how.told:
        change.pass_on({**event, "who": meant.who} for event in how.told)
    else:
        change.tell(
            meant.kind,
            model_version=meant.version,
            from_version=meant.before,
            cause=meant.cause,
            reason=meant.reason,
            who=meant.who,
            repaired=True,
        )
    if attempt is not None and meant.kind == "promoted" and attempt.run and attempt.run == meant.run:
        # The retraining that goes on made this version: it need not tell of that again.
        attempt.promoted_at = next((str(event["time"]) for event in how.told), how.now.time)


def _rolled_back(change: Change, meant: Intent, how: With) -> None:
    state, attempt = change.state, change.state.attempt
    for queued in state.queue:
        if queued.aided is not None and queued.aided == meant.before:
            ends.without_aid(queued, meant.version, meant.reason)
    if _is_about(attempt, meant):
        if attempt is not None and state.phase == "verifying":
            settled = Settle(attempt.cause, attempt.run, promotion.ROLLED_BACK, meant.reason, meant.before)
            ends.end(change, attempt, replace(settled, archived=meant.archived, by_hand=True), how)
        return
    state.settle(Decision(meant.cause, promotion.ROLLED_BACK, meant.reason, how.now.time, meant.archived, meant.before))


def _is_about(attempt: Attempt | None, meant: Intent) -> bool:
    """Whether an attempt that goes on is about the version that was rolled back, and so says itself how it ends."""
    return attempt is not None and meant.before in (attempt.aided, attempt.challenger)
