"""`driftloop approve` and `driftloop reject`: answer what the running retrainer asks a person."""

from typing import Annotated, Any

import typer

from driftloop import completion
from driftloop.errors import DriftloopError, ExitCode
from driftloop.loop.api.terminal import AsJson, Reason, asking, show

Which = Annotated[
    str,
    typer.Argument(
        help="What `driftloop status` says; by default the version that waits.", autocompletion=completion.questions
    ),
]


def approve(question: Which = "", reason: Reason = "", as_json: AsJson = False) -> None:
    """Let the version that waits for a person go into production."""
    _answer(question, "approve", reason, as_json)


def reject(question: Which = "", reason: Reason = "", as_json: AsJson = False) -> None:
    """Turn down the version that waits for a person."""
    _answer(question, "reject", reason, as_json)


def _answer(question: str, word: str, reason: str, as_json: bool) -> None:
    with asking() as retrainer:
        chosen = question or _waiting(retrainer.status())
        answer = retrainer.answer(chosen, word, reason)
    done = "approved" if word == "approve" else "rejected"
    show(answer, f"version {answer['version']} is {done} ({answer['id']})", as_json)


def _waiting(status: dict[str, Any]) -> str:
    waiting = status.get("approval")
    if not waiting:
        what, remedy = "no version waits for a person", "driftloop status says what the loop does"
        raise DriftloopError(what, remedy=remedy, exit_code=ExitCode.MISSING)
    return str(waiting["id"])
