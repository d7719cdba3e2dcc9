"""Which of the places a pipeline runs in, as the settings say."""

from pathlib import Path

from driftloop.errors import DriftloopError
from driftloop.loop.jobs.local import Backend, LocalBackend
from driftloop.settings import Settings


def choose_backend(settings: Settings, folder: Path) -> Backend:
    """Where pipelines run, as `pipeline_backend` says; raises DriftloopError where that cannot be used here.

    What talks to a cluster is imported only where it is used: it takes a second and is not installed everywhere.
    """
    if settings.pipeline_backend == "local":
        return LocalBackend(settings, folder)
    if settings.pipeline_job is None:
        raise DriftloopError(
            f"the backend `{settings.pipeline_backend}` needs a pod for its steps",
            where="DRIFTLOOP_PIPELINE_JOB",
            remedy="set it to a file like the Job of files/retraining",
        )
    try:
        if settings.pipeline_backend == "job":
            from driftloop.loop.jobs.kubernetes import JobBackend

            return JobBackend(settings.pipeline_job)
        from driftloop.loop.jobs.kfp import KfpBackend

        return KfpBackend(settings.pipeline_job, settings.kfp_url)
    except ImportError as error:
        raise DriftloopError(
            f"the backend `{settings.pipeline_backend}` needs a package that is missing ({error})",
            where="DRIFTLOOP_PIPELINE_BACKEND",
            remedy="pip install 'driftloop[train,cluster]'",
        ) from error
