"""Resident memory and processor time of processes, as the kernel tells it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants, in bytes; 0 where it is gone or there is no /proc."""
    return memory_now()(pid)


def memory_now() -> Callable[[int], int]:
    """The same of any process at this moment: one look at /proc for all who are asked about."""
    return _of_all(lambda entry, _: int((entry / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def processor_s(pid: int) -> float:
    """Processor time of a process and all its descendants, in s; 0 where it is gone or there is no /proc."""
    return _of_all(lambda _, stat: int(stat[11]) + int(stat[12]))(pid) / os.sysconf("SC_CLK_TCK")


def _of_all(read: Callable[[Path, list[bytes]], int]) -> Callable[[int], int]:
    """What `read` says of a process and all its descendants together; it is given each one's folder in /proc, and what
    `stat` says of it behind its name (proc(5))."""
    children: dict[int, list[int]] = {}
    found: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            children.setdefault(int(stat[1]), []).append(int(entry.name))
            found[int(entry.name)] = read(entry, stat)

    def with_descendants(pid: int) -> int:
        total, open_ = 0, [pid]
        while open_:
            one = open_.pop()
            total += found.get(one, 0)
            open_ += children.get(one, [])
        return total

    return with_descendants
