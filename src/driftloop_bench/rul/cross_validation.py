"""Cross-validation over training engines: how the configurations of the RUL benchmark are chosen.

The training engines of each subset are dealt into parts, by default FOLDS. Each part in turn plays the test set: its
engines are cut off at random cycles, and models that learnt from the others are asked about them, by the benchmark's
own protocol. No test set is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from driftloop.fleet.labels import bands
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import RUL_CAP
from driftloop.fleets.cmapss.source import Fleet
from driftloop.model.accuracy import rmse
from driftloop_bench.rul import benchmark
from driftloop_bench.rul.benchmark import ANSWERS, Data, Plan, Report, SeedResult, Stage, capped

if TYPE_CHECKING:
    from pathlib import Path

FOLDS = 3
CUTS = 10
"""Cut-offs of each held-out engine; all are evenly likely from FIRST rows on."""
MODELS = {
    "network": "network",
    "boosting": "gradient boosting",
    "rolling": "gradient boosting on rolling features alone",
}
FIRST = 20
"""Rows that a cut-off leaves at least; NASA's shortest test history has 19."""


def folds(data: Data, count: int) -> list[Data]:
    """The data once for each fold: `train` is what may be learnt from, `test` are the held-out engines, cut off."""
    found: list[dict[str, Fleet]] = [{} for _ in range(count)]
    for subset, fleet in data.fleets.items():
        rng = np.random.default_rng([count, *subset.encode()])
        part = rng.permutation(len(fleet.train)) % count
        cut = [cut_off(run, rng) for run in fleet.train]
        for fold in range(count):
            learn = [run for run, of in zip(fleet.train, part, strict=True) if of != fold]
            held_out = [one for runs, of in zip(cut, part, strict=True) if of == fold for one in runs]
            found[fold][subset] = replace(fleet, train=learn, test=held_out)
    return [
        replace(data, fleets=fleets, hashes={**data.hashes, "fold": f"{fold + 1} of {count}, {CUTS} cuts"})
        for fold, fleets in enumerate(found)
    ]


def cut_off(run: Run, rng: np.random.Generator) -> list[Run]:
    """A run as it was after CUTS random cycles."""
    ends = rng.integers(min(FIRST, len(run.rows)), len(run.rows), CUTS, endpoint=True)
    return [Run(run.run_id, run.rows[:end], run.remaining + len(run.rows) - int(end)) for end in ends]


def run(plan: Plan, data: Data, cache: "Path", report: Report | None = None, *, count: int = FOLDS) -> list[SeedResult]:
    """Every seed on each of `count` folds; a seed's answers lie one after the other. Goes on where it stopped."""
    parts = folds(data, count)
    found = []
    for number, part in enumerate(parts):

        def tell(stage: Stage, number: int = number) -> None:
            if report is not None:
                what = f"fold {number + 1} of {len(parts)}, {stage.what}"
                report(Stage(number * stage.of + stage.done, len(parts) * stage.of, what))

        found.append(benchmark.run(plan, part, cache, tell))
    return [_joined(same) for same in zip(*found, strict=True)]


def summarise(plan: Plan, data: Data, results: Sequence[SeedResult], *, count: int = FOLDS) -> dict[str, Any]:
    """What was done on `count` folds and what came out: by subset, and of the intervals."""
    subsets = {}
    for subset in plan.subsets:
        mine = [result for result in results if result.subset == subset]
        true = capped(mine[0].true)
        chosen = {"all": true <= RUL_CAP, "below_cap": true < RUL_CAP}
        subsets[subset] = {
            "engines": len(data.fleets[subset].train),
            "cut_offs": len(true),
            "rmse": {
                model: {labels: _rmse(predictions, true, where) for labels, where in chosen.items()}
                for model, predictions in (
                    ("network", [one.rul for one in mine]),
                    ("boosting", [one.boosting for one in mine]),
                    ("rolling", [one.rolling for one in mine]),
                )
            },
            "coverage": _coverage(mine, chosen["all"]),
            "width": round(float(np.mean([one.upper - one.lower for one in mine])), 4),
        }
    everything = [_joined([one for one in results if one.seed == seed]) for seed in plan.seeds]
    true = capped(everything[0].true)
    return {
        **benchmark.origin(plan, data),
        "folds": count,
        "cut_offs_of_an_engine": CUTS,
        "subsets": subsets,
        "intervals": {
            "coverage": _coverage(everything, true <= RUL_CAP),
            "width": round(float(np.mean([one.upper - one.lower for one in everything])), 4),
            "bands": [
                {"from": first, "to": last, "coverage": _coverage(everything, inside)}
                for first, last in bands(RUL_CAP)
                if (inside := (true >= first) & (true <= last)).any()
            ],
        },
    }


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """The figures for a terminal."""
    subsets = summary["subsets"]
    errors = Table(title="RMSE in cycles on capped labels of held-out training engines, mean over seeds")
    for name in ("", *subsets, "mean"):
        errors.add_column(name, justify="right" if name else "left")
    for model, title in MODELS.items():
        for labels, which in (("all", ""), ("below_cap", ", labels below the cap")):
            values = [content["rmse"][model][labels]["value"] for content in subsets.values()]
            errors.add_row(title + which, *(f"{value:.2f}" for value in [*values, np.mean(values)]))
    held = Table(title="Coverage of the 90 % interval")
    held.add_column("")
    held.add_column("covered", justify="right")
    for subset, content in subsets.items():
        held.add_row(subset, f"{content['coverage']:.1%}")
    held.add_row(f"all, {summary['intervals']['width']:.1f} cycles wide", f"{summary['intervals']['coverage']:.1%}")
    for band in summary["intervals"]["bands"]:
        held.add_row(f"label {band['from']} to {band['to']}", f"{band['coverage']:.1%}")
    for table in (errors, held):
        table.title_justify = "left"
    return [errors, held]


def _joined(parts: Sequence[SeedResult]) -> SeedResult:
    """The answers of one seed one after the other."""
    answers = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ANSWERS}
    return SeedResult(parts[0].seed, parts[0].subset, **answers, costs=parts[0].costs)


def _rmse(
    predictions: list[NDArray[np.float64]], true: NDArray[np.float64], where: NDArray[np.bool_]
) -> dict[str, Any]:
    of_seeds = [round(rmse(predicted[where], true[where]), 4) for predicted in predictions]
    return {"value": round(float(np.mean(of_seeds)), 4), "of_seeds": of_seeds}


def _coverage(results: Sequence[SeedResult], where: NDArray[np.bool_]) -> float:
    inside = [((one.lower <= capped(one.true)) & (capped(one.true) <= one.upper))[where].mean() for one in results]
    return round(float(np.mean(inside)), 4)
