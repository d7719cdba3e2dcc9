"""The retraining pipeline for Kubeflow Pipelines: its steps as kfp components that each call one function of `steps`.

Imported by the backend of Kubeflow Pipelines alone, since importing kfp takes two seconds.
"""

# mypy: disable-error-code="untyped-decorator"

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from driftloop.loop.jobs.pipeline import Task
from driftloop.loop.jobs.pipeline import retraining as wired

component = functools.partial(dsl.component, base_image="python:3.11", install_kfp_package=False)
"""Nothing is installed for a component: every task is given the trainer's image, which has all that is imported."""


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


_COMPONENTS = {"collect": collect, "train": train, "evaluate": evaluate}


def compile_to(path: Path, fit: Callable[[Any], None]) -> None:
    """Compile the pipeline; `fit` gives each task its image, environment and size on the cluster."""

    def task(step: str, leaves: tuple[str, ...], **given: Any) -> Task:
        del leaves  # Kubeflow chooses the paths, and knows them from the component.
        made = _COMPONENTS[step](**given)
        # What a step decides stands in the registry: an answer from a cache would decide nothing.
        made.set_caching_options(False)
        fit(made)
        found: Task = made
        return found

    @dsl.pipeline(name="retraining")
    def retraining(run: str, cause: str, champion: str, mode: str, runs: str) -> None:
        wired(task, run=run, cause=cause, champion=champion, mode=mode, runs=runs)

    compiler.Compiler().compile(retraining, str(path))
