"""What `driftloop tune` searches and how a trial is judged: pure functions of runs and a configuration.

A trial is judged by cross-validation over engines: each fold's engines stop the training that the others learn
from, and its figure is the mean over the folds of the early-stop RMSE. Only engines of the roles that a training
learns from take part; gate, live and test engines are not even read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from driftloop.errors import DataError
from driftloop.fleet.names import unit_of
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.training.train import LEARNING_ROLES, Progress, TrainConfig, train

FOLDED_ROLES = ("train", "early_stop")
"""Engines that take turns; the others of LEARNING_ROLES set the intervals, which no trial is judged by."""
STEPS = (300, 2000)

Report = Callable[[int, float], None]
"""Takes the number of an evaluation, the same for all trials, and the early-stop RMSE there; may end the trial."""


class Trial(Protocol):
    """What is needed of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""


@dataclass(frozen=True, eq=False)
class _Folded(Run):
    """A run whose role is another in this fold than its id says."""

    assigned: str = ""

    @property
    def role(self) -> str:
        return self.assigned


def suggest(trial: Trial, start: TrainConfig, *, seed: int, steps: int | None) -> TrainConfig:
    """One configuration of the search space around `start`; with `steps`, all trials take that many."""
    architecture = replace(
        start.architecture,
        window=trial.suggest_int("window", 64, 256, step=64),
        oldest=trial.suggest_int("oldest", 10, 50, step=10),
        health=trial.suggest_categorical("health", [0, 4, 8, 12]),
        perceptron=trial.suggest_categorical("perceptron", [64, 128, 256]),
    )
    return replace(
        start,
        seed=seed,
        architecture=architecture,
        batch=trial.suggest_categorical("batch", [128, 256, 512]),
        steps=steps or trial.suggest_int("steps", *STEPS, step=100),
        lr=trial.suggest_float("lr", 2e-3, 3e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-2, 1.0, log=True),
        quantile_weight=trial.suggest_float("quantile_weight", 0.1, 1.0, log=True),
        averaging=trial.suggest_float("averaging", 0.95, 0.995),
    )


def folds(runs: Sequence[Run], count: int, seed: int = 0) -> list[list[Run]]:
    """The runs once for each fold, whole engines in each part; of one fold, with the roles that they have.

    Raises DataError where there are too few engines, and ValueError for runs of other roles.
    """
    strangers = [run.run_id for run in runs if run.role not in LEARNING_ROLES]
    if strangers:
        raise ValueError(f"{strangers[0]} and {len(strangers) - 1} more engines are not for learning")
    if count == 1:
        return [list(runs)]
    engines = sorted(with_role(runs, *FOLDED_ROLES), key=lambda run: run.run_id)
    units = sorted({unit_of(run.run_id) for run in engines})
    if len(units) < 2 * count:
        what = f"{len(units)} engines are too few for {count} folds"
        raise DataError(what, where="archive", remedy="add completed runs")
    part = dict(zip(units, np.random.default_rng(seed).permutation(len(units)) % count, strict=True))
    others = [run for run in runs if run.role not in FOLDED_ROLES]
    return [
        [_Folded(run.run_id, run.rows, assigned="early_stop" if part[unit_of(run.run_id)] == fold else "train")
         for run in engines] + others
        for fold in range(count)
    ]  # fmt: skip


def cross_validate(parts: Sequence[Sequence[Run]], schema: Schema, config: TrainConfig, report: Report) -> list[float]:
    """The early-stop RMSE of each fold, in cycles on capped labels; `report` is told of every evaluation."""
    found = []
    evaluations = 0

    def show(progress: Progress) -> None:
        nonlocal evaluations
        if progress.early_stop_rmse is not None:
            report(evaluations, progress.early_stop_rmse)
            evaluations += 1

    for part in parts:
        found.append(train(part, schema, config, progress=show).metrics["early_stop_rmse"])
    return found
