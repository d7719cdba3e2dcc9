"""A pipeline as a Kubernetes Job: one for each run, made from a template, its pod running driftloop.loop.jobs.driver.

What the run decided stands in the registry; the Job only says whether it ended well, and its log why it did not. The
Job goes on while the retrainer is away, and the next retrainer takes it over by its name, which is the run's.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from driftloop.durable import decode_json
from driftloop.errors import DriftloopError, JsonError
from driftloop.loop.jobs.local import LOG_BYTES, Ended, Job, failure

LABEL = "driftloop/pipeline"
"""Label of every Job and pod of a pipeline; its value is the run."""
START_LIMIT = "driftloop/start-within-seconds"
"""Annotation of the template: how long a run may wait for its pods."""
DEFAULT_START_S, DEFAULT_RUN_S = 1800.0, 14400.0
GRACE_S = 120.0
"""The Job's own deadline comes first: its controller says why it ended it."""
POLL_S = 0.5
CLEAR_S = 30.0
"""How long pods may take to end once their Jobs are deleted."""
_TIMEOUT_S = (3, 10)
_UNREACHABLE = (urllib3.exceptions.HTTPError, OSError)


class JobBackend:
    """Runs pipelines as Jobs like the one in the file `template`, in its namespace.

    Raises DriftloopError for a template that cannot be used, and from `poll`, `stop`, `adopt` and `clear` while the
    API cannot be used; asking again is right then.
    """

    def __init__(
        self, template: Path, api: client.ApiClient | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._template = read_template(template)
        self._limits = limits_of(self._template)
        self._namespace: str = self._template["metadata"]["namespace"]
        if api is None:
            try:
                config.load_incluster_config()
            except config.ConfigException as error:
                raise DriftloopError(
                    f"this is no pod that may use the Kubernetes API: {error}",
                    where="DRIFTLOOP_PIPELINE_BACKEND=job",
                    remedy="run the retrainer as playbook 14 does, or set it to local",
                ) from error
        self._jobs, self._pods = client.BatchV1Api(api), client.CoreV1Api(api)
        self._clock = clock
        self._name: str | None = None
        self._refused = ""
        self._next_look = self._began = 0.0
        self._pod_ran = False

    def prepare(self) -> None:
        """Nothing."""

    def expect(self) -> None:
        """Nothing: a pod that waits would hold memory to save seconds."""

    def start(self, job: Job) -> None:
        """Make the Job; a refusal is the run's outcome."""
        name = name_of(job.run)
        self._follow(name)
        manifest = copy.deepcopy(self._template)
        pod = manifest["spec"]["template"]
        for part in (manifest, pod):
            part["metadata"]["labels"] = {**part["metadata"].get("labels", {}), LABEL: job.run}
        manifest["metadata"]["name"] = name
        pod["spec"]["containers"][0]["args"] = [msgspec.json.encode(job).decode()]
        try:
            self._jobs.create_namespaced_job(self._namespace, manifest, _request_timeout=_TIMEOUT_S)
        except ApiException as error:
            # 409: it was made by a call whose answer was lost.
            if error.status != 409:
                self._refused = f"the Kubernetes API did not make the Job: {_said(error)}"
        except _UNREACHABLE as error:
            # It may have been made all the same: `poll` finds out.
            self._refused = f"the Kubernetes API could not be reached: {error}"

    def poll(self) -> Ended | None:
        """None while the Job goes on and keeps its limits; looks at most every half second."""
        if self._name is None:
            return Ended(False, "the pipeline is not running")
        if self._clock() < self._next_look:
            return None
        self._next_look = self._clock() + POLL_S
        job = self._read(self._name)
        if job is None:
            outcome = Ended(False, self._refused or f"the Job {self._name} was deleted while it ran")
        else:
            ended = {item.type: item for item in job.status.conditions or [] if item.status == "True"}
            if "Complete" in ended:
                outcome = Ended(True)
            elif "Failed" in ended:
                outcome = self._failure(ended["Failed"])
            else:
                overdue = self._overdue(self._name)
                if overdue is None:
                    return None
                self._delete(self._name)
                outcome = Ended(False, overdue)
        self._name = None
        return outcome

    def stop(self) -> None:
        """Delete the Job with its pod."""
        if self._name is not None:
            self._delete(self._name)
        self._name = None

    def leave(self) -> None:
        """Let the Job go on: the next retrainer takes it over."""
        self._name = None

    def adopt(self, run: str) -> bool:
        """Take over the Job of a run, whether it goes on or has ended; its limits begin anew."""
        if not run or self._read(name_of(run)) is None:
            return False
        self._follow(name_of(run))
        return True

    def clear(self) -> None:
        """Delete every Job that has not ended, and wait until it and its pods are gone; ended ones stay as evidence."""
        deadline = self._clock() + CLEAR_S
        deleted: set[str] = set()
        while left := self._running():
            for name in left - deleted:
                self._delete(name)
                deleted.add(name)
            if self._clock() > deadline:
                raise DriftloopError(
                    f"Jobs of earlier runs do not end: {', '.join(sorted(left))}",
                    where=f"namespace {self._namespace}",
                    remedy="look at them: kubectl describe jobs",
                )
            time.sleep(POLL_S)

    def _follow(self, name: str) -> None:
        self._name, self._refused, self._next_look = name, "", 0.0
        self._began, self._pod_ran = self._clock(), False

    def _overdue(self, name: str) -> str | None:
        """Which limit a Job that goes on has reached, in words; None where none.

        A Job's own deadline counts only while its controller does, and is hours long: a pod that never starts would
        hold the loop all that time.
        """
        passed = self._clock() - self._began
        if passed > self._limits.run_s + GRACE_S:
            return f"the Job did not end within {self._limits.run_s:.0f} s; it was deleted"
        if self._pod_ran or passed <= self._limits.start_s:
            return None
        pod = self._pod_of(name)
        self._pod_ran = pod is not None and pod.status.phase not in ("Pending", "Unknown", None)
        if self._pod_ran:
            return None
        why = "it has no pod" if pod is None else describe(pod)
        return f"the Job did not start within {self._limits.start_s:.0f} s; {why}; it was deleted"

    def _running(self) -> set[str]:
        found = self._ask(
            lambda: (
                self._jobs.list_namespaced_job(self._namespace, label_selector=LABEL, _request_timeout=_TIMEOUT_S).items
            )
        )
        ends = ("Complete", "Failed")
        return {
            job.metadata.name
            for job in found
            if not any(item.type in ends and item.status == "True" for item in job.status.conditions or [])
        }

    def _read(self, name: str) -> Any:
        """The Job; None where there is none."""
        return self._ask(
            lambda: self._jobs.read_namespaced_job(name, self._namespace, _request_timeout=_TIMEOUT_S), absent=None
        )

    def _delete(self, name: str) -> None:
        # In the foreground: the Job is there until its pods are gone.
        options = client.V1DeleteOptions(propagation_policy="Foreground")
        self._ask(
            lambda: self._jobs.delete_namespaced_job(name, self._namespace, body=options, _request_timeout=_TIMEOUT_S),
            absent=None,
        )

    def _failure(self, condition: Any) -> Ended:
        """Why the Job failed, with the end of its pod's log where it has one."""
        how = f"the Job failed: {condition.message or condition.reason}"
        pod = self._pod_of(self._name)
        if pod is None:
            return Ended(False, f"{how}; its pod is gone")
        return failure(f"{how}; {describe(pod)}", self._log(pod.metadata.name))

    def _pod_of(self, job: str | None) -> Any:
        """The Job's newest pod; None where it has none."""
        pods = self._ask(
            lambda: (
                self._pods.list_namespaced_pod(
                    self._namespace, label_selector=f"job-name={job}", _request_timeout=_TIMEOUT_S
                ).items
            )
        )
        return max(pods, key=lambda each: each.metadata.creation_timestamp, default=None)

    def _log(self, pod: str) -> str:
        try:
            text: str = self._pods.read_namespaced_pod_log(
                pod, self._namespace, tail_lines=2000, limit_bytes=10 * LOG_BYTES, _request_timeout=_TIMEOUT_S
            )
        except (ApiException, *_UNREACHABLE):
            # A log that cannot be read leaves what the Job and the pod say.
            return ""
        return text[-LOG_BYTES:]

    def _ask(self, call: Callable[[], Any], **absent: None) -> Any:
        """The API's answer; `absent` for one of 404, where given. Raises DriftloopError for every other error."""
        try:
            return call()
        except ApiException as error:
            if error.status == 404 and absent:
                return absent["absent"]
            remedy = "apply playbook 14 again: it gives the retrainer its role" if error.status == 403 else None
            raise DriftloopError(_said(error), where="the Kubernetes API", remedy=remedy) from error
        except _UNREACHABLE as error:
            raise DriftloopError(f"cannot be reached: {error}", where="the Kubernetes API") from error


def read_template(path: Path) -> dict[str, Any]:
    """The Job in a file, as YAML or JSON; raises DriftloopError where it is none that a run can be made from."""
    try:
        template: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        wrong = _wrong_with(template)
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError) as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        raise DriftloopError(
            f"the template of the pipeline's Job cannot be used: {wrong}",
            where=str(path),
            remedy="set DRIFTLOOP_PIPELINE_JOB to a Job with a namespace and one container; see files/retraining",
        )
    return template


