"""The folder of an experiment's results."""

from pathlib import Path

from driftloop import durable
from driftloop_bench.experiment.figures import draw_timeline
from driftloop_bench.experiment.recovery import Outcome, summary
from driftloop_bench.experiment.story import page
from driftloop_bench.experiment.traffic import write_records

METRICS, SUMMARY, TIMELINE, TRAFFIC, EVENTS, STORY = (
    "recovery_metrics.json",
    "recovery_summary.md",
    "recovery_timeline.png",
    "recovery_traffic.jsonl.gz",
    "recovery_events.jsonl",
    "recovery.html",
)


def write_results(outcome: Outcome, folder: Path) -> list[Path]:
    """Write metrics, summary, picture, traffic log, events and the page into `folder`; returns the files."""
    keep(outcome, folder, METRICS, TRAFFIC, EVENTS)
    draw_timeline(outcome, folder / TIMELINE)
    durable.write_atomically(folder / SUMMARY, summary(outcome).encode())
    durable.write_atomically(folder / STORY, page(outcome).encode())
    return [folder / name for name in (METRICS, SUMMARY, TIMELINE, TRAFFIC, EVENTS, STORY)]


def keep(outcome: Outcome, folder: Path, metrics: str, traffic: str, events: str) -> None:
    """Write what an experiment found, sent and was told into files of these names in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_json(folder / metrics, outcome.metrics)
    write_records(folder / traffic, outcome.recording.records)
    (folder / events).unlink(missing_ok=True)
    for event in outcome.recording.events:
        durable.append_json_line(folder / events, event)
