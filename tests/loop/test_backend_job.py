"""Pipelines as Kubernetes Jobs, through the real client, against an API that a test holds in its hands."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("kubernetes")

from kubernetes import client

from driftloop.errors import DriftloopError
from driftloop.loop.api.service import choose_backend
from driftloop.loop.jobs import kubernetes as backend_job
from driftloop.loop.jobs.kubernetes import LABEL, JobBackend
from driftloop.loop.jobs.local import Ended, Job, Runs
from driftloop.settings import Settings

from .fakes import Clock
from .kubernetes_api import JOBS, FakeKubernetes, serve

TEMPLATE = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {
        "namespace": "serving",
        "labels": {"app": "pipeline"},
        "annotations": {"driftloop/start-within-seconds": "600"},
    },
    "spec": {
        "backoffLimit": 0,
        "activeDeadlineSeconds": 7200,
        "template": {
            "metadata": {"labels": {"app": "pipeline"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "pipeline", "image": "trainer:1"}]},
        },
    },
}
RUNS = Runs(["eng-1"]).packed()
RUN = Job("20261121T134612000001", "fleet_change:1", "1", "warm_start", RUNS)
NAME = "retraining-20261121t134612000001"
FAILED_STEP = """the retrainer at http://retrainer:8600 did not take the event step_started
Traceback (most recent call last):
  File "steps.py", line 9, in train
driftloop.errors.DataError: archive: run eng-7 is damaged
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "job.yml").write_text(yaml.safe_dump(TEMPLATE))
    return tmp_path / "job.yml"


@pytest.fixture
def api() -> Iterator[FakeKubernetes]:
    with serve(FakeKubernetes()) as fake:
        yield fake


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(template: Path, api: FakeKubernetes, clock: Clock) -> JobBackend:
    return another(template, api, clock)


def another(template: Path, api: FakeKubernetes, clock: Clock) -> JobBackend:
    settings = client.Configuration(host=api.url)
    settings.retries = False
    return JobBackend(template, client.ApiClient(settings), clock)


def look(backend: JobBackend, clock: Clock) -> Ended | None:
    clock.now += 1
    return backend.poll()


def test_a_run_is_a_job_made_from_the_template(backend: JobBackend, api: FakeKubernetes, clock: Clock) -> None:
    backend.prepare()
    backend.start(RUN)
    made = api.jobs[NAME]
    assert made["metadata"]["name"] == NAME
    assert made["metadata"]["namespace"] == "serving"
    assert made["metadata"]["labels"] == {"app": "pipeline", LABEL: RUN.run}
    pod = made["spec"]["template"]
    assert pod["metadata"]["labels"] == {"app": "pipeline", LABEL: RUN.run}
    [container] = pod["spec"]["containers"]
    assert container["image"] == "trainer:1"
    assert json.loads(container["args"][0]) == {
        "run": RUN.run,
        "cause": "fleet_change:1",
        "champion": "1",
        "mode": "warm_start",
        "runs": RUNS,
    }
    assert look(backend, clock) is None
    api.condition(NAME, "Complete")
    assert look(backend, clock) == Ended(True)
    assert not look(backend, clock).succeeded  # type: ignore[union-attr]


def test_two_runs_do_not_change_the_template(backend: JobBackend, api: FakeKubernetes) -> None:
    backend.start(RUN)
    backend.start(Job("20261121T999999000000", "fleet_change:2", "2", "full", RUNS))
    assert [
        json.loads(job["spec"]["template"]["spec"]["containers"][0]["args"][0])["mode"] for job in api.jobs.values()
    ] == [
        "warm_start",
        "full",
    ]


def test_the_api_is_not_asked_more_often_than_needed(backend: JobBackend, api: FakeKubernetes, clock: Clock) -> None:
    backend.start(RUN)
    before = len(api.calls)
    for _ in range(20):
        clock.now += 0.05
        assert backend.poll() is None
    assert len(api.calls) - before <= 3


