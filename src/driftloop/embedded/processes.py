"""One component as a process: started apart, its output in a bounded log, ended with all its children."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from driftloop.errors import DriftloopError

LOG_BYTES = 4 * 2**20
STOP_S = 10.0
_PR_SET_PDEATHSIG = 1
# Loaded here, since a child between fork and exec must not.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Component:
    """How one component is started, and how one knows that it works."""

    name: str
    command: Sequence[str]
    ready: Callable[[float], bool]
    """Whether it does its work now, given when it was started (seconds since 1970); asked often, must not block
    for long, and must not raise."""
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    """Where it runs; None: where its supervisor does."""
    fleet: str = ""
    """Whose it is; empty for what all fleets share."""


class Process:
    """A running component. Create it in the main thread: the kernel ties its life to the thread that made it."""

    def __init__(self, component: Component, environment: dict[str, str], log: Path) -> None:
        self.component, self.log = component, log
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log)
        with log.open("ab") as output:
            try:
                self._popen = subprocess.Popen(
                    component.command,
                    env={**environment, **component.environment},
                    cwd=component.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # noqa: PLW1509 (calls one C function that was looked up before)
                )
            except OSError as error:
                raise DriftloopError(
                    f"cannot be started: {error.strerror}", where=component.name, remedy=f"see {component.command[0]}"
                ) from error
        self.started, self.started_at = time.monotonic(), time.time()

    @property
    def pid(self) -> int:
        """The process's id, which is also the id of its session and group."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._popen.poll()

    def terminate(self) -> None:
        """Ask the process and the rest of its group to end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic); what has not ended by then is ended by force."""
        try:
            self._popen.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.clear()

    def clear(self) -> None:
        """End by force what is left of its group, so that nothing holds its port or its files."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


def die_with_parent() -> None:
    """Ask the kernel to end this process when the thread that started it ends (Linux; elsewhere nothing)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def rotate(log: Path, limit: int = LOG_BYTES) -> None:
    """Move a log that has grown beyond `limit` bytes aside; one older one is kept.

    The file is copied and truncated rather than renamed, since a running component goes on appending to it.
    """
    try:
        if log.stat().st_size <= limit:
            return
        content = log.read_bytes()[-limit:]
        log.with_suffix(".1.log").write_bytes(content)
        os.truncate(log, 0)
    except OSError:
        # There is none yet, or no room to keep it: neither is a reason to end what writes it.
        return


def tail(log: Path, count: int) -> str:
    """The last `count` lines of a log; empty where there is none."""
    try:
        lines = log.read_bytes()[-16_384:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])
