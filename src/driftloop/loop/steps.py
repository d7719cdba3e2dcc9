"""What the steps of the pipeline do: plain functions of parameters and paths, called by `pipeline`'s components.

A step gets all that it needs to know of the loop in the job, reads its settings from the environment, reports to the
retrainer what it does, waits for a registry that is down, and fails by raising. What it decided stands in the registry;
its reports only tell of it. The last step is the gate's decision: whoever started the pipeline promotes.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from driftloop import logs, settings
from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.fleet import roles
from driftloop.fleet.archive import Archive, open_archive
from driftloop.loop.jobs.local import unpack
from driftloop.loop.judge import promotion
from driftloop.loop.telling import Telling
from driftloop.model.bundle import CHECKPOINT, SERVING_FILES, read_metadata
from driftloop.model.registry import CHALLENGER, Registry
from driftloop.protocol.client import Client
from driftloop.protocol.progress import Progress
from driftloop.settings import Settings

REGISTRY_PATIENCE_S = 300.0
_ERROR_CHARACTERS = 2000

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """What every step has: settings, the registry, and whom to report to."""

    settings: Settings
    registry: Registry
    run: str
    cause: str

    def report(self, event: dict[str, Any]) -> None:
        """Tell the retrainer; a retrainer that is away finds the same facts in the registry."""
        url = self.settings.retrainer_url
        with Client(url, self.settings.token) as retrainer:
            taken = retrainer.report({"run": self.run, "cause": self.cause, **event})
        if not taken:
            print(f"the retrainer at {url} did not take the event {event['kind']}", flush=True)

    def tell(self, progress: Progress) -> None:
        """Tell the retrainer how far the step is; what does not arrive is told better a second later."""
        with Client(self.settings.retrainer_url, self.settings.token) as retrainer:
            retrainer.progress(progress)

    def patiently(self, call: Callable[[], T]) -> T:
        """The call's answer; while the registry is away, tries again every second for a few minutes."""
        deadline = time.monotonic() + REGISTRY_PATIENCE_S
        while True:
            try:
                return call()
            except RegistryUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)


