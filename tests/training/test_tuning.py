"""`driftloop tune` by the real command on a small simulated fleet: workers, one of them killed, and the next call."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import optuna
import pytest
from sqlalchemy.exc import IntegrityError

from driftloop.errors import DriftloopError
from driftloop.fleet.archive import open_archive
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.settings import Settings
from driftloop.training import tuning
from driftloop.training.tuning import Budget
from made_up import fleet

COMMAND = (sys.executable, "-m", "driftloop.cli", "tune", "--study", "small", "--folds", "2", "--steps", "24")
pytestmark = [pytest.mark.timeout(1200)]


class Tuning:
    """A state folder with archived runs, and the command in it."""

    def __init__(self, folder: Path, mlflow_url: str) -> None:
        self.folder, self.mlflow_url = folder, mlflow_url
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DRIFTLOOP_")},
            "DRIFTLOOP_STATE_DIR": str(folder / "state"),
            "DRIFTLOOP_MLFLOW_URL": mlflow_url,
            "DRIFTLOOP_MODEL_NAME": "tuned",
            "DRIFTLOOP_STUDY_GRACE_S": "12",
        }
        self.settings = Settings(state_dir=folder / "state", mlflow_url=mlflow_url, study_grace_s=12)
        # Judging engines that cannot be read show that nobody reads them.
        archive = folder / "state" / "archive"
        runs = fleet(per_role=6)
        open_archive(archive, SCHEMA).add_all(runs)
        for run in runs:
            if run.role in ("gate", "live"):
                (archive / f"{run.run_id}.npy").write_bytes(b"damaged")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments, "--output", str(self.folder / "out")],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=1000)
        print(out, err)
        return process.returncode, out

    @property
    def study(self) -> optuna.Study:
        return tuning.open_study(self.settings, "small")

    def left_a_trial(self) -> bool:
        """Whether a trial counts as left by its worker: it has been silent for longer than the grace, or was failed."""
        study = self.study
        storage = getattr(study._storage, "_backend", study._storage)
        failed = any(trial.state is optuna.trial.TrialState.FAIL for trial in study.get_trials())
        return failed or bool(storage._get_stale_trial_ids(study._study_id))

    def mlflow_runs(self) -> list[dict[str, Any]]:
        api = f"{self.mlflow_url}/api/2.0/mlflow"
        name = {"experiment_name": "tuned-tuning"}
        found = httpx.get(f"{api}/experiments/get-by-name", params=name, trust_env=False)
        if found.status_code == httpx.codes.NOT_FOUND:
            return []
        body = {"experiment_ids": [found.json()["experiment"]["experiment_id"]], "max_results": 1000}
        return list(httpx.post(f"{api}/runs/search", json=body, trust_env=False).json().get("runs", []))


def wait(condition: Callable[[], Any], limit_s: float = 600.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str) -> Tuning:
    """A study that two workers began, of which one was killed in the middle of a trial, and that was then resumed."""
    one = Tuning(tmp_path_factory.mktemp("tuning"), mlflow_url)
    process = one.start("--workers", "2", "--trials", "6", "--json")

    def at_work() -> list[int]:
        """The workers in the middle of a trial: it has been judged once, and its MLflow run has not ended."""
        runs = [run for run in one.mlflow_runs() if run["info"]["status"] == "RUNNING" and run["data"].get("metrics")]
        tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
        return [int(tag["worker"].rpartition(":")[2]) for tag in tags]

    def killed() -> bool:
        """Whether a worker was killed in the middle of a trial. It is made to stand still while that is looked at."""
        workers = at_work()
        if len(workers) < 2:
            return False
        os.kill(workers[0], signal.SIGSTOP)
        in_time = workers[0] in at_work()
        os.kill(workers[0], signal.SIGKILL if in_time else signal.SIGCONT)
        return in_time

    wait(killed)
    out, err = process.communicate(timeout=1000)
    print(out, err)
    assert process.returncode == 0
    assert f"one worker ended with code {-signal.SIGKILL}" in err
    one.first = json.loads(out)  # type: ignore[attr-defined]
    wait(one.left_a_trial)
    assert one.run("--workers", "2", "--trials", "9")[0] == 0
    return one


@pytest.mark.slow
def test_a_killed_workers_trial_is_failed_and_queued_again(tuned: Tuning) -> None:
    trials = tuned.study.get_trials()
    failed = [trial for trial in trials if trial.state is optuna.trial.TrialState.FAIL]
    assert len(failed) == 1
    again = [trial for trial in trials if trial.system_attrs.get("failed_trial") == failed[0].number]
    assert [trial.params for trial in again] == [failed[0].params]
    assert again[0].state in tuning.DONE
    assert not [trial for trial in trials if trial.state is optuna.trial.TrialState.RUNNING]


@pytest.mark.slow
def test_a_second_call_goes_on_where_the_first_ended(tuned: Tuning) -> None:
    assert tuned.first["states"]["complete"] + tuned.first["states"]["pruned"] >= 6  # type: ignore[attr-defined]
    done = [trial for trial in tuned.study.get_trials() if trial.state in tuning.DONE]
    assert 9 <= len(done) <= 10
    code, out = tuned.run("--workers", "1", "--trials", "9")
    assert code == 0
    assert "best RMSE" in out
    assert len([trial for trial in tuned.study.get_trials() if trial.state in tuning.DONE]) == len(done)


@pytest.mark.slow
def test_every_trial_is_an_mlflow_run_that_has_ended(tuned: Tuning) -> None:
    runs = {run["info"]["run_id"]: run for run in tuned.mlflow_runs()}
    for trial in tuned.study.get_trials():
        run = runs.pop(trial.user_attrs["mlflow_run"])
        wanted = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "KILLED"}[trial.state.name]
        assert run["info"]["status"] == wanted
        parameters = {item["key"]: item["value"] for item in run["data"]["params"]}
        assert float(parameters["lr"]) == pytest.approx(trial.params["lr"])
        assert parameters["steps"] == "24"
        metrics = {item["key"]: item["value"] for item in run["data"].get("metrics", [])}
        if trial.state is optuna.trial.TrialState.COMPLETE:
            assert metrics["rmse"] == pytest.approx(trial.value)
            assert {"rmse_fold_0", "rmse_fold_1", "early_stop_rmse"} <= metrics.keys()
    assert runs == {}


@pytest.mark.slow
def test_the_result_is_files_that_train_and_people_can_use(tuned: Tuning, tmp_path: Path) -> None:
    out = tuned.folder / "out"
    result = json.loads((out / "tuning.json").read_text())
    assert result["engines"] == 18
    assert result["best"]["rmse"] == min(t["rmse"] for t in result["trials"] if t["state"] == "complete")
    assert sum(result["importance"].values()) == pytest.approx(1.0, abs=0.01)
    for name in ("history.png", "importance.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert (out / name).stat().st_size > 8_000
    best = json.loads((out / "best_config.json").read_text())
    assert best["steps"] == 24
    # Without the damaged engines: training reads the whole archive.
    open_archive(tmp_path / "archive", SCHEMA).add_all(fleet(per_role=6))
    done = subprocess.run(
        [*COMMAND[:3], "train", "--config", str(out / "best_config.json"), "--no-register", "--json",
         "--runs-dir", str(tmp_path / "archive"), "--output", str(tmp_path / "bundle")],
        env=tuned.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parameters = json.loads((tmp_path / "bundle" / "metadata.json").read_text())["parameters"]
    assert parameters["lr"] == best["lr"]
    assert parameters["perceptron"] == best["architecture"]["perceptron"]


def test_a_study_on_other_data_is_not_gone_on_with(tmp_path: Path) -> None:
    study = tuning.open_study(Settings(state_dir=tmp_path), "one")
    runs = [run for run in fleet() if run.role == "train"]
    tuning.agree(study, runs, Budget())
    tuning.agree(study, runs, Budget())
    with pytest.raises(DriftloopError, match="engines 4 before, 3 now"):
        tuning.agree(study, runs[:3], Budget())
    with pytest.raises(DriftloopError, match="folds 3 before, 2 now"):
        tuning.agree(study, runs, Budget(folds=2))


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    away = Settings(state_dir=tmp_path, study_database="postgresql+psycopg2://tuning:hidden-word@127.0.0.1:1/tuning")
    with pytest.raises(DriftloopError) as caught:
        tuning.open_study(away, "one")
    assert "127.0.0.1:1/tuning" in str(caught.value)
    assert "hidden-word" not in str(caught.value)
    assert "DRIFTLOOP_STUDY_DATABASE" in str(caught.value)


def test_a_worker_that_comes_too_late_to_make_the_tables_uses_those_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, calls = tuning._storage, []

    def beaten_once(*arguments: Any) -> optuna.storages.RDBStorage:
        calls.append(make(*arguments))
        if len(calls) == 1:
            raise IntegrityError("CREATE TABLE studies", {}, Exception("duplicate key"))
        return calls[-1]

    monkeypatch.setattr(tuning, "_storage", beaten_once)
    assert tuning.open_study(Settings(state_dir=tmp_path), "one").study_name == "one"
    assert len(calls) == 2


def test_only_engines_that_are_learnt_from_are_read(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, SCHEMA)
    archive.add_all(fleet())
    read: list[str] = []
    archive.read_all = lambda ids=None: read.extend(ids) or []  # type: ignore[method-assign,func-returns-value]
    tuning.learning_runs(archive)
    assert {run.role for run in fleet() if run.run_id in read} == {"train", "early_stop", "calibrate"}
