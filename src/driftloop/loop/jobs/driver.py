"""The process that runs one pipeline: `python -m driftloop.loop.jobs.driver FOLDER [JOB]`.

Without a job it waits for one as a line of JSON on standard input, and its log is a file in the run's folder. An empty
line before that says that one is about to come. With a job, as JSON, it runs that at once, and its log is its standard
output, as a pod's is. As soon as it knows of a job it imports what the steps need, beside whatever else it does. Its
outcome is the exit code. See driftloop.loop.jobs.local for why it is a process of its own.
"""

import importlib
import os
import queue
import signal
import sys
import threading
from pathlib import Path

from driftloop.durable import decode_json
from driftloop.loop import dataset, steps
from driftloop.loop.jobs import pipeline
from driftloop.loop.jobs.local import LOG, UNUSED, Job

NICENESS = 10
"""Serving goes before training where both want the processor."""
WAIT_S = 60.0
"""How long it waits for a job that is about to come: it holds what it has imported meanwhile."""
SLOW = (
    "driftloop.loop.judge.challenger",
    "driftloop.training.export",
    "driftloop.training.rehearsal",
    "torch.onnx.utils",
    "driftloop.loop.judge.evaluation",
    "driftloop.loop.judge.gate",
)
"""What takes long to import, in the order in which the steps need it; the first one does without."""

# What the first step needs is imported before that, so that threads rarely import the same beside each other.
__all__ = ["NICENESS", "SLOW", "WAIT_S", "dataset", "main", "run_at_once", "steps"]


def main(folder: Path) -> int:
    """Wait for a job and run it; returns the exit code where it does not raise what a step raised."""
    os.nice(NICENESS)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    line = lines.get()
    _import_beside()
    while not line:
        try:
            line = lines.get(timeout=WAIT_S)
        except queue.Empty:
            return UNUSED
    job = decode_json(line, Job, where="the job on standard input")
    run = folder / job.run
    run.mkdir(parents=True, exist_ok=True)
    log = os.open(run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    pipeline.run(job, run / "steps")
    return 0


def run_at_once(folder: Path, job: Job) -> None:
    """Run a job, its log on standard output; raises what a step raises."""
    os.nice(NICENESS)
    _import_beside()
    pipeline.run(job, folder / job.run)


def _import_beside() -> None:
    """Import what takes long on a thread of its own."""
    threading.Thread(target=_import, daemon=True).start()


def _import() -> None:
    for name in SLOW:
        importlib.import_module(name)


def _listen(lines: "queue.SimpleQueue[bytes]") -> None:
    """Pass lines on; the end of standard input is the end of the retrainer, and then of this process group."""
    # Not through sys.stdin: its lock, held by a thread that waits, would abort the interpreter at its exit.
    rest = b""
    while piece := os.read(0, 65536):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            lines.put(line)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    code = 0
    if len(sys.argv) == 2:
        code = main(Path(sys.argv[1]))
    else:
        run_at_once(Path(sys.argv[1]), decode_json(sys.argv[2], Job, where="the job"))
    sys.stdout.flush()
    sys.stderr.flush()
    # Python would take half a second to let go of torch, and the promotion waits for the end of this process.
    os._exit(code)
