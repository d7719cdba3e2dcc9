"""What first aid makes of the state, and the events that tell of it (driftloop.loop.changes)."""

from driftloop.loop import questions, waits
from driftloop.loop.moves import Aided, AidWithdrawn, NotAided, WithdrawAid
from driftloop.loop.state import CONFIRM_S, Attempt, Change, Confirming, With
from driftloop.protocol.events import EventKind


def by_hand(change: Change, attempt: Attempt) -> None:
    """A person asked for first aid: the retraining that is to replace it waits for labels from now on."""
    state = change.state
    if state.attempt is None:
        state.attempt, state.phase, state.pause = attempt, "waiting_for_labels", None
        attempt.waiting_for = "labels, which first aid does without"
    if state.attempt is not None:
        state.attempt.aid_refused = None


def aided(change: Change, move: Aided, how: With) -> bool:
    """The labelled retraining stands from now on, and is one of the provisional version."""
    attempt = change.state.attempt_for(move.cause)
    if attempt is None or attempt.run != move.run or attempt.champion == move.version:
        return False
    told = next(iter(how.told), {})
    _serves(change, attempt, "first_aid_promoted", move.version, how, reason=told.get("reason"), who=told.get("who"))
    questions.close(change, f"version {move.version} was promoted", how.now.time)
    attempt.aided = move.version
    return True


def refused(change: Change, move: NotAided, how: With) -> bool:
    """There is no first aid for this attempt; why is kept, so that it is not tried again by itself."""
    attempt = change.state.attempt_for(move.cause)
    if attempt is None or attempt.run != move.run or attempt.aid_refused is not None:
        return False
    questions.close(change, move.reason, how.now.time)
    attempt.aid_refused = move.reason
    change.tell_of(attempt, "first_aid_refused", attempt.champion, reason=move.reason)
    return True


def condemned(change: Change, move: WithdrawAid, _: With) -> bool:
    """Write down that first aid is to be withdrawn, before the alias moves."""
    attempt = change.state.current(move.run, "waiting_for_labels")
    if attempt is None or attempt.aided != move.version or attempt.condemned is not None:
        return False
    attempt.condemned = move.reason
    return True


def withdrawn(change: Change, move: AidWithdrawn, how: With) -> bool:
    """The labelled version serves again, and the attempt is one of it."""
    attempt = change.state.current(move.run, "waiting_for_labels")
    if attempt is None or attempt.aided != move.version or attempt.condemned is None:
        return False
    _serves(change, attempt, "first_aid_withdrawn", move.champion, how, reason=attempt.condemned)
    # The retraining still stands: what first aid did not mend, labels will.
    attempt.aid_refused, attempt.aid_withdrawn = attempt.condemned, True
    attempt.aided = attempt.condemned = None
    return True


def _serves(change: Change, attempt: Attempt, kind: EventKind, version: str, how: With, **said: str | None) -> None:
    """Tell that a version took the champion's place, and wait until the server answers with it."""
    told = next(iter(how.told), {})
    at, repaired = told.get("time", how.now.time), None if told else True
    change.tell_of(attempt, kind, version, time=at, from_version=attempt.champion, **said, repaired=repaired)
    attempt.champion = version
    change.state.confirming = Confirming(version, attempt.cause, attempt.run, waits.begin(CONFIRM_S, how.now))
