"""The supervisor of the embedded platform: starts the components, restarts what dies, leaves nothing behind."""

import errno
import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from driftloop import durable, places
from driftloop.embedded import guard
from driftloop.embedded.processes import STOP_S, Component, Process, rotate, tail
from driftloop.environment import chosen
from driftloop.errors import DriftloopError
from driftloop.memory import memory_now, processor_s
from driftloop.settings import OWN_TOKEN

STATUS, LOCK, LOGS = "platform.json", "platform.lock", "logs"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TICK_S = 0.25
LOOK_S = 5.0
"""A component that is ready is asked this often whether it still is; that it has ended is noticed at once."""
READY_S = 300.0
"""How long a component that starts may do nothing; one that works at it, on a slow or busy machine, has LONGEST_S."""
LONGEST_S = 1800.0
_WORKING = 0.02
"""Share of a processor that a process uses which does more than wait for something."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 30.0
"""A component that ran this long has recovered; its next restart is quick again."""
ATTEMPTS = 3
"""Starts after which a component that was never ready is given up."""
FREE_BYTES = 512 * 2**20
PACKAGES = {
    "mlflow": "the model registry",
    "onnxruntime": "the prediction server",
    "torch": "training",
    "onnx": "exporting models",
}


@dataclass
class Slot:
    """A component and what became of it."""

    component: Component
    process: Process | None = None
    ready: bool = False
    was_ready: bool = False
    restarts: int = 0
    failures: int = 0
    """Ends in a row without a steady time between them."""
    retry_at: float = 0.0
    look_at: float = 0.0
    last_exit: int | None = None

    @property
    def state(self) -> str:
        """`ready`, `starting` or `down`."""
        return "down" if self.process is None else "ready" if self.ready else "starting"


class Supervisor:
    """Runs `components` with their state in `state_dir`; use it as a context in the main thread."""

    def __init__(self, state_dir: Path, components: Sequence[Component]) -> None:
        self.folder = state_dir.resolve()
        self.slots = [Slot(component) for component in components]
        self._environment = {**chosen(), guard.MARK: str(self.folder)}
        self._lock: IO[str] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._started = durable.now()
        self._stopping = False
        self._written: object = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take the state folder, end what an earlier supervisor left, start everything."""
        self._lock = lock(self.folder)
        self._handlers = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            guard.end_marked(str(self.folder))
            check_ports([slot.component for slot in self.slots])
            # The guard must not carry the mark, or it would end itself.
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(self.folder)],
                stdin=subprocess.PIPE,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != guard.MARK},
            )
            for slot in self.slots:
                self._start(slot)
            self._write_status()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def ready(self) -> bool:
        """Whether every component does its work."""
        return all(slot.ready for slot in self.slots)

    def tick(self) -> None:
        """Look after every component once; raises DriftloopError where one cannot be started at all."""
        for slot in self.slots:
            if slot.process is None:
                if time.monotonic() >= slot.retry_at:
                    slot.restarts += 1
                    self._start(slot)
                continue
            code = slot.process.exit_code()
            if code is not None:
                self._ended(slot, code)
                continue
            if not slot.ready or time.monotonic() >= slot.look_at:
                slot.look_at = time.monotonic() + LOOK_S
                slot.ready = slot.component.ready(slot.process.started_at)
                slot.was_ready |= slot.ready
                rotate(slot.process.log)
            if slot.ready and time.monotonic() - slot.process.started > STEADY_S:
                slot.failures = 0
        self._write_status()

    def run(
        self, watch: Callable[["Supervisor"], None], *, ready_s: float = READY_S, longest_s: float = LONGEST_S
    ) -> None:
        """Look after everything until SIGINT or SIGTERM; `watch` is called after every look.

        Raises DriftloopError where not everything is ready for the first time within `longest_s`, or where what is
        late has been idle for `ready_s`.
        """
        began, used = time.monotonic(), 0.0
        deadline: float | None = began + ready_s
        while not self._stopping:
            self.tick()
            watch(self)
            if self.ready:
                deadline = None
            elif deadline is not None and time.monotonic() > deadline:
                late = [slot for slot in self.slots if not slot.was_ready]
                before, used = used, sum(processor_s(slot.process.pid) for slot in late if slot.process)
                idle = used - before <= _WORKING * ready_s
                if late and (idle or time.monotonic() - began > longest_s):
                    raise self._given_up(late[0], f"is not ready after {time.monotonic() - began:.0f} s")
                deadline += ready_s
            if not self._stopping:
                time.sleep(TICK_S)

    def request_stop(self) -> None:
        """Let `run` return."""
        self._stopping = True

    def stop(self) -> None:
        """End every component and everything they started; the state folder is free again after it."""
        running = [slot.process for slot in reversed(self.slots) if slot.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            process.wait_or_kill(deadline)
        guard.end_marked(str(self.folder))
        for slot in self.slots:
            slot.process, slot.ready = None, False
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        if self._lock is not None:
            (self.folder / STATUS).unlink(missing_ok=True)
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def memory(self) -> dict[str, int]:
        """Resident bytes of each component with its children, and of the supervisor with its guard."""
        memory_of = memory_now()
        found = {slot.component.name: memory_of(slot.process.pid) if slot.process else 0 for slot in self.slots}
        return {**found, "supervisor": memory_of(os.getpid()) - sum(found.values())}

    def _start(self, slot: Slot) -> None:
        name = slot.component.name
        slot.process = Process(slot.component, self._environment, self.folder / LOGS / f"{name}.log")

    def _ended(self, slot: Slot, code: int) -> None:
        assert slot.process is not None
        slot.process.clear()
        slot.process, slot.ready, slot.last_exit = None, False, code
        slot.failures += 1
        if not slot.was_ready and slot.failures >= ATTEMPTS:
            raise self._given_up(slot, f"ended {slot.failures} times before it was ready (exit code {code})")
        slot.retry_at = time.monotonic() + pause_after(slot.failures)

    def _given_up(self, slot: Slot, what: str) -> DriftloopError:
        log = self.folder / LOGS / f"{slot.component.name}.log"
        return DriftloopError(
            f"{what}; its log ends:\n{tail(log, 12)}\n", where=slot.component.name, remedy=f"see {log}"
        )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal changes nothing: stopping is under way, and cutting it short would leave something behind.
        self.request_stop()

    def _write_status(self) -> None:
        status = {
            "pid": os.getpid(),
            "started": self._started,
            "ready": self.ready,
            "components": {
                slot.component.name: {
                    "pid": slot.process.pid if slot.process else None,
                    "state": slot.state,
                    "url": slot.component.url,
                    "fleet": slot.component.fleet,
                    "restarts": slot.restarts,
                    "last_exit": slot.last_exit,
                }
                for slot in self.slots
            },
        }
        if status != self._written:
            try:
                durable.write_json(self.folder / STATUS, status)
            except OSError as error:
                if self._written is None:
                    raise unusable(self.folder, error) from error
                # A disk that fills up ends nothing that runs; the file is written when there is room again.
                return
            self._written = status


def pause_after(failures: int) -> float:
    """Seconds before the next start of a component that ended so often in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (failures - 1))


def lock(folder: Path) -> IO[str]:
    """Take a state folder for this process alone; raises DriftloopError naming who has it, or why not.

    The lock is the kernel's (flock) and ends with its holder: a file left by a supervisor that was killed locks
    nobody out.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise unusable(folder, error) from error
        raise DriftloopError(
            f"another `driftloop up` (process {holder}) is using this state folder",
            where=str(folder),
            remedy="stop it, or choose another folder with DRIFTLOOP_STATE_DIR",
        ) from None
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        file.close()
        raise unusable(folder, error) from error
    return file


def check_packages(packages: dict[str, str] | None = None) -> None:
    """Raise DriftloopError naming the packages that are not installed, and what they are for."""
    wanted = PACKAGES if packages is None else packages
    missing = [f"{name} ({use})" for name, use in wanted.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise DriftloopError(
            f"not installed: {', '.join(missing)}",
            where=sys.prefix,
            remedy="run `make setup`, or pip install driftloop[all]",
        )


def check_space(folder: Path, needed: int = FREE_BYTES) -> None:
    """Raise DriftloopError where the folder cannot be written, or its disk has less than `needed` bytes left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        durable.write_atomically(folder / ".writable", b"")
        (folder / ".writable").unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise unusable(folder, error) from error
    if free < needed:
        raise DriftloopError(
            f"the disk has {free / 2**20:.0f} MiB left, {needed / 2**20:.0f} are needed",
            where=str(folder),
            remedy="free some space, or choose another folder with DRIFTLOOP_STATE_DIR",
        )


def check_ports(components: Sequence[Component]) -> None:
    """Raise DriftloopError naming every port that somebody else has, and whose setting to change."""
    taken = []
    for component in components:
        parts = urlsplit(component.url)
        if parts.port and not port_is_free(parts.hostname or "127.0.0.1", parts.port):
            setting = f"DRIFTLOOP_{component.name.rpartition('/')[2].upper()}_URL"
            taken.append(f"{parts.port} ({component.name}; {setting})")
    if taken:
        raise DriftloopError(
            f"ports in use: {', '.join(taken)}",
            where="127.0.0.1",
            remedy="stop what listens there, or set the named variables to other ports; with several fleets, change "
            f"{places.FILE} in the state folder",
        )


def port_is_free(host: str, port: int) -> bool:
    """Whether one can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def make_token(folder: Path) -> Path:
    """The file with the token of changing calls; made once, readable by its owner alone."""
    path = folder / OWN_TOKEN
    if not path.exists():
        try:
            durable.write_atomically(path, (secrets.token_urlsafe(32) + "\n").encode(), mode=0o600)
        except OSError as error:
            raise unusable(folder, error) from error
    return path


def unusable(folder: Path, error: OSError) -> DriftloopError:
    """The error for people about a state folder."""
    remedy = "choose another folder with DRIFTLOOP_STATE_DIR"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"free some space, or {remedy}"
    return DriftloopError(f"the state folder cannot be used: {error.strerror}", where=str(folder), remedy=remedy)
