"""Where a pipeline runs: what the retrainer asks of any such place, and the place that is this machine.

Importing kfp takes two seconds, which must not lie between an alert and the training. So a driver
(driftloop.loop.jobs.driver) is kept ready; it has imported kfp and waits on its standard input for a job.
It leads a process group that all steps belong to. A pipeline is ended by killing the group, and when
the retrainer dies, however it dies, the driver sees its standard input close and kills the group itself.
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

from driftloop import durable
from driftloop.environment import chosen
from driftloop.errors import DriftloopError, JsonError
from driftloop.settings import Settings
from driftloop.training.modes import Mode

RESULT = "result.json"
LOG = "pipeline.log"
LOG_BYTES = 65_536
"""So much of a log's end is looked at."""
_EVIDENCE_CHARACTERS, _EVIDENCE_LINES = 3000, 25
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TRACEBACK = re.compile(r"( +)Traceback \(most recent call last\):")
_MODULE = re.compile(r"^(\w+\.)+(?=\w+:)")


class Runs(msgspec.Struct, frozen=True):
    """The archived runs that a retraining is about; a step looks up no others but those that the champion knows."""

    new: list[str]
    """Those to learn anew from."""
    changed: list[str] | None = None
    """After a concept drift those that show the labels as they are now; all others' are superseded then."""

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
        """Make the next start quick."""

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
    """Runs the pipeline through kfp.local below `folder`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder.resolve()
        if "python3" in str(self.folder):
            # kfp.local replaces this word by the interpreter's path anywhere in a step's command.
            raise DriftloopError(
                "kfp.local cannot run in a folder with `python3` in its path",
                where=str(self.folder),
                remedy="set DRIFTLOOP_STATE_DIR to another folder",
            )
        self._settings = settings
        self._driver: subprocess.Popen[bytes] | None = None
        self._run: Path | None = None

    def prepare(self) -> None:
        """Start a driver that waits for a job."""
        if self._driver is not None:
            return
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

    def start(self, job: Job) -> None:
        """Hand the job to the waiting driver."""
        for attempt in (1, 2):
            self.prepare()
            assert self._driver is not None
            assert self._driver.stdin is not None
            try:
                self._driver.stdin.write(msgspec.json.encode(job) + b"\n")
                self._driver.stdin.flush()
                break
            except OSError:
                # The driver died while it waited: another one, once.
                self.stop()
                if attempt == 2:
                    raise
        self._run = self.folder / job.run

    def poll(self) -> Ended | None:
        """None while the driver lives; then what it left, or the end of its log."""
        if self._driver is None or self._run is None:
            return Ended(False, "the pipeline is not running")
        code = self._driver.poll()
        if code is None:
            return None
        run = self._run
        self.stop()
        try:
            return durable.read_json(run / RESULT, Ended)
        except (FileNotFoundError, JsonError):
            how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
            return failure(f"the pipeline {how}", end_of_log(run))

    def stop(self) -> None:
        """Kill the driver and its steps."""
        if self._driver is not None:
            _kill_group(self._driver.pid)
            if self._driver.stdin is not None:
                with contextlib.suppress(OSError):
                    self._driver.stdin.close()
            self._driver.wait()
        self._driver = self._run = None

    def leave(self) -> None:
        """Kill the driver: it would end with the retrainer anyway."""
        self.stop()

    def adopt(self, run: str) -> bool:
        """Never: a driver ends with its retrainer."""
        del run
        return False

    def clear(self) -> None:
        """Kill steps that outlived both their driver and their retrainer; found by their command line."""
        mark = str(self.folder)
        for group in {group for group, command in _processes() if mark in command and _is_ours(command)}:
            _kill_group(group)


def failure(how: str, log: str) -> Ended:
    """The outcome of a run that failed: first the error of its own step where the log has it, or `how` it ended.

    The end of the log follows as evidence.
    """
    lines = [line.rstrip() for line in plain(log).splitlines() if line.strip()]
    own = own_error(lines)
    evidence = "\n".join(lines[-_EVIDENCE_LINES:])[-_EVIDENCE_CHARACTERS:]
    return Ended(False, "\n".join(part for part in (own, how, evidence) if part))


def own_error(lines: list[str]) -> str | None:
    """What the step itself raised, from the log of kfp.local: the line that ends the last indented traceback.

    kfp indents what a step prints. What kfp and the driver raise thereupon stands at the margin and says less.
    """
    found = None
    for number, line in enumerate(lines):
        traceback = _TRACEBACK.match(line)
        if traceback is not None:
            inside = f"{traceback[1]} "
            found = next((later.strip() for later in lines[number + 1 :] if not later.startswith(inside)), None)
    return None if found is None else _MODULE.sub("", found)


def end_of_log(run: Path) -> str:
    """The end of a run's log; empty where there is none."""
    try:
        with (run / LOG).open("rb") as file:
            file.seek(max(0, (run / LOG).stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def plain(text: str) -> str:
    """`text` without the colours that kfp gives its messages even where there is no terminal."""
    return _COLOURS.sub("", text)


def write_ended(run: Path, outcome: Ended) -> None:
    """What the driver leaves behind."""
    durable.write_json(run / RESULT, msgspec.to_builtins(outcome))


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _is_ours(command: str) -> bool:
    return "driftloop.loop.jobs.driver" in command or "kfp.dsl.executor_main" in command


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
