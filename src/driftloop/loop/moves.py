"""What the next move is decided on, and what it may be (driftloop.loop.decide)."""

from dataclasses import dataclass
from typing import Literal

from driftloop.drift.verdict import DRIFT, WITHOUT_DRIFT
from driftloop.loop.intent import Intent
from driftloop.loop.judge.shadow import Report
from driftloop.loop.judge.standing import Standing

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
    digest: str = ""
    """Of its bundle."""


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
    """The version there; None where none is, or where it was not looked at."""
    archived: int = 0
    """Completed runs in the archive."""
    next_run: str = "run"
    """The name that a run started now would have."""
    settling_s: float = 0.0
    """Until a fleet's runs, which arrive in many calls, have all arrived."""
    lacking: str | None = None
    """What completed runs are too few of to start."""
    labels: int = 0
    """Completed runs that there are to learn anew from."""
    pipeline: Pipeline = "none"
    error: str | None = None
    """Why the pipeline ended without success."""
    challengers: tuple[Challenger, ...] = ()
    seen: Seen | None = None
    answers_needed: int = 1
    """Answers after which a version that the watch still calls drifted has not recovered."""
    standing: Standing | None = None
    """How the version in production compares with the one that a rollback would go to, by completed units; asked only
    where it decides, and None where it is not known."""
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
    shadow: bool = False
    """Whether a challenger answers in the shadow first."""
    asks: bool = False
    """Whether a person approves what the gate passes."""
    digest: str | None = None
    """Of the bundle of the version that is asked about; None where the version is gone."""
    deadline_s: float | None = None
    """What is left until the question's deadline; None where it has none, or it is over and told of."""

    @property
    def still_drifts(self) -> bool:
        """Whether the watch sees drift after as many answers as recovering takes."""
        # Silence is no such sign: a fleet may send ten rows a day.
        return self.seen is not None and self.seen.verdict == DRIFT and self.seen.answered >= self.answers_needed

    def spoken_about(self, version: str | None) -> bool:
        """Whether the watch has said of a version that it has recovered, or that it has not."""
        if self.seen is None or self.seen.model_version != version:
            return False
        return self.still_drifts or self.seen.verdict in WITHOUT_DRIFT

    @property
    def better(self) -> str | None:
        """Why the version in production is known to be better than the one before; None where it is not."""
        return self.standing.why if self.standing is not None and self.standing.better else None

    @property
    def worse(self) -> str | None:
        """The same where it is known to be worse."""
        return self.standing.why if self.standing is not None and not self.standing.better else None


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
    labels: int = 0


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
class InShadow:
    """Let the challenger answer what the champion is asked, or see how that goes."""

    run: str
    challenger: Challenger


@dataclass(frozen=True)
class Shadowed:
    """How it did."""

    run: str
    version: str
    report: Report


@dataclass(frozen=True)
class Ask:
    """Ask a person about a challenger that the gate has passed, or could not judge."""

    run: str
    challenger: Challenger
    passed: bool


@dataclass(frozen=True)
class Overdue:
    """The deadline of the question has passed: what follows it, follows."""

    question: str


@dataclass(frozen=True)
class PromoteAid:
    """Move the alias `production` to a provisional version that a person has approved."""

    cause: str
    run: str
    version: str


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
    champion: str | None = None
    """The version in production after a rollback, or in the place of what the attempt was about."""
    by_hand: bool = False
    """Whether a person has ended it: then the loop does not go on by itself with the runs that are there."""


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
class TookOver:
    """A person has moved the alias `production`: tell of it, and settle what that decides."""

    meant: Intent


@dataclass(frozen=True)
class NotMoved:
    """A person was about to move it, and it has not moved."""

    meant: Intent


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
class WithdrawAid:
    """Take a provisional version out of production: completed units show that the one before is better."""

    cause: str
    run: str
    version: str
    reason: str


@dataclass(frozen=True)
class AidWithdrawn:
    """The version before is in production again, and the attempt's champion; it is not given first aid again."""

    cause: str
    run: str
    version: str
    """The provisional one."""
    champion: str


@dataclass(frozen=True)
class NotAided:
    """There is no first aid for this attempt, and why."""

    cause: str
    run: str
    reason: str


Move = (
    AidWithdrawn | Aided | Announce | Ask | AwaitLabels | Confirm | CooledDown | Fail | InShadow | NotAided | NotMoved
    | Overdue | Promote | PromoteAid | Promoted | Refuse | Rest | RollBack | Settle | Shadowed | Start | TookOver
    | TrainInFull | TryFirstAid | WithdrawAid
)  # fmt: skip
