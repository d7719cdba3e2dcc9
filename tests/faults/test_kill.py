"""`kill -9` of every process in every phase of the loop."""

import contextlib
import os
import signal
from collections.abc import Sequence

import psutil
import pytest

from driftloop.fleet.runs import Run
from live_platform import Platform

from .conftest import Prepare
from .story import Story, below, steps_of

PROCESSES = ("mlflow", "server", "retrainer", "watch", "step", "up")
DURING = ("collect", "train", "evaluate", "promote", "alias_moved", "verifying")
CASES = [(process, phase) for process in PROCESSES for phase in DURING if (process, phase) != ("step", "verifying")]


@pytest.mark.parametrize(("process", "phase"), CASES, ids=["-".join(case) for case in CASES])
def test_a_killed_process_loses_nothing(
    process: str, phase: str, prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    platform = prepared()
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post([run for run in changed_fleet if run.role != "live"])
        story.until(phase)
        if process == "step":
            # Where the step was quicker than this test, it is the next one; after the last there is none.
            platform.wait(lambda: steps_of(platform) or platform.of_kind("step_finished", step="evaluate"), "a step")
            for pid in steps_of(platform):
                print(f"killed: {pid}")
                kill(pid)
        else:
            hurt(platform, story, process)
        decision = story.settled()
        assert decision["decision"] == "promoted"
        story.check(moved=True)
    assert platform.interrupt() == 0
    assert platform.left_running() == []


def test_what_a_killed_step_has_started_ends_with_it_also_without_a_retrainer(
    prepared: Prepare, changed_fleet: Sequence[Run]
) -> None:
    platform = prepared()
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        story.post([run for run in changed_fleet if run.role != "live"])
        story.until("train")
        started = platform.wait(lambda: below(steps_of(platform)), "the process that will record the challenger")
        for pid in [platform.pid("retrainer"), *steps_of(platform)]:
            kill(pid)
        platform.wait(lambda: not any(map(runs, started)), "the end of what the step has started")
        assert story.settled()["decision"] == "promoted"
        story.check(moved=True)


def test_runs_acknowledged_before_a_kill_are_archived(prepared: Prepare, changed_fleet: Sequence[Run]) -> None:
    platform = prepared()
    completed = [run for run in changed_fleet if run.role != "live"]
    with Story(platform, [run for run in changed_fleet if run.role == "live"]) as story:
        for i, run in enumerate(completed):
            if i in (3, 20):
                kill(platform.pid("retrainer"))
            story.post([run])
        assert len(story.acknowledged) == len(completed)
        assert story.settled()["decision"] == "promoted"
        story.check(moved=True)


def hurt(platform: Platform, story: Story, process: str) -> None:
    """Kill a process, and wait until it is back."""
    if process == "up":
        with story.outage():
            platform.kill_up()
            platform.start()
    elif process == "server":
        with story.outage():
            kill(platform.pid("server"))
            platform.wait(lambda: restarts(platform, "server"), "the restart")
    else:
        kill(platform.pid(process))
        platform.wait(lambda: restarts(platform, process), "the restart")


def kill(pid: int) -> None:
    """`kill -9`; a process that has ended by itself meanwhile is as dead."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether a process still does; one that nobody has taken leave of does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def restarts(platform: Platform, component: str) -> int:
    """How often the supervisor started it again."""
    return int(platform.written().get("components", {}).get(component, {}).get("restarts", 0))
