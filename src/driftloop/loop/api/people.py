"""What people ask of the retrainer over HTTP: acts by hand, answers to its questions, schedules and mutes."""

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import FastAPI

from driftloop.errors import DriftloopError
from driftloop.loop import by_hand
from driftloop.loop.api import bodies, posts
from driftloop.loop.api.posts import Asked
from driftloop.loop.calendar import Calendar
from driftloop.loop.schedules import Schedule
from driftloop.loop.worker import Worker
from driftloop.notify.rules import SECTIONS
from driftloop.protocol import causes
from driftloop.protocol.problems import refusal

_MUTED = tuple(dict.fromkeys((*causes.KINDS, *SECTIONS)))
"""Kinds of what people are told of, and so may be muted."""


def add(app: FastAPI, worker: Worker, calendar: Calendar) -> None:
    """Add these requests to the application."""

    def post(path: str, body: Any, act: Callable[[Asked], Any], about: str) -> None:
        posts.add(app, path, body, bodies.MAX_SMALL_BODY, act, about)

    def delete(path: str, act: Callable[[Asked], Any], about: str) -> None:
        posts.add(app, path, None, 0, act, about, method="DELETE")

    def retrain(asked: Asked) -> Any:
        mode = bodies.decode(asked.body, bodies.RetrainRequest).mode
        return {"attempt": by_hand.retrain(worker, mode, asked.who).shown()}

    def promote(asked: Asked) -> Any:
        given = bodies.decode(asked.body, bodies.PromoteRequest)
        done = by_hand.promote(worker, given.version, asked.who, given.reason, from_version=given.from_version)
        return done._asdict()

    def rollback(asked: Asked) -> Any:
        given = bodies.decode(asked.body, bodies.RollbackRequest)
        return by_hand.rollback(worker, given.from_version, asked.who, given.reason)._asdict()

    def answer(asked: Asked) -> Any:
        given = bodies.decode(asked.body, bodies.PostedAnswer)
        return by_hand.answer(worker, asked.path["question"], given.answer, given.reason, asked.who)

    def first_aid(asked: Asked) -> Any:
        bodies.decode(asked.body, bodies.FirstAidRequest)
        return by_hand.first_aid(worker, asked.who)

    def schedule(asked: Asked) -> Any:
        posted = bodies.decode(asked.body, bodies.PostedSchedule)
        try:
            return calendar.add(Schedule(**msgspec.structs.asdict(posted)), asked.who).shown()
        except DriftloopError as error:
            said = f"{error.what} ({error.remedy})" if error.remedy else error.what
            raise refusal(422, error.where or "name", said) from error

    def mute(asked: Asked) -> Any:
        posted = bodies.decode(asked.body, bodies.PostedMute)
        kind = posted.cause.partition(":")[0]
        if kind not in _MUTED:
            raise refusal(422, "cause", f"{kind!r} is no kind of causes; there are {', '.join(_MUTED)}")
        seconds = posted.seconds(worker.clock().time)
        return calendar.mute(posted.cause, seconds, posted.reason, asked.who).shown()

    post("/retrain", bodies.RetrainRequest, retrain, "Retrain by hand")
    post("/promote", bodies.PromoteRequest, promote, "Promote a version by hand")
    post("/rollback", bodies.RollbackRequest, rollback, "Go back to the version before")
    post("/approvals/{question}", bodies.PostedAnswer, answer, "Approve or reject the version that waits for a person")
    post("/first-aid", bodies.FirstAidRequest, first_aid, "Give the champion first aid from traffic")
    post("/schedules", bodies.PostedSchedule, schedule, "Add a schedule or a watch, or change the one of its name")
    delete("/schedules/{name}", lambda asked: calendar.cancel(asked.path["name"], asked.who).shown(), "Cancel one")
    post("/mute", bodies.PostedMute, mute, "Tell nobody of a cause for a while")
    delete("/mute/{cause}", lambda asked: calendar.unmute(asked.path["cause"], asked.who).shown(), "Tell of it again")

    @app.get("/schedules")
    def scheduled() -> dict[str, Any]:
        """What is done by the clock, and when next."""
        return {"schedules": [entry.shown() for entry in worker.store.state.schedules]}