def test_a_failed_job_says_what_its_step_raised_and_leaves_the_log(
    backend: JobBackend, api: FakeKubernetes, clock: Clock
) -> None:
    backend.start(RUN)
    api.pod(NAME, {"terminated": {"exitCode": 1, "reason": "Error"}}, FAILED_STEP)
    api.condition(NAME, "Failed", "Job has reached the specified backoff limit")
    outcome = look(backend, clock)
    assert outcome is not None
    assert not outcome.succeeded
    assert outcome.error is not None
    lines = outcome.error.splitlines()
    assert lines[0] == "DataError: archive: run eng-7 is damaged"
    assert lines[1] == (
        "the Job failed: Job has reached the specified backoff limit; its pod ended with Error, exit code 1"
    )
    assert lines[2].endswith("did not take the event step_started")


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, {}, "its pod ended with OOMKilled, exit code 137"),
        (
            {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}},
            {},
            "its pod waited: ErrImageNeverPull",
        ),
        (
            {},
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}]},
            "its pod found no node: Insufficient memory",
        ),
        ({}, {"reason": "Evicted", "message": "low on memory"}, "its pod was Failed Evicted low on memory"),
    ],
)
def test_a_pod_that_did_not_run_to_its_end_says_why(
    backend: JobBackend, api: FakeKubernetes, clock: Clock, state: dict, status: dict, said: str
) -> None:
    backend.start(RUN)
    api.pod(NAME, state, **status)
    api.condition(NAME, "Failed", "DeadlineExceeded")
    outcome = look(backend, clock)
    assert outcome is not None
    assert outcome.error is not None
    assert said in outcome.error.splitlines()[0]


def test_a_failed_job_without_a_pod_or_a_log_still_fails(
    backend: JobBackend, api: FakeKubernetes, clock: Clock
) -> None:
    backend.start(RUN)
    api.condition(NAME, "Failed", "DeadlineExceeded")
    assert look(backend, clock) == Ended(False, "the Job failed: DeadlineExceeded; its pod is gone")
    backend.start(Job("r2", "fleet_change:1", "1", "full", RUNS))
    api.pod("retraining-r2", {"terminated": {"exitCode": 1, "reason": "Error"}})
    api.logs.clear()
    api.condition("retraining-r2", "Failed", "failed")
    outcome = look(backend, clock)
    assert outcome is not None
    assert outcome.error == "the Job failed: failed; its pod ended with Error, exit code 1"


def test_stopping_deletes_the_job_with_its_pod(backend: JobBackend, api: FakeKubernetes, clock: Clock) -> None:
    backend.stop()
    backend.start(RUN)
    backend.stop()
    assert api.jobs == {}
    assert api.deletions == [{"name": NAME, "propagationPolicy": "Foreground"}]
    assert look(backend, clock) == Ended(False, "the pipeline is not running")


def test_a_job_that_is_gone_is_a_failure(backend: JobBackend, api: FakeKubernetes, clock: Clock) -> None:
    backend.start(RUN)
    del api.jobs[NAME]
    assert look(backend, clock) == Ended(False, f"the Job {NAME} was deleted while it ran")


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (None, "it has no pod"),
        (
            {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
            "its pod waited: ErrImagePull no such image",
        ),
    ],
)
def test_a_job_that_stays_pending_does_not_hold_the_loop(
    backend: JobBackend, api: FakeKubernetes, clock: Clock, pod: dict | None, said: str
) -> None:
    backend.start(RUN)
    if pod is not None:
        api.pod(NAME, pod, phase="Pending")
    clock.now += 598
    assert look(backend, clock) is None
    clock.now += 5
    assert look(backend, clock) == Ended(False, f"the Job did not start within 600 s; {said}; it was deleted")
    assert api.jobs == {}


def test_a_job_whose_controller_is_away_ends_soon_after_its_deadline(
    backend: JobBackend, api: FakeKubernetes, clock: Clock
) -> None:
    backend.start(RUN)
    api.pod(NAME, {"running": {}}, phase="Running")
    clock.now += 7300
    assert look(backend, clock) is None
    clock.now += 100
    assert look(backend, clock) == Ended(False, "the Job did not end within 7200 s; it was deleted")
    assert api.jobs == {}


def test_limits_that_are_no_seconds_are_refused() -> None:
    for limits in (
        {"metadata": {"annotations": {backend_job.START_LIMIT: "soon"}}},
        {"spec": {"activeDeadlineSeconds": 0}},
    ):
        template = {"metadata": {}, "spec": {}} | limits
        with pytest.raises(DriftloopError, match="cannot be used"):
            backend_job.limits_of(template)
    assert backend_job.limits_of({"metadata": {}, "spec": {}}) == (
        backend_job.DEFAULT_START_S,
        backend_job.DEFAULT_RUN_S,
    )


