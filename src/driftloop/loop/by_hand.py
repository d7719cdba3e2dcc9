"""What people may ask for: a retraining, a promotion, a rollback, and what they answer.

Between two moves of the worker, never beside one.
"""

from collections.abc import Callable
from typing import Any

from driftloop.errors import DriftloopError
from driftloop.loop import aid, asking, changes, questions
from driftloop.loop.asking import Answer, Question, Word
from driftloop.loop.facts import next_run
from driftloop.loop.judge import promotion
from driftloop.loop.judge.promotion import Tell
from driftloop.loop.moves import Aided, Settle
from driftloop.loop.state import Attempt, Change
from driftloop.loop.worker import Worker
from driftloop.model.registry import PRODUCTION
from driftloop.protocol import causes
from driftloop.protocol.events import Event
from driftloop.training.modes import Mode

WAIT_FOR_IT = "wait for it: driftloop status"


BY_HAND = "by hand"
"""Why, where nobody says."""
TOKEN = "token"
"""Who asks where nobody is named: whoever has the platform's token."""


class Busy(DriftloopError):
    """Something asked for by hand that cannot be done now."""


class TooFew(Busy):
    """There is too little to learn from."""


class Late(DriftloopError):
    """An answer to a question that can no longer be answered; says what became of it."""


class Unknown(DriftloopError):
    """Something is named that is not there."""


def retrain(
    worker: Worker, mode: Mode, who: str = TOKEN, *, also: Callable[[Change], object] = lambda _: None
) -> Attempt:
    """Start a retraining; raises Busy where one is under way, and TooFew where too few new runs are there.

    `also` is done in the same transaction.
    """
    with worker.work_lock:
        _not_while_running(worker)
        phase = worker.store.state.phase
        if phase == "awaiting_approval":
            raise _asked()
        if phase not in ("idle", "cooling_down", "waiting_for_labels"):
            raise Busy(f"the retrainer is {phase}", remedy=WAIT_FOR_IT)
        champion = worker.registry.alias(PRODUCTION)
        if champion is None:
            raise Busy("nothing is in production", remedy="train and promote a first model: driftloop train")
        now = worker.clock()
        attempt = Attempt(str(causes.by_hand(champion, now.time)), champion, now.time, mode=mode, by_hand=True)
        missing = worker.look.lacking_for(attempt)
        if missing is not None:
            raise TooFew(missing, remedy="add completed runs: driftloop archive add FILE")
        archived, runs = worker.archive.total(), worker.look.runs_for(attempt).packed()
        with worker.store.change() as change:
            if change.state.attempt is not None:
                # What waits for labels goes on with that afterwards.
                change.state.queue.insert(0, change.state.attempt)
            changes.begin(change, attempt, next_run(), archived, now, who=who)
            also(change)
        worker.start(attempt, runs)
    worker.poke()
    return attempt


def promote(worker: Worker, version: str, who: str = TOKEN, reason: str = "") -> str | None:
    """Promote a version; returns the one it replaced. Raises Busy while a pipeline runs.

    A version that waits for approval is approved by that; one that is in production and not verified yet is verified.
    """
    with worker.work_lock:
        _not_while_running(worker)
        asked = worker.store.state.question
        if asked is not None and asked.version == version:
            return _promote_what_waits(worker, asked, who, reason)
        before, cause = worker.registry.alias(PRODUCTION), _cause_of(worker, version)
        report = _reporting(worker, who)
        replaced = promotion.promote(worker.registry, version, reason=reason or BY_HAND, cause=cause, report=report)
        archived = worker.archive.total()
        attempt = worker.store.state.attempt
        with worker.store.change() as change:
            if before != version:
                change.state.reopen(version, f"version {version} was promoted again", archived)
            elif attempt is not None and attempt.challenger == version:
                confirmed = Settle(attempt.cause, attempt.run, promotion.PROMOTED, "confirmed by hand", version)
                changes.apply(change, confirmed, worker.tools.how())
    worker.poke()
    return replaced


def _promote_what_waits(worker: Worker, asked: Question, who: str, reason: str) -> str:
    _answer(worker, asked, Answer("approve", who, reason or "promoted by hand", worker.clock().time))
    worker.tick()
    if worker.registry.alias(PRODUCTION) != asked.version:
        raise Busy(f"version {asked.version} could not be promoted", remedy="driftloop events says why")
    return asked.champion


