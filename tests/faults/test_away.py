"""A registry or a retrainer that is away for a while, and a disk that is full."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from driftloop.fleet.runs import Run
from live_platform import Platform

from .conftest import Prepare
from .story import Story, processes_with, state_of_watch

DISK_MIB = 1024


def test_serving_and_watching_go_on_while_the_registry_hangs(prepared: Prepare, changed_fleet: Sequence[Run]) -> None:
    platform = prepared()
    completed = [run for run in changed_fleet if run.role != "live"]
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        with stopped(processes_with(platform, "mlflow")):
            platform.wait(lambda: platform.metric("driftloop_registry_up") == 0, "the server to notice")
            platform.wait(lambda: platform.of_kind("alert_firing"), "the watch to alarm all the same")
            story.post(completed)
            answered = len(story.traffic.records)
            platform.wait(lambda: len(story.traffic.records) > answered + 100, "traffic")
            assert platform.served() == "1"
            assert platform.of_kind("retraining_started") == []
        platform.wait(lambda: platform.metric("driftloop_registry_up") == 1, "the server to reach the registry again")
        assert story.settled()["decision"] == "promoted"
        assert platform.written()["components"]["mlflow"]["restarts"] == 0
        story.check(moved=True)


def test_an_alert_raised_while_the_retrainer_was_away_is_delivered(
    prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    platform = prepared()
    completed = [run for run in changed_fleet if run.role != "live"]
    retrainer = platform.pid("retrainer")
    os.kill(retrainer, signal.SIGSTOP)
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        alarm = platform.wait(lambda: state_of_watch(platform).get("alarm"), "the watch to alarm")
        assert platform.of_kind("alert_firing") == []
        os.kill(retrainer, signal.SIGKILL)
        story.post(completed)
        firing = platform.wait(lambda: platform.of_kind("alert_firing"), "the alert to arrive")
        assert [event["starts_at"] for event in firing] == [alarm["starts_at"]]
        assert story.settled()["decision"] == "promoted"
        story.check(moved=True)


def test_a_full_disk_acknowledges_nothing_and_loses_nothing(
    small_disk: Path, prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    completed = [run for run in changed_fleet if run.role != "live"]
    platform = prepared(small_disk / "state")
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post(completed[:5])
        fill(small_disk)
        # The watch sees the drift now, and cannot write it down.
        answered = len(story.traffic.records)
        platform.wait(lambda: len(story.traffic.records) > answered + 200, "traffic in front of a full disk")
        refused = post_one(platform, completed[5])
        assert refused.status_code == 503
        assert "space" in refused.text
        (small_disk / "ballast").unlink()
        story.post(completed[5:])
        assert story.settled()["decision"] == "promoted"
        story.check(moved=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room. To be asked for before `prepared`, which must end first."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(where)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` to make a small disk with")
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", str(where)], check=True)


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes that hang inside: they hold their connections and answer nothing."""
    assert pids
    for pid in set(pids):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in set(pids):
            os.kill(pid, signal.SIGCONT)


def fill(disk: Path) -> None:
    """Leave no room on it."""
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**20))


def post_one(platform: Platform, run: Run) -> httpx.Response:
    """Try to archive one run."""
    return platform.post("/archive/runs", {"runs": [{"run_id": run.run_id, "rows": run.rows.tolist()}]})
