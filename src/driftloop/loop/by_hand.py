"""What people may ask for: a retraining, a promotion, a rollback, and what they answer.

Between two moves of the worker, never beside one.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from driftloop.errors import DriftloopError
from driftloop.loop import aid, asking, changes, promoting, questions
from driftloop.loop.asking import Answer, Question, Word
from driftloop.loop.facts import next_run
from driftloop.loop.intent import Intent
from driftloop.loop.judge import promotion
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


class Moved(NamedTuple):
    """What is in production after a promotion or a rollback, and what was before."""

    model_version: str
    from_version: str | None
    already: bool = False
    """Whether it had been done before, by somebody else or by the same request: then nothing was done now."""


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
        archived, runs = worker.look.total(), worker.look.runs_for(attempt).packed()
        with worker.store.change() as change:
            if change.state.attempt is not None:
                # What waits for labels goes on with that afterwards.
                change.state.queue.insert(0, change.state.attempt)
            changes.begin(change, attempt, next_run(), archived, now, who=who)
            also(change)
        worker.start(attempt, runs)
    worker.poke()
    return attempt


def promote(
    worker: Worker, version: str, who: str = TOKEN, reason: str = "", *, from_version: str | None = None
) -> Moved:
    """Promote a version at once, whatever the loop does.

    A version that waits for approval is approved by that; one that is in production and not verified yet is verified.
    A retraining of the version that was in production is superseded, unless it made this one. Raises Busy where
    `from_version`, which the asker saw in production, is no longer there.
    """
    with worker.work_lock:
        _ready_to_move(worker)
        registry, why = worker.registry, reason or BY_HAND
        before, tags = registry.alias(PRODUCTION), registry.tags(version)
        if before == version:
            _confirm(worker, version)
            replaced = promotion.promote(registry, version, reason=why, cause=None, report=worker.store.log)
            return Moved(version, replaced, already=True)
        if from_version not in (None, before):
            raise _not_there(from_version, before)
        asked = worker.store.state.question
        if asked is not None and asked.version == version:
            return _promote_what_waits(worker, asked, who, reason)
        cause, archived = _cause_in(tags), _archived(worker)
        run = tags.get(promotion.RETRAINING_TAG)
        meant = Intent("promoted", version, before, cause, why, who, archived, run)
        promoting.by_hand(
            worker.tools,
            meant,
            lambda tell: promotion.promote(registry, version, reason=why, cause=cause, report=tell),
        )
    _look_again(worker)
    return Moved(version, before)


def _confirm(worker: Worker, version: str) -> None:
    """A person promotes what is in production: it need not be verified any more."""
    attempt = worker.store.state.attempt
    if attempt is not None and attempt.challenger == version and worker.store.state.phase == "verifying":
        worker.tools.apply(Settle(attempt.cause, attempt.run, promotion.PROMOTED, "confirmed by hand", version))
        worker.poke()


def _promote_what_waits(worker: Worker, asked: Question, who: str, reason: str) -> Moved:
    _answer(worker, asked, Answer("approve", who, reason or "promoted by hand", worker.clock().time))
    worker.tick()
    if worker.registry.alias(PRODUCTION) != asked.version:
        raise Busy(f"version {asked.version} could not be promoted", remedy="driftloop events says why")
    return Moved(asked.version, asked.champion)


def rollback(worker: Worker, version: str, who: str = TOKEN, reason: str = "") -> Moved:
    """Go back at once from `version`, which the asker saw in production, whatever the loop does.

    Asked again it does nothing: else two people, or one who got no answer, would go two versions back. Raises Busy
    where another version is in production and this one was not rolled back. A retraining of it is superseded.
    """
    with worker.work_lock:
        _ready_to_move(worker)
        registry, why = worker.registry, reason or BY_HAND
        tags, production = registry.tags(version), registry.alias(PRODUCTION)
        if production != version:
            if production is None or tags.get("decision") != promotion.ROLLED_BACK:
                raise _not_there(version, production)
            return Moved(production, version, already=True)
        gone, back = promotion.both_ends(registry)
        cause, archived = _cause_in(tags), _archived(worker)
        meant = Intent("rolled_back", back, gone, cause, why, who, archived)
        promoting.by_hand(
            worker.tools,
            meant,
            lambda tell: promotion.rollback(registry, gone, back, reason=why, cause=cause, report=tell),
        )
    _look_again(worker)
    return Moved(back, gone)


def _not_there(version: str | None, production: str | None) -> Busy:
    """What is told of an act that is about another version than the one in production."""
    what = f"version {production} is" if production is not None else "nothing is"
    return Busy(f"{what} in production, not version {version}", remedy="look again: driftloop status")


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


def _ready_to_move(worker: Worker) -> None:
    """Raise Busy where an alias that was moving when the retrainer ended has to be looked at first.

    Else a person need not wait: neither for a pipeline, nor until what it runs on answers a retrainer that has started.
    """
    state = worker.store.state
    if state.intent is not None:
        worker.tick()
    moving = state.attempt is not None and state.attempt.condemned is not None
    if moving and not worker.ready:
        raise _starting(worker)


def _archived(worker: Worker) -> int:
    """Completed runs in the archive, as far as is known: a person who goes back need not wait for one that is slow or
    away. Before it has been seen it is as many as any retraining began with."""
    try:
        return worker.look.last_total()
    except DriftloopError:
        state = worker.store.state
        attempts = [*state.queue, *([state.attempt] if state.attempt is not None else [])]
        return max([0, *(each.archived for each in attempts), *(each.archived for each in state.settled.values())])


def _look_again(worker: Worker) -> None:
    worker.look.alias_has_moved()
    worker.poke()


def _starting(worker: Worker) -> Busy:
    return Busy(f"the retrainer is starting ({worker.blocked})", remedy=WAIT_FOR_IT)


def _not_while_running(worker: Worker) -> None:
    if not worker.ready:
        raise _starting(worker)
    state = worker.store.state
    if state.phase == "running" and state.attempt is not None:
        what = f"a retraining of version {state.attempt.champion} is running, for {state.attempt.cause}"
        raise Busy(what, remedy=WAIT_FOR_IT)


def _asked() -> Busy:
    """What is told of something that a question stands before."""
    return Busy("a version waits for a person", remedy="driftloop approve, or driftloop reject")


def _cause_in(tags: Mapping[str, str]) -> str:
    """The cause in a version's tags; by hand where there is none, or a text of somebody's own."""
    try:
        return str(causes.parse(tags.get("cause", causes.BY_HAND)))
    except DriftloopError:
        return str(causes.by_hand(None))
