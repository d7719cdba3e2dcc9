"""Carries out what leads to a promotion, or away from it: the question, the move of the alias, the tags that tell."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.loop import asking, changes, questions
from driftloop.loop.asking import Answer, Question
from driftloop.loop.intent import Intent
from driftloop.loop.judge import gate, promotion
from driftloop.loop.moves import (
    Aided,
    AidWithdrawn,
    Ask,
    Fail,
    InShadow,
    NotAided,
    NotMoved,
    Promote,
    PromoteAid,
    Promoted,
    RollBack,
    Settle,
    Shadowed,
    TookOver,
    WithdrawAid,
)
from driftloop.loop.shadow import Shadow
from driftloop.loop.state import Attempt
from driftloop.loop.tools import Tools
from driftloop.protocol.events import Event

SHADOW, PROMOTING = "shadow", "promote"
"""What status and events call the steps that follow the pipeline."""
SHADOW_POLL_S = 1.0
"""How often it is looked whether a shadow takes too long; its end wakes the worker. Each look asks the registry."""


def ask(tools: Tools, move: Ask) -> None:
    """Ask a person about a challenger."""
    attempt, challenger = tools.store.state.attempt, move.challenger
    assert attempt is not None
    asked = question(tools, "retraining", attempt, challenger.version, challenger.digest, challenger.reason)
    asked.passed, asked.figures = move.passed, _gate_figures(tools, move.run, challenger.version)
    asked.shadow = attempt.shadow
    put(tools, asked, move.run)


def look_in_shadow(tools: Tools, shadow: Shadow, move: InShadow) -> float:
    """See how the challenger does in the shadow; seconds after which to look again."""
    attempt, version = tools.store.state.attempt, move.challenger.version
    assert attempt is not None
    report = shadow.report(attempt.champion, version)
    if attempt.step != SHADOW:
        with tools.store.change() as change:
            if change.state.attempt is not None:
                change.state.attempt.step = SHADOW
    if report is None:
        return SHADOW_POLL_S
    tags = {"shadow": "passed" if report.passed else "; ".join(report.reasons), "shadow_answers": str(report.answers)}
    tools.registry.set_tags(version, tags)
    tools.apply(Shadowed(move.run, version, report))
    return 0.0


def question(tools: Tools, kind: asking.Kind, attempt: Attempt, version: str, digest: str, reason: str) -> Question:
    """The question about a version, as the settings say."""
    return asking.ask(
        kind,
        version,
        digest,
        attempt.champion,
        attempt.cause,
        tools.clock(),
        deadline_s=tools.settings.approval_deadline_s or None,
        after_deadline=tools.settings.after_deadline,
        reasons=[reason] if reason else [],
    )


def put(tools: Tools, asked: Question, run: str) -> None:
    """Put a question: into the version's tags, then into the state with its event."""
    promotion.tag_question(tools.registry, asked)
    with tools.store.change() as change:
        questions.ask(change, run, asked)


def promote(tools: Tools, move: Promote) -> None:
    """Move the alias `production` to a challenger, or write down why that failed."""
    attempt, challenger = tools.store.state.attempt, move.challenger
    assert attempt is not None
    # Somebody may have promoted another model by hand while this one was trained.
    told = _move_alias(tools, challenger.version, challenger.reason, attempt.cause, attempt.champion)
    if not isinstance(told, DriftloopError):
        tools.apply(Promoted(move.run, challenger), *told)
        return
    tools.abandon()
    with tools.store.change() as change:
        if change.state.attempt is not None:
            change.state.attempt.step = PROMOTING
        changes.apply(change, Fail(move.run, str(told), archived=tools.look.total()), tools.how())


def promote_aid(tools: Tools, move: PromoteAid) -> None:
    """Move it to a provisional version that a person has approved."""
    asked = tools.store.state.question
    if asked is None:
        return
    told = _move_alias(tools, move.version, "; ".join(asked.reasons), move.cause, asked.champion)
    if isinstance(told, DriftloopError):
        tools.apply(NotAided(move.cause, move.run, str(told)))
    else:
        tools.apply(Aided(move.cause, move.run, move.version), *told)