def test_the_next_retrainer_takes_a_job_over(
    backend: JobBackend, template: Path, api: FakeKubernetes, clock: Clock
) -> None:
    backend.start(RUN)
    backend.leave()
    assert NAME in api.jobs
    following = another(template, api, clock)
    assert following.adopt(RUN.run)
    assert look(following, clock) is None
    api.condition(NAME, "Complete")
    assert look(following, clock) == Ended(True)
    assert not following.adopt("another")
    assert not following.adopt("")


def test_what_an_earlier_retrainer_left_is_cleared_and_ended_jobs_stay(
    backend: JobBackend, template: Path, api: FakeKubernetes, clock: Clock
) -> None:
    backend.start(RUN)
    backend.start(Job("ended", "fleet_change:1", "1", "full", RUNS))
    api.condition("retraining-ended", "Failed")
    api.jobs["minio-setup"] = {"metadata": {"name": "minio-setup", "labels": {}}, "status": {}}
    another(template, api, clock).clear()
    assert set(api.jobs) == {"retraining-ended", "minio-setup"}


def test_jobs_that_do_not_end_are_named(backend: JobBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.start(RUN)
    monkeypatch.setattr(backend, "_delete", lambda _: None)
    monkeypatch.setattr(backend_job.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + 10 * seconds))
    with pytest.raises(DriftloopError, match=f"do not end: {NAME}"):
        backend.clear()


@pytest.mark.parametrize("status", [403, 500, 422])
def test_a_refused_job_is_the_runs_outcome(backend: JobBackend, api: FakeKubernetes, clock: Clock, status: int) -> None:
    api.errors = [status]
    backend.start(RUN)
    assert look(backend, clock) == Ended(
        False, f"the Kubernetes API did not make the Job: {status} the API answers {status}"
    )


def test_a_job_whose_making_was_answered_too_late_goes_on(
    backend: JobBackend, api: FakeKubernetes, clock: Clock
) -> None:
    api.lose_answers = True
    backend.start(RUN)
    assert look(backend, clock) is None
    api.lose_answers = False
    backend.start(RUN)  # 409
    assert api.calls[-1] == ("POST", JOBS)
    assert look(backend, clock) is None


def test_an_api_that_cannot_be_used_is_an_error_and_not_an_outcome(
    backend: JobBackend, api: FakeKubernetes, clock: Clock
) -> None:
    backend.start(RUN)
    for status, said in ((403, "playbook 14"), (500, "500 the API answers 500"), (0, "cannot be reached")):
        api.errors = [status]
        with pytest.raises(DriftloopError, match=said):
            look(backend, clock)
    api.errors = [500]
    with pytest.raises(DriftloopError):
        backend.adopt(RUN.run)
    api.condition(NAME, "Complete")
    assert look(backend, clock) == Ended(True)


def test_an_api_that_is_away_is_an_error(template: Path, clock: Clock) -> None:
    nowhere = FakeKubernetes()
    nowhere.url = "http://127.0.0.1:9"
    backend = another(template, nowhere, clock)
    backend.start(RUN)
    with pytest.raises(DriftloopError, match="cannot be reached"):
        look(backend, clock)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kind: Pod\n", "it is a Pod, not a Job"),
        ("kind: Job\nmetadata: {}\n", "KeyError"),
        ("[1", "Error"),
        (
            yaml.safe_dump({**TEMPLATE, "spec": {"template": {"metadata": {}, "spec": {"containers": []}}}}),
            "exactly one",
        ),
        (yaml.safe_dump({**TEMPLATE, "metadata": {"namespace": ""}}), "names no namespace"),
    ],
)
def test_a_template_that_is_no_job_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "job.yml").write_text(content)
    with pytest.raises(DriftloopError, match=said):
        backend_job.read_template(tmp_path / "job.yml")


def test_the_setting_chooses_and_says_what_it_lacks(template: Path, tmp_path: Path) -> None:
    assert type(choose_backend(Settings(), tmp_path)).__name__ == "LocalBackend"
    with pytest.raises(DriftloopError, match="DRIFTLOOP_PIPELINE_JOB"):
        choose_backend(Settings(pipeline_backend="job"), tmp_path)
    with pytest.raises(DriftloopError, match="no pod that may use the Kubernetes API"):
        choose_backend(Settings(pipeline_backend="job", pipeline_job=template), tmp_path)
    with pytest.raises(DriftloopError, match="pipeline's Job cannot be used"):
        choose_backend(Settings(pipeline_backend="job", pipeline_job=tmp_path / "absent"), tmp_path)
