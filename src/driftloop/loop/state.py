"""What the loop must not forget: the state that a restarted retrainer goes on from, and one change of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop.asking import Closed, Question
from driftloop.loop.intent import Intent
from driftloop.loop.judge import promotion
from driftloop.loop.judge.shadow import Report
from driftloop.loop.schedules import Muted, Schedule
from driftloop.loop.waits import Moment, Now, Wait
from driftloop.protocol import causes
from driftloop.protocol.causes import Cause
from driftloop.protocol.events import Event, EventKind
from driftloop.training.modes import Mode

CONFIRM_S = 60.0
"""How long a server may take to answer with a promoted version before that is no longer waited for."""

Phase = Literal["idle", "waiting_for_labels", "running", "awaiting_approval", "verifying", "cooling_down"]
PHASES: tuple[Phase, ...] = get_args(Phase)

_HISTORY = 20
_CAUSES = 200
"""Settled causes, and causes with a firing alert, that are remembered."""
_ALERTS = 20
"""Alerts of one cause that are remembered at once."""
_SHOWN = (
    "cause", "champion", "requested_at", "mode", "by_hand", "failures", "restarts", "run", "archived", "started_at",
    "step", "challenger", "promoted_at", "waiting_for", "aided", "aid_refused",
)  # fmt: skip


class Attempt(msgspec.Struct):
    """One retraining: for which cause, of which champion, and how far it is."""

    cause: str
    champion: str
    requested_at: str
    mode: Mode = "warm_start"
    by_hand: bool = False
    failures: int = 0
    restarts: int = 0
    """How often the retrainer itself was restarted during it."""
    run: str = ""
    """Name of the pipeline run, and of its folder."""
    archived: int = 0
    """Completed runs in the archive when it started, or when it was last tried with them in vain."""
    labels: int = 0
    """How many completed runs it learns anew from; while it waits after a rejection, how many that one had learnt."""
    started_at: str | None = None
    started: Moment | None = None
    """The same for durations."""
    step: str | None = None
    challenger: str | None = None
    training: str | None = None
    """How the challenger was trained."""
    promoted_at: str | None = None
    reason: str = ""
    """Why the gate approved the challenger."""
    waiting_for: str | None = None
    problem: str | None = None
    """What a step raised, as it reported it."""
    aided: str | None = None
    """The provisional version that it has to replace: it stays whatever becomes of the alert."""
    aid_refused: str | None = None
    """Why there was no first aid."""
    aid_withdrawn: bool = False
    """Whether there was, and completed units spoke against it."""
    announced: Wait | None = None
    """The pause since it was said that it will supersede all labels."""
    announcement: str = ""
    shadow: Report | None = None
    """How the challenger did in the shadow."""
    condemned: str | None = None
    """Why the challenger is rolled back, or the first aid withdrawn, once that is decided."""

    @property
    def why(self) -> Cause:
        """Its cause, taken apart."""
        return causes.parse(self.cause)

    @property
    def stands(self) -> bool:
        """Whether it goes on when its alert ends: a person asked for it, or a provisional version serves or did."""
        return self.by_hand or self.aided is not None or self.aid_withdrawn

    def why_failed(self, ended: str) -> str:
        """How its run ended, and before that what its step raised, where the place that it ran in does not say so."""
        told = self.problem
        if told is None or told.partition(": ")[2] in ended:
            return ended
        return f"step {self.step or 'unknown'}: {told}\n{ended}"

    def again(self, **changes: Any) -> "Attempt":
        """A new attempt for the same cause."""
        kept = ("cause", "champion", "requested_at", "mode", "failures", "aided", "aid_refused", "aid_withdrawn")
        fresh: dict[str, Any] = {**{name: getattr(self, name) for name in kept}, **changes}
        return Attempt(**fresh)

    def shown(self) -> dict[str, Any]:
        """It as people see it."""
        return {name: getattr(self, name) for name in _SHOWN}


class Decision(msgspec.Struct, frozen=True):
    """How a cause was settled, and with how many runs in the archive: more of them open it again."""

    cause: str
    decision: str
    reason: str
    at: str
    archived: int
    model_version: str | None = None
    duration_s: float | None = None
    tried: int = 0
    """Completed runs in the archive with which it had been tried in vain."""
    labels: int = 0
    """How many of them the challenger that was turned down had learnt anew."""
    aid_refused: str | None = None
    """Why there is no first aid for the cause where it comes again: a person went back from it."""


class Total(msgspec.Struct):
    """All retrainings that ended in one decision."""

    count: int = 0
    seconds: float = 0.0


class Confirming(msgspec.Struct, frozen=True):
    """A promoted version that the server does not answer with yet."""

    model_version: str
    cause: str
    run: str
    wait: Wait


class State(msgspec.Struct):
    """Everything durable about the loop."""

    phase: Phase = "idle"
    attempt: Attempt | None = None
    queue: list[Attempt] = []
    firing: dict[str, list[str]] = {}
    """Since when each alert fires, by cause: several alerts may have one cause."""
    settled: dict[str, Decision] = {}
    history: list[Decision] = []
    totals: dict[str, Total] = {}
    """By decision, ever."""
    pause: Wait | None = None
    """No retraining starts by itself before its end."""
    confirming: Confirming | None = None
    intent: Intent | None = None
    """What a person does with the alias `production`, until it is told that it was done."""
    question: Question | None = None
    """What a person is asked."""
    closed: list[Closed] = []
    """What became of earlier questions, oldest first."""
    schedules: list[Schedule] = []
    muted: list[Muted] = []

    def check(self) -> None:
        """Raise DriftloopError or ValueError unless causes and times are what the loop can go on from."""
        attempts = [*self.queue, *([self.attempt] if self.attempt is not None else [])]
        for cause in (*self.firing, *(attempt.cause for attempt in attempts)):
            causes.parse(cause)
        for time in (t for a in attempts for t in (a.requested_at, a.started_at, a.promoted_at) if t is not None):
            durable.parse_time(time)
        if self.attempt is None and self.phase in (
            "waiting_for_labels", "running", "awaiting_approval", "verifying"
        ):  # fmt: skip
            raise DriftloopError(f"the state says {self.phase} without an attempt")
        if self.question is None and self.phase == "awaiting_approval":
            raise DriftloopError(f"the state says {self.phase} without a question")

    def carry_over(self, now: Now) -> None:
        """After a restart: waits that nothing has measured meanwhile begin anew."""
        if self.pause is not None:
            self.pause = self.pause.carried_over(now)
        self.muted = [msgspec.structs.replace(each, wait=each.wait.carried_over(now)) for each in self.muted]
        if self.question is not None:
            self.question.carry_over(now)
        if self.confirming is not None:
            self.confirming = msgspec.structs.replace(self.confirming, wait=self.confirming.wait.carried_over(now))
        for attempt in (*self.queue, self.attempt):
            if attempt is not None and attempt.announced is not None:
                attempt.announced = attempt.announced.carried_over(now)

    def fires(self, cause: str, since: str) -> bool:
        """Remember that an alert fires, and forget the oldest ones; returns whether it is a new one."""
        known = self.firing.pop(cause, [])
        self.firing[cause] = sorted({*known, since})[-_ALERTS:]
        while len(self.firing) > _CAUSES:
            self.firing.pop(next(iter(self.firing)))
        return since not in known

    def ends(self, cause: str, since: str) -> bool:
        """Take back that an alert fires; returns whether it did."""
        known = self.firing.get(cause, [])
        if since not in known:
            return False
        left = [other for other in known if other != since]
        if left:
            self.firing[cause] = left
        else:
            del self.firing[cause]
        return True

    def pending(self, cause: str) -> bool:
        """Whether a retraining for this cause is queued or under way."""
        under_way = self.attempt is not None and self.attempt.cause == cause
        return under_way or any(item.cause == cause for item in self.queue)

    def attempt_for(self, cause: str) -> Attempt | None:
        """The attempt for a cause: the one under way, or the first of the queue."""
        if self.attempt is not None:
            return self.attempt if self.attempt.cause == cause else None
        return self.queue[0] if self.queue and self.queue[0].cause == cause else None

    def current(self, run: str, *phases: Phase) -> Attempt | None:
        """The attempt of a run, where it is under way in one of these phases."""
        fits = self.attempt is not None and self.attempt.run == run and self.phase in phases
        return self.attempt if fits else None

    def leave_queue(self, cause: str) -> None:
        """Take the retraining for this cause out of the queue."""
        self.queue = [item for item in self.queue if item.cause != cause]

    def call_off(self, cause: str) -> None:
        """The same because its alerts have ended, unless it stands for itself."""
        self.queue = [item for item in self.queue if item.cause != cause or item.stands]

    def settle(self, decision: Decision) -> None:
        """Keep a decision, and forget the oldest ones."""
        self.settled.pop(decision.cause, None)
        self.settled[decision.cause] = decision
        while len(self.settled) > _CAUSES:
            self.settled.pop(next(iter(self.settled)))
        total = self.totals.setdefault(decision.decision, Total())
        total.count += 1
        total.seconds += decision.duration_s or 0.0
        self.history = [*self.history, decision][-_HISTORY:]

    def reopen(self, champion: str, reason: str, archived: int) -> None:
        """Take back that causes about `champion` were settled by a promotion; runs beyond `archived` open them."""
        for cause in map(str, causes.about(self.settled, champion)):
            if self.settled[cause].decision in promotion.TOOK_OVER:
                self.settled[cause] = msgspec.structs.replace(
                    self.settled[cause], decision="superseded", reason=reason, archived=archived
                )


@dataclass
class Change:
    """One change: what the state becomes, and the events that tell of it. Both are kept, or neither."""

    state: State
    events: list[Event] = field(default_factory=list)
    logged: list[Event] = field(default_factory=list)
    """The events as they are kept, with their numbers; empty until then."""
    writes: list[tuple[str, list[tuple[Any, ...]]]] = field(default_factory=list)
    """SQL statements, each with its rows, of what else the store holds (driftloop.loop.feedback)."""
    kept: dict[str, msgspec.Struct | None] = field(default_factory=dict)
    """What is kept under a name of its own, such as the change of the labels that an alert fires for."""

    def tell(self, kind: EventKind, /, **detail: Any) -> None:
        """Add an event; a `detail` of None is left out."""
        self.events.append({"kind": kind, **{name: value for name, value in detail.items() if value is not None}})

    def tell_of(self, attempt: Attempt, kind: EventKind, version: str | None, **detail: Any) -> None:
        """Add an event about an attempt that has begun."""
        self.tell(kind, model_version=version, cause=attempt.cause, run=attempt.run, **detail)

    def pass_on(self, events: Iterable[Event]) -> None:
        """Add events that somebody else has made."""
        for event in events:
            self.tell(event["kind"], **{name: value for name, value in event.items() if name != "kind"})


@dataclass(frozen=True)
class With:
    """What a move is applied with: the clocks, the settings that matter, and what carrying it out has told."""

    now: Now
    cool_down_s: float = 0.0
    enabled: bool = True
    told: tuple[Event, ...] = ()
    """Events of moving the alias, such as `promoted`; empty where an earlier retrainer moved it."""


def plain(value: msgspec.Struct | None) -> dict[str, object] | None:
    """A part of the state as plain JSON."""
    return None if value is None else msgspec.to_builtins(value)
