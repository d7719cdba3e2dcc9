"""A pipeline on Kubeflow Pipelines: uploaded once for each content, then one run for each retraining.

Its step's pod gets image, environment, secrets and size from the same Job that driftloop.loop.jobs.kubernetes makes.
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
from driftloop.loop.jobs import components
from driftloop.loop.jobs.kubernetes import limits_of, read_template
from driftloop.loop.jobs.local import Ended, Job

EXPERIMENT = "driftloop"
POLL_S = 1.0
KEEP_RUNS = 20
"""Newest runs that people may still look at; older ones that have ended are deleted when another one starts."""
_PAGE = 100
_NOT_STARTED = ("PENDING", "RUNTIME_STATE_UNSPECIFIED", None)
_STOPPABLE = (*_NOT_STARTED, "RUNNING", "PAUSED")
_GOES_ON = (*_STOPPABLE, "CANCELING")
BAD_REQUEST, NOT_FOUND = 400, 404

log = logging.getLogger(__name__)


class KfpBackend:
    """Runs pipelines through the API of Kubeflow Pipelines at `url`.

    Raises DriftloopError for a template that cannot be used, and from `poll`, `stop`, `adopt` and `clear` while the
    API cannot be used; asking again is right then.
    """

    def __init__(self, template: Path, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = read_template(template)
        self._limits = limits_of(self._job)
        self._url, self._clock = url, clock
        self._uploaded: tuple[str, str] | None = None
        self._run: str | None = None
        self._refused = self._unsure = ""
        self._next_look = self._began = 0.0
        self._pending: dict[str, float] = {}
        """Since when which steps wait for their pods; the empty name is the run itself."""

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

    def expect(self) -> None:
        """Nothing: a pod that waits would hold memory to save seconds."""

    def start(self, job: Job) -> None:
        """Start a run; a refusal is its outcome."""
        self._forget()
        try:
            pipeline_id, version_id = self._upload()
            experiment = self._ask(lambda: self._kfp.create_experiment(EXPERIMENT))
            # An answer that is lost leaves a run that was made all the same: `poll` finds it by its name.
            self._unsure = job.run
            made = self._ask(
                lambda: self._kfp.run_pipeline(
                    experiment.experiment_id,
                    job.run,
                    params=msgspec.to_builtins(job),
                    pipeline_id=pipeline_id,
                    version_id=version_id,
                )
            )
            self._follow(made.run_id)
        except DriftloopError as error:
            self._refused = f"the run was not started: {error}"
            if _status(error) is not None:
                self._unsure = ""
        self._prune()

    def poll(self) -> Ended | None:
        """None while the run goes on and keeps its limits; looks at most once a second."""
        if self._run is None and self._unsure and not self.adopt(self._unsure):
            self._unsure = ""
        if self._run is None:
            return Ended(False, self._refused or "the pipeline is not running")
        if self._clock() < self._next_look:
            return None
        self._next_look = self._clock() + POLL_S
        run = self._read(self._run)
        if run is None:
            outcome = Ended(False, "the run was deleted while it went on")
        elif run.state in _GOES_ON:
            overdue = self._overdue(run)
            if overdue is None:
                return None
            self._terminate(self._run)
            outcome = Ended(False, overdue)
        else:
            outcome = Ended(True) if run.state == "SUCCEEDED" else Ended(False, describe(run))
        self._forget()
        return outcome

    def stop(self) -> None:
        """Terminate the run, also one that was made by a call whose answer was lost."""
        if self._run is None and self._unsure:
            self.adopt(self._unsure)
        if self._run is not None:
            self._terminate(self._run)
        self._forget()

    def leave(self) -> None:
        """Let the run go on: the next retrainer takes it over."""
        self._forget()

    def adopt(self, run: str) -> bool:
        """Take over a run, whether it goes on or has ended; its limits begin anew."""
        wanted = {"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": run}]}
        found = self._ask(lambda: self._kfp.list_runs(filter=json.dumps(wanted)).runs or []) if run else []
        if not found:
            return False
        self._follow(found[0].run_id)
        return True

    def clear(self) -> None:
        """Terminate every run of ours that has not ended and is not being terminated already."""
        for run in self._ours():
            if run.state in _STOPPABLE:
                self._terminate(run.run_id)

    def _forget(self) -> None:
        self._run, self._refused, self._unsure, self._next_look = None, "", "", 0.0

    def _follow(self, run_id: str) -> None:
        self._forget()
        self._run, self._began, self._pending = run_id, self._clock(), {}

    def _overdue(self, run: Any) -> str | None:
        """Which limit a run that goes on has reached, in words; None where none."""
        now = self._clock()
        waiting = {task.display_name for task in _tasks(run) if task.state in _NOT_STARTED}
        if run.state in _NOT_STARTED:
            waiting.add("")
        self._pending = {name: self._pending.get(name, now) for name in waiting}
        for name, since in sorted(self._pending.items(), key=lambda each: each[1]):
            if now - since > self._limits.start_s:
                what = f"step {name}" if name else "the run"
                return (
                    f"{what} did not start within {self._limits.start_s:.0f} s: its pod waits; the run was terminated"
                )
        if now - self._began > self._limits.run_s:
            return f"the run did not end within {self._limits.run_s:.0f} s; it was terminated"
        return None

    def _ours(self) -> list[Any]:
        """Every run of our experiment, newest first."""
        experiment = self._ask(lambda: self._kfp.create_experiment(EXPERIMENT))
        found: list[Any] = []
        token = ""
        while True:
            page = self._page(experiment.experiment_id, token)
            found += page.runs or []
            token = page.next_page_token or ""
            if not token:
                return found

    def _page(self, experiment: str, token: str) -> Any:
        return self._ask(
            lambda: self._kfp.list_runs(
                experiment_id=experiment, page_size=_PAGE, page_token=token, sort_by="created_at desc"
            )
        )

    def _prune(self) -> None:
        """Delete what has ended, but for the newest; the object store forgets their artifacts by itself."""
        try:
            for run in self._ours()[KEEP_RUNS:]:
                if run.state not in _GOES_ON:
                    self._ask(functools.partial(self._kfp.delete_run, run.run_id))
        except DriftloopError as error:
            # The next start tries again: a run that is too many does no harm.
            log.warning("old runs were not deleted: %s", error)

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

    def _read(self, run_id: str) -> Any:
        """The run; None where there is none."""
        try:
            return self._ask(lambda: self._kfp.get_run(run_id))
        except DriftloopError as error:
            if _status(error) == NOT_FOUND:
                return None
            raise

    def _terminate(self, run_id: str) -> None:
        """Terminate a run, unless it has ended or is being terminated meanwhile: the API refuses that.

        A refusal is never an error: asking again would be refused again, and the retrainer would wait for ever.
        """
        try:
            self._ask(lambda: self._kfp.terminate_run(run_id))
        except DriftloopError as error:
            if _status(error) not in (BAD_REQUEST, NOT_FOUND):
                raise
            run = self._read(run_id)
            if run is not None and run.state in _STOPPABLE:
                log.warning("run %s is %s and cannot be terminated: %s", run_id, run.state, error)

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
    """Compile the pipeline so that its task runs as the container of `job` does, but for its command."""
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

    components.compile_to(path, fit)


def describe(run: Any) -> str:
    """Why a run ended without success, in words: what failed of it, with the errors where it knows them, and its own.

    KFP 2.17 knows no step's error: collecting, training and evaluating report their own (driftloop.loop.steps).
    """
    failed = {task.display_name: _message(task) for task in _tasks(run) if task.state == "FAILED"}
    # The graph itself fails with its step.
    steps = {name: said for name, said in failed.items() if name == components.STEP} or failed
    told = [f"step {name}: {said or 'failed'}" for name, said in steps.items()]
    return "\n".join([*told, _message(run) or f"the run ended as {run.state}"])


def _tasks(run: Any) -> list[Any]:
    return (run.run_details.task_details if run.run_details else None) or []


def _message(of: Any) -> str:
    return of.error.message or "" if of.error is not None else ""


def _status(error: DriftloopError) -> int | None:
    """The status of an answer of the API; None where there was none."""
    cause = error.__cause__
    return cause.status if isinstance(cause, kfp_server_api.ApiException) else None
