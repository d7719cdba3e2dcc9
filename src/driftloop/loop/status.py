"""What the loop says of itself: where it is, what it works on, what it decided last, what it waits for."""

import copy
from typing import Any

from driftloop.loop.state import State, Total, plain
from driftloop.loop.worker import Worker


def status(worker: Worker) -> dict[str, Any]:
    """Everything a person wants to know about the loop, as plain JSON."""
    state, now = worker.store.state, worker.clock()
    attempt = state.attempt
    return {
        "state": state.phase,
        "step": attempt.step if attempt is not None and state.phase == "running" else None,
        "progress": _progress(worker, state),
        "cause": attempt.cause if attempt is not None else None,
        "blocked": worker.blocked,
        "enable_retraining": worker.settings.enable_retraining,
        "attempt": attempt.shown() if attempt is not None else None,
        "queue": [item.cause for item in state.queue],
        "firing": {cause: since[0] for cause, since in state.firing.items()},
        "history": [plain(item) for item in state.history],
        "cooling_down_s": round(state.pause.left(now), 1) if state.pause is not None else 0.0,
        "last_event": worker.store.last,
        **_about_to(state),
        "promotion": worker.settings.promotion,
        "schedules": [entry.shown() for entry in state.schedules],
        "muted": [each.shown() for each in state.muted],
        "approval": state.question.shown() if state.question is not None else None,
        **_verification(worker, state),
    }


def totals(worker: Worker) -> dict[str, Total]:
    """All retrainings so far, by decision."""
    return copy.deepcopy(worker.store.state.totals)


def known_roles(worker: Worker) -> dict[str, str]:
    """The roles that the production model was trained with."""
    champion = worker.registry.alias("production")
    return {} if champion is None else {entry.run_id: entry.role for entry in worker.look.manifest(champion)}


def _about_to(state: State) -> dict[str, str]:
    """What is about to happen to all labels, in words; nothing where nothing is."""
    pending = [*state.queue[:1], *([state.attempt] if state.phase == "waiting_for_labels" else [])]
    said = next((each.announcement for each in pending if each is not None and each.announced is not None), None)
    return {"about_to": said} if said is not None else {}


def _progress(worker: Worker, state: State) -> dict[str, Any] | None:
    """How far the step that runs is, where it has said so."""
    attempt, told = state.attempt, worker.progress
    if (
        attempt is None
        or told is None
        or state.phase != "running"
        or (attempt.run, attempt.step) != (told.run, told.step)
    ):
        return None
    return told.shown()


def _verification(worker: Worker, state: State) -> dict[str, dict[str, Any]]:
    """What the watch says of the version that is being verified, and how many answers are still missing."""
    if state.phase != "verifying" or state.attempt is None:
        return {}
    version, seen = state.attempt.challenger, worker.look.seen
    if seen is None or seen.model_version != version:
        return {"verification": {"model_version": version, "says": "not enough data yet: the watch has not spoken"}}
    needed = worker.settings.recovery_answers
    says = {
        "not_enough_data": f"not enough data yet: {seen.n} requests, {seen.min_n} are needed",
        "drift": f"the watch sees drift after {seen.answered} answers; after {needed} it is rolled back"
        ", unless the version before is known to be worse",
    }.get(seen.verdict, seen.verdict)
    return {"verification": {"model_version": version, "verdict": seen.verdict, "says": says}}
