"""The process that runs one pipeline through kfp.local: `python -m driftloop.loop.jobs.driver FOLDER [JOB]`.

Without a job it imports kfp, waits for one as a line of JSON on standard input, runs it, leaves `result.json` and
`pipeline.log` in the run's folder and exits. See driftloop.loop.jobs.local for why it is a process of its own. With a
job, as JSON, it runs that at once; its log is its standard output and its outcome the exit code, as a pod's are.
"""

import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path

from driftloop.durable import decode_json
from driftloop.loop.jobs.local import LOG, Ended, Job, end_of_log, failure, plain, write_ended

NICENESS = 10
"""Serving goes before training where both want the processor."""


def main(folder: Path) -> int:
    """Wait for a job, run it, leave its outcome; returns the exit code."""
    os.nice(NICENESS)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    from driftloop.loop.jobs import pipeline

    job = decode_json(lines.get(), Job, where="the job on standard input")
    run = folder / job.run
    run.mkdir(parents=True, exist_ok=True)
    log = os.open(run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        pipeline.run_locally(job, run / "kfp")
    except Exception:
        # Whatever went wrong in the pipeline is an outcome, and its evidence is the log.
        sys.stdout.flush()
        trace = traceback.format_exc(limit=-1).strip().splitlines()[-1]
        write_ended(run, failure(plain(trace), end_of_log(run)))
        traceback.print_exc()
        return 1
    write_ended(run, Ended(True))
    return 0


def run_at_once(folder: Path, job: Job) -> None:
    """Run a job, its log on standard output; raises where a step fails."""
    os.nice(NICENESS)
    from driftloop.loop.jobs import pipeline

    pipeline.run_locally(job, folder / job.run)


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
    if len(sys.argv) == 2:
        sys.exit(main(Path(sys.argv[1])))
    run_at_once(Path(sys.argv[1]), decode_json(sys.argv[2], Job, where="the job"))
