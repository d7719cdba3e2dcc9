"""Acknowledged means on disk: seen at the system calls, since a kill alone leaves what the kernel holds."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import COUNTED, row
from .process import Process

_CALLS = "fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg"


def can_trace() -> bool:
    """Whether strace is here and allowed."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="needs strace (Debian: apt-get install strace)")
def test_a_row_is_synced_before_its_answer_is_sent(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    tracing = ["strace", "-f", "-y", "-s", "64", "-e", f"trace={_CALLS}", "-o", str(trace)]
    with Process(tmp_path / "state", COUNTED, before=tracing) as process:
        for hour in (1, 2, 3):
            answer = process.http.post("/telemetry", json=[row("a", hour)])
            assert answer.json()["results"] == ["stored"]
    calls = finished(trace.read_text(errors="replace"))
    assert sum("HTTP/1.1 200" in call for call in calls) >= 3
    assert not unsynced(calls), "\n".join(calls)
    assert sum("fdatasync" in call for call in calls) >= 3


def test_an_answer_before_the_sync_would_be_seen() -> None:
    trace = """1 pwrite64(6</x/units.db-wal>, "a", 1, 0) = 1
1 fdatasync(6</x/units.db-wal> <unfinished ...>
2 write(21<socket:[1]>, "HTTP/1.1 200 OK", 15) = 15
1 <... fdatasync resumed>) = 0"""
    assert unsynced(finished(trace))
    one, two, three, four = trace.splitlines()
    assert not unsynced(finished("\n".join([one, two, four, three])))


def unsynced(calls: list[str]) -> list[str]:
    """The answers that were sent while something that was written was not synced."""
    found, dirty = [], False
    for call in calls:
        if call.startswith("pwrite64") and "units.db-wal>" in call:
            dirty = True
        elif re.match(r"f(data)?sync\(\d+<.*units\.db-wal> *\) += 0", call):
            dirty = False
        elif "HTTP/1.1 200" in call and dirty:
            found.append(call)
    return found


def finished(trace: str) -> list[str]:
    """The calls in the order in which they began, but a sync where it returned: one that goes on has not happened."""
    found: list[str] = []
    waiting: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            waiting[thread] = call.removesuffix("<unfinished ...>")
            if not call.startswith(("fsync", "fdatasync")):
                found.append(call)
        elif call.startswith("<... "):
            name, _, rest = call.removeprefix("<... ").partition(" resumed>")
            begun = waiting.pop(thread, name)
            if begun.startswith(("fsync", "fdatasync")):
                found.append(begun + rest.lstrip())
        else:
            found.append(call)
    return found
