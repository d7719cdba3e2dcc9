"""How well the error is estimated from answers alone, where it can be checked: on NASA's engines.

One model is trained for each subset and seed, and is asked about the live-role engines of each subset: healthy traffic
of its own, or with first aid from windows cut at random ages where that can be given. What the server would count of
their answers is what the estimate is made from; the truth is the RMSE over the same answers (labels capped).

    python scripts/live_error.py [--seeds 1] [--subsets FD001,FD002,FD003,FD004] > results.md
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from driftloop import settings
from driftloop.drift import live_error
from driftloop.drift.baseline import Baseline, read_baseline
from driftloop.drift.bins import PREDICTION, REGIME
from driftloop.drift.verdict import DRIFT, judge
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.model import answers, first_aid
from driftloop.model.answers import Answers
from driftloop.training import build, configuration
from driftloop.training.train import train

STRIDE = 3


def main() -> None:
    """Train, ask, print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--subsets", default="FD001,FD002,FD003,FD004")
    chosen = options.parse_args()
    subsets = chosen.subsets.split(",")
    fleets = {subset: load_fleet(subset, settings.load(), splits=("train",)).train for subset in subsets}
    print("| model | traffic | seed | first aid | estimate | 95 % range | truth | ratio | coverage | true | right |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for source in subsets:
        for seed in range(chosen.seeds):
            with tempfile.TemporaryDirectory() as folder:
                _one(Path(folder), source, seed, fleets)


def _one(folder: Path, source: str, seed: int, fleets: dict[str, list[Run]]) -> None:
    learnt = [run for run in fleets[source] if run.role != "live"]
    config = replace(configuration.default(SCHEMA), seed=seed)
    trained = train(learnt, SCHEMA, config)
    build.build_bundle(trained, learnt, build.first_manifest(learnt), folder, data_source="nasa")
    for target, runs in fleets.items():
        live = with_role(runs, "live")
        model, baseline, aided = answers.open_model(folder), read_baseline(folder), "-"
        if target != source:
            given = _aided(folder, live, seed)
            if isinstance(given, str):
                aided = given
            else:
                model, baseline, aided = given.model, given.baseline, f"{given.added} regimes"
        _row(source, target, seed, aided, answers.evaluate(model, live, stride=STRIDE), live, baseline)


def _aided(folder: Path, live: list[Run], seed: int) -> first_aid.Aided | str:
    known, rng = first_aid.read(folder), np.random.default_rng(seed)
    windows = []
    for run in live:
        end = int(rng.integers(20, len(run.rows) + 1))
        windows.append(Run(run.run_id, run.rows[max(0, end - 256) : end]))
    windows = first_aid.newest(windows)
    lacking = first_aid.lacking(known.regimes, windows)
    return (lacking and "none due") or first_aid.give(known, windows) or "no new regime"


def _row(source: str, target: str, seed: int, aided: str, found: Answers, live: list[Run], baseline: Baseline) -> None:
    rows = {run.run_id: run.rows for run in live}
    given = np.stack(
        [rows[name][cycle - 1, : SCHEMA.n_settings] for name, cycle in zip(found.engine, found.cycle, strict=True)]
    )
    counts = baseline.binner.split(baseline.binner.counts(found.rul, given, found.newest, found.regime))
    errors = baseline.errors if baseline.errors is not msgspec.UNSET else None
    said = live_error.estimate(
        errors,
        counts[PREDICTION].astype(float),
        counts[REGIME].astype(float),
        len(live),
        judge(counts, baseline).verdict == DRIFT,
    )
    true = float(np.sqrt(np.mean((found.rul - found.true) ** 2)))
    covered = float(np.mean((found.lower <= found.true) & (found.true <= found.upper)))
    begin = f"| {source} | {target} | {seed} | {aided}"
    if said.rmse is None or said.low is None or said.high is None or said.coverage is None:
        print(f"{begin} | unknown: {said.why} | | {true:.2f} | | | {covered:.2f} | |", flush=True)
        return
    right = abs(said.rmse / true - 1) <= 0.2 or said.low <= true <= said.high
    print(
        f"{begin} | {said.rmse:.2f} | {said.low:.2f} to {said.high:.2f} | {true:.2f} | {said.rmse / true:.2f} | "
        f"{said.coverage:.2f} | {covered:.2f} | {'yes' if right else 'NO'} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
