"""A pipeline on Kubeflow Pipelines: uploaded once for each content, then one run for each retraining.

The steps' pods get image, environment, secrets and size from the same Job that driftloop.loop.jobs.kubernetes makes.
"""

import functools
import hashlib
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kfp_server_api
import msgspec
import urllib3
from kfp import Client

from driftloop.errors import DriftloopError
from driftloop.loop.jobs import pipeline
from driftloop.loop.jobs.kubernetes import read_template
from driftloop.loop.jobs.local import Ended, Job

EXPERIMENT = "driftloop"
POLL_S = 1.0
_GOES_ON = ("PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED", None)

log = logging.getLogger(__name__)


class KfpBackend:
    """Runs pipelines through the API of Kubeflow Pipelines at `url`.

    Raises DriftloopError for a template that cannot be used, and from `poll`, `stop`, `adopt` and `clear` while the
    API cannot be used; asking again is right then.
    """

    def __init__(self, template: Path, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = read_template(template)
        self._url, self._clock = url, clock
        self._uploaded: tuple[str, str] | None = None
        self._run: str | None = None
        self._refused = ""
        self._next_look = 0.0

    @functools.cached_property
    def _kfp(self) -> Any:
        """The client; made when it is first used, since it asks the API whether it is well."""
        with warnings.catch_warnings():
            # It tells of versions that it does not work with, whatever the version.
            warnings.simplefilter("ignore", FutureWarning)
            return Client(host=self._url)

    def prepare(self) -> None:
        """Upload the pipeline, so that a start need not."""
        try:
            self._upload()
        except DriftloopError as error:
            # The start tries again, and says so.
            log.warning("the pipeline is not uploaded yet: %s", error)

    def start(self, job: Job) -> None:
        """Start a run; a refusal is its outcome."""
        self._run, self._refused, self._next_look = None, "", 0.0
        try:
            pipeline_id, version_id = self._upload()
            experiment = self._ask(lambda: self._kfp.create_experiment(EXPERIMENT))
            made = self._ask(
                lambda: self._kfp.run_pipeline(
                    experiment.experiment_id,
                    job.run,
                    params=msgspec.to_builtins(job),
                    pipeline_id=pipeline_id,
                    version_id=version_id,
                )
            )
            self._run = made.run_id
        except DriftloopError as error:
            self._refused = f"the run was not started: {error}"

    def poll(self) -> Ended | None:
        """None while the run goes on; looks at most once a second."""
        if self._run is None:
            return Ended(False, self._refused or "the pipeline is not running")
        if self._clock() < self._next_look:
            return None
        self._next_look = self._clock() + POLL_S
        run_id = self._run
        run = self._ask(lambda: self._kfp.get_run(run_id))
        if run.state in _GOES_ON:
            return None
        self._run = None
        return Ended(True) if run.state == "SUCCEEDED" else Ended(False, describe(run))

    def stop(self) -> None:
        """Terminate the run."""
        if self._run is not None:
            self._terminate(self._run)
        self._run = None

    def leave(self) -> None:
        """Let the run go on: the next retrainer takes it over."""
        self._run = None

    def adopt(self, run: str) -> bool:
        """Take over a run, whether it goes on or has ended."""
        wanted = {"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": run}]}
        found = self._ask(lambda: self._kfp.list_runs(filter=json.dumps(wanted)).runs or []) if run else []
        if not found:
            return False
        self._run, self._refused, self._next_look = found[0].run_id, "", 0.0
        return True

    def clear(self) -> None:
        """Terminate every run of ours that has not ended."""
        experiment = self._ask(lambda: self._kfp.create_experiment(EXPERIMENT))
        found = self._ask(
            lambda: (
                self._kfp.list_runs(
                    experiment_id=experiment.experiment_id, page_size=100, sort_by="created_at desc"
                ).runs
            )
        )
        for run in found or []:
            if run.state in _GOES_ON:
                self._terminate(run.run_id)

    def _upload(self) -> tuple[str, str]:
        """The pipeline's id and that of its version, uploaded where this content is not there yet."""
        if self._uploaded is None:
            with tempfile.TemporaryDirectory(prefix="driftloop-") as folder:
                path = Path(folder) / "retraining.yaml"
                compile_for(self._job, path)
                name = f"retraining-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
                found = self._ask(lambda: self._kfp.get_pipeline_id(name))
                pipeline_id = found or self._ask(lambda: self._kfp.upload_pipeline(str(path), name)).pipeline_id
            versions = self._ask(lambda: self._kfp.list_pipeline_versions(pipeline_id).pipeline_versions)
            self._uploaded = pipeline_id, versions[0].pipeline_version_id
        return self._uploaded

    def _terminate(self, run_id: str) -> None:
        self._ask(lambda: self._kfp.terminate_run(run_id))

    def _ask(self, call: Callable[[], Any]) -> Any:
        """The API's answer; raises DriftloopError where there is none or a refusal."""
        try:
            return call()
        except kfp_server_api.ApiException as error:
            raise DriftloopError(
                f"{error.status} {error.reason}", where=f"Kubeflow Pipelines at {self._url}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise DriftloopError(f"cannot be reached: {error}", where=f"Kubeflow Pipelines at {self._url}") from error


def compile_for(job: dict[str, Any], path: Path) -> None:
    """Compile the pipeline so that each task runs as the container of `job` does, but for its command."""
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    resources = container["resources"]
    in_configs = {volume["name"]: volume["configMap"] for volume in pod.get("volumes", []) if "configMap" in volume}
    in_secrets = {volume["name"]: volume["secret"] for volume in pod.get("volumes", []) if "secret" in volume}

    def fit(task: Any) -> None:
        task.set_container_image(container["image"])
        task.set_memory_request(resources["requests"]["memory"]).set_memory_limit(resources["limits"]["memory"])
        task.set_cpu_request(resources["requests"]["cpu"])
        keys = []
        for variable in container["env"]:
            if "value" in variable:
                task.set_env_variable(variable["name"], variable["value"])
            else:
                keys.append((variable["name"], variable["valueFrom"]["secretKeyRef"]))
        # What the package kfp-kubernetes would write, which knows these alone.
        task.platform_config["kubernetes"] = {
            "secretAsEnv": [
                {"secretName": key["name"], "keyToEnv": [{"secretKey": key["key"], "envVar": name}]}
                for name, key in keys
            ],
            "secretAsVolume": [
                {"secretName": in_secrets[mount["name"]]["secretName"], "mountPath": mount["mountPath"]}
                for mount in container.get("volumeMounts", [])
                if mount["name"] in in_secrets
            ],
            "configMapAsVolume": [
                {"configMapName": in_configs[mount["name"]]["name"], "mountPath": mount["mountPath"]}
                for mount in container.get("volumeMounts", [])
                if mount["name"] in in_configs
            ],
            "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
        }

    pipeline.compile_to(path, fit)


def describe(run: Any) -> str:
    """Why a run ended without success, in words: its steps' errors before its own."""
    tasks = (run.run_details.task_details if run.run_details else None) or []
    told = [
        f"step {task.display_name}: {task.error.message}"
        for task in tasks
        if task.state == "FAILED" and task.error is not None and task.error.message
    ]
    own = run.error.message if run.error is not None and run.error.message else f"the run ended as {run.state}"
    return "\n".join([*told, own])
