"""The accuracy of the loop's own network on any fleet, by cross-validation over units, beside gradient boosting.

Units are dealt into folds; a model learns from the units of all other folds alone, and its intervals rest on units
that the answering member of it has not seen. Asked is every fifth row of each held-out unit, the last one included, on
labels capped as the fleet file says. Nothing is chosen by what comes out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet.labels import capped, window_ends
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.training import configuration
from driftloop.training import train as training
from driftloop_bench import boosting

STRIDE = 5
NEAR = 30
"""Steps before the end from which errors are told apart."""
DRAWS = 2000
MODELS = ("network", "boosting")


@dataclass(frozen=True)
class Asked:
    """Answers about held-out units, row by row: arrays `[n]`, in steps."""

    unit: NDArray[np.str_]
    true: NDArray[np.float64]
    rul: dict[str, NDArray[np.float64]]
    """By model; the best constant is found afterwards."""
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def without(runs: Sequence[Run], schema: Schema, names: Sequence[str]) -> tuple[list[Run], Schema]:
    """The same runs and schema without some sensors; raises DataError for one that is not there."""
    unknown = [name for name in names if name not in schema.sensor_names]
    if unknown:
        raise DataError(f"there is no sensor {unknown[0]!r}", remedy=f"choose from {', '.join(schema.sensor_names)}")
    kept = [at for at, name in enumerate(schema.columns) if name not in names]
    sensors = tuple(sensor for sensor in schema.sensors if sensor.name not in names)
    return [replace(run, rows=run.rows[:, kept]) for run in runs], msgspec.structs.replace(schema, sensors=sensors)


def cross_validate(
    runs: Sequence[Run],
    schema: Schema,
    *,
    folds: int,
    seed: int,
    boost: bool = True,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[Asked, float]:
    """The answers about each failed unit by models that have not seen it, and the seconds of a network's training.

    `tell` is told of every fold that is done. Raises DataError for fewer units than two for each fold.
    """
    failed = sorted((run for run in runs if not run.censored), key=lambda run: run.run_id)
    if len(failed) < 2 * folds:
        raise DataError(f"{len(failed)} failed units are too few for {folds} folds", remedy="ask for fewer --folds")
    order = np.random.default_rng(seed).permutation(len(failed))
    config = replace(configuration.default(schema), seed=seed)
    cap = training.cap_of(schema, failed)
    found: list[tuple[list[Run], list[NDArray[np.int64]], NDArray[np.float64], NDArray[np.float64]]] = []
    seconds = []
    for fold in range(folds):
        held = [failed[at] for at in order[fold::folds]]
        learn = [run for run in failed if run not in held]
        began = time.process_time()
        fitted = training.fit(learn, [], [], schema, cap, config)
        seconds.append(time.process_time() - began)
        ends = [window_ends(len(run.rows), STRIDE) for run in held]
        windows = training.Windows(fitted.network, held, STRIDE)
        values = training.estimates(fitted.network, windows)
        answers = np.stack([one.numpy() for one in fitted.network.interval(training.tensor(values))], axis=1)
        boosted = (
            boosting.fit(learn, boosting.BoostingConfig(), seed, schema, cap).predict(held, ends)
            if boost
            else np.full(len(values), np.nan)
        )
        found.append((held, ends, answers.astype(np.float64), boosted))
        tell(fold + 1)
    answers = np.concatenate([part[2] for part in found])
    pairs = [(run, at) for held, ends, _, _ in found for run, at in zip(held, ends, strict=True)]
    return (
        Asked(
            unit=np.concatenate([np.repeat(run.run_id, len(at)) for run, at in pairs]),
            true=np.concatenate([capped(run.rul[at], cap) for run, at in pairs]),
            rul={"network": answers[:, 0], "boosting": np.concatenate([part[3] for part in found])},
            lower=answers[:, 1],
            upper=answers[:, 2],
        ),
        float(np.mean(seconds)),
    )


def figures(asked: Asked, seed: int = 0) -> dict[str, Any]:
    """RMSE with each unit and with each row weighing the same, of RUL up to NEAR, coverage and width by unit.

    Beside the models the best constant, and the difference of network and boosting with its 95 % interval over units.
    """
    names, at = np.unique(asked.unit, return_inverse=True)
    count = np.bincount(at)

    def by_unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(at, values) / count

    constant = np.full(len(asked.true), by_unit(asked.true).mean())
    near = asked.true <= NEAR
    shown: dict[str, Any] = {"units": len(names), "rows": len(asked.true)}
    squares = {}
    for model, rul in {**asked.rul, "constant": constant}.items():
        if np.isnan(rul).any():
            continue
        square = (rul - asked.true) ** 2
        squares[model] = by_unit(square)
        shown[model] = {
            "rmse_units_alike": float(np.sqrt(squares[model].mean())),
            "rmse_rows_alike": float(np.sqrt(square.mean())),
            f"rmse_rul_up_to_{NEAR}": float(np.sqrt(square[near].mean())),
        }
    inside = ((asked.lower <= asked.true) & (asked.true <= asked.upper)).astype(np.float64)
    shown["network"] |= {
        "coverage_by_unit": float(by_unit(inside).mean()),
        "width_by_unit": float(by_unit(asked.upper - asked.lower).mean()),
    }
    if "boosting" in squares:
        chosen = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
        drawn = [np.sqrt(chosen @ squares[model] / len(names)) for model in MODELS]
        low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
        whole = [shown[model]["rmse_units_alike"] for model in MODELS]
        shown["network_minus_boosting"] = {"value": whole[0] - whole[1], "lower": float(low), "upper": float(high)}
    return shown
