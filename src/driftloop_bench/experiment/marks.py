"""The marks T0 to T5 of one recovery, from the platform's events and the records of the traffic.

T0 first changed request sent; T1 the alert starts firing; T2 retraining started; T_RT challenger promoted;
T4 first answer from the new version; T5 recovered. (There is no T3.) T_FA, between T1 and T4, is the first answer of
a version that was given first aid without labels. Every mark is the time that the event itself
carries, or the time of an answer; none is the time at which somebody noticed. A mark that did not happen is
missing, with a reason, and so is every mark that depends on it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from driftloop.drift.verdict import WITHOUT_DRIFT
from driftloop.durable import parse_time
from driftloop.model.accuracy import engine_bootstrap, paired_engine_bootstrap
from driftloop.protocol.events import Event
from driftloop_bench.experiment.traffic import Record

NAMES = ("t0", "t1", "t2", "t_rt", "t4", "t5")
"""T_FA is not among them: most changes need none, and none depends on it."""
MIN_ANSWERS = 500
"""Answers after T4 that T5 needs."""
RATIO_LIMIT = 1.1
"""T5: the error may be at most this much of the reference model's."""
STEP = 50
"""Answers between two evaluations of the T5 condition."""
EVENT_RESOLUTION_S = 0.001
"""The times of events have whole milliseconds, the rest cut off; those of answers have all their digits."""
ONE_SIDED_95 = 0.90
"""Two-sided level whose upper end is the one-sided upper 95 % bound."""


@dataclass
class Marks:
    """Seconds since 1970 of each mark, None with a reason where it did not happen."""

    t0: float | None = None
    t1: float | None = None
    t2: float | None = None
    t_rt: float | None = None
    t4: float | None = None
    t5: float | None = None
    t_fa: float | None = None
    """First answer of a provisional version, which was given first aid without labels; T4 is that of a labelled one."""
    reasons: dict[str, str] = field(default_factory=dict)
    champion_version: str | None = None
    challenger_version: str | None = None
    provisional_version: str | None = None
    no_drift: float | None = None
    """Time of the watch's first `no_drift` for the new version, one of the two parts of T5."""
    accurate: float | None = None
    """Time of the answer from which on the error bound held, the other part."""

    @property
    def told(self) -> tuple[str, ...]:
        """The marks that people are told of, in their order: T_FA only where it was reached."""
        return NAMES if self.t_fa is None else (*NAMES[:2], "t_fa", *NAMES[2:])

    def missing(self, name: str, reason: str) -> None:
        """Leave mark `name` out, and say why."""
        self.reasons.setdefault(name, reason)


@dataclass(frozen=True)
class Prefix:
    """The T5 error condition over the first `n` answers after T4 (RMSE in cycles, bounds one-sided 95 %)."""

    n: int
    at: float
    """When the last of these answers arrived, seconds since 1970."""
    rmse: float
    rmse_upper: float
    reference: float
    reference_upper: float
    ratio: float
    ratio_upper: float
    engines: int

    @property
    def holds(self) -> bool:
        """Whether the upper bound of the paired ratio is within the limit."""
        return self.ratio_upper <= RATIO_LIMIT


def find_marks(events: Sequence[Event], records: Sequence[Record], champion: str) -> Marks:
    """All marks up to T4, and the watch's part of T5, for a change of fleet under the version `champion`.

    Events without a time, or from before T0, are passed over.
    """
    marks = Marks(champion_version=champion)
    changed = [record.sent for record in records if record.changed]
    if not changed:
        return _rest_missing(marks, "t0", "no changed request was sent")
    marks.t0 = min(changed)

    alert = _first(events, "alert_firing", marks.t0, _starts_at)
    if alert is None:
        return _rest_missing(marks, "t1", "no alert fired after T0")
    marks.t1 = _starts_at(alert)

    aided = _first(events, "first_aid_promoted", marks.t1, event_time)
    if aided is not None:
        marks.provisional_version = str(aided["model_version"])
        marks.t_fa = min((r.answered for r in records if r.ok and r.version == marks.provisional_version), default=None)

    started = _first(events, "retraining_started", _last_rollback(events, marks.t1), event_time)
    if started is None:
        return _rest_missing(marks, "t2", _why_not(events, marks.t1, "no retraining started"))
    marks.t2 = event_time(started)

    promoted = _first(events, "promoted", marks.t2, event_time)
    if promoted is None:
        return _rest_missing(marks, "t_rt", _why_not(events, marks.t2, "no challenger was promoted"))
    marks.t_rt = event_time(promoted)
    marks.challenger_version = str(promoted["model_version"])

    answers = [record.answered for record in records if record.ok and record.version == marks.challenger_version]
    if not answers:
        return _rest_missing(marks, "t4", f"version {marks.challenger_version} answered no request")
    marks.t4 = min(answers)

    healthy = _first(
        [event for event in events if is_no_drift(event, marks.challenger_version)], "verdict", marks.t4, event_time
    )
    if healthy is None:
        marks.missing("t5", f"the watch said no `no_drift` for version {marks.challenger_version}")
    else:
        marks.no_drift = event_time(healthy)
    return marks


