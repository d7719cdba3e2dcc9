"""The accuracy of the loop's own network on any fleet, by cross-validation over units, beside gradient boosting.

Units are dealt into folds; a model learns from the units of all other folds alone, and its intervals rest on units
that the answering member of it has not seen. Asked is every fifth row of each held-out unit, the last one included, on
labels capped as the fleet file says. Nothing is chosen by what comes out.

The same models can then be asked with readings taken away from the held-out units: a share of all at random, and
each sensor in turn for its whole life. They are not trained again.
"""

import time
import zlib
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
from driftloop.training.network import RulNetwork
from driftloop_bench import boosting

STRIDE = 5
NEAR = 30
"""Steps before the end from which errors are told apart."""
DRAWS = 2000
SHARES = (0.05, 0.2)
"""Shares of readings that are taken away at random."""
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


@dataclass(frozen=True)
class Damage:
    """What is taken away from the readings of a unit."""

    name: str = "none"
    share: float = 0.0
    """Share of all readings, at random."""
    dead: int | None = None
    """Column of the sensor that gives nothing for the whole life of the unit."""

    def of(self, run: Run, settings: int, seed: int) -> Run:
        """The run with missing values; the first `settings` columns stay whole."""
        rows = run.rows.copy()
        if self.dead is not None:
            rows[:, self.dead] = np.nan
        if self.share:
            # By unit, so that what is missing does not depend on the fold.
            drawn = np.random.default_rng([seed, zlib.crc32(run.run_id.encode())])
            rows[:, settings:][drawn.random(rows[:, settings:].shape) < self.share] = np.nan
        return replace(run, rows=rows)


WHOLE = Damage()


def damages(schema: Schema) -> list[Damage]:
    """No damage, then the SHARES, then each sensor dead."""
    dead = [Damage(f"dead {name}", dead=schema.n_settings + at) for at, name in enumerate(schema.sensor_names)]
    return [WHOLE, *(Damage(f"missing {share:.0%}", share) for share in SHARES), *dead]


def without(runs: Sequence[Run], schema: Schema, names: Sequence[str]) -> tuple[list[Run], Schema]:
    """The same runs and schema without some sensors; raises DataError for one that is not there."""
    unknown = [name for name in names if name not in schema.sensor_names]
    if unknown:
        raise DataError(f"there is no sensor {unknown[0]!r}", remedy=f"choose from {', '.join(schema.sensor_names)}")
    kept = [at for at, name in enumerate(schema.columns) if name not in names]
    sensors = tuple(sensor for sensor in schema.sensors if sensor.name not in names)
    return [replace(run, rows=run.rows[:, kept]) for run in runs], msgspec.structs.replace(schema, sensors=sensors)


def deal(runs: Sequence[Run], folds: int, seed: int) -> list[list[Run]]:
    """The failed units of `runs` in so many parts; raises DataError for fewer than two for each."""
    failed = sorted((run for run in runs if not run.censored), key=lambda run: run.run_id)
    if len(failed) < 2 * folds:
        raise DataError(f"{len(failed)} failed units are too few for {folds} folds", remedy="ask for fewer --folds")
    order = np.random.default_rng(seed).permutation(len(failed))
    return [[failed[at] for at in order[fold::folds]] for fold in range(folds)]


def others(dealt: Sequence[Sequence[Run]], fold: int) -> list[Run]:
    """The units of all parts but one, by name."""
    return sorted((run for at, units in enumerate(dealt) if at != fold for run in units), key=lambda run: run.run_id)


def cross_validate(
    runs: Sequence[Run],
    schema: Schema,
    *,
    folds: int,
    seed: int,
    boost: bool = True,
    harm: Sequence[Damage] = (WHOLE,),
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, Asked], float]:
    """The answers about each failed unit by models that have not seen it, by the name of the damage in `harm`.

    Beside them the processor seconds of a network's training. `tell` is told of every fold that is done. Raises
    DataError for fewer units than two for each fold.
    """
    dealt = deal(runs, folds, seed)
    config = replace(configuration.default(schema), seed=seed)
    cap = training.cap_of(schema, [run for units in dealt for run in units])
    found: dict[str, list[Asked]] = {damage.name: [] for damage in harm}
    seconds = []
    for fold, held in enumerate(dealt):
        learn = others(dealt, fold)
        began = time.process_time()
        fitted = training.fit(learn, [], [], schema, cap, config)
        seconds.append(time.process_time() - began)
        boosted = boosting.fit(learn, boosting.BoostingConfig(), seed, schema, cap) if boost else None
        for damage in harm:
            damaged = [damage.of(run, schema.n_settings, seed) for run in held]
            found[damage.name].append(_ask(fitted.network, boosted, damaged, cap))
        tell(fold + 1)
    return {name: _joined(parts) for name, parts in found.items()}, float(np.mean(seconds))


