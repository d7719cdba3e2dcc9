"""How the loop asks a person: the question about one version, what answers it, and what makes it void.

There is one way to ask, whoever asks: a setting that wants every promotion approved, a gate with too few units, or
first aid that is not to be automatic. A question is about one bundle (its digest) in the place of one champion; where
either changes, it is void. What became of earlier ones is remembered, so that who answers late is told.
"""

from typing import Any, Literal

import msgspec

from driftloop.loop import waits
from driftloop.loop.judge.gate import Figures
from driftloop.loop.judge.shadow import Report
from driftloop.loop.waits import Now, Wait

Kind = Literal["retraining", "first_aid"]
Word = Literal["approve", "reject"]
AfterDeadline = Literal["wait", "reject", "promote"]

NOBODY = "deadline"
"""Who answers where nobody does in time."""
REMEMBERED = 50
"""Closed questions that are remembered."""


class Answer(msgspec.Struct, frozen=True):
    """What was answered, by whom and why."""

    answer: Word
    who: str
    reason: str
    at: str


class Closed(msgspec.Struct, frozen=True):
    """A question that can no longer be answered, and what became of it, in words that follow the question's name."""

    id: str
    version: str
    at: str
    what: str


class Question(msgspec.Struct):
    """A version that waits for a person."""

    id: str
    kind: Kind
    version: str
    digest: str
    """Of its bundle."""
    champion: str
    """What it would replace."""
    cause: str
    since: str
    reasons: list[str] = []
    passed: bool = True
    """False where the gate had too few units to tell."""
    figures: dict[str, Figures] = {}
    """What the gate measured, by group of engines."""
    shadow: Report | None = None
    """How it did in the shadow."""
    wait: Wait | None = None
    """Until its deadline; None where it has none."""
    deadline: str | None = None
    """The same for people."""
    after_deadline: AfterDeadline = "wait"
    overdue: bool = False
    """Whether the deadline has passed and been told of."""
    answer: Answer | None = None
    """Once somebody has answered, until that is carried out."""

    def left_s(self, now: Now) -> float | None:
        """Seconds until its deadline; None where there is none, or it has passed and been told of."""
        return None if self.wait is None or self.overdue else self.wait.left(now)

    def carry_over(self, now: Now) -> None:
        """After a restart: a wait that nothing has measured meanwhile begins anew."""
        wait = self.wait.carried_over(now) if self.wait is not None else None
        if wait is not None and wait is not self.wait:
            self.wait, self.deadline = wait, waits.later(now, wait.length_s)

    def shown(self) -> dict[str, Any]:
        """It as people see it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        del found["wait"]
        return found


def ask(
    kind: Kind,
    version: str,
    digest: str,
    champion: str,
    cause: str,
    now: Now,
    *,
    deadline_s: float | None,
    after_deadline: AfterDeadline,
    **about: Any,
) -> Question:
    """The question about a version. Asked again after a crash it is the same one."""
    asked = Question(f"{version}-{digest[:8]}", kind, version, digest, champion, cause, now.time, **about)
    asked.after_deadline = after_deadline
    if deadline_s is not None:
        asked.wait, asked.deadline = waits.begin(deadline_s, now), waits.later(now, deadline_s)
    return asked


def void(asked: Question, production: str | None, digest: str | None) -> str | None:
    """Why a question cannot be answered any more, in words; None where it can.

    `digest` is that of the version's bundle as the registry has it now, None where it has no such version.
    """
    if production != asked.champion:
        return f"version {production} is in production, not {asked.champion}, which it was compared with"
    if digest is None:
        return f"version {asked.version} is gone"
    if digest != asked.digest:
        return f"the bundle of version {asked.version} is another one than when it was asked about"
    return None


def unanswered(asked: Question, at: str) -> Answer | None:
    """The answer that its deadline gives; None where it goes on waiting.

    What the gate could not judge is not promoted because nobody looked.
    """
    reason = f"nobody answered within {asked.wait.length_s if asked.wait else 0:g} s"
    if asked.after_deadline == "reject":
        return Answer("reject", NOBODY, reason, at)
    if asked.after_deadline == "promote" and asked.passed:
        return Answer("approve", NOBODY, reason, at)
    return None


def what_became(answer: Answer) -> str:
    """An answer in words that follow the question's name."""
    word = "approved" if answer.answer == "approve" else "rejected"
    return f"was {word} by {answer.who} at {answer.at}" + (f": {answer.reason}" if answer.reason else "")
