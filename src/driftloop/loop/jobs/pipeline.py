"""The retraining pipeline: the one definition, as kfp components that each call one function of `steps`.

Imported by the driver and by the backend of Kubeflow Pipelines alone, since importing kfp takes two seconds.
"""

# mypy: disable-error-code="untyped-decorator"

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, local

from driftloop.loop.jobs.local import Job

component = functools.partial(dsl.component, base_image="python:3.11", install_kfp_package=False)
"""kfp.local runs a component with this interpreter, whatever its image; nothing is installed for it. On Kubeflow
Pipelines every task is given the trainer's image, which has all that is imported."""
STEPS = ("collect", "train", "evaluate")


@component
def collect(
    run: str, cause: str, champion: str, runs: str, dataset: dsl.Output[dsl.Dataset], bundle: dsl.Output[dsl.Model]
) -> None:
    """The job's runs, sorted into old and new, and the champion's bundle."""
    from driftloop.loop import steps

    steps.collect(run, cause, champion, runs, dataset.path, bundle.path)


@component
def train(
    run: str,
    cause: str,
    champion: str,
    mode: str,
    dataset: dsl.Input[dsl.Dataset],
    champion_bundle: dsl.Input[dsl.Model],
    bundle: dsl.Output[dsl.Model],
) -> str:
    """The challenger, trained, built into a bundle and registered; returns its version."""
    from driftloop.loop import steps

    return steps.train(run, cause, champion, mode, dataset.path, champion_bundle.path, bundle.path)


@component
def evaluate(
    run: str,
    cause: str,
    champion: str,
    version: str,
    dataset: dsl.Input[dsl.Dataset],
    champion_bundle: dsl.Input[dsl.Model],
    bundle: dsl.Input[dsl.Model],
) -> str:
    """Both models on the gate engines, and the gate's decision: `approved`, `rejected` or `undecided`."""
    from driftloop.loop import steps

    return steps.evaluate(run, cause, champion, version, dataset.path, champion_bundle.path, bundle.path)


def _tasks(run: str, cause: str, champion: str, mode: str, runs: str) -> list[Any]:
    """The tasks: collect, train and evaluate. What the gate approves, the retrainer promotes."""
    collected = collect(run=run, cause=cause, champion=champion, runs=runs)
    trained = train(
        run=run,
        cause=cause,
        champion=champion,
        mode=mode,
        dataset=collected.outputs["dataset"],
        champion_bundle=collected.outputs["bundle"],
    )
    judged = evaluate(
        run=run,
        cause=cause,
        champion=champion,
        version=trained.outputs["Output"],
        dataset=collected.outputs["dataset"],
        champion_bundle=collected.outputs["bundle"],
        bundle=trained.outputs["bundle"],
    )
    return [collected, trained, judged]


@dsl.pipeline(name="retraining")
def retraining(run: str, cause: str, champion: str, mode: str, runs: str) -> None:
    """The pipeline as kfp.local runs it."""
    _tasks(run, cause, champion, mode, runs)


def compile_to(path: Path, fit: Callable[[Any], None]) -> None:
    """Compile the pipeline for a cluster; `fit` gives each task its image, environment and size there."""

    @dsl.pipeline(name="retraining")
    def on_cluster(run: str, cause: str, champion: str, mode: str, runs: str) -> None:
        for task in _tasks(run, cause, champion, mode, runs):
            # What a step decides stands in the registry: an answer from a cache would decide nothing.
            task.set_caching_options(False)
            fit(task)

    compiler.Compiler().compile(on_cluster, str(path))


def run_locally(job: Job, folder: Path) -> None:
    """Run the pipeline in processes of this machine, its files below `folder`; raises where a step fails."""
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder),
        workspace_root=str(folder / "workspace"),
    )
    retraining(run=job.run, cause=job.cause, champion=job.champion, mode=job.mode, runs=job.runs)
