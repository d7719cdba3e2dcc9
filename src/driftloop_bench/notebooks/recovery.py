"""One recovery, looked at from all sides: marks, phases, what the watch blamed, what the models answered."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from driftloop_bench import own
from driftloop_bench.experiment.commands import conduct
from driftloop_bench.experiment.marks import event_time
from driftloop_bench.experiment.recording import Plan
from driftloop_bench.experiment.recovery import Outcome
from driftloop_bench.experiment.results import TIMELINE
from driftloop_bench.experiment.traffic import Record
from driftloop_bench.notebooks.drawing import BLUE, GREEN, GREY, ORANGE, RED, panels
from driftloop_bench.notebooks.workplace import Connected, console

PHASES = {
    "detection": ("t0", "t1", RED),
    "decision": ("t1", "t2", GREY),
    "retraining": ("t2", "t_rt", BLUE),
    "swap": ("t_rt", "t4", ORANGE),
    "verification": ("t4", "t5", GREEN),
}
_QUIET = ("verdict", "step_started", "step_finished", "archived", "runs_archived")


def champion(platform: Connected, subset: str, seed: int) -> str:
    """The version in production; an embedded platform first trains one on the completed runs of `subset`."""
    if platform.embedded:
        own.train_champion(subset, seed, platform.settings, {}, console())
    return own.wait_for_model(platform.settings)


def run(plan: Plan, platform: Connected, results: Path, *, with_reference: bool = True) -> Outcome:
    """Carry out an experiment on a running platform and tell about it; the results are files in `results`."""
    # A notebook has an event loop of its own, and the experiment another, which needs a thread.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(
            conduct, plan, platform.settings, results, console(), with_reference=with_reference
        ).result()


def timeline(results: Path) -> Image:
    """The picture that the experiment drew."""
    return Image(filename=str(results / TIMELINE), width=720)  # type: ignore[no-untyped-call]


def phases_figure(outcome: Outcome) -> Figure:
    """The time from the first changed request to the verified recovery as one bar, phase by phase."""
    figure, axes = panels(height=1.5, data_source=outcome.recording.data_source)
    axis, marks = axes[0, 0], outcome.marks
    for row, (first, last, colour) in enumerate(PHASES.values()):
        begin, end = getattr(marks, first), getattr(marks, last)
        if begin is None or end is None or marks.t0 is None:
            continue
        axis.barh(row, end - begin, left=begin - marks.t0, color=colour, height=0.7)
        axis.annotate(
            f"{end - begin:.1f} s", (end - marks.t0, row), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(range(len(PHASES)), list(PHASES))
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_xlabel("seconds after T0")
    return figure


def blame_table(outcome: Outcome) -> pd.DataFrame:
    """The features that the first verdict of drift found farthest from the baseline.

    `score` is the larger of PSI and KS in units of its threshold for this number of requests: drift begins at 1.
    """
    found = next(
        (
            event
            for event in outcome.recording.events
            if event.get("kind") == "verdict" and event.get("verdict") == "drift"
        ),
        None,
    )
    if found is None:
        return pd.DataFrame(columns=["psi", "ks", "score"]).rename_axis("feature")
    print(f"first verdict of drift: {found['n']} requests looked at, {len(found['blamed'])} features out of line")
    return pd.DataFrame(found["worst"]).T.round(2).rename_axis("feature")


def answers_figure(outcome: Outcome) -> Figure:
    """Prediction against truth of single answers to changed engines: the old version, then the new one."""
    marks, records = outcome.marks, outcome.recording.records
    figure, axes = panels(1, 2, height=3.0, sharex=True, sharey=True, data_source=outcome.recording.data_source)
    for axis, version, colour in (
        (axes[0, 0], marks.champion_version, RED),
        (axes[0, 1], marks.challenger_version, BLUE),
    ):
        mine = _thinned([record for record in records if record.ok and record.changed and record.version == version])
        axis.plot([record.true_rul for record in mine], [record.rul for record in mine], "o", ms=2, color=colour)
        axis.plot([0, 125], [0, 125], color=GREY, lw=1, ls="--")
        axis.set_title(f"version {version}: {len(mine)} answers shown")
        axis.set_xlabel("true remaining life (cycles, capped)")
    axes[0, 0].set_ylabel("predicted (cycles)")
    return figure


def error_table(outcome: Outcome) -> pd.DataFrame:
    """RMSE in cycles, on labels capped at 125, before the change, after it, and after the recovery."""
    metrics = outcome.metrics
    rows = {
        "old version, its own fleet": "rmse_healthy",
        "old version, changed fleet": "rmse_drifted",
        "new version, changed fleet": "rmse_recovered",
        "reference, trained from scratch, same requests": "rmse_reference",
    }
    table = {name: {"RMSE (cycles)": metrics[field]} for name, field in rows.items()}
    print(
        f"{metrics['requests_total']} requests, {metrics['requests_failed']} failed; decision: {metrics['decision']}; "
        f"data_source: {metrics['data_source']}"
    )
    return pd.DataFrame(table).T.astype(float).round(1)


def story_table(outcome: Outcome) -> pd.DataFrame:
    """What the loop wrote into its event log after T0, in its own words; verdicts and steps left out."""
    start = outcome.marks.t0 or outcome.recording.started
    told = [
        (round(event_time(event) - start, 1), event["kind"], event.get("model_version", ""), _detail(event))
        for event in outcome.recording.events
        if event.get("kind") not in _QUIET and event_time(event) >= start
    ]
    return pd.DataFrame(told, columns=["s after T0", "event", "version", "detail"]).set_index("s after T0")


def _detail(event: dict[str, Any]) -> str:
    words = event.get("reason") or event.get("cause") or ""
    return str(words)[:90]


def _thinned(records: list[Record], most: int = 800) -> list[Record]:
    """Evenly chosen `most` of the records, so that a picture stays readable."""
    if len(records) <= most:
        return records
    return [records[i] for i in np.linspace(0, len(records) - 1, most).astype(int)]