def rollback(worker: Worker, who: str = TOKEN, reason: str = "") -> tuple[str, str]:
    """Go back; returns (version rolled back, version in production). Raises Busy while a pipeline runs."""
    with worker.work_lock:
        _not_while_running(worker)
        production = worker.registry.alias(PRODUCTION)
        cause = _cause_of(worker, production) if production is not None else str(causes.by_hand(None))
        report = _reporting(worker, who)
        why = reason or BY_HAND
        gone, now = promotion.rollback(worker.registry, reason=why, cause=cause, report=report)
        archived = worker.archive.total()
        attempt = worker.store.state.attempt
        with worker.store.change() as change:
            if attempt is not None and attempt.challenger == gone:
                settled = Settle(
                    attempt.cause, attempt.run, promotion.ROLLED_BACK, why, gone, archived=archived, by_hand=True
                )
                changes.apply(change, settled, worker.tools.how())
            else:
                changes.settle_by_hand(change, cause, gone, archived, worker.clock(), why)
    worker.poke()
    return gone, now


def first_aid(worker: Worker, who: str = TOKEN) -> dict[str, Any]:
    """Try to give the champion first aid now; what came of it, and why.

    While a change of the fleet waits for labels it is tried once more, though it was refused before. Otherwise a
    retraining that replaces the provisional version stands from then on. Raises Busy where it cannot be tried.
    """
    with worker.work_lock:
        _not_while_running(worker)
        state, champion = worker.store.state, worker.registry.alias(PRODUCTION)
        if champion is None:
            raise Busy("nothing is in production", remedy="train and promote a first model: driftloop train")
        if state.question is not None:
            raise _asked()
        if state.phase == "verifying":
            raise Busy(f"the retrainer is {state.phase}", remedy=WAIT_FOR_IT)
        waiting = state.attempt
        if waiting is not None and waiting.aided is not None:
            raise Busy(f"version {waiting.aided} is provisional already", remedy="add completed runs: it is replaced")
        now = worker.clock()
        attempt = waiting or Attempt(str(causes.by_hand(champion, now.time)), champion, now.time, by_hand=True)
        told: list[Event] = []
        found = worker.aid_now(attempt, told.append)
        if found.model_version is not None:
            with worker.store.change() as change:
                aid.by_hand(change, attempt)
                events = [{**event, "who": who} for event in told]
                move = Aided(attempt.cause, attempt.run, found.model_version)
                changes.apply(change, move, worker.tools.how(*events))
    worker.poke()
    return {"result": found.kind, "reason": found.reason, "model_version": found.model_version}


def answer(worker: Worker, question: str, word: Word, reason: str = "", who: str = TOKEN) -> dict[str, str]:
    """Answer the open question; raises Unknown for one that never was, Late for one that is closed or void."""
    with worker.work_lock:
        state = worker.store.state
        asked = state.question
        if asked is None or asked.id != question:
            closed = next((each for each in reversed(state.closed) if each.id == question), None)
            if closed is None:
                raise Unknown(f"nobody is asked {question!r}", remedy="driftloop status says what waits")
            raise Late(closed.what)
        given = Answer(word, who, reason, worker.clock().time)
        _answer(worker, asked, given)
    worker.poke()
    return {"id": asked.id, "version": asked.version, "answer": word, "who": who, "at": given.at}


def _answer(worker: Worker, asked: Question, given: Answer) -> None:
    """Write an answer down, unless one is there already, or the question does not hold any more."""
    if asked.answer is not None:
        raise Late(asking.what_became(asked.answer))
    void = asking.void(asked, worker.registry.alias(PRODUCTION), worker.look.digest_of(asked.version))
    if void is not None:
        worker.poke()
        raise Late(f"is void: {void}")
    with worker.store.change() as change:
        questions.answer(change, asked.id, given)


def _reporting(worker: Worker, who: str) -> Tell:
    return lambda event: worker.store.log({**event, "who": who})


def _not_while_running(worker: Worker) -> None:
    if not worker.ready:
        raise Busy(f"the retrainer is starting ({worker.blocked})", remedy=WAIT_FOR_IT)
    if worker.store.state.phase == "running":
        raise Busy("a retraining is running", remedy=WAIT_FOR_IT)


def _asked() -> Busy:
    """What is told of something that a question stands before."""
    return Busy("a version waits for a person", remedy="driftloop approve, or driftloop reject")


def _cause_of(worker: Worker, version: str) -> str:
    """The cause in a version's tags; by hand where there is none, or a text of somebody's own."""
    text = worker.registry.tags(version).get("cause", causes.BY_HAND)
    try:
        return str(causes.parse(text))
    except DriftloopError:
        return str(causes.by_hand(None))
