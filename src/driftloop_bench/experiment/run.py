"""One experiment: healthy traffic, a change at T0, and traffic that goes on until the platform has recovered.

After T0 nobody touches the platform: the only thing that happens besides traffic is what would happen in the
field, the completed runs of the changed fleet arriving in the archive.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from driftloop.errors import DriftloopError
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.protocol.archive_client import batches
from driftloop.protocol.events import Event
from driftloop.settings import Settings
from driftloop_bench.experiment.marks import Marks, event_time, find_marks, is_no_drift
from driftloop_bench.experiment.platform import Platform
from driftloop_bench.experiment.source import Source, completed, needed, part
from driftloop_bench.experiment.traffic import (
    AgingFleet,
    Change,
    Load,
    Mixture,
    Record,
    SentEngine,
    encode,
    faulty_runs,
)

POLL_S = 0.5
"""Marks are the times that events carry, so looking more often would cost processor time and change nothing."""
ENDS = ("rejected", "approval_needed", "retraining_failed", "retraining_refused", "rolled_back")
"""Events after which the loop will not recover by itself, unless a training in full follows."""
ASKED = "approval_needed"
"""The one of them that a person can answer."""
ROLLING = 300
"""Answers that the live error is taken over."""


@dataclass(frozen=True)
class Plan:
    """What one experiment does. Times in seconds."""

    change: Change = field(default_factory=Change)
    healthy_subset: str = "FD001"
    """The part of the fleet that is in service before T0."""
    rate: float = 100.0
    seed: int = 0
    healthy_s: float = 20.0
    """Healthy traffic before T0, at least; it also lasts until the watch says `no_drift`."""
    healthy_timeout_s: float = 180.0
    timeout_s: float = 300.0
    """Longest time after T0; for the change `none` simply how long."""
    answers: int = 3000
    """Answers of the new version to wait for, so that its error can be told from the reference's."""
    source: Source = field(default_factory=Source)
    person: bool = False
    """Whether somebody answers where the loop asks a person, so that the experiment goes on."""
    labels_after_s: float | None = 0.0
    """Seconds after T0 at which the changed fleet's completed runs arrive; None: they never do."""


