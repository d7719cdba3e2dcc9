"""What the loop does next: a pure function of its state and of what the world looks like.

    idle -> running -> (awaiting_approval) -> verifying -> cooling_down -> idle
              |  ^                                |            ^
              v  |                                +-- rollback-+
    waiting_for_labels

Each phase is a table, read from the top: the first row that holds is the move. Nothing here looks anything up, waits
or writes; driftloop.loop.facts finds the facts, driftloop.loop.changes says what a move makes of the state, and
driftloop.loop.worker carries it out. What a pipeline run decided is read from the registry, not remembered: whether a
challenger was promoted is where the alias `production` points.
"""

from collections.abc import Callable
from dataclasses import replace

from driftloop.drift.verdict import WITHOUT_DRIFT
from driftloop.loop import asking
from driftloop.loop.asking import Question
from driftloop.loop.judge import gate, promotion
from driftloop.loop.moves import (
    Aided,
    AidWithdrawn,
    Announce,
    Ask,
    AwaitLabels,
    Challenger,
    Confirm,
    CooledDown,
    Facts,
    Fail,
    InShadow,
    Move,
    NotAided,
    NotMoved,
    Overdue,
    Promote,
    PromoteAid,
    Promoted,
    Refuse,
    Rest,
    RollBack,
    Settle,
    Start,
    TookOver,
    TrainInFull,
    TryFirstAid,
    WithdrawAid,
)
from driftloop.loop.state import Attempt, Phase, State

MAX_RESTARTS = 5
"""Restarts of the retrainer after which a cause is given up until new runs arrive."""
POLL_S = 0.05
"""How often a running pipeline is looked at, and a server that does not answer with a promoted version yet."""
ASK_POLL_S = 5.0
"""How often it is looked whether a question still holds; answers come by themselves, and look themselves."""
VERIFY_POLL_S = 1.0
"""How often it is looked whether a version that is verified is still in production; verdicts come by themselves."""

SWITCHED_OFF = "retraining is switched off (ENABLE_RETRAINING)"
NOTHING_DECIDED = "the pipeline ended, but nothing was decided"
NOTHING_NEW = "no completed runs have come since it was tried with those that are there"


def decide(state: State, facts: Facts) -> Move:
    """The next move."""
    if state.intent is not None:
        # Whatever else is due: what a person has done comes first.
        return (TookOver if facts.production == state.intent.version else NotMoved)(state.intent)
    confirming = state.confirming
    if confirming is not None and facts.served == confirming.model_version:
        return Confirm(confirming.model_version, True)
    if confirming is not None and facts.confirm_s <= 0:
        return Confirm(confirming.model_version, False)
    move = _PHASES[state.phase](state, facts)
    if confirming is not None and isinstance(move, Rest):
        return Rest(POLL_S if move.seconds is None else min(move.seconds, POLL_S))
    return move


