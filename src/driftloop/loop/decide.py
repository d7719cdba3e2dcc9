"""What the loop does next: a pure function of its state and of what the world looks like.

    idle -> running -> verifying -> cooling_down -> idle
              |  ^          |            ^
              v  |          +-- rollback-+
    waiting_for_labels

Each phase is a table, read from the top: the first row that holds is the move. Nothing here looks anything up, waits
or writes; driftloop.loop.facts finds the facts, driftloop.loop.changes says what a move makes of the state, and
driftloop.loop.worker carries it out. What a pipeline run decided is read from the registry, not remembered: whether a
challenger was promoted is where the alias `production` points.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from driftloop.drift.verdict import DRIFT, WITHOUT_DRIFT
from driftloop.loop.judge import gate, promotion
from driftloop.loop.state import Attempt, Phase, State

MAX_RESTARTS = 5
"""Restarts of the retrainer after which a cause is given up until new runs arrive."""
POLL_S = 0.05
"""How often a running pipeline is looked at, and a server that does not answer with a promoted version yet."""
VERIFY_POLL_S = 1.0
"""How often it is looked whether a version that is verified is still in production; verdicts come by themselves."""

SWITCHED_OFF = "retraining is switched off (ENABLE_RETRAINING)"
NOTHING_DECIDED = "the pipeline ended, but nothing was decided"

Pipeline = Literal["none", "runs", "ended", "lost"]
"""`lost`: an earlier retrainer started it, and it did not outlive that one."""


@dataclass(frozen=True)
class Challenger:
    """A version that the run at hand has registered, with what its tags say."""

    version: str
    decision: str | None = None
    reason: str = ""
    findings: tuple[str, ...] = ()
    decided_at: str | None = None


@dataclass(frozen=True)
class Seen:
    """The watch's newest verdict on a version, and how many of its answers it has seen since its promotion."""

    model_version: str
    verdict: str
    answered: int = 0
    n: int = 0
    min_n: int = 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the world looks like, as far as the present phase asks."""

    enabled: bool = True
    production: str | None = None
    archived: int = 0
    """Completed runs in the archive."""
    next_run: str = "run"
    """The name that a run started now would have."""
    settling_s: float = 0.0
    """Until a fleet's runs, which arrive in many calls, have all arrived."""
    lacking: str | None = None
    """What completed runs are too few of to start."""
    pipeline: Pipeline = "none"
    error: str | None = None
    """Why the pipeline ended without success."""
    challengers: tuple[Challenger, ...] = ()
    seen: Seen | None = None
    answers_needed: int = 1
    """Answers after which a version that the watch still calls drifted has not recovered."""
    pause_s: float = 0.0
    """What is left of the phase's own pause, or of the one before all labels are superseded."""
    served: str | None = None
    """The version that the server answers with; asked only while a promotion is to be confirmed."""
    confirm_s: float = 0.0
    """What is left of the time for that."""
    provisional_of: str | None = None
    """The version that production was given first aid from, where it is provisional; asked only where production is
    not the attempt's champion."""
    first_aid: bool = False
    """Whether first aid may be tried."""


# The moves.


@dataclass(frozen=True)
class Rest:
    """Nothing is due; look again after so many seconds, or not before something happens."""

    seconds: float | None = None


@dataclass(frozen=True)
class Refuse:
    """Drop what is queued for a cause, and say why."""

    cause: str
    reason: str


@dataclass(frozen=True)
class AwaitLabels:
    """Wait until there are completed runs enough."""

    cause: str
    run: str
    reason: str


@dataclass(frozen=True)
class Announce:
    """Say that all labels are about to be superseded, and give people time to look."""

    cause: str


@dataclass(frozen=True)
class Start:
    """Start a pipeline run."""

    cause: str
    run: str
    archived: int


@dataclass(frozen=True)
class Promote:
    """Move the alias `production` to an approved challenger: the one commit of a promotion."""

    run: str
    challenger: Challenger


@dataclass(frozen=True)
class Promoted:
    """Write down that a challenger is in production, and wait for the watch where it can see whether that helped."""

    run: str
    challenger: Challenger


@dataclass(frozen=True)
class TrainInFull:
    """A warm start forgot what a training from scratch may keep: do that next, once."""

    run: str
    challenger: Challenger


@dataclass(frozen=True)
class Settle:
    """The end of an attempt: how, why, about which version, and whether a pause follows."""

    cause: str
    run: str
    decision: str
    reason: str
    version: str | None = None
    cool_down: bool = True
    archived: int = 0
    n: int | None = None
    """Requests that the watch looked at, where it is what was waited for."""


@dataclass(frozen=True)
class Fail:
    """The run failed: try again after a pause, or give up."""

    run: str
    error: str
    final: bool = False
    archived: int = 0


@dataclass(frozen=True)
class RollBack:
    """Put the version before back into production."""

    run: str
    version: str
    reason: str


@dataclass(frozen=True)
class CooledDown:
    """The pause is over."""


@dataclass(frozen=True)
class Confirm:
    """The server answers with the promoted version, or has not in the time it had."""

    model_version: str
    confirmed: bool


@dataclass(frozen=True)
class TryFirstAid:
    """Give the champion first aid from traffic, if there is enough of it."""

    cause: str
    run: str
    champion: str


@dataclass(frozen=True)
class Aided:
    """A provisional version is in production: the attempt's champion from now on, until labels replace it."""

    cause: str
    run: str
    version: str


@dataclass(frozen=True)
class NotAided:
    """There is no first aid for this attempt, and why."""

    cause: str
    run: str
    reason: str


