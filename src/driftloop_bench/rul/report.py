"""What comes out of the RUL benchmark: figures with their uncertainty, as JSON, tables and pictures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import progress as bars
from rich.console import Console
from rich.table import Table

from driftloop import durable
from driftloop.fleet.labels import bands
from driftloop.fleets.cmapss.files import SUBSETS
from driftloop.fleets.cmapss.schema import RUL_CAP
from driftloop.model.accuracy import (
    Estimate,
    interval_scores,
    phm08_costs,
    training_bootstrap,
    training_difference,
)
from driftloop.training.intervals import NOMINAL
from driftloop_bench.rul import benchmark
from driftloop_bench.rul import figures as benchmark_figures
from driftloop_bench.rul.benchmark import Data, Plan, Report, SeedResult, Stage, capped

Array = NDArray[np.float64]

LITERATURE = {
    "STAR, 2024": (10.61, 13.47, 10.71, 15.87),
    "TMSCNN, 2024": (10.26, 14.79, 10.51, 14.25),
    "LSTM, Zheng et al., 2017": (16.14, 24.49, 16.18, 28.17),
    "public LSTM without leakage": (14.84, 14.70, 18.65, 16.57),
}
"""Published RMSE on capped labels, FD001 to FD004. STAR's replication over five seeds on FD001: 12.19."""

MODELS = {
    "network": "network, one model",
    "network_ensemble": "network, ensemble",
    "boosting": "gradient boosting, one model",
    "boosting_ensemble": "gradient boosting, ensemble",
    "rolling": "gradient boosting on rolling features alone, one model",
    "rolling_ensemble": "gradient boosting on rolling features alone, ensemble",
}
LABELS = ("capped", "raw")
NEAR = (30, 50)
"""Cycles left, for the errors near the end of life alone."""


@contextmanager
def progress(plan: Plan, console: Console) -> Iterator[Report]:
    """A bar over all trainings of the plan."""
    columns = (
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.description}"),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"{len(plan.seeds) * len(plan.groups)} trainings", total=None)

        def show(stage: Stage) -> None:
            bar.update(task, completed=stage.done, total=stage.of, description=stage.what)

        yield show


def summarise(plan: Plan, data: Data, results: Sequence[SeedResult]) -> dict[str, Any]:
    """The results file: what was done, on what, and every figure."""
    grouped = {subset: [result for result in results if result.subset == subset] for subset in plan.subsets}
    costs = [result.costs for result in results if result.subset in {group[0] for group in plan.groups}]
    return {
        **benchmark.origin(plan, data),
        "calibrate_share": benchmark.CALIBRATE_SHARE,
        "cap": RUL_CAP,
        "subsets": {subset: _of_subset(found) for subset, found in grouped.items()},
        "intervals": _intervals(results),
        "cost": {
            "training_s": _spread([cost["training_s"] for cost in costs]),
            "optimiser_s": _spread([cost["optimiser_s"] for cost in costs]),
            "boosting_s": _spread([cost["boosting_s"] for cost in costs]),
            "inference_us": _spread([cost["inference_us"] for cost in costs]),
            "threads": plan.config.threads,
            "fit_engines": int(costs[0]["fit_engines"]),
            "calibrate_engines": int(costs[0]["calibrate_engines"]),
        },
        "literature": {name: list(row) for name, row in LITERATURE.items()} if data.data_source == "nasa" else {},
    }


def write(summary: dict[str, Any], results: Sequence[SeedResult], output: Path) -> list[Path]:
    """Write results, every prediction, the table and the pictures into `output`; returns their paths."""
    paths = [output / name for name in ("rul.json", "rul-predictions.json", "rul.md", "rul-predicted.png")]
    durable.write_json(paths[0], summary)
    durable.write_json(paths[1], [_predictions(result) for result in results])
    durable.write_atomically(paths[2], markdown(summary).encode())
    benchmark_figures.draw_predicted(results, summary["data_source"], paths[3])
    paths.append(output / "rul-error-by-band.png")
    benchmark_figures.draw_bands(summary, MODELS, paths[-1])
    return paths


