"""The real pipeline in its own process, its steps replaced by tiny ones that leave a trace."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driftloop.environment import variables
from driftloop.errors import DriftloopError
from driftloop.loop.jobs import driver
from driftloop.loop.jobs.driver import NICENESS
from driftloop.loop.jobs.local import LOG, UNUSED, Ended, Job, LocalBackend, Runs, end_of_log, failure, unpack
from driftloop.settings import Settings

RUNS = Runs([f"eng-{i}" for i in range(3)]).packed()
TINY = """
import os, sys, time, types
from pathlib import Path

def trace(name, *values):
    with open(os.environ["DRIFTLOOP_TINY_TRACE"], "a") as file:
        file.write(" ".join([name, str(os.getpid()), str(os.nice(0)), *values]) + "\\n")
    if os.environ.get("DRIFTLOOP_TINY_HANG") == name:
        time.sleep(600)
    if os.environ.get("DRIFTLOOP_TINY_FAIL") == name:
        raise RuntimeError("the tiny step failed")

def collect(run, cause, champion, runs, dataset, bundle):
    Path(dataset).mkdir(parents=True)
    (Path(dataset) / "plan").write_text(cause)
    Path(bundle).mkdir(parents=True)
    print("collecting")
    trace("collect", run, runs)

def train(run, cause, champion, mode, dataset, champion_bundle, bundle):
    assert (Path(dataset) / "plan").read_text() == cause and Path(champion_bundle).is_dir()
    Path(bundle).mkdir(parents=True)
    (Path(bundle) / "model").write_text("new")
    trace("train", mode)
    return "7"

def evaluate(run, cause, champion, version, dataset, champion_bundle, bundle):
    assert (Path(bundle) / "model").read_text() == "new"
    trace("evaluate", champion, version)
    return os.environ["DRIFTLOOP_TINY_DECISION"]

steps = types.ModuleType("driftloop.loop.steps")
for step in (collect, train, evaluate):
    setattr(steps, step.__name__, step)
sys.modules["driftloop.loop.steps"] = steps
# What the driver imports meanwhile takes seconds, and is not asked here.
for name in ("torch", "torch.onnx", "torch.onnx.utils", "driftloop.training.export", "driftloop.training.rehearsal",
             "driftloop.loop.judge.challenger", "driftloop.loop.judge.evaluation", "driftloop.loop.judge.gate"):
    sys.modules[name] = types.ModuleType(name)
