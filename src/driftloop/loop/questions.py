"""What asking a person, or telling one beforehand, makes of the state, and the events that tell of it."""

from driftloop.loop import asking, waits
from driftloop.loop.asking import Answer, Closed, Question
from driftloop.loop.state import Change, Phase
from driftloop.loop.waits import Now


def announce(change: Change, cause: str, labels: int, evidence: list[str], pause_s: float, now: Now) -> bool:
    """Say that a retraining is about to supersede labels; whoever sees that the runs are wrong can withdraw them."""
    attempt = change.state.attempt_for(cause)
    if attempt is None or attempt.announced is not None:
        return False
    shown = ", ".join(evidence[:5]) + (", ..." if len(evidence) > 5 else "")
    attempt.announced = waits.begin(pause_s, now)
    attempt.announcement = (
        f"about to supersede {labels} labels because of {len(evidence)} runs ({shown}); "
        "driftloop archive withdraw takes wrong ones back"
    )
    change.tell(
        "about_to_supersede",
        model_version=attempt.champion,
        cause=cause,
        labels=labels,
        count=len(evidence),
        runs=evidence[:100],
        seconds=pause_s,
        reason=attempt.announcement,
    )
    return True


def ask(change: Change, run: str, question: Question) -> bool:
    """Ask a person about a version of the run at hand, or about the first aid of the attempt that waits."""
    state = change.state
    phase: Phase = "waiting_for_labels" if question.kind == "first_aid" else "running"
    attempt = state.current(run, phase)
    if attempt is None or attempt.cause != question.cause or state.question is not None:
        return False
    state.question = question
    if question.kind == "retraining":
        state.phase, attempt.challenger, attempt.step = "awaiting_approval", question.version, None
    change.tell_of(
        attempt,
        "approval_needed",
        question.version,
        approval=question.id,
        digest=question.digest,
        from_version=question.champion,
        deadline=question.deadline,
        after_deadline=question.after_deadline if question.deadline else None,
        first_aid=question.kind == "first_aid" or None,
        reason="; ".join(question.reasons),
    )
    return True


def answer(change: Change, question: str, given: Answer) -> bool:
    """Write down what somebody answered to the open question; what follows, the worker decides."""
    asked = change.state.question
    if asked is None or asked.id != question or asked.answer is not None:
        return False
    asked.answer = given
    change.tell(
        "approval_answered",
        model_version=asked.version,
        cause=asked.cause,
        approval=asked.id,
        answer=given.answer,
        who=given.who,
        reason=given.reason or None,
    )
    return True


def close(change: Change, why: str, at: str) -> None:
    """Close the open question, if there is one: by its answer, or as void for the reason `why`."""
    state, asked = change.state, change.state.question
    if asked is None:
        return
    if asked.answer is not None:
        what = asking.what_became(asked.answer)
    else:
        what = f"is void since {at}: {why}"
        change.tell("approval_void", model_version=asked.version, cause=asked.cause, approval=asked.id, reason=why)
    state.question = None
    state.closed = [*state.closed, Closed(asked.id, asked.version, at, what)][-asking.REMEMBERED :]


def overdue(change: Change, question: str, at: str) -> bool:
    """Write down that the deadline of the open question has passed, and the answer that this gives, if any."""
    asked = change.state.question
    if asked is None or asked.id != question or asked.overdue or asked.answer is not None:
        return False
    given = asking.unanswered(asked, at)
    if given is not None:
        return answer(change, asked.id, given)
    asked.overdue = True
    change.tell(
        "approval_overdue",
        model_version=asked.version,
        cause=asked.cause,
        approval=asked.id,
        reason=f"nobody answered until {asked.deadline}; it goes on waiting",
    )
    return True
