"""The last one out: ends every process of an embedded platform when its supervisor is gone, however it went.

It runs as `python guard.py MARK`, apart from the supervisor's session, and waits for the end of standard input,
the other end of which the supervisor holds. `kill -9` cannot keep the kernel from closing it. Only the standard
library is imported, so that the process stays small.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

MARK = "DRIFTLOOP_PLATFORM"
"""Environment variable that every process of one platform inherits; its value is the state folder."""
GRACE_S = 5.0


def marked_processes(value: str) -> list[int]:
    """The processes (other than this one) that carry the mark `value`; empty where there is no /proc."""
    found = []
    wanted = f"{MARK}={value}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
            if state != b"Z" and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def end_marked(value: str, *, grace_s: float = GRACE_S) -> list[int]:
    """End every marked process: SIGTERM, and SIGKILL for what is left after `grace_s`; returns what there was."""
    found = marked_processes(value)
    for pid in found:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := marked_processes(value)) and time.monotonic() < deadline:
        time.sleep(0.05)
    while left:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)
        left = marked_processes(value)
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> None:
    """Wait for the supervisor's end, then end all that carries the mark."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    end_marked(sys.argv[1])


if __name__ == "__main__":
    main()
