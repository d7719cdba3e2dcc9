"""One experiment: healthy traffic, a change at T0, and traffic that goes on until the platform has recovered.

After T0 nobody touches the platform: the only thing that happens besides traffic is what would happen in the
field, the completed runs of the changed fleet arriving in the archive.
"""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from driftloop.errors import DriftloopError
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.protocol.archive_client import batches
from driftloop.settings import Settings
from driftloop_bench.experiment.gateway import Gateway, Stock
from driftloop_bench.experiment.marks import Marks, event_time, is_no_drift
from driftloop_bench.experiment.platform import Platform
from driftloop_bench.experiment.recording import Plan, Recording
from driftloop_bench.experiment.source import completed, needed, part
from driftloop_bench.experiment.traffic import (
    AgingFleet,
    Load,
    Mixture,
    encode,
    faulty_runs,
)
from driftloop_bench.experiment.units_client import Units
from driftloop_bench.experiment.watching import Observer, Watch

ANSWERS_S = 30.0
"""How long the last rows' answers are waited for."""
ENDS = (
    "rejected", "approval_needed", "retraining_failed", "retraining_refused", "retraining_superseded", "rolled_back",
    "kept",
)  # fmt: skip
"""Events after which the loop will not recover by itself, unless a training in full follows."""
ASKED = "approval_needed"
"""The one of them that a person can answer."""


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


async def run_experiment(plan: Plan, settings: Settings, observer: Observer) -> Recording:
    """Run `plan` against the platform of `settings`; raises DriftloopError where that cannot be done."""
    plan.change.check(settings.schema)
    if plan.units:
        _check_telemetry(plan, settings.schema)
    platform = Platform(settings)
    try:
        model = await platform.model()
        if model.get("stub"):
            raise DriftloopError(
                "no model has been promoted yet, only the stub answers",
                where=settings.server_url,
                remedy="archive completed runs, then run `driftloop train --promote`",
            )
        recording, runs = await _prepare(plan, settings, model, platform)
        if plan.units:
            await _through_telemetry(recording, runs, settings, platform, observer)
        else:
            await _through_predict(recording, runs, platform, observer)
        return recording
    finally:
        await platform.close()


def _check_telemetry(plan: Plan, schema: Schema) -> None:
    """Raise DriftloopError for what cannot be tried through the service for units."""
    if plan.change.kind in ("bias", "stuck"):
        raise DriftloopError(
            f"a sensor fault ({plan.change.kind}) is tried through predict", where="--kind", remedy="choose fleet"
        )
    if schema.time.kind != "counter" or schema.time.every is not None:
        raise DriftloopError(
            f"the time of {schema.name} is no counter of {schema.step}s, so its rows cannot be sent faster than they "
            "are made",
            where="--through telemetry",
            remedy="try this fleet through predict",
        )


async def _through_predict(recording: Recording, runs: "_Runs", platform: Platform, observer: Observer) -> None:
    """Windows go to the prediction server; completed runs arrive by themselves."""
    plan, window = recording.plan, recording.window
    mixture = Mixture(
        AgingFleet(list(recording.healthy.values()), window, plan.seed),
        AgingFleet(list(recording.changed.values()), window, plan.seed + 1, changed=True) if runs.changed else None,
        plan.change.share,
        plan.seed + 2,
    )
    bodies = [body for body, _ in batches(runs.arriving)]
    recording.posted_runs = len(runs.arriving)
    watch = Watch(platform, recording, observer, await platform.last_event())
    load = Load(platform.predict_url, plan.rate, mixture.next_request, records=recording.records)
    traffic = asyncio.create_task(load.run())
    try:
        await _drive(
            recording, watch, platform, traffic, mixture.change_now, lambda: _post(recording, platform, bodies), _ended
        )
    finally:
        load.stop()
        await traffic
        recording.generator_cpu_share = load.cpu_s / load.wall_s if load.wall_s else 0.0
    await watch.look()


