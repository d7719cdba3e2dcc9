"""Resident memory of processes, as the kernel tells it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants, in bytes; 0 where it is gone or there is no /proc."""
    return memory_now()(pid)


def memory_now() -> Callable[[int], int]:
    """The same of any process at this moment: one look at /proc for all who are asked about."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
            resident[int(entry.name)] = int((entry / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def with_descendants(pid: int) -> int:
        total, open_ = 0, [pid]
        while open_:
            one = open_.pop()
            total += resident.get(one, 0)
            open_ += children.get(one, [])
        return total

    return with_descendants
