"""Where a pipeline runs: what the retrainer asks of any such place, and the place that is this machine.

Here a process of its own runs all steps of a pipeline (driftloop.loop.jobs.driver), and gives back the memory that
training took when it ends. Starting Python and importing torch takes seconds, which must not lie between an alert and
the training: a driver waits all day with the little that the first step needs, imports torch when a cause is pending,
while the last runs arrive and the first step works, and goes where no job comes then. With torch it would hold 300 MB
all day.

It leads a process group. A pipeline is ended by killing the group, and when the retrainer dies, however it dies, the
driver sees its standard input close and kills the group itself.
"""

import base64
import contextlib
import os
import re
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Protocol

import msgspec

from driftloop import durable, logs
from driftloop.environment import chosen
from driftloop.errors import DriftloopError
from driftloop.settings import Settings
from driftloop.training.modes import Mode

LOG = "pipeline.log"
LOG_BYTES = 65_536
"""So much of a log's end is looked at."""
_EVIDENCE_CHARACTERS, _EVIDENCE_LINES = 3000, 25
UNUSED = 75
"""Exit code of a driver that no job came to."""
_TRACEBACK = "Traceback (most recent call last):"
_MODULE = re.compile(r"^(\w+\.)+(?=\w+:)")


class Runs(msgspec.Struct, frozen=True):
    """The archived runs that a retraining is about; a step looks up no others but those that the champion knows."""

    new: list[str]
    """Those to learn anew from."""
    changed: list[str] | None = None
    """After a concept drift those that show the labels as they are now; all others' are superseded then."""
    known: dict[str, int] = {}
    """Those of the new ones that are of an operating domain the champion knows, with its number."""

    def packed(self) -> str:
        """As a short text: of ten thousand ids too, a command line and a pipeline's parameter have room for it."""
        return base64.b64encode(zlib.compress(msgspec.json.encode(self), 9)).decode()


def unpack(text: str) -> Runs:
    """The runs that `Runs.packed` packed; raises DriftloopError."""
    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except (ValueError, zlib.error) as error:
        raise DriftloopError(f"the runs of the job cannot be read: {error}", where="the job") from error
    return durable.decode_json(content, Runs, where="the runs of the job")


class Job(msgspec.Struct, frozen=True):
    """The parameters of one pipeline run: all that its steps need to know of the loop."""

    run: str
    cause: str
    champion: str
    mode: Mode
    runs: str
    """Packed Runs."""


class Ended(msgspec.Struct, frozen=True):
    """How a pipeline run ended; what it decided stands in the registry."""

    succeeded: bool
    error: str | None = None


class Backend(Protocol):
    """Runs pipelines, one at a time."""

    def prepare(self) -> None:
        """Make the next start quick, whenever it comes."""

    def expect(self) -> None:
        """A start is about to come."""

    def start(self, job: Job) -> None:
        """Start a run and return."""

    def poll(self) -> Ended | None:
        """None while the run goes on."""

    def stop(self) -> None:
        """End the run and everything it started; nothing happens where none runs."""

    def leave(self) -> None:
        """The retrainer ends: end a run that cannot go on without it."""

    def adopt(self, run: str) -> bool:
        """Take over a run that an earlier retrainer started; False where there is none to take over."""

    def clear(self) -> None:
        """End what an earlier retrainer's run may have left behind."""


class LocalBackend:
    """Runs the pipeline in a process of its own, its files below `folder`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder.resolve()
        self._settings = settings
        self._driver: subprocess.Popen[bytes] | None = None
        self._job: Job | None = None
        self._told = False
        """Whether the driver knows that a job is about to come."""

    def prepare(self) -> None:
        """Start a driver that waits for a job."""
        if self._driver is not None and self._driver.poll() is None:
            return
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "driver.log").open("wb") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "driftloop.loop.jobs.driver", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=chosen(self._settings),
                start_new_session=True,
            )

    def expect(self) -> None:
        """Let the driver import what the job will need."""
        self.prepare()
        if not self._told:
            self._tell(b"")
            self._told = True

    def start(self, job: Job) -> None:
        """Hand the job to the driver."""
        self._tell(msgspec.json.encode(job))
        self._job = job

    def _tell(self, line: bytes) -> None:
        """Write a line to the driver."""
        for attempt in (1, 2):
            self.prepare()
            assert self._driver is not None
            assert self._driver.stdin is not None
            try:
                self._driver.stdin.write(line + b"\n")
                self._driver.stdin.flush()
                break
            except OSError:
                # The driver died while it waited: another one, once.
                self.stop()
                if attempt == 2:
                    raise

    def poll(self) -> Ended | None:
        """None while the driver lives; then what its exit code says, and why, by the end of its log."""
        if self._driver is None or self._job is None:
            return Ended(False, "the pipeline is not running")
        code = self._driver.poll()
        if code is None:
            return None
        job = self._job
        self.stop()
        if code == UNUSED:
            # It had given up waiting when the job was handed to it.
            self.start(job)
            return None
        if code == 0:
            return Ended(True)
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        return failure(f"the pipeline {how}", end_of_log(self.folder / job.run))

    def stop(self) -> None:
        """Kill the driver and what it started."""
        if self._driver is not None:
            _kill_group(self._driver.pid)
            if self._driver.stdin is not None:
                with contextlib.suppress(OSError):
                    self._driver.stdin.close()
            self._driver.wait()
        self._driver = self._job = None
        self._told = False

    def leave(self) -> None:
        """Kill the driver: it would end with the retrainer anyway."""
        self.stop()

    def adopt(self, run: str) -> bool:
        """Never: a driver ends with its retrainer."""
        del run
        return False

    def clear(self) -> None:
        """Kill a driver that outlived its retrainer; found by its command line."""
        mark = f"driftloop.loop.jobs.driver {self.folder} "
        for group in {group for group, command in _processes() if mark in f"{command} "}:
            _kill_group(group)


def failure(how: str, log: str) -> Ended:
    """The outcome of a run that failed: first the error of its own step where the log has it, or `how` it ended.

    The end of the log follows as evidence.
    """
    lines = [text.rstrip() for line in log.splitlines() if line.strip() for text in logs.texts(line)]
    own = own_error(lines)
    evidence = "\n".join(lines[-_EVIDENCE_LINES:])[-_EVIDENCE_CHARACTERS:]
    return Ended(False, "\n".join(part for part in (own, how, evidence) if part))


def own_error(lines: list[str]) -> str | None:
    """What the step raised, from the log: the line that ends the last traceback."""
    found = None
    for number, line in enumerate(lines):
        if line == _TRACEBACK:
            found = next((later for later in lines[number + 1 :] if not later.startswith(" ")), None)
    return None if found is None else _MODULE.sub("", found)


def end_of_log(run: Path) -> str:
    """The end of a run's log; empty where there is none."""
    try:
        with (run / LOG).open("rb") as file:
            file.seek(max(0, (run / LOG).stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _processes() -> list[tuple[int, str]]:
    """Process group and command line of every process that can be seen."""
    proc = Path("/proc")
    if not (proc / "self" / "cmdline").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pgid=,command="], capture_output=True, text=True, check=False)
        pairs = (line.split(None, 1) for line in listing.stdout.splitlines())
        return [(int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2]
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append((os.getpgid(int(entry.name)), command))
        except (OSError, ProcessLookupError):
            continue
    return found