def labels_after(text: str) -> float | None:
    """Seconds after T0 at which labels come, None for never, from the option of a command; raises DriftloopError."""
    if text in ("at-once", "never"):
        return 0.0 if text == "at-once" else None
    try:
        seconds = float(text.removeprefix("after:"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        remedy = "give at-once, never or after:SECONDS"
        raise DriftloopError(f"labels cannot come {text!r}", where="--labels", remedy=remedy)
    return seconds


@dataclass
class Recording:
    """All that an experiment saw; everything that is reported is computed from this."""

    plan: Plan
    data_source: str
    window: int
    champion: dict[str, Any]
    """What `GET /model` said before T0."""
    started: float
    schema: Schema
    cap: int
    """Steps that labels are capped at."""
    known: list[Run] = field(default_factory=list)
    """All failed units of the parts that take part, of which models learn."""
    records: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    healthy: dict[str, SentEngine] = field(default_factory=dict)
    changed: dict[str, SentEngine] = field(default_factory=dict)
    ended_by: str = ""
    posted_runs: int = 0
    generator_cpu_share: float = 0.0
    """Of one core, for the whole process's event loop: sending, reading answers and polling events."""

    @property
    def champion_version(self) -> str:
        """Version that answered before T0."""
        return str(self.champion["model_version"])

    def marks(self) -> Marks:
        """The marks as far as events and answers show them now."""
        return find_marks(self.events, self.records, self.champion_version)


class Observer:
    """Told what happens while it happens; does nothing by itself."""

    def stage(self, text: str) -> None:
        """A new phase has begun."""

    def mark(self, name: str, seconds: float, marks: Marks) -> None:
        """Mark `name` was reached `seconds` after T0."""

    def tick(self, recording: Recording) -> None:
        """Some time has passed; called a few times a second."""


async def run_experiment(plan: Plan, settings: Settings, observer: Observer) -> Recording:
    """Run `plan` against the platform of `settings`; raises DriftloopError where that cannot be done."""
    plan.change.check(settings.schema)
    platform = Platform(settings)
    try:
        model = await platform.model()
        if model.get("stub"):
            raise DriftloopError(
                "no model has been promoted yet, only the stub answers",
                where=settings.server_url,
                remedy="archive completed runs, then run `driftloop train --promote`",
            )
        recording, mixture, bodies = await _prepare(plan, settings, model, platform)
        after = await platform.last_event()
        load = Load(platform.predict_url, plan.rate, mixture.next_request, records=recording.records)
        traffic = asyncio.create_task(load.run())
        watch = _Watch(platform, recording, observer, after)
        try:
            await _drive(recording, watch, mixture, platform, bodies, traffic)
        finally:
            load.stop()
            await traffic
            recording.generator_cpu_share = load.cpu_s / load.wall_s if load.wall_s else 0.0
        await watch.look()
        return recording
    finally:
        await platform.close()


async def _prepare(
    plan: Plan, settings: Settings, model: dict[str, Any], platform: Platform
) -> tuple[Recording, Mixture, list[bytes]]:
    """Load and encode everything before the first request, so that nothing but traffic costs time later."""
    change, schema = plan.change, settings.schema
    window = int(model["window"])
    cap = int(model["metadata"]["cap"]) if schema.cap == "auto" else schema.cap
    fleet = part(plan.healthy_subset, plan.source, settings)
    recording = Recording(plan, fleet.data_source, window, model, time.time(), schema, cap)
    recording.known = await platform.with_roles(fleet.runs, needed(schema, first=True))
    healthy_runs = with_role(recording.known, "live")
    changed_runs: Sequence[Run] = []
    arriving: list[Run] = []
    if change.kind == "fleet":
        other = part(change.subset, plan.source, settings)
        if other.data_source != fleet.data_source:
            recording.data_source = "simulated"
        others = await platform.with_roles(other.runs, needed(schema))
        recording.known += others
        changed_runs, arriving = with_role(others, "live"), completed(others, schema)
    elif change.kind != "none":
        changed_runs = faulty_runs(healthy_runs, change, plan.seed, schema)
    recording.healthy = {run.run_id: encode(run, cap) for run in healthy_runs}
    recording.changed = {run.run_id: encode(run, cap) for run in changed_runs}
    recording.posted_runs = len(arriving)
    mixture = Mixture(
        AgingFleet(list(recording.healthy.values()), window, plan.seed),
        AgingFleet(list(recording.changed.values()), window, plan.seed + 1, changed=True) if changed_runs else None,
        change.share,
        plan.seed + 2,
    )
    return recording, mixture, [body for body, _ in batches(arriving)]


async def _drive(
    recording: Recording,
    watch: "_Watch",
    mixture: Mixture,
    platform: Platform,
    bodies: list[bytes],
    traffic: asyncio.Task[None],
) -> None:
    plan = recording.plan
    watch.observer.stage(f"healthy traffic of {plan.healthy_subset}, {plan.rate:g} requests/s")
    if not await watch.until(_healthy, plan.healthy_timeout_s, traffic):
        verdicts = [event.get("verdict") for event in recording.events if event.get("kind") == "verdict"]
        raise DriftloopError(
            f"the watch did not say `no_drift` within {plan.healthy_timeout_s:g} s of healthy traffic "
            f"(it said {verdicts[-1] if verdicts else 'nothing'})",
            remedy="is `driftloop drift watch` running, and was the model trained on this fleet?",
        )
    # A false alarm may have changed the model meanwhile: the champion is who answers when the change comes.
    recording.champion = await platform.model()

    watch.observer.stage(f"change: {plan.change.describe(recording.schema.unit)}")
    mixture.change_now()
    if plan.change.kind != "none":
        # Who looks at the platform meanwhile sees T0 too; nothing depends on it.
        await platform.report({"kind": "fleet_changed", "reason": plan.change.describe(recording.schema.unit)})
    posting = asyncio.create_task(_post(recording, platform, bodies))
    try:
        reached = await watch.until(_ended, plan.timeout_s, traffic)
        recording.ended_by = reached or f"timeout of {plan.timeout_s:g} s"
    finally:
        # Labels that would come after the end are not waited for.
        posting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await posting


async def _post(recording: Recording, platform: Platform, bodies: list[bytes]) -> None:
    """The changed fleet's completed runs arrive once it is in service, one call after the other, beside the traffic."""
    after_s = recording.plan.labels_after_s
    if after_s is None:
        return
    before = len(recording.records)
    while bodies and not any(record.changed for record in recording.records[before:]):
        await asyncio.sleep(1 / recording.plan.rate)
    await asyncio.sleep(after_s)
    for body in bodies:
        await platform.post_runs(body)


def _healthy(recording: Recording, _: Marks) -> str | None:
    """Whether there was enough healthy traffic, and the watch has judged it."""
    enough = recording.started + recording.plan.healthy_s
    version = recording.champion_version
    latest = recording.records[-1].version if recording.records and recording.records[-1].version else version
    if any(is_no_drift(event, latest) and event_time(event) >= enough for event in recording.events):
        return "no_drift"
    return None


def _ended(recording: Recording, marks: Marks) -> str | None:
    """Why the experiment may end, None while it must go on."""
    if marks.t1 is None:
        return None
    goes_on = {event.get("model_version") for event in recording.events if event.get("kind") == "retraining_in_full"}
    for event in recording.events:
        if event.get("kind") in ENDS and event_time(event) >= marks.t1:
            if event["kind"] == "rejected" and event.get("model_version") in goes_on:
                continue
            if event["kind"] == ASKED and recording.plan.person:
                continue
            return str(event["kind"])
    if recording.plan.labels_after_s is None:
        return _aided(recording, marks)
    if marks.no_drift is None or marks.t4 is None:
        return None
    answers = sum(record.ok and record.version == marks.challenger_version for record in recording.records)
    return "recovered" if answers >= recording.plan.answers else None


def _aided(recording: Recording, marks: Marks) -> str | None:
    """The end where no labels come: enough answers of the provisional version, or that there is none."""
    assert marks.t1 is not None
    if any(e.get("kind") == "first_aid_refused" and event_time(e) >= marks.t1 for e in recording.events):
        return "first_aid_refused"
    answers = sum(record.ok and record.version == marks.provisional_version for record in recording.records)
    return "first_aid" if marks.t_fa is not None and answers >= recording.plan.answers else None


class _Watch:
    """Collects the platform's events while traffic runs and reports marks as they happen."""

    def __init__(self, platform: Platform, recording: Recording, observer: Observer, after: int) -> None:
        self.observer = observer
        self._platform, self._recording, self._after = platform, recording, after
        self._told: set[str] = set()

    async def until(
        self, done: Callable[[Recording, Marks], str | None], timeout_s: float, traffic: asyncio.Task[None]
    ) -> str | None:
        """Look until `done` says why, or None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            if traffic.done():
                traffic.result()
                raise DriftloopError("the traffic stopped by itself")
            marks = await self.look()
            self.observer.tick(self._recording)
            if reason := done(self._recording, marks):
                return reason
        return None

    async def look(self) -> Marks:
        """Fetch new events; a retrainer that does not answer at the moment is asked again later."""
        with contextlib.suppress(DriftloopError):
            events, self._after = await self._platform.events(self._after)
            self._recording.events += events
        marks = self._recording.marks()
        for name in marks.told:
            value = getattr(marks, name)
            if marks.t0 is not None and value is not None and name not in self._told:
                self._told.add(name)
                self.observer.mark(name, value - marks.t0, marks)
        return marks


def rolling_rmse(records: Sequence[Record], count: int = ROLLING) -> float | None:
    """RMSE over the newest `count` answers, None without any."""
    errors = [record.rul - record.true_rul for record in records[-count:] if record.ok and record.rul is not None]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None
