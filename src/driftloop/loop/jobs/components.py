"""The retraining pipeline for Kubeflow Pipelines: one step that does what the pipeline's Job does.

For each step Kubeflow starts a pod that decides about it before the pod that does it, and carries what one leaves to
the next through the object store. Collecting, training and evaluating need the same image, the same size and each
other's files, and each tells the retrainer of itself: they are one step there.

Imported by the backend of Kubeflow Pipelines alone, since importing kfp takes two seconds.
"""

# mypy: disable-error-code="untyped-decorator"

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

STEP = "retrain"


# Nothing is installed for it: the task is given the trainer's image, which has all that is imported.
@dsl.component(base_image="python:3.11", install_kfp_package=False)
def retrain(run: str, cause: str, champion: str, mode: str, runs: str) -> None:
    """Collect the job's runs, train the challenger, and have the gate decide."""
    import tempfile
    from pathlib import Path

    import msgspec

    from driftloop.loop.jobs import driver
    from driftloop.loop.jobs.local import Job

    job = {"run": run, "cause": cause, "champion": champion, "mode": mode, "runs": runs}
    with tempfile.TemporaryDirectory(prefix="driftloop-") as folder:
        driver.run_at_once(Path(folder), msgspec.convert(job, Job))


def compile_to(path: Path, fit: Callable[[Any], None]) -> None:
    """Compile the pipeline; `fit` gives its task image, environment and size on the cluster."""

    @dsl.pipeline(name="retraining")
    def retraining(run: str, cause: str, champion: str, mode: str, runs: str) -> None:
        task = retrain(run=run, cause=cause, champion=champion, mode=mode, runs=runs)
        # What it decides stands in the registry: an answer from a cache would decide nothing.
        task.set_caching_options(False)
        fit(task)

    compiler.Compiler().compile(retraining, str(path))