def _ask(network: RulNetwork, boosted: boosting.Boosted | None, held: Sequence[Run], cap: float) -> Asked:
    """The answers of both models about every STRIDE-th row of `held`."""
    ends = [window_ends(len(run.rows), STRIDE) for run in held]
    rul, lower, upper = training.answers(network, training.Windows(network, held, STRIDE)).T
    other = boosted.predict(held, ends) if boosted else np.full(len(rul), np.nan)
    return Asked(
        unit=np.concatenate([np.repeat(run.run_id, len(at)) for run, at in zip(held, ends, strict=True)]),
        true=np.concatenate([capped(run.rul[at], cap) for run, at in zip(held, ends, strict=True)]),
        rul={"network": rul, "boosting": other},
        lower=lower,
        upper=upper,
    )


def _joined(parts: Sequence[Asked]) -> Asked:
    """The answers of all folds, one after the other."""
    return Asked(
        unit=np.concatenate([part.unit for part in parts]),
        true=np.concatenate([part.true for part in parts]),
        rul={model: np.concatenate([part.rul[model] for part in parts]) for model in MODELS},
        lower=np.concatenate([part.lower for part in parts]),
        upper=np.concatenate([part.upper for part in parts]),
    )


def figures(asked: Asked, seed: int = 0) -> dict[str, Any]:
    """RMSE with each unit and with each row weighing the same, of RUL up to NEAR, coverage and width by unit.

    Beside the models the best constant, and the difference of network and boosting with its 95 % interval over units.
    """
    constant = np.full(len(asked.true), _by_unit(asked, asked.true).mean())
    near = asked.true <= NEAR
    shown: dict[str, Any] = {"units": len(np.unique(asked.unit)), "rows": len(asked.true)}
    squares = {}
    for model, rul in {**asked.rul, "constant": constant}.items():
        if np.isnan(rul).any():
            continue
        square = (rul - asked.true) ** 2
        squares[model] = _by_unit(asked, square)
        shown[model] = {
            "rmse_units_alike": float(np.sqrt(squares[model].mean())),
            "rmse_rows_alike": float(np.sqrt(square.mean())),
            f"rmse_rul_up_to_{NEAR}": float(np.sqrt(square[near].mean())),
        }
    inside = ((asked.lower <= asked.true) & (asked.true <= asked.upper)).astype(np.float64)
    shown["network"] |= {
        "coverage_by_unit": float(_by_unit(asked, inside).mean()),
        "width_by_unit": float(_by_unit(asked, asked.upper - asked.lower).mean()),
    }
    if "boosting" in squares:
        shown["network_minus_boosting"] = difference([asked], seed)
    return shown


def difference(seeds: Sequence[Asked], seed: int = 0) -> dict[str, float]:
    """RMSE of the network minus boosting's, each unit weighing the same, the mean over `seeds`.

    With its 95 % interval by a paired bootstrap over units: the same units for both models and all seeds.
    """
    squares = {model: np.stack([_by_unit(one, (one.rul[model] - one.true) ** 2) for one in seeds]) for model in MODELS}
    units = squares[MODELS[0]].shape[1]
    chosen = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=DRAWS)

    def rmse(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        of = {model: np.sqrt(weights @ squares[model].T / units).mean(axis=1) for model in MODELS}
        return np.asarray(of["network"] - of["boosting"], dtype=np.float64)

    low, high = np.quantile(rmse(chosen), [0.025, 0.975])
    return {"value": float(rmse(np.ones((1, units), dtype=np.int64))[0]), "lower": float(low), "upper": float(high)}


def _by_unit(asked: Asked, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of `values` `[n]` over the rows of each unit, `[units]`, units by name."""
    _, at = np.unique(asked.unit, return_inverse=True)
    return np.asarray(np.bincount(at, values) / np.bincount(at), dtype=np.float64)