"""


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "sitecustomize.py").write_text(TINY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "tiny"))
    monkeypatch.setenv("DRIFTLOOP_TINY_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("DRIFTLOOP_TINY_DECISION", "approved")
    made = LocalBackend(Settings(state_dir=tmp_path / "state"), tmp_path / "pipelines")
    yield made
    made.stop()


def steps(folder: Path) -> dict[str, list[str]]:
    """The steps that ran, in order: process, niceness, what they were given."""
    path = folder / "trace"
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.split()[0]: line.split()[1:] for line in lines}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "this never happened"
        time.sleep(0.02)


def end_of(backend: LocalBackend) -> Ended:
    found: list[Ended] = []
    until(lambda: (ended := backend.poll()) is not None and (found.append(ended) or True))
    return found[0]


def outcome_of(backend: LocalBackend, run: str = "r1") -> Ended:
    backend.start(Job(run, "fleet_change:1", "1", "warm_start", RUNS))
    return end_of(backend)


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    # A killed child of nobody stays as a zombie where no init reaps it.
    return "Z" in (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0]


def test_the_pipeline_ends_with_the_gates_decision(backend: LocalBackend, tmp_path: Path):
    assert outcome_of(backend) == Ended(True)
    assert (backend.folder / "r1" / LOG).read_text() == "collecting\n"
    ran = steps(tmp_path)
    assert list(ran) == ["collect", "train", "evaluate"]
    assert len({given[0] for given in ran.values()}) == 1
    nice = str(min(os.nice(0) + NICENESS, 19))
    assert [given[1:] for given in ran.values()] == [[nice, "r1", RUNS], [nice, "warm_start"], [nice, "1", "7"]]


def test_a_failing_step_fails_the_pipeline_and_leaves_its_evidence(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DRIFTLOOP_TINY_FAIL", "train")
    outcome = outcome_of(backend)
    assert not outcome.succeeded
    assert outcome.error is not None
    assert outcome.error.startswith("RuntimeError: the tiny step failed\nthe pipeline exited with code 1\ncollecting\n")
    assert list(steps(tmp_path)) == ["collect", "train"]


def test_stopping_kills_the_step_that_runs(backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DRIFTLOOP_TINY_HANG", "train")
    backend.start(Job("r1", "fleet_change:1", "1", "warm_start", RUNS))
    until(lambda: "train" in steps(tmp_path))
    assert backend.poll() is None
    backend.stop()
    until(lambda: gone(int(steps(tmp_path)["train"][0])))


def test_steps_end_when_the_retrainer_dies_and_orphans_are_found(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DRIFTLOOP_TINY_HANG", "collect")
    backend.start(Job("r1", "fleet_change:1", "1", "warm_start", RUNS))
    until(lambda: "collect" in steps(tmp_path))
    assert backend._driver is not None
    assert backend._driver.stdin is not None
    backend._driver.stdin.close()  # what the driver sees of a retrainer that was killed
    until(lambda: gone(int(steps(tmp_path)["collect"][0])))
    outcome = end_of(backend)
    assert outcome.error is not None
    assert outcome.error.startswith("the pipeline was killed by signal 9")

    (tmp_path / "trace").unlink()
    backend.start(Job("r2", "fleet_change:1", "1", "warm_start", RUNS))
    until(lambda: "collect" in steps(tmp_path))
    LocalBackend(Settings(state_dir=tmp_path), tmp_path / "pipe").clear()  # another platform's
    assert backend.poll() is None
    LocalBackend(Settings(state_dir=tmp_path), backend.folder).clear()
    until(lambda: gone(int(steps(tmp_path)["collect"][0])))


def test_a_start_that_was_expected_finds_its_driver_and_one_that_died_is_replaced(
    backend: LocalBackend, tmp_path: Path
):
    backend.prepare()
    assert backend._driver is not None
    waiting = backend._driver.pid
    backend.expect()
    backend.expect()
    assert backend._driver.pid == waiting
    assert outcome_of(backend) == Ended(True)
    assert {given[0] for given in steps(tmp_path).values()} == {str(waiting)}

    backend.expect()
    killed = backend._driver
    killed.kill()
    killed.wait()
    assert outcome_of(backend, "r2") == Ended(True)
    assert backend._driver is None


def test_a_job_that_comes_when_its_driver_has_just_given_up_is_run_by_another(backend: LocalBackend, tmp_path: Path):
    backend.expect()
    waiting = backend._driver
    assert waiting is not None
    waiting.kill()
    waiting.wait()
    backend._job = Job("r1", "fleet_change:1", "1", "warm_start", RUNS)
    waiting.returncode = UNUSED
    assert backend.poll() is None
    assert end_of(backend) == Ended(True)
    assert list(steps(tmp_path)) == ["collect", "train", "evaluate"]


def test_a_driver_goes_when_no_job_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "WAIT_S", 0.0)
    monkeypatch.setattr(driver, "_import_beside", lambda: None)
    monkeypatch.setattr(os, "nice", lambda by: by)
    monkeypatch.setattr(driver, "_listen", lambda lines: lines.put(b""))
    assert driver.main(tmp_path) == UNUSED
    assert list(tmp_path.iterdir()) == []


def test_settings_reach_other_processes_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = Settings(
        state_dir=tmp_path, enable_retraining=False, min_new_engines=7, cmapss_dir=tmp_path / "data", raw_dir=tmp_path
    )
    for name, value in variables(before).items():
        monkeypatch.setenv(name, value)
    assert Settings() == before


def test_the_evidence_is_the_end_of_the_log(tmp_path: Path):
    (tmp_path / LOG).write_text("step 'evaluate' failed\n\nthe reason\n")
    assert failure("it ended", end_of_log(tmp_path)).error == "it ended\nstep 'evaluate' failed\nthe reason"
    assert end_of_log(tmp_path / "nowhere") == ""


def test_a_failure_begins_with_what_the_step_raised_last_in_a_chain():
    log = """
Traceback (most recent call last):
  File "a.py", line 1, in train
OSError: the disk is full

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in train
    raise DataError
driftloop.errors.DataError: archive: run eng-1 is damaged
"""
    error = failure("it exited with code 1", log).error
    assert error is not None
    assert error.splitlines()[:2] == ["DataError: archive: run eng-1 is damaged", "it exited with code 1"]
    assert error.endswith("run eng-1 is damaged")


def test_a_failure_is_found_in_lines_of_json_too():
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in train\nValueError: no runs'
    lines = [{"msg": "began"}, {"msg": "ended by an error", "exception": trace}]
    error = failure("it exited with code 1", "\n".join(json.dumps(line) for line in lines)).error
    assert error is not None
    assert error.splitlines()[:4] == ["ValueError: no runs", "it exited with code 1", "began", "ended by an error"]


def test_the_runs_of_a_job_fit_into_one_argument_and_come_back_equal():
    runs = Runs([f"eng-FD002-{i:05d}" for i in range(10_000)], ["eng-a"])
    assert len(runs.packed()) < 64 * 1024
    assert unpack(runs.packed()) == runs
    for damaged in (runs.packed()[:-9], "not packed", Runs([]).packed()[::-1]):
        with pytest.raises(DriftloopError, match="the runs of the job"):
            unpack(damaged)