Move = (
    TryFirstAid | Aided | NotAided | Rest | Refuse | AwaitLabels | Announce | Start | Promote | Promoted | TrainInFull
    | Settle | Fail | RollBack | CooledDown | Confirm
)  # fmt: skip


def decide(state: State, facts: Facts) -> Move:
    """The next move."""
    confirming = state.confirming
    if confirming is not None and facts.served == confirming.model_version:
        return Confirm(confirming.model_version, True)
    if confirming is not None and facts.confirm_s <= 0:
        return Confirm(confirming.model_version, False)
    move = _PHASES[state.phase](state, facts)
    if confirming is not None and isinstance(move, Rest):
        return Rest(POLL_S if move.seconds is None else min(move.seconds, POLL_S))
    return move


def _idle(state: State, facts: Facts) -> Move:
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
    if facts.production != attempt.champion:
        return _superseded(attempt, facts, cool_down=False)
    if facts.archived > attempt.archived and facts.lacking is None:
        # Runs that a pipeline has already found unusable are no reason to start another one.
        return _start(attempt, facts)
    if facts.first_aid and _may_be_aided(attempt):
        return TryFirstAid(attempt.cause, attempt.run, attempt.champion)
    return Rest()


def _running(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    attempt = _current(state)
    if facts.pipeline == "runs":
        return Rest(POLL_S)
    found = {each.decision: each for each in reversed(facts.challengers)}
    promoted = next((each for each in facts.challengers if each.version == facts.production), None)
    if promoted is not None:
        return Promoted(attempt.run, promoted)
    if promotion.REJECTED in found:
        rejected = found[promotion.REJECTED]
        if _helped_by_training_in_full(attempt, rejected):
            return TrainInFull(attempt.run, rejected)
        return _settle(attempt, facts, promotion.REJECTED, rejected.reason, rejected.version)
    if promotion.UNDECIDED in found:
        waits = found[promotion.UNDECIDED]
        return _settle(attempt, facts, promotion.UNDECIDED, waits.reason, waits.version)
    if promotion.APPROVED in found and facts.production == attempt.champion:
        return Promote(attempt.run, found[promotion.APPROVED])
    if promotion.APPROVED in found:
        return _superseded(attempt, facts, found[promotion.APPROVED].version)
    if facts.pipeline == "lost":
        return _taken_up_again(attempt, facts)
    if attempt.waiting_for is not None:
        return AwaitLabels(attempt.cause, attempt.run, attempt.waiting_for)
    return Fail(attempt.run, facts.error or NOTHING_DECIDED, archived=facts.archived)


def _taken_up_again(attempt: Attempt, facts: Facts) -> Move:
    """What becomes of a run that ended with the retrainer, and decided nothing."""
    if attempt.restarts >= MAX_RESTARTS:
        error = f"the retrainer was restarted {MAX_RESTARTS} times during it"
        return Fail(attempt.run, error, final=True, archived=facts.archived)
    if facts.production != attempt.champion:
        return _superseded(attempt, facts, attempt.challenger)
    if not (facts.enabled or attempt.by_hand):
        return _settle(attempt, facts, "switched_off", SWITCHED_OFF, attempt.challenger)
    return Start(attempt.cause, facts.next_run, facts.archived)


def _verifying(state: State, facts: Facts) -> Move:  # noqa: PLR0911 (a row each)
    attempt = _current(state)
    version = attempt.challenger or ""
    if attempt.condemned is not None and facts.production == attempt.champion:
        return _settle(attempt, facts, promotion.ROLLED_BACK, attempt.condemned, version)
    if facts.production != version:
        return _superseded(attempt, facts, version)
    if attempt.condemned is not None:
        return RollBack(attempt.run, version, attempt.condemned)
    if facts.seen is None or facts.seen.model_version != version:
        return Rest(VERIFY_POLL_S)
    if facts.seen.verdict in WITHOUT_DRIFT:
        return replace(_settle(attempt, facts, promotion.PROMOTED, attempt.reason, version), n=facts.seen.n)
    if facts.seen.verdict == DRIFT and facts.seen.answered >= facts.answers_needed:
        # Silence is no such sign: a fleet may send ten rows a day.
        answers = f"after {facts.seen.answered} answers the watch still sees drift"
        return RollBack(attempt.run, version, f"not recovered: {answers}")
    return Rest(VERIFY_POLL_S)


def _cooling_down(_: State, facts: Facts) -> Move:
    return Rest(facts.pause_s) if facts.pause_s > 0 else CooledDown()


_PHASES: dict[Phase, Callable[[State, Facts], Move]] = {
    "idle": _idle,
    "waiting_for_labels": _waiting_for_labels,
    "running": _running,
    "verifying": _verifying,
    "cooling_down": _cooling_down,
}


# Rows that several phases share.


def _start(attempt: Attempt, facts: Facts) -> Move:
    if attempt.why.changes_labels and attempt.announced is None:
        return Announce(attempt.cause)
    if attempt.announced is not None and facts.pause_s > 0:
        return Rest(facts.pause_s)
    return Start(attempt.cause, facts.next_run, facts.archived)


def _may_be_aided(attempt: Attempt) -> bool:
    """Whether first aid may help: a change of the fleet that has not had any, nor been refused it."""
    return attempt.why.of_inputs and not attempt.by_hand and attempt.aided is None and attempt.aid_refused is None


def _superseded(attempt: Attempt, facts: Facts, version: str | None = None, *, cool_down: bool = True) -> Move:
    reason = f"version {facts.production} is in production"
    return _settle(attempt, facts, "superseded", reason, version, cool_down=cool_down)


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