def roll_back(tools: Tools, move: RollBack) -> None:
    """Put the version before back, after it has been written down that this will be done."""
    tools.apply(move)
    attempt = tools.store.state.attempt
    assert attempt is not None
    told: list[Event] = []
    gone, back = promotion.both_ends(tools.registry)
    if gone != move.version:
        return  # somebody else has moved the alias: the next move says what follows
    promotion.rollback(tools.registry, gone, back, reason=move.reason, cause=attempt.cause, report=told.append)
    settled = Settle(attempt.cause, move.run, promotion.ROLLED_BACK, move.reason, move.version)
    tools.apply(replace(settled, archived=tools.look.last_total()), *told)


def withdraw_aid(tools: Tools, move: WithdrawAid) -> None:
    """Put the labelled version before a provisional one back, after it has been written down that this will be done."""
    tools.apply(move)
    told: list[Event] = []
    gone, back = promotion.both_ends(tools.registry)
    if gone != move.version:
        return
    promotion.rollback(tools.registry, gone, back, reason=move.reason, cause=move.cause, report=told.append)
    tools.apply(AidWithdrawn(move.cause, move.run, move.version, back), *told)


def by_hand(tools: Tools, meant: Intent, move_alias: Callable[[promotion.Tell], object]) -> None:
    """Let a person move the alias, by `move_alias`: written down before, told of after it.

    Raises what that raises; where it has moved all the same, the worker's next move tells of it.
    """
    told = list[Event]()
    with tools.store.change() as change:
        change.state.intent = meant
    try:
        move_alias(told.append)
    except RegistryUnavailable:
        raise  # whether it has moved, nobody can say now
    except DriftloopError:
        if not told:
            tools.apply(NotMoved(meant))
        raise
    tools.apply(TookOver(meant), *told)


def finish(tools: Tools, move: TookOver) -> None:
    """Tag and tell what a person has done, where that could not be done at once."""
    meant = move.meant
    if meant.kind == "rolled_back" and meant.before is not None:
        promotion.decide(tools.registry, meant.before, promotion.ROLLED_BACK, meant.reason, meant.cause)
    promotion.repair(tools.registry)
    tools.apply(move)


def tag_rolled_back(tools: Tools, move: Settle) -> None:
    """Tag a version that was rolled back by a retrainer that died over it."""
    assert move.version is not None
    promotion.decide(tools.registry, move.version, promotion.ROLLED_BACK, move.reason, move.cause)
    promotion.repair(tools.registry)


def tag_withdrawn(tools: Tools, move: AidWithdrawn) -> None:
    """The same of a provisional version."""
    attempt = tools.store.state.attempt
    why = attempt.condemned if attempt is not None else None
    promotion.decide(tools.registry, move.version, promotion.ROLLED_BACK, why or "", move.cause)
    promotion.repair(tools.registry)


def tag_rejected(tools: Tools, move: Settle) -> None:
    """What the gate has rejected has its tags; what somebody else has rejected gets them here."""
    _tag_answer(tools)
    if move.version is not None and tools.registry.tags(move.version).get("decision") != promotion.REJECTED:
        promotion.decide(tools.registry, move.version, promotion.REJECTED, move.reason, move.cause)


def _move_alias(tools: Tools, version: str, reason: str, cause: str, champion: str) -> list[Event] | DriftloopError:
    """Move the alias; returns the events of that, with who approved it, or what speaks against it.

    Raises RegistryUnavailable, and whatever comes once it moved.
    """
    given, told = _tag_answer(tools), list[Event]()
    try:
        promotion.promote(tools.registry, version, reason=reason, cause=cause, report=told.append, champion=champion)
    except RegistryUnavailable:
        raise
    except DriftloopError as error:
        if told:
            raise  # the alias has moved, and that is found again
        return error
    return [{**event, "who": given.who} for event in told] if given is not None else told


def _tag_answer(tools: Tools) -> Answer | None:
    """Write what a person answered into the tags of the version that it is about; returns the answer."""
    asked = tools.store.state.question
    if asked is None or asked.answer is None:
        return None
    promotion.tag_answer(tools.registry, asked.version, asked.answer)
    return asked.answer


def _gate_figures(tools: Tools, run: str, version: str) -> dict[str, gate.Figures]:
    """What the gate's report said; the registry has the decision, whether or not the report arrived."""
    told = tools.store.newest("gate_decided") or {}
    if (told.get("run"), told.get("model_version")) != (run, version):
        return {}
    try:
        found: dict[str, gate.Figures] = msgspec.convert(told.get("figures"), dict[str, gate.Figures])
    except msgspec.ValidationError:
        return {}
    return found
