"""Pipelines on Kubeflow Pipelines: compiled for real, run through the real client against an API that a test holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

pytest.importorskip("kfp")

from driftloop.errors import DriftloopError
from driftloop.loop.jobs import components, driver
from driftloop.loop.jobs import kfp as backend_kfp
from driftloop.loop.jobs.kfp import KfpBackend
from driftloop.loop.jobs.local import Ended, Job, Runs

from .fakes import Clock
from .kubernetes_api import FakePipelines, serve

TEMPLATE: dict[str, Any] = {
    "kind": "Job",
    "metadata": {"namespace": "serving", "annotations": {"driftloop/start-within-seconds": "600"}},
    "spec": {
        "activeDeadlineSeconds": 7200,
        "template": {
            "metadata": {},
            "spec": {
                "containers": [
                    {
                        "name": "pipeline",
                        "image": "localhost/driftloop/trainer:abc",
                        "imagePullPolicy": "IfNotPresent",
                        "env": [
                            {"name": "DRIFTLOOP_MLFLOW_URL", "value": "http://mlflow:5000"},
                            {
                                "name": "AWS_ACCESS_KEY_ID",
                                "valueFrom": {"secretKeyRef": {"name": "archive", "key": "access-key"}},
                            },
                        ],
                        "resources": {"requests": {"cpu": "100m", "memory": "768Mi"}, "limits": {"memory": "3Gi"}},
                        "volumeMounts": [
                            {"name": "tmp", "mountPath": "/tmp"},
                            {"name": "token", "mountPath": "/secrets/token"},
                            {"name": "fleet", "mountPath": "/fleet"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "token", "secret": {"secretName": "retrainer-token"}},
                    {"name": "fleet", "configMap": {"name": "driftloop-fleet-abc"}},
                ],
            },
        },
    },
}
RUNS = Runs(["eng-1"]).packed()
RUN = Job("20261121T134612000001", "fleet_change:1", "1", "warm_start", RUNS)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "job.yml").write_text(yaml.safe_dump(TEMPLATE))
    return tmp_path / "job.yml"


@pytest.fixture
def api() -> Iterator[FakePipelines]:
    with serve(FakePipelines()) as fake:
        yield fake


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(
    template: Path, api: FakePipelines, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> KfpBackend:
    # The client keeps its settings there.
    monkeypatch.setenv("HOME", str(tmp_path))
    return KfpBackend(template, api.url, clock)


def look(backend: KfpBackend, clock: Clock) -> Ended | None:
    clock.now += 2
    return backend.poll()


def compiled(folder: Path) -> tuple[Any, Any]:
    path = folder / "pipeline.yaml"
    backend_kfp.compile_for(TEMPLATE, path)
    assert "python:3.11" not in path.read_text()
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform


def pods(spec: Any) -> int:
    """How many a run starts: one that decides about each graph, and two for each step, to decide and to work."""
    graphs = [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]
    return len(graphs) + 2 * len(spec["deploymentSpec"]["executors"])


def test_the_step_runs_our_image_with_its_environment_and_size(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path)
    [(name, executor)] = spec["deploymentSpec"]["executors"].items()
    container = executor["container"]
    assert container["image"] == "localhost/driftloop/trainer:abc"
    assert not any("pip install" in part for part in container["command"])
    assert {"name": "DRIFTLOOP_MLFLOW_URL", "value": "http://mlflow:5000"} in container["env"]
    assert container["resources"]["memoryLimit"] == pytest.approx(3 * 2**30 / 1e9)
    assert container["resources"]["memoryRequest"] == pytest.approx(768 * 2**20 / 1e9)
    assert container["resources"]["cpuRequest"] == pytest.approx(0.1)
    assert platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][name] == {
        "imagePullPolicy": "IfNotPresent",
        "secretAsEnv": [
            {"secretName": "archive", "keyToEnv": [{"secretKey": "access-key", "envVar": "AWS_ACCESS_KEY_ID"}]}
        ],
        "secretAsVolume": [{"secretName": "retrainer-token", "mountPath": "/secrets/token"}],
        "configMapAsVolume": [{"configMapName": "driftloop-fleet-abc", "mountPath": "/fleet"}],
    }


def test_a_retraining_is_one_step_and_starts_three_pods(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path)
    assert pods(spec) == 3
    [(name, task)] = spec["root"]["dag"]["tasks"].items()
    assert name == components.STEP
    assert not task.get("cachingOptions")
    # Nothing goes through the object store.
    assert "artifacts" not in str(spec["components"])


def test_the_step_is_what_kubeflow_runs_with_the_jobs_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[Job, bool]] = []
    monkeypatch.setattr(driver, "run_at_once", lambda folder, job: ran.append((job, folder.is_dir())))
    spec, _ = compiled(tmp_path)
    [executor] = spec["deploymentSpec"]["executors"].values()
    source = executor["container"]["command"][-1]
    here: dict[str, Any] = {}
    exec(source, here)
    here[components.STEP](**msgspec.to_builtins(RUN))
    assert ran == [(RUN, True)]


def test_a_pipeline_is_uploaded_once_for_its_content(
    backend: KfpBackend, template: Path, api: FakePipelines, clock: Clock
) -> None:
    backend.prepare()
    backend.start(RUN)
    KfpBackend(template, api.url, clock).start(RUN)
    [name] = api.pipelines
    assert name.startswith("retraining-")
    assert [path for _, path in api.calls].count("/apis/v2beta1/pipelines/upload") == 1


def test_a_run_is_started_followed_and_ends(backend: KfpBackend, api: FakePipelines, clock: Clock) -> None:
    assert look(backend, clock) == Ended(False, "the pipeline is not running")
    backend.start(RUN)
    [run] = api.runs.values()
    assert run["display_name"] == RUN.run
    assert run["runtime_config"]["parameters"] == {
        "run": RUN.run,
        "cause": "fleet_change:1",
        "champion": "1",
        "mode": "warm_start",
        "runs": RUNS,
    }
    assert run["pipeline_version_reference"] == {"pipeline_id": "p0", "pipeline_version_id": "p0-v"}
    for state in ("PENDING", "RUNNING"):
        run["state"] = state
        assert look(backend, clock) is None
    run["state"] = "SUCCEEDED"
    assert look(backend, clock) == Ended(True)


def test_a_failed_run_names_its_step_although_the_server_tells_no_error_of_theirs(
    backend: KfpBackend, api: FakePipelines, clock: Clock
) -> None:
    backend.start(RUN)
    api.runs["run0"]["state"] = "FAILED"
    api.tasks("run0", root="FAILED", retrain="FAILED")
    assert look(backend, clock) == Ended(False, "step retrain: failed\nthe run ended as FAILED")
    backend.start(RUN)
    api.runs["run1"]["state"] = "FAILED"
    api.tasks("run1", **{"root": "FAILED", "root-driver": "FAILED"})
    assert look(backend, clock) == Ended(False, "step root: failed\nstep root-driver: failed\nthe run ended as FAILED")


def test_a_server_that_knows_why_is_quoted(backend: KfpBackend, api: FakePipelines, clock: Clock) -> None:
    backend.start(RUN)
    api.runs["run0"] |= {"state": "FAILED", "error": {"code": 13, "message": "node lost"}}
    api.tasks("run0", retrain="FAILED")
    api.runs["run0"]["run_details"]["task_details"][0]["error"] = {"code": 13, "message": "OOMKilled"}
    assert look(backend, clock) == Ended(False, "step retrain: OOMKilled\nnode lost")


def test_stopping_and_clearing_terminate_what_can_be_and_nothing_else(backend: KfpBackend, api: FakePipelines) -> None:
    backend.stop()
    backend.start(RUN)
    backend.stop()
    backend.start(RUN)
    api.runs["run1"]["state"] = "SUCCEEDED"
    backend.start(RUN)
    backend.clear()
    backend.clear()
    assert [run["state"] for run in api.runs.values()] == ["CANCELING", "SUCCEEDED", "CANCELING"]
    assert [path.rpartition("/")[2] for _, path in api.calls if path.endswith(":terminate")] == [
        "run0:terminate",
        "run2:terminate",
    ]


@pytest.mark.parametrize("act", ["stop", "clear"])
def test_a_run_that_ends_before_it_is_terminated_is_no_error(backend: KfpBackend, api: FakePipelines, act: str) -> None:
    backend.start(RUN)
    api.ends_meanwhile = True
    getattr(backend, act)()
    assert api.runs["run0"]["state"] == "SUCCEEDED"


def test_a_run_that_is_gone_before_it_is_terminated_is_no_error(backend: KfpBackend, api: FakePipelines) -> None:
    backend.start(RUN)
    api.runs.clear()
    backend.stop()
    assert backend.poll() == Ended(False, "the pipeline is not running")


def test_a_run_that_cannot_be_terminated_does_not_hold_the_retrainer(
    backend: KfpBackend, api: FakePipelines, caplog: pytest.LogCaptureFixture
) -> None:
    backend.start(RUN)
    api.runs["run0"]["state"] = "RUNTIME_STATE_UNSPECIFIED"
    backend.clear()
    assert "run0 is RUNTIME_STATE_UNSPECIFIED and cannot be terminated" in caplog.text


def test_an_api_that_is_away_while_a_run_is_terminated_is_an_error(backend: KfpBackend, api: FakePipelines) -> None:
    backend.start(RUN)
    api.errors = [500]
    with pytest.raises(DriftloopError, match="500"):
        backend.stop()
    backend.stop()
    assert api.runs["run0"]["state"] == "CANCELING"


def test_clearing_looks_at_every_page(backend: KfpBackend, api: FakePipelines) -> None:
    api.page = 2
    for _ in range(5):
        backend.start(RUN)
    backend.clear()
    assert {run["state"] for run in api.runs.values()} == {"CANCELING"}


@pytest.mark.parametrize(
    ("state", "tasks", "waits"),
    [
        ("PENDING", {}, "the run did not start within 600 s"),
        ("RUNTIME_STATE_UNSPECIFIED", {}, "the run did not start within 600 s"),
        ("RUNNING", {"root": "RUNNING", "retrain": "PENDING"}, "step retrain did not start within 600 s"),
    ],
)
def test_a_pod_that_never_starts_does_not_hold_the_loop(
    backend: KfpBackend, api: FakePipelines, clock: Clock, state: str, tasks: dict[str, str], waits: str
) -> None:
    backend.start(RUN)
    api.runs["run0"]["state"] = state
    api.tasks("run0", **tasks)
    assert look(backend, clock) is None
    clock.now += 590
    assert look(backend, clock) is None
    clock.now += 20
    outcome = look(backend, clock)
    assert outcome == Ended(False, f"{waits}: its pod waits; the run was terminated")
    assert api.runs["run0"]["state"] in ("CANCELING", "RUNTIME_STATE_UNSPECIFIED")
    assert look(backend, clock) == Ended(False, "the pipeline is not running")


def test_each_task_may_wait_for_its_pod_anew(backend: KfpBackend, api: FakePipelines, clock: Clock) -> None:
    backend.start(RUN)
    api.runs["run0"]["state"] = "RUNNING"
    for states in ({"root": "PENDING"}, {"root": "RUNNING"}, {"root": "RUNNING", "retrain": "PENDING"}):
        api.tasks("run0", **states)
        clock.now += 500
        assert look(backend, clock) is None


def test_a_run_that_does_not_end_is_terminated_at_the_jobs_deadline(
    backend: KfpBackend, api: FakePipelines, clock: Clock
) -> None:
    backend.start(RUN)
    api.runs["run0"]["state"] = "RUNNING"
    clock.now += 7195
    assert look(backend, clock) is None
    clock.now += 10
    assert look(backend, clock) == Ended(False, "the run did not end within 7200 s; it was terminated")
    assert api.runs["run0"]["state"] == "CANCELING"


def test_a_run_that_stays_canceling_ends_at_its_deadline(backend: KfpBackend, api: FakePipelines, clock: Clock) -> None:
    backend.start(RUN)
    api.runs["run0"]["state"] = "CANCELING"
    clock.now += 7300
    outcome = look(backend, clock)
    assert outcome is not None
    assert not outcome.succeeded


def test_a_run_that_is_deleted_is_a_failure(backend: KfpBackend, api: FakePipelines, clock: Clock) -> None:
    backend.start(RUN)
    api.runs.clear()
    assert look(backend, clock) == Ended(False, "the run was deleted while it went on")


def test_a_run_whose_making_was_answered_too_late_goes_on(
    backend: KfpBackend, api: FakePipelines, clock: Clock
) -> None:
    backend.start(RUN)
    backend.stop()
    later = Job("20261121T134612000002", "fleet_change:1", "1", "warm_start", RUNS)
    experiment = backend._kfp.create_experiment
    api.lose_answers = False

    def lose(*arguments: Any) -> Any:
        made = experiment(*arguments)
        api.lose_answers = True
        return made

    backend._kfp.create_experiment = lose
    backend.start(later)
    backend._kfp.create_experiment = experiment
    api.lose_answers = False
    names = [run["display_name"] for run in api.runs.values()]
    assert names[-1] == later.run
    assert look(backend, clock) is None
    for run in api.runs.values():
        run["state"] = "SUCCEEDED"
    assert look(backend, clock) == Ended(True)


def test_a_run_whose_making_was_not_answered_is_terminated_too(
    backend: KfpBackend, api: FakePipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.prepare()
    experiment = backend._kfp.create_experiment
    made = experiment("driftloop")

    def lose(*_: Any) -> Any:
        api.lose_answers = True
        return made

    with monkeypatch.context() as patched:
        patched.setattr(backend._kfp, "create_experiment", lose)
        backend.start(RUN)
    api.lose_answers = False
    backend.stop()
    assert [(run["display_name"], run["state"]) for run in api.runs.values()] == [(RUN.run, "CANCELING")]


def test_old_runs_are_deleted_when_another_starts(backend: KfpBackend, api: FakePipelines) -> None:
    for _ in range(backend_kfp.KEEP_RUNS + 3):
        backend.start(RUN)
    assert len(api.runs) == backend_kfp.KEEP_RUNS + 3  # all of them go on
    for run in api.runs.values():
        run["state"] = "SUCCEEDED"
    backend.start(RUN)
    assert len(api.runs) == backend_kfp.KEEP_RUNS
    assert "run0" not in api.runs


def test_the_next_retrainer_takes_a_run_over(
    backend: KfpBackend, template: Path, api: FakePipelines, clock: Clock
) -> None:
    backend.start(RUN)
    backend.leave()
    following = KfpBackend(template, api.url, clock)
    assert following.adopt(RUN.run)
    assert not KfpBackend(template, api.url, clock).adopt("another")
    api.runs["run0"]["state"] = "SUCCEEDED"
    assert look(following, clock) == Ended(True)


def test_a_refusal_at_the_start_is_the_outcome_and_later_an_error(
    backend: KfpBackend, api: FakePipelines, clock: Clock
) -> None:
    api.errors = [500]
    backend.prepare()
    api.errors = [403]
    backend.start(RUN)
    outcome = look(backend, clock)
    assert outcome is not None
    assert outcome.error is not None
    assert "the run was not started: " in outcome.error
    assert "403" in outcome.error
    backend.start(RUN)
    api.errors = [500]
    with pytest.raises(DriftloopError, match="500"):
        look(backend, clock)
    assert look(backend, clock) is None