def set_recovery(marks: Marks, prefixes: Sequence[Prefix], *, why_unknown: str | None = None) -> None:
    """Set T5 from the watch's verdict and from the error condition, which must still hold over all answers."""
    if marks.t4 is None:
        return
    if why_unknown is not None:
        marks.missing("t5", why_unknown)
        return
    if not prefixes:
        marks.missing("t5", f"fewer than {MIN_ANSWERS} answers after T4")
        return
    last = prefixes[-1]
    if not last.holds:
        marks.missing(
            "t5",
            f"over {last.n} answers after T4 the error is up to {last.ratio_upper:.3f} times the reference's "
            f"(upper 95 % bound; {RATIO_LIMIT} is allowed)",
        )
        return
    # From the first evaluation on after which it never failed again, so that one lucky early look does not count.
    failing = [index for index, prefix in enumerate(prefixes) if not prefix.holds]
    marks.accurate = prefixes[failing[-1] + 1 if failing else 0].at
    if marks.no_drift is not None:
        marks.t5 = max(marks.no_drift, marks.accurate)


def answers_after(records: Iterable[Record], version: str) -> list[Record]:
    """The answers of `version`, in the order in which they arrived."""
    return sorted(
        (record for record in records if record.ok and record.version == version), key=lambda record: record.answered
    )


def recovery_prefixes(
    answers: Sequence[Record], reference: NDArray[np.float64], *, step: int = STEP, draws: int = 1000, seed: int = 0
) -> list[Prefix]:
    """The T5 error condition over growing prefixes of `answers`: from 500 on, every `step`, and all of them.

    `reference[i]` is what the reference model says to the request of `answers[i]`. The ratio of the two RMSEs is
    bootstrapped over engines, the same engines for both models (paired); that is a sharper and stricter question
    than whether two separate bounds are ordered.
    """
    predicted = np.array([record.rul for record in answers], dtype=np.float64)
    true = np.array([record.true_rul for record in answers], dtype=np.float64)
    engines = np.array([record.engine_id for record in answers])
    sizes = [*range(MIN_ANSWERS, len(answers), step), len(answers)] if len(answers) >= MIN_ANSWERS else []
    found = []
    for n in sizes:
        paired = paired_engine_bootstrap(
            predicted[:n], reference[:n], true[:n], engines[:n], draws=draws, seed=seed, level=ONE_SIDED_95
        )
        own, other = (
            engine_bootstrap(values[:n], true[:n], engines[:n], draws=draws, seed=seed, level=ONE_SIDED_95)
            for values in (predicted, reference)
        )
        found.append(
            Prefix(
                n, answers[n - 1].answered, own.value, own.upper, other.value, other.upper,
                paired.ratio.value, paired.ratio.upper, paired.engines,
            )
        )  # fmt: skip
    return found


def _last_rollback(events: Sequence[Event], after: float) -> float:
    """Where the retraining began that counts: behind those that were rolled back, if another one followed."""
    again = max((event_time(one) for one in events if one.get("kind") == "retraining_started"), default=after)
    back = [event_time(one) for one in events if one.get("kind") == "rolled_back"]
    return max((at for at in back if after <= at <= again), default=after)


def event_time(event: Event) -> float:
    """The time that an event carries, in seconds since 1970."""
    return parse_time(event["time"]).timestamp()


def is_from(at: float, moment: float) -> bool:
    """Whether an event's time `at` may lie at `moment` or behind it, both in seconds since 1970.

    Event times are cut to whole milliseconds: one of the same millisecond as a request is not before it.
    """
    return at > moment - EVENT_RESOLUTION_S


def is_no_drift(event: Event, version: str | None) -> bool:
    """Whether the event is the watch's verdict for `version` that there is no drift, whatever the fleet's age."""
    return (
        event.get("kind") == "verdict"
        and event.get("verdict") in WITHOUT_DRIFT
        and str(event.get("model_version")) == version
    )


def _starts_at(event: Event) -> float:
    return parse_time(event["starts_at"]).timestamp()


def _first(events: Iterable[Event], kind: str, after: float, time_of: Callable[[Event], float]) -> Event | None:
    """The earliest event of `kind` from `after` on."""
    found = [event for event in events if event.get("kind") == kind and is_from(time_of(event), after)]
    return min(found, key=time_of, default=None)


_EXPLAIN = {
    "rejected": "the challenger was rejected",
    "approval_needed": "the challenger waits for a person, since the gate has too few units",
    "waiting_for_labels": "the loop waits for completed runs",
    "retraining_failed": "retraining failed",
    "retraining_refused": "retraining was refused",
    "retraining_superseded": "another version went into production while it retrained",
    "kept": "the promoted version stays, though the watch sees drift",
}


def _why_not(events: Sequence[Event], after: float, otherwise: str) -> str:
    """What the platform itself says about a step that did not happen."""
    for event in reversed(events):
        if event.get("kind") in _EXPLAIN and is_from(event_time(event), after):
            detail = event.get("reason") or event.get("error")
            return _EXPLAIN[event["kind"]] + (f": {detail}" if detail else "")
    return otherwise


def _rest_missing(marks: Marks, name: str, reason: str) -> Marks:
    for later in NAMES[NAMES.index(name) :]:
        marks.missing(later, reason if later == name else f"no {name.upper()}: {reason}")
    return marks