def _idle(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    if not facts.enabled or not state.queue:
        # What was queued before it was switched off stays so; it is looked at again when it is switched on.
        return Rest()
    first = state.queue[0]
    if facts.settling_s > 0:
        return Rest(facts.settling_s)
    if facts.provisional_of == first.champion and facts.production is not None:
        return Aided(first.cause, first.run, facts.production)
    if facts.production != first.champion:
        return Refuse(first.cause, f"version {facts.production} is in production")
    if facts.lacking is not None:
        return AwaitLabels(first.cause, first.run, facts.lacking)
    if not _more_than_tried(first, facts):
        return AwaitLabels(first.cause, first.run, NOTHING_NEW)
    return _start(first, facts)


def _waiting_for_labels(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    attempt = _current(state)
    if not (facts.enabled or attempt.by_hand):
        return _settle(attempt, facts, "switched_off", SWITCHED_OFF, cool_down=False)
    if attempt.cause not in state.firing and not attempt.stands:
        return _settle(attempt, facts, "resolved", "the alert was resolved before labels arrived", cool_down=False)
    if facts.settling_s > 0:
        return Rest(facts.settling_s)
    if facts.provisional_of == attempt.champion and facts.production is not None:
        # The retrainer died between moving the alias and telling of it.
        return Aided(attempt.cause, attempt.run, facts.production)
    condemned = attempt.condemned if attempt.aided is not None else None
    if condemned is not None and facts.production not in (None, attempt.aided):
        return AidWithdrawn(attempt.cause, attempt.run, attempt.champion, facts.production or "")
    if facts.production != attempt.champion:
        return _superseded(attempt, facts, cool_down=False)
    if condemned is not None:
        return WithdrawAid(attempt.cause, attempt.run, attempt.champion, condemned)
    if _more_than_tried(attempt, facts) and facts.lacking is None:
        # Runs that a pipeline has already found unusable are no reason to start another one.
        return _start(attempt, facts)
    if facts.worse is not None:
        # Labels that are too few to learn from may be enough to tell two models apart.
        return WithdrawAid(attempt.cause, attempt.run, attempt.champion, facts.worse)
    if state.question is not None:
        return _asked_about_aid(attempt, state.question, facts)
    if facts.first_aid and _may_be_aided(attempt):
        return TryFirstAid(attempt.cause, attempt.run, attempt.champion)
    return Rest()


def _asked_about_aid(attempt: Attempt, asked: Question, facts: Facts) -> Move:
    void = asking.void(asked, facts.production, facts.digest)
    if void is not None:
        return NotAided(attempt.cause, attempt.run, void)
    if asked.answer is not None and asked.answer.answer == "approve":
        return PromoteAid(attempt.cause, attempt.run, asked.version)
    if asked.answer is not None:
        return NotAided(attempt.cause, attempt.run, asking.what_became(asked.answer))
    return _wait_for_an_answer(asked, facts)


def _running(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    attempt = _current(state)
    found = {each.decision: each for each in reversed(facts.challengers)}
    promoted = next((each for each in facts.challengers if each.version == facts.production), None)
    if promoted is not None:
        # Also while the pipeline goes on: a person need not wait for the gate.
        return Promoted(attempt.run, promoted)
    if facts.production not in (None, attempt.champion):
        # What was trained from another version, and is compared with it, is of no use; nor is what it found out.
        newest = facts.challengers[-1].version if facts.challengers else attempt.challenger
        return _superseded(attempt, facts, newest)
    if promotion.ROLLED_BACK in found:
        taken_back = found[promotion.ROLLED_BACK]
        by_hand = _settle(attempt, facts, promotion.ROLLED_BACK, taken_back.reason, taken_back.version)
        return replace(by_hand, champion=facts.production, by_hand=True)
    if facts.pipeline == "runs":
        return Rest(POLL_S)
    if promotion.REJECTED in found:
        rejected = found[promotion.REJECTED]
        if gate.WITHDRAWN in rejected.findings:
            return Fail(attempt.run, rejected.reason, archived=facts.archived)
        if _helped_by_training_in_full(attempt, rejected):
            return TrainInFull(attempt.run, rejected)
        return _settle(attempt, facts, promotion.REJECTED, rejected.reason, rejected.version)
    passed = found.get(promotion.UNDECIDED) or found.get(promotion.APPROVED)
    if passed is not None:
        return _passed(attempt, passed, facts)
    if facts.pipeline == "lost":
        return _taken_up_again(attempt, facts)
    if attempt.waiting_for is not None:
        return AwaitLabels(attempt.cause, attempt.run, attempt.waiting_for)
    return Fail(attempt.run, attempt.why_failed(facts.error or NOTHING_DECIDED), archived=facts.archived)


def _passed(attempt: Attempt, challenger: Challenger, facts: Facts) -> Move:
    """What becomes of a challenger that the gate has not turned down."""
    if facts.production != attempt.champion:
        return _superseded(attempt, facts, challenger.version)  # nothing is in production
    if facts.shadow and attempt.shadow is None:
        return InShadow(attempt.run, challenger)
    if attempt.shadow is not None and not attempt.shadow.passed:
        against = f"in the shadow: {'; '.join(attempt.shadow.reasons)}"
        if attempt.shadow.broken:
            return Fail(attempt.run, against, archived=facts.archived)
        return _settle(attempt, facts, promotion.REJECTED, against, challenger.version)
    undecided = challenger.decision == promotion.UNDECIDED
    if undecided or facts.asks:
        return Ask(attempt.run, challenger, passed=not undecided)
    return Promote(attempt.run, challenger)


def _awaiting_approval(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    attempt, asked = _current(state), state.question
    assert asked is not None, "a wait for approval without a question"
    challenger = Challenger(asked.version, promotion.APPROVED, "; ".join(asked.reasons), digest=asked.digest)
    if facts.production == asked.version:
        # The retrainer died between moving the alias and telling of it.
        return Promoted(attempt.run, challenger)
    void = asking.void(asked, facts.production, facts.digest)
    if void is not None:
        settled = _settle(attempt, facts, promotion.SUPERSEDED, void, asked.version)
        return replace(settled, champion=facts.production if facts.production != attempt.champion else None)
    if asked.answer is not None and asked.answer.answer == "approve":
        return Promote(attempt.run, challenger)
    if asked.answer is not None:
        return _settle(attempt, facts, promotion.REJECTED, asking.what_became(asked.answer), asked.version)
    if facts.settling_s > 0:
        return Rest(facts.settling_s)
    if not asked.passed and facts.enabled and _more_than_tried(attempt, facts) and facts.lacking is None:
        # What there were too few of may be enough now.
        return _started(attempt, facts)
    return _wait_for_an_answer(asked, facts)


def _wait_for_an_answer(asked: Question, facts: Facts) -> Move:
    if facts.deadline_s is None:
        return Rest(ASK_POLL_S)
    return Overdue(asked.id) if facts.deadline_s <= 0 else Rest(min(ASK_POLL_S, facts.deadline_s))


def _taken_up_again(attempt: Attempt, facts: Facts) -> Move:
    """What becomes of a run that ended with the retrainer, and decided nothing."""
    if attempt.restarts >= MAX_RESTARTS:
        error = f"the retrainer was restarted {MAX_RESTARTS} times during it"
        return Fail(attempt.run, error, final=True, archived=facts.archived)
    if facts.production != attempt.champion:
        return _superseded(attempt, facts, attempt.challenger)
    if not (facts.enabled or attempt.by_hand):
        return _settle(attempt, facts, "switched_off", SWITCHED_OFF, attempt.challenger)
    return _started(attempt, facts)


def _verifying(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    attempt = _current(state)
    version = attempt.challenger or ""
    if attempt.condemned is not None and facts.production != version:
        settled = _settle(attempt, facts, promotion.ROLLED_BACK, attempt.condemned, version)
        return replace(settled, champion=facts.production)
    if facts.production != version:
        return _superseded(attempt, facts, version)
    if attempt.condemned is not None:
        return RollBack(attempt.run, version, attempt.condemned)
    if facts.seen is None or not facts.spoken_about(version):
        return Rest(VERIFY_POLL_S)
    if facts.worse is not None:
        # The watch sees inputs alone; completed units know better.
        return RollBack(attempt.run, version, facts.worse)
    if facts.seen.verdict in WITHOUT_DRIFT:
        return replace(_settle(attempt, facts, promotion.PROMOTED, attempt.reason, version), n=facts.seen.n)
    drifts = f"after {facts.seen.answered} answers the watch still sees drift"
    if facts.better is not None:
        return _settle(attempt, facts, promotion.KEPT, f"{drifts}, but {facts.better}", version)
    return RollBack(attempt.run, version, f"not recovered: {drifts}")


def _cooling_down(_: State, facts: Facts) -> Move:
    return Rest(facts.pause_s) if facts.pause_s > 0 else CooledDown()


_PHASES: dict[Phase, Callable[[State, Facts], Move]] = {
    "idle": _idle,
    "waiting_for_labels": _waiting_for_labels,
    "running": _running,
    "awaiting_approval": _awaiting_approval,
    "verifying": _verifying,
    "cooling_down": _cooling_down,
}


# Rows that several phases share.


def _start(attempt: Attempt, facts: Facts) -> Move:
    if attempt.why.changes_labels and attempt.announced is None:
        return Announce(attempt.cause)
    if attempt.announced is not None and facts.pause_s > 0:
        return Rest(facts.pause_s)
    return _started(attempt, facts)


def _started(attempt: Attempt, facts: Facts) -> Start:
    return Start(attempt.cause, facts.next_run, facts.archived, facts.labels or attempt.labels)


def _more_than_tried(attempt: Attempt, facts: Facts) -> bool:
    """Whether there are completed runs that the attempt has not been tried with in vain."""
    return facts.archived > attempt.archived


def _may_be_aided(attempt: Attempt) -> bool:
    """Whether first aid may help: a change of the fleet that has not had any, nor been refused it."""
    return attempt.why.of_inputs and not attempt.by_hand and attempt.aided is None and attempt.aid_refused is None


def _superseded(attempt: Attempt, facts: Facts, version: str | None = None, *, cool_down: bool = True) -> Settle:
    reason = f"version {facts.production} is in production"
    settled = _settle(attempt, facts, promotion.SUPERSEDED, reason, version, cool_down=cool_down)
    return replace(settled, champion=facts.production)


def _settle(
    attempt: Attempt, facts: Facts, decision: str, reason: str, version: str | None = None, *, cool_down: bool = True
) -> Settle:
    return Settle(attempt.cause, attempt.run, decision, reason, version, cool_down, facts.archived)


def _helped_by_training_in_full(attempt: Attempt, rejected: Challenger) -> bool:
    """Whether a training from scratch may keep what a warm start forgot; not where a person chose the mode."""
    in_full = "full" in (attempt.mode, attempt.training)
    return not (attempt.by_hand or in_full) and gate.FORGOT in rejected.findings


def _current(state: State) -> Attempt:
    assert state.attempt is not None, f"{state.phase} without an attempt"
    return state.attempt