async def _through_telemetry(
    recording: Recording, runs: "_Runs", settings: Settings, platform: Platform, observer: Observer
) -> None:
    """Rows go to the service for units; completed runs are what fails."""
    plan, schema = recording.plan, recording.schema
    of_old, of_new = list(recording.healthy.values()), list(recording.changed.values())
    async with Units(settings.units_url, settings.token) as client:
        taken = await client.names()
        healthy = Stock(of_old, random.Random(plan.seed), changed=False, again=True, taken=taken)
        # None of them comes twice: a model may have learnt from it then.
        changed = Stock(of_new, random.Random(plan.seed + 1), changed=True, again=False, taken=taken)
        gateway = Gateway(
            client, schema, healthy, changed if runs.changed else None,
            places=plan.units, rate=plan.rate, share=plan.change.share, seed=plan.seed + 2, records=recording.records,
        )  # fmt: skip
        recording.failures = gateway.failures
        observer.stage(f"history of {plan.units} {schema.units} of {plan.healthy_subset} in service")
        watch = Watch(platform, recording, observer, await platform.last_event())
        await gateway.send_history()
        recording.started = time.time()
        traffic = asyncio.create_task(gateway.run())
        ended = functools.partial(_learnt, gateway=gateway)
        try:
            await _drive(recording, watch, platform, traffic, gateway.change_now, None, ended)
        finally:
            gateway.stop()
            await traffic
        await gateway.read_all(ANSWERS_S)
        recording.held_back = gateway.held_back
        recording.generator_cpu_share = gateway.cpu_s / gateway.wall_s if gateway.wall_s else 0.0
    await watch.look()


@dataclass(frozen=True)
class _Runs:
    """Of the changed fleet: the units in service, and the completed runs that arrive by themselves."""

    changed: Sequence[Run]
    arriving: list[Run]


async def _prepare(
    plan: Plan, settings: Settings, model: dict[str, Any], platform: Platform
) -> tuple[Recording, _Runs]:
    """Load and encode everything before the first request, so that nothing but traffic costs time later."""
    change, schema = plan.change, settings.schema
    window = int(model["window"])
    cap = int(model["metadata"]["cap"]) if schema.cap == "auto" else schema.cap
    fleet = part(plan.healthy_subset, plan.source, settings)
    recording = Recording(plan, fleet.data_source, window, model, time.time(), schema, cap)
    healthy_known = await platform.with_roles(fleet.runs, needed(schema, first=True))
    recording.known = [*healthy_known, *fleet.taken_out]
    healthy_runs = with_role(healthy_known, "live")
    changed_runs: Sequence[Run] = []
    arriving: list[Run] = []
    if change.kind == "fleet":
        other = part(change.subset, plan.source, settings)
        if other.data_source != fleet.data_source:
            recording.data_source = "simulated"
        if plan.units:
            # All of them are in service; whoever fails is dealt a role then.
            changed_runs = other.runs
        else:
            others = await platform.with_roles(other.runs, needed(schema))
            recording.known += [*others, *other.taken_out]
            changed_runs, arriving = with_role(others, "live"), completed(others, schema)
    elif change.kind != "none":
        changed_runs = faulty_runs(healthy_runs, change, plan.seed, schema)
    recording.healthy = {run.run_id: encode(run, cap) for run in healthy_runs}
    recording.changed = {run.run_id: encode(run, cap) for run in changed_runs}
    return recording, _Runs(changed_runs, arriving)


async def _drive(
    recording: Recording,
    watch: Watch,
    platform: Platform,
    traffic: asyncio.Task[None],
    change_now: Callable[[], None],
    meanwhile: Callable[[], Coroutine[Any, Any, None]] | None,
    ended: Callable[[Recording, Marks], str | None],
) -> None:
    """Healthy traffic, the change, and traffic until `ended` says why; `meanwhile` runs beside it."""
    plan = recording.plan
    what = f"rows/s of {plan.units} {recording.schema.units}" if plan.units else "requests/s"
    watch.observer.stage(f"healthy traffic of {plan.healthy_subset}, {plan.rate:g} {what}")
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
    change_now()
    if plan.change.kind != "none":
        # Who looks at the platform meanwhile sees T0 too; nothing depends on it.
        await platform.report({"kind": "fleet_changed", "reason": plan.change.describe(recording.schema.unit)})
    beside = asyncio.create_task(meanwhile()) if meanwhile is not None else None
    try:
        reached = await watch.until(ended, plan.timeout_s, traffic)
        recording.ended_by = reached or f"timeout of {plan.timeout_s:g} s"
    finally:
        if beside is not None:
            # Labels that would come after the end are not waited for.
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside


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
            # A cause of a version that was in production before, as a restored platform may know one, is none of this.
            if event["kind"] == "retraining_refused" and event.get("model_version") != recording.champion_version:
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


def _learnt(recording: Recording, marks: Marks, gateway: Gateway) -> str | None:
    """The end where labels come from failures alone: whatever was decided before, enough may have failed later."""
    if gateway.empty:
        return "no unit is left"
    if marks.no_drift is None:
        return None
    answers = sum(record.ok and record.version == marks.challenger_version for record in recording.records)
    return "recovered" if answers >= recording.plan.answers else None
