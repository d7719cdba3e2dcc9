"""The retraining pipeline: which steps there are, in which order, and what each hands to the next.

All run in one process, wherever that is: what one step leaves is on the disk of the next, and what takes long to
import is imported once.
"""

from pathlib import Path

from driftloop.loop.jobs.local import Job


def run(job: Job, folder: Path) -> None:
    """Collect, train, evaluate, their files below `folder`. What the gate approves, the retrainer promotes.

    Raises what a step raises.
    """
    from driftloop.loop import steps

    of = {"run": job.run, "cause": job.cause, "champion": job.champion}
    dataset, champion, challenger = (str(folder / name) for name in ("dataset", "champion", "challenger"))
    steps.collect(**of, runs=job.runs, dataset=dataset, bundle=champion)
    version = steps.train(**of, mode=job.mode, dataset=dataset, champion_bundle=champion, bundle=challenger)
    steps.evaluate(**of, version=version, dataset=dataset, champion_bundle=champion, bundle=challenger)
