"""What the retrainer must not forget: the one file that a restarted retrainer goes on from."""

from pathlib import Path
from typing import Literal, get_args

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.protocol import causes
from driftloop.protocol.causes import Cause
from driftloop.training.modes import Mode

Phase = Literal["idle", "waiting_for_labels", "running", "verifying", "cooling_down"]
PHASES: tuple[Phase, ...] = get_args(Phase)

_HISTORY = 20
_CAUSES = 200
"""Settled causes and firing alerts that are remembered."""


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
    """Completed runs in the archive when it started."""
    started_at: str | None = None
    step: str | None = None
    challenger: str | None = None
    promoted_at: str | None = None
    waiting_for: str | None = None
    announced_at: str | msgspec.UnsetType = msgspec.UNSET
    """When it was said that it will supersede all labels."""

    @property
    def why(self) -> Cause:
        """Its cause, taken apart."""
        return causes.parse(self.cause)


class Decision(msgspec.Struct, frozen=True):
    """How a cause was settled, and with how many runs in the archive: more of them open it again."""

    cause: str
    decision: str
    reason: str
    at: str
    archived: int
    model_version: str | None = None
    duration_s: float | None = None


class Total(msgspec.Struct):
    """All retrainings that ended in one decision."""

    count: int = 0
    seconds: float = 0.0


class State(msgspec.Struct):
    """Everything durable about the loop."""

    phase: Phase = "idle"
    attempt: Attempt | None = None
    queue: list[Attempt] = []
    firing: dict[str, str] = {}
    """Since when each alert fires, by cause."""
    settled: dict[str, Decision] = {}
    history: list[Decision] = []
    totals: dict[str, Total] = {}
    """By decision, ever."""
    not_before: float = 0.0
    """Unix seconds; no retraining starts by itself earlier."""

    def check(self) -> None:
        """Raise DriftloopError or ValueError unless causes and times are what the retrainer can go on from."""
        attempts = [*self.queue, *([self.attempt] if self.attempt is not None else [])]
        for cause in (*self.firing, *(attempt.cause for attempt in attempts)):
            causes.parse(cause)
        for time in (t for a in attempts for t in (a.requested_at, a.started_at, a.promoted_at) if t is not None):
            durable.parse_time(time)
        if self.attempt is None and self.phase in ("waiting_for_labels", "running", "verifying"):
            raise DriftloopError(f"the state says {self.phase} without an attempt")

    def fires(self, cause: str, since: str) -> None:
        """Remember that an alert fires, and forget the oldest ones."""
        self.firing.pop(cause, None)
        self.firing[cause] = since
        while len(self.firing) > _CAUSES:
            self.firing.pop(next(iter(self.firing)))

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
            if self.settled[cause].decision == "promoted":
                self.settled[cause] = msgspec.structs.replace(
                    self.settled[cause], decision="superseded", reason=reason, archived=archived
                )

    def answer(self, version: str, reason: str) -> None:
        """Settle what waited for a person, now that `version` was promoted: by its promotion, or as superseded."""
        for cause, waiting in self.settled.items():
            if waiting.decision == "undecided":
                decision = "promoted" if waiting.model_version == version else "superseded"
                self.settled[cause] = msgspec.structs.replace(waiting, decision=decision, reason=reason)
                self.history = [*self.history, msgspec.structs.replace(self.settled[cause], at=durable.now())][
                    -_HISTORY:
                ]

    @property
    def undecided(self) -> list[Decision]:
        """The decisions that wait for a person, oldest first."""
        return [decision for decision in self.settled.values() if decision.decision == "undecided"]


def load(path: Path) -> State:
    """The state in `path`, or a new one; raises DriftloopError for a file that is no state."""
    try:
        state = durable.read_json(path, State)
        state.check()
    except FileNotFoundError:
        return State()
    except (DriftloopError, ValueError) as error:
        what = error.what if isinstance(error, DriftloopError) else str(error)
        raise DriftloopError(
            f"the retrainer's state cannot be read: {what}",
            where=str(path),
            remedy="move the file away; the retrainer starts idle and finds what is in production in the registry",
        ) from error
    return state


def save(path: Path, state: State) -> None:
    """Write the state durably."""
    durable.write_json(path, msgspec.to_builtins(state))


def plain(value: msgspec.Struct | None) -> dict[str, object] | None:
    """A part of the state as plain JSON."""
    return None if value is None else msgspec.to_builtins(value)
