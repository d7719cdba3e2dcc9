"""What people ask of the retrainer over HTTP: acts by hand, answers to its questions."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from driftloop.loop import by_hand
from driftloop.loop.api import bodies, posts
from driftloop.loop.api.posts import Asked
from driftloop.loop.worker import Worker


def add(app: FastAPI, worker: Worker) -> None:
    """Add these requests to the application."""

    def post(path: str, body: Any, act: Callable[[Asked], Any], about: str) -> None:
        posts.add(app, worker.settings, path, body, bodies.MAX_SMALL_BODY, act, about)

    def retrain(asked: Asked) -> Any:
        mode = bodies.decode(asked.body, bodies.RetrainRequest).mode
        return {"attempt": by_hand.retrain(worker, mode, asked.who).shown()}

    def promote(asked: Asked) -> Any:
        version = bodies.decode(asked.body, bodies.PromoteRequest).version
        return {"model_version": version, "from_version": by_hand.promote(worker, version, asked.who)}

    def rollback(asked: Asked) -> Any:
        bodies.decode(asked.body, bodies.RollbackRequest)
        gone, now = by_hand.rollback(worker, asked.who)
        return {"model_version": now, "from_version": gone}

    def answer(asked: Asked) -> Any:
        given = bodies.decode(asked.body, bodies.PostedAnswer)
        return by_hand.answer(worker, asked.path["question"], given.answer, given.reason, asked.who)

    post("/retrain", bodies.RetrainRequest, retrain, "Retrain by hand")
    post("/promote", bodies.PromoteRequest, promote, "Promote a version by hand")
    post("/rollback", bodies.RollbackRequest, rollback, "Go back to the version before")
    post("/approvals/{question}", bodies.PostedAnswer, answer, "Approve or reject the version that waits for a person")
