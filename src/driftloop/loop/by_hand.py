"""What people may ask for: a retraining, a promotion, a rollback. Between two moves of the worker, never beside one."""

from driftloop.errors import DriftloopError
from driftloop.loop import changes
from driftloop.loop.decide import Settle
from driftloop.loop.facts import next_run
from driftloop.loop.judge import promotion
from driftloop.loop.state import Attempt
from driftloop.loop.worker import Worker
from driftloop.model.registry import PRODUCTION
from driftloop.protocol import causes
from driftloop.training.modes import Mode

WAIT_FOR_IT = "wait for it: driftloop status"


class Busy(DriftloopError):
    """Something asked for by hand that cannot be done now."""


def retrain(worker: Worker, mode: Mode) -> Attempt:
    """Start a retraining; raises Busy where one is under way or too few new runs are there."""
    with worker.work_lock:
        _not_while_running(worker)
        phase = worker.store.state.phase
        if phase not in ("idle", "cooling_down"):
            raise Busy(f"the retrainer is {phase}", remedy=WAIT_FOR_IT)
        champion = worker.registry.alias(PRODUCTION)
        if champion is None:
            raise Busy("nothing is in production", remedy="train and promote a first model: driftloop train")
        now = worker.clock()
        attempt = Attempt(str(causes.by_hand(champion, now.time)), champion, now.time, mode=mode, by_hand=True)
        missing = worker.look.lacking_for(attempt)
        if missing is not None:
            raise Busy(missing, remedy="add completed runs: driftloop archive add FILE")
        archived, runs = worker.archive.total(), worker.look.runs_for(attempt).packed()
        with worker.store.change() as change:
            changes.begin(change, attempt, next_run(), archived, now)
        worker.start(attempt, runs)
    worker.poke()
    return attempt


def promote(worker: Worker, version: str) -> str | None:
    """Promote a version; returns the one it replaced. Raises Busy while a pipeline runs.

    A version that is in production and not verified yet is verified by that.
    """
    with worker.work_lock:
        _not_while_running(worker)
        before, cause = worker.registry.alias(PRODUCTION), _cause_of(worker, version)
        replaced = promotion.promote(worker.registry, version, reason="by hand", cause=cause, report=worker.store.log)
        archived = worker.archive.total()
        attempt = worker.store.state.attempt
        with worker.store.change() as change:
            if before != version:
                change.state.reopen(version, f"version {version} was promoted again", archived)
                change.state.answer(version, f"version {version} was promoted by hand")
            elif attempt is not None and attempt.challenger == version:
                confirmed = Settle(attempt.cause, attempt.run, promotion.PROMOTED, "confirmed by hand", version)
                changes.apply(change, confirmed, worker.how())
    worker.poke()
    return replaced


def rollback(worker: Worker) -> tuple[str, str]:
    """Go back; returns (version rolled back, version in production). Raises Busy while a pipeline runs."""
    with worker.work_lock:
        _not_while_running(worker)
        production = worker.registry.alias(PRODUCTION)
        cause = _cause_of(worker, production) if production is not None else str(causes.by_hand(None))
        gone, now = promotion.rollback(worker.registry, reason="by hand", cause=cause, report=worker.store.log)
        archived = worker.archive.total()
        attempt = worker.store.state.attempt
        with worker.store.change() as change:
            if attempt is not None and attempt.challenger == gone:
                settled = Settle(attempt.cause, attempt.run, promotion.ROLLED_BACK, "by hand", gone, archived=archived)
                changes.apply(change, settled, worker.how())
            else:
                changes.settle_by_hand(change, cause, gone, archived, worker.clock())
    worker.poke()
    return gone, now


def _not_while_running(worker: Worker) -> None:
    if not worker.ready:
        raise Busy(f"the retrainer is starting ({worker.blocked})", remedy=WAIT_FOR_IT)
    if worker.store.state.phase == "running":
        raise Busy("a retraining is running", remedy=WAIT_FOR_IT)


def _cause_of(worker: Worker, version: str) -> str:
    """The cause in a version's tags; by hand where there is none, or a text of somebody's own."""
    text = worker.registry.tags(version).get("cause", causes.BY_HAND)
    try:
        return str(causes.parse(text))
    except DriftloopError:
        return str(causes.by_hand(None))
