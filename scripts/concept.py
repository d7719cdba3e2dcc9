"""Operating characteristics of the concept watch on NASA's engines: false alarms, and the delay in engines.

For each of several splits of a subset's training engines into roles a model is trained with the defaults; its
calibrate and gate engines make the limits, and its live-role engines, which had no part in anything, complete in
random order. A label shift by s cycles is a life that ends s cycles earlier at the same sensor readings, or, with a
negative s, later.

    scripts/concept.py --splits 6 --output data/concept.json
    scripts/concept.py --splits 6 --first 6     on six others
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from driftloop import settings
from driftloop.drift import outcomes
from driftloop.drift.outcomes import DRIFT, judge, tabulate
from driftloop.drift.statistics import Floats
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.loop.judge.evaluation import STRIDE
from driftloop.model import answers
from driftloop.training import export
from driftloop.training.train import TrainConfig, train

SUBSETS = ("FD001", "FD002")
SHIFTS = (10, 20, 30, -20)
BEFORE, AFTER = 15, 50
"""Healthy engines before the labels change, and engines after it that are waited for."""

Answered = tuple[str, Floats, Floats, Floats]
"""Role, RUL, lower and upper of one engine at every STRIDE-th cycle up to its failure."""


def answered(subset: str, split: int) -> list[Answered]:
    """What the model of one split says of the engines that it was not fitted on."""
    fleet = load_fleet(subset, settings.load(), splits=("train",))
    # Roles follow from the ids, so that other ids are another split.
    runs = [Run(f"split{split}-{run.run_id}", run.rows) for run in fleet.train]
    trained = train(runs, SCHEMA, replace(TrainConfig(), seed=split))
    with tempfile.TemporaryDirectory() as folder:
        export.export(trained.network, with_role(runs, "train")[0].rows, Path(folder))
        session = answers.open_session(Path(folder) / "model.onnx")
    chosen = with_role(runs, "calibrate", "gate", "live")
    model = answers.Model(session, trained.config.architecture.window, SCHEMA, RUL_CAP)
    found = answers.evaluate(model, chosen, stride=STRIDE, threads=1)
    return [
        (run.role, *(part[found.engine == run.run_id].astype("f8") for part in (found.rul, found.lower, found.upper)))
        for run in chosen
    ]


def table(engine: Answered, shift: int = 0) -> Floats:
    """An engine's outcomes where its life ends `shift` cycles earlier."""
    _, rul, lower, upper = engine
    true = np.arange(len(rul) - 1, -1, -1.0) * STRIDE - shift
    kept = true >= 0
    return tabulate(rul[kept], lower[kept], upper[kept], true[kept], RUL_CAP)


def false_alarms(live: Sequence[Answered], reference: Sequence[Floats], orders: int, seed: int) -> tuple[int, int]:
    """(orders with an alarm, verdicts given) while the live engines complete one by one, in `orders` random orders."""
    rng = np.random.default_rng(seed)
    alarms = verdicts = 0
    for _ in range(orders):
        stream = [table(live[i]) for i in rng.permutation(len(live))]
        said = [judge(stream[:n], reference).verdict for n in range(outcomes.LEAST, len(stream) + 1)]
        alarms, verdicts = alarms + (DRIFT in said), verdicts + len(said)
    return alarms, verdicts


def delay(live: Sequence[Answered], reference: Sequence[Floats], shift: int, rng: np.random.Generator) -> int | None:
    """Engines from the change of the labels to the alarm; None where AFTER engines did not raise it."""
    before = [table(live[i]) for i in rng.permutation(len(live))[:BEFORE]]
    after = [table(live[i], shift) for i in rng.integers(0, len(live), AFTER)]
    return next((n for n in range(1, AFTER + 1) if judge(before + after[:n], reference).verdict == DRIFT), None)


def summary(delays: Iterable[int | None]) -> dict[str, float | None]:
    """Median and 90 % quantile of the delays, a missed change counting as more than AFTER, and the missed share."""
    numbers = np.array([AFTER + 1 if found is None else found for found in delays])
    median, late = (float(np.quantile(numbers, level)) for level in (0.5, 0.9))
    return {
        "median": median if median <= AFTER else None,
        "q90": late if late <= AFTER else None,
        "missed": round(float(np.mean(numbers > AFTER)), 3),
        "streams": len(numbers),
    }


def main() -> int:
    """Train, simulate, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--first", type=int, default=0, help="number of the first split")
    parser.add_argument("--orders", type=int, default=20, help="random orders of each split's live engines")
    parser.add_argument("--streams", type=int, default=10, help="streams of each split and shift")
    parser.add_argument("--output", type=Path, default=Path("data/concept.json"))
    given = parser.parse_args()
    result = {"limit": outcomes.LIMIT, "least": outcomes.LEAST, "most": outcomes.MOST, "subsets": {}}
    for subset in SUBSETS:
        alarms = verdicts = alarmed_splits = 0
        delays: dict[int, list[int | None]] = {shift: [] for shift in SHIFTS}
        for split in track(range(given.first, given.first + given.splits), subset):
            engines = answered(subset, split)
            reference = [table(engine) for engine in engines if engine[0] != "live"]
            live = [engine for engine in engines if engine[0] == "live"]
            found, said = false_alarms(live, reference, given.orders, split)
            alarms, verdicts, alarmed_splits = alarms + found, verdicts + said, alarmed_splits + (found > 0)
            rng = np.random.default_rng(split)
            for shift in SHIFTS:
                delays[shift] += [delay(live, reference, shift, rng) for _ in range(given.streams)]
        result["subsets"][subset] = {
            "splits": given.splits,
            "first_split": given.first,
            "verdicts_healthy": verdicts,
            "streams_healthy": given.splits * given.orders,
            "streams_alarmed": alarms,
            "splits_alarmed": alarmed_splits,
            "delay_engines": {str(shift): summary(found) for shift, found in delays.items()},
        }
        print(json.dumps({subset: result["subsets"][subset]}, indent=1))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