def _wrong_with(template: dict[str, Any]) -> str:
    if template["kind"] != "Job":
        return f"it is a {template['kind']}, not a Job"
    pod = template["spec"]["template"]
    if not template["metadata"]["namespace"] or not isinstance(pod["metadata"], dict):
        return "it names no namespace, or its pod has no metadata"
    return "" if len(pod["spec"]["containers"]) == 1 else "it has not exactly one container"


class Limits(NamedTuple):
    """How long a run may take, in seconds."""

    start_s: float
    """Until its pod runs."""
    run_s: float
    """From its start to its end."""


def limits_of(template: dict[str, Any]) -> Limits:
    """The limits that a template names, or the usual ones; raises DriftloopError for what is no number of seconds."""
    given = (template["metadata"].get("annotations") or {}).get(START_LIMIT, DEFAULT_START_S)
    deadline = template["spec"].get("activeDeadlineSeconds", DEFAULT_RUN_S)
    try:
        limits = Limits(float(given), float(deadline))
        if min(limits) <= 0:
            raise ValueError("they must be above zero")
    except (TypeError, ValueError) as error:
        raise DriftloopError(
            f"the limits of the pipeline's Job cannot be used: {START_LIMIT} is {given!r},"
            f" activeDeadlineSeconds {deadline!r}: {error}",
            where="DRIFTLOOP_PIPELINE_JOB",
            remedy="set both to seconds",
        ) from error
    return limits


def name_of(run: str) -> str:
    """Name of a run's Job."""
    return f"retraining-{run.lower()}"


def describe(pod: Any) -> str:
    """What a pod says of itself, in words: how it ended, or what it waits for."""
    for container in pod.status.container_statuses or []:
        if container.state.terminated is not None:
            ended = container.state.terminated
            return f"its pod ended with {ended.reason or 'no reason'}, exit code {ended.exit_code}"
        if container.state.waiting is not None:
            waits = container.state.waiting
            return f"its pod waited: {waits.reason} {waits.message or ''}".rstrip()
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"its pod found no node: {condition.message}"
    return f"its pod was {pod.status.phase} {pod.status.reason or ''} {pod.status.message or ''}".rstrip()


def _said(error: ApiException) -> str:
    """The API's own message where it has one."""
    try:
        message = decode_json(error.body, dict[str, Any])["message"]
    except (JsonError, TypeError, KeyError):
        message = error.reason
    return f"{error.status} {message}"