@contextlib.contextmanager
def _step(name: str, run: str, cause: str) -> Iterator[Step]:
    """Report the start and the end of a step; end it by signal when it takes longer than a step may.

    What a step imports, it imports inside, so that this counts too.
    """
    started, cpu = time.monotonic(), time.process_time()
    config = settings.load()
    logs.begin(config, name)
    signal.alarm(round(config.step_timeout_s))
    with Registry(config.mlflow_url, config.model) as registry:
        step = Step(config, registry, run, cause)
        starting = threading.Thread(target=step.report, args=({"kind": "step_started", "step": name},))
        starting.start()
        try:
            yield step
        except Exception as error:
            # Not every place that a pipeline runs in keeps what its steps raised.
            said = f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
            starting.join()
            step.report({"kind": "step_failed", "step": name, "error": said})
            raise
        finally:
            starting.join()
            signal.alarm(0)
        spent = {
            "seconds": round(time.monotonic() - started, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
        }
        step.report({"kind": "step_finished", "step": name, **spent})


def collect(run: str, cause: str, champion: str, runs: str, dataset: str, bundle: str) -> None:
    """Write the runs of the job and the plan to `dataset`, and the champion's bundle to `bundle`.

    Raises DriftloopError where too few new runs can be used, having reported `waiting_for_labels`.
    """
    with _step("collect", run, cause) as step:
        from driftloop.loop import dataset as data
        from driftloop.loop.judge import plan, withdrawal

        given = unpack(runs)
        files = (*SERVING_FILES, CHECKPOINT)
        folder = step.patiently(lambda: step.registry.fetch(champion, Path(bundle), files))
        archive, known = _archive(step), read_metadata(folder)
        withdrawn = archive.withdrawn()
        wanted = {*given.new, *(given.changed or ()), *(entry.run_id for entry in known.manifest)}
        archived = archive.read_all(run_id for run_id in archive.run_ids() if run_id in wanted)
        restored = step.patiently(lambda: withdrawal.restored(step.registry, known, withdrawn))
        made = plan.make(
            archived,
            known.manifest,
            known.schema,
            given.changed,
            withdrawn=withdrawn,
            restored=restored,
            domains=given.known,
        )
        if made.excluded:
            step.report(
                {
                    "kind": "runs_excluded",
                    "model_version": champion,
                    "reason": "a sensor stands still where it varies in other runs",
                    "runs": [{"run_id": stuck.run_id, "sensors": stuck.sensors} for stuck in made.excluded[:100]],
                    "count": len(made.excluded),
                }
            )
        new = [run.run_id for run in made.new]
        least = known.schema.least if made.old else roles.from_nothing(known.schema.least)
        missing = plan.lacking(new, step.settings.new_units, least, archive.roles())
        if missing is not None:
            left_out = f" ({len(made.excluded)} left out for a stuck sensor)" if made.excluded else ""
            step.report({"kind": "waiting_for_labels", "model_version": champion, "reason": missing + left_out})
            raise DriftloopError(missing + left_out, where="archive", remedy="add completed runs")
        data.write(plan.with_roles(made, archive.deal(new, least=least)), Path(dataset))


def train(run: str, cause: str, champion: str, mode: str, dataset: str, champion_bundle: str, bundle: str) -> str:
    """Train the challenger, build its bundle in `bundle`, register it; returns its version.

    The only step that imports torch.
    """
    with _step("train", run, cause) as step:
        from driftloop.loop import dataset as data
        from driftloop.loop.judge import challenger

        plan = data.read(Path(dataset))
        with Telling(step.tell, run, "train") as progress:
            version, summary = challenger.make(
                plan,
                Path(champion_bundle),
                Path(bundle),
                step.settings,
                parent_version=champion,
                cause=cause,
                full=mode == "full",
                tags={promotion.RETRAINING_TAG: run},
                patiently=step.patiently,
                progress=progress,
            )
        step.patiently(lambda: step.registry.set_alias(CHALLENGER, version))
        step.report({"kind": "challenger_registered", "model_version": version, "from_version": champion, **summary})
        return version


def evaluate(run: str, cause: str, champion: str, version: str, dataset: str, champion_bundle: str, bundle: str) -> str:
    """Judge champion and challenger on the gate engines; returns `approved`, `rejected` or `undecided`."""
    with _step("evaluate", run, cause) as step:
        from driftloop.loop import dataset as data
        from driftloop.loop.judge import evaluation, gate

        plan = data.read(Path(dataset))
        decided = step.patiently(lambda: step.registry.version(version))
        if promotion.is_settled(decided):
            # Somebody promoted it or took it back, or the retraining was ended: that is not to be written over.
            return decided.tags["decision"]
        gone = sorted(_archive(step).withdrawn().keys() & {run.run_id for run in [*plan.old, *plan.new]})
        if gone:
            reason = f"run {gone[0]} and {len(gone) - 1} others that it learnt from were withdrawn meanwhile"
            found = [gate.WITHDRAWN]
            step.patiently(lambda: promotion.decide(step.registry, version, promotion.REJECTED, reason, cause, found))
            step.patiently(lambda: promotion.repair(step.registry))
            return promotion.REJECTED
        new = evaluation.evaluate(Path(champion_bundle), Path(bundle), plan.new)
        old = evaluation.evaluate(Path(champion_bundle), Path(bundle), plan.old)
        superseded = bool(plan.superseded) and not plan.old
        decision = gate.decide(old, new, old_tolerance=step.settings.old_tolerance, seed=0, superseded=superseded)
        outcome = promotion.APPROVED if decision.approved else promotion.REJECTED
        if decision.undecided:
            outcome = promotion.UNDECIDED
        step.patiently(
            lambda: promotion.decide(step.registry, version, outcome, decision.reason, cause, decision.findings)
        )
        step.report({"kind": "gate_decided", "model_version": version, "from_version": champion, **decision.as_dict()})
        if outcome != promotion.APPROVED:
            # The worker tells what follows from it: an end, a person who is asked, or a training in full.
            step.patiently(lambda: promotion.repair(step.registry))
        return outcome


def _archive(step: Step) -> Archive:
    return open_archive(step.settings.archive_location, step.settings.schema)