def rows(summary: dict[str, Any], label: str, figure: str) -> list[list[str]]:
    """One row per model: its name, then the figure of each subset."""
    digits = 0 if figure == "score" else 2
    subsets = summary["subsets"].values()
    return [
        [name, *(_spread_cell(content[label][model][figure], digits) for content in subsets)]
        for model, name in MODELS.items()
    ]


def _spread_cell(found: dict[str, Any], digits: int) -> str:
    spread = f" ± {found['sd']:.2f}" if "sd" in found and len(found["of_seeds"]) > 1 else ""
    low, high = found["interval"]
    return f"{found['value']:.{digits}f}{spread} ({low:.{digits}f} to {high:.{digits}f})"


def _near(summary: dict[str, Any], most: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the errors near the end of life."""
    near = {subset: content["near"][str(most)] for subset, content in summary["subsets"].items()}
    header = ["model", *(f"{subset} ({found['engines']} engines)" for subset, found in near.items())]
    return header, [
        [name, *(_spread_cell(found["rmse"][model], 2) if found["engines"] else "-" for found in near.values())]
        for model, name in MODELS.items()
    ]


def tables(summary: dict[str, Any]) -> list[Table]:
    """The figures for a terminal."""
    found = []
    for title, header, body in _sections(summary):
        table = Table(title=title, title_justify="left")
        for i, column in enumerate(header):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in body:
            table.add_row(*row)
        found.append(table)
    return found


def markdown(summary: dict[str, Any]) -> str:
    """The same tables as Markdown."""
    lines = [f"# RUL benchmark: {summary['data_source']} data, {len(summary['seeds'])} seeds", ""]
    for title, header, body in _sections(summary):
        lines += [f"**{title}**", "", f"| {' | '.join(header)} |"]
        lines += [f"| --- |{' ---: |' * (len(header) - 1)}", *(f"| {' | '.join(row)} |" for row in body), ""]
    return "\n".join(lines)


def _sections(summary: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of every table."""
    subsets = list(summary["subsets"])
    engines = [f"{subset} ({summary['subsets'][subset]['engines']} engines)" for subset in subsets]
    published = [
        [name, *(f"{row[SUBSETS.index(subset)]:.2f}" for subset in subsets)]
        for name, row in summary["literature"].items()
    ]
    difference = [
        [name, *(_estimate(summary["subsets"][subset]["difference"][key]) for subset in subsets)]
        for key, name in (
            ("one_model", "network minus boosting, one model"),
            ("ensemble", "the same, ensembles"),
            ("rolling", "network minus boosting on rolling features alone, one model"),
        )
    ]
    bracket = "mean ± standard deviation over seeds (95 % bootstrap interval over engines)"
    coverage = []
    for key, name in (("network", "one model"), ("network_ensemble", "ensemble")):
        for subset in [*subsets, "all"]:
            found = summary["intervals"][key][subset]
            coverage.append(
                [
                    f"{name}, {subset}",
                    f"{found['coverage']:.1%}",
                    ", ".join(f"{value:.0%}" for value in found["of_seeds"]),
                    f"{min(found['p_values']):.3f}",
                    f"{found['width']:.1f}",
                    f"{found['score']:.1f}",
                ]
            )
    bands = []
    for key, name in (("network", "one model"), ("network_ensemble", "ensemble")):
        for band in summary["intervals"][key]["bands"]:
            bands.append(
                [
                    f"{name}, label {band['from']} to {band['to']}",
                    str(band["predictions"]),
                    f"{band['coverage']:.1%}",
                    f"{band['width']:.1f}",
                ]
            )
    cost, cap = summary["cost"], summary["cap"]
    return [
        (
            f"RMSE in cycles, labels capped at {cap}: {bracket}",
            ["model", *engines],
            [*rows(summary, "capped", "rmse"), *published],
        ),
        ("Difference of RMSE on capped labels, paired over engines (95 %)", ["", *subsets], difference),
        *((f"RMSE in cycles, engines with at most {most} cycles left", *_near(summary, most)) for most in NEAR),
        ("PHM08 score, capped labels", ["model", *subsets], rows(summary, "capped", "score")),
        ("PHM08 score per engine, capped labels", ["model", *subsets], rows(summary, "capped", "score_per_engine")),
        ("RMSE in cycles, raw labels", ["model", *subsets], rows(summary, "raw", "rmse")),
        ("PHM08 score, raw labels", ["model", *subsets], rows(summary, "raw", "score")),
        ("PHM08 score per engine, raw labels", ["model", *subsets], rows(summary, "raw", "score_per_engine")),
        (
            f"Intervals, nominal {NOMINAL:.0%}, capped labels",
            ["", "coverage", "of seeds", "smallest p (exact binomial)", "mean width", "interval score"],
            coverage,
        ),
        ("Intervals by RUL", ["", "predictions", "coverage", "mean width"], bands),
        (
            "Cost",
            ["", "mean", "least", "most"],
            [
                [name, *(f"{cost[key][part]:.{digits}f}" for part in ("mean", "least", "most"))]
                for key, name, digits in (
                    ("training_s", "training, s of processor time", 0),
                    ("optimiser_s", f"training, s of wall time on {cost['threads']} thread(s), busy machine or not", 0),
                    ("boosting_s", "gradient boosting, s of processor time", 0),
                    ("inference_us", "inference of one window, µs of processor time", 0),
                )
            ],
        ),
    ]


def _of_subset(found: Sequence[SeedResult]) -> dict[str, Any]:
    raw = found[0].true
    answers = _answers(found)
    content: dict[str, Any] = {"engines": len(raw)}
    for label, true in zip(LABELS, (capped(raw), raw), strict=True):
        content[label] = {model: _figures(predicted, true) for model, predicted in answers.items()}
    squares = {model: (predicted - capped(raw)) ** 2 for model, predicted in answers.items()}
    content["difference"] = {
        "one_model": asdict(training_difference(squares["network"], squares["boosting"])),
        "ensemble": asdict(training_difference(squares["network_ensemble"], squares["boosting_ensemble"])),
        "rolling": asdict(training_difference(squares["network"], squares["rolling"])),
    }
    content["bands"] = {
        model: [_band_rmse(square, capped(raw), band) for band in bands(RUL_CAP)] for model, square in squares.items()
    }
    content["near"] = {str(most): _near_the_end(squares, raw <= most) for most in NEAR}
    return content


def _near_the_end(squares: dict[str, Array], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """RMSE of every model over the chosen engines; without any, no figures."""
    errors = {model: square[:, chosen] for model, square in squares.items()} if chosen.any() else {}
    return {"engines": int(chosen.sum()), "rmse": {model: _rmse(square) for model, square in errors.items()}}


def _rmse(squares: Array) -> dict[str, Any]:
    """`squares` `[trainings, engines]`."""
    return _figure(training_bootstrap(squares, root=True), np.sqrt(squares.mean(axis=1)))


def _answers(found: Sequence[SeedResult]) -> dict[str, Array]:
    """Predictions of every model, `[trainings, engines]`; an ensemble counts as one training."""
    answers: dict[str, Array] = {}
    for model, name in (("network", "rul"), ("boosting", "boosting"), ("rolling", "rolling")):
        answers[model] = np.array([getattr(one, name) for one in found])
        answers[f"{model}_ensemble"] = answers[model].mean(axis=0, keepdims=True)
    return answers


def _figures(predicted: Array, true: Array) -> dict[str, Any]:
    costs = np.array([phm08_costs(one, true) for one in predicted])
    return {
        "rmse": _rmse((predicted - true) ** 2),
        "score": _figure(training_bootstrap(costs, total=True), costs.sum(axis=1)),
        "score_per_engine": _figure(training_bootstrap(costs), costs.mean(axis=1)),
    }


def _figure(estimate: Estimate, of_seeds: Array) -> dict[str, Any]:
    found: dict[str, Any] = {
        "value": _rounded(estimate.value),
        "interval": [_rounded(estimate.lower), _rounded(estimate.upper)],
    }
    if len(of_seeds) > 1:
        found |= {"sd": _rounded(of_seeds.std(ddof=1)), "of_seeds": [_rounded(value) for value in of_seeds]}
    return found


def _band_rmse(squares: Array, true: Array, band: tuple[int, int]) -> float | None:
    chosen = (true >= band[0]) & (true <= band[1])
    return _rounded(np.sqrt(squares[:, chosen].mean(axis=1)).mean()) if chosen.any() else None


def _intervals(results: Sequence[SeedResult]) -> dict[str, Any]:
    """Coverage of capped labels, its exact binomial test and the width: by subset, over all, by band of the label."""
    subsets = list(dict.fromkeys(result.subset for result in results))
    ends: dict[str, dict[str, tuple[Array, Array, Array]]] = {"network": {}, "network_ensemble": {}}
    for subset in subsets:
        found = [result for result in results if result.subset == subset]
        lower, upper = np.array([one.lower for one in found]), np.array([one.upper for one in found])
        true = capped(found[0].true)
        ends["network"][subset] = (lower, upper, true)
        ends["network_ensemble"][subset] = (lower.mean(0, keepdims=True), upper.mean(0, keepdims=True), true)
    content: dict[str, Any] = {"nominal": NOMINAL}
    for model, of_subset in ends.items():
        lower = np.concatenate([part[0] for part in of_subset.values()], axis=1)
        upper = np.concatenate([part[1] for part in of_subset.values()], axis=1)
        true = np.concatenate([part[2] for part in of_subset.values()])
        content[model] = {subset: _coverage(*part) for subset, part in of_subset.items()}
        content[model]["all"] = _coverage(lower, upper, true)
        content[model]["bands"] = [
            {"from": band[0], "to": band[1], "predictions": int(lower[:, chosen].size)}
            | {
                "coverage": _rounded(_inside(lower, upper, true)[:, chosen].mean()),
                "width": _rounded((upper - lower)[:, chosen].mean()),
            }
            for band in bands(RUL_CAP)
            if (chosen := (true >= band[0]) & (true <= band[1])).any()
        ]
    return content


def _coverage(lower: Array, upper: Array, true: Array) -> dict[str, Any]:
    from scipy.stats import binomtest

    inside = _inside(lower, upper, true)
    hits = inside.sum(axis=1)
    return {
        "coverage": _rounded(inside.mean()),
        "of_seeds": [_rounded(value) for value in inside.mean(axis=1)],
        "p_values": [_rounded(binomtest(int(hit), inside.shape[1], NOMINAL).pvalue) for hit in hits],
        "width": _rounded((upper - lower).mean()),
        "score": _rounded(interval_scores(lower, upper, true, nominal=NOMINAL).mean()),
    }


def _inside(lower: Array, upper: Array, true: Array) -> NDArray[np.bool_]:
    return (lower <= true) & (true <= upper)


def _predictions(result: SeedResult) -> dict[str, Any]:
    return {"seed": result.seed, "subset": result.subset} | {
        name: [_rounded(value) for value in getattr(result, name)] for name in benchmark.ANSWERS
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": _rounded(np.mean(values)), "least": _rounded(min(values)), "most": _rounded(max(values))}


def _estimate(found: dict[str, float]) -> str:
    return f"{found['value']:+.2f} ({found['lower']:+.2f} to {found['upper']:+.2f})"


def _rounded(value: Any) -> float:
    return round(float(value), 4)
