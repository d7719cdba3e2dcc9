"""The retraining pipeline: which steps there are, in which order, and what each hands to the next.

The one definition. `run` carries it out in this process; driftloop.loop.jobs.components makes of it what Kubeflow
Pipelines runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from driftloop.loop.jobs.local import Job

STEPS = ("collect", "train", "evaluate")
RETURNED = "Output"
"""What a step returns, among its outputs; Kubeflow's word for it."""


class Task(Protocol):
    """A step that was called, or will be."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """What it leaves: paths by name, and what it returned."""


class Call(Protocol):
    """Has a step done; `leaves` names the paths that it fills, which the caller of the step chooses."""

    def __call__(self, step: str, leaves: tuple[str, ...], **given: Any) -> Task:
        """Call the step with what it is `given`."""


def retraining(call: Call, *, run: Any, cause: Any, champion: Any, mode: Any, runs: Any) -> list[Task]:
    """Collect, train, evaluate. What the gate approves, the retrainer promotes."""
    job = {"run": run, "cause": cause, "champion": champion}
    collected = call("collect", ("dataset", "bundle"), **job, runs=runs)
    dataset, known = collected.outputs["dataset"], collected.outputs["bundle"]
    trained = call("train", ("bundle",), **job, mode=mode, dataset=dataset, champion_bundle=known)
    judged = call(
        "evaluate",
        (),
        **job,
        version=trained.outputs[RETURNED],
        dataset=dataset,
        champion_bundle=known,
        bundle=trained.outputs["bundle"],
    )
    return [collected, trained, judged]


@dataclass(frozen=True)
class _Done:
    outputs: Mapping[str, Any]


def run(job: Job, folder: Path) -> None:
    """Do all steps of a job in this process, one after the other, their files below `folder`.

    Raises what a step raises.
    """
    from driftloop.loop import steps

    def call(step: str, leaves: tuple[str, ...], **given: Any) -> Task:
        paths = {name: str(folder / step / name) for name in leaves}
        return _Done({**paths, RETURNED: getattr(steps, step)(**given, **paths)})

    retraining(call, **msgspec.to_builtins(job))
