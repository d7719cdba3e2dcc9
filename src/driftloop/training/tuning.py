"""A study of `driftloop tune`: trials of any number of workers in one database, each an MLflow run.

The study lives in the database, so a worker may come, go or be killed at any time, and the next call goes on. A
worker's heartbeat tells the others that it lives; the trial of one that has stopped beating is marked failed and
queued again. The only importer of optuna in driftloop.
"""

import hashlib
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, ProgrammingError

from driftloop import durable
from driftloop.errors import DataError, DriftloopError, RegistryUnavailable
from driftloop.fleet.archive import Archive
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.settings import Settings
from driftloop.training import configuration, search
from driftloop.training.train import LEARNING_ROLES, TrainConfig
from driftloop.training.trial_runs import FAILED, FINISHED, KILLED, TrialRuns

HEARTBEATS = 6
"""How often a worker says that it lives within the silence after which it counts as dead."""
RETRIES = 2
WARM_UP = 5
"""Finished trials before any is pruned."""
STARTS = 8
"""Random configurations before the sampler (TPE: Bergstra et al., NeurIPS 2011) follows what it has learnt."""
RESULT, CONFIG = "tuning.json", "best_config.json"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_RUN, _TRIAL_CONFIG, _FACTS = "mlflow_run", "config", "facts"
_CONNECTION_S = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """How a study judges its trials, the same for all of them."""

    folds: int = 3
    steps: int | None = None
    """Optimiser steps of every trial; None searches them too."""
    seed: int = 0


def database_url(settings: Settings) -> str:
    """Where the studies are: the setting, or a file of the state folder."""
    if settings.study_database:
        return settings.study_database
    folder = settings.state_dir.resolve() / "tuning"
    folder.mkdir(parents=True, exist_ok=True)
    # Written by SQLAlchemy, since `?` and `%` in a folder's name mean something else in a URL.
    return URL.create("sqlite", database=str(folder / "studies.db")).render_as_string()


def learning_runs(archive: Archive) -> list[Run]:
    """The archived runs that a training learns from; those of other roles are not read. DataError where none is."""
    roles = archive.roles_of(archive.failed_ids())
    ids = [run_id for run_id, role in roles.items() if role in LEARNING_ROLES]
    if not ids:
        raise DataError("holds no completed runs to learn from", where="archive", remedy="driftloop archive add FILE")
    return archive.read_all(ids)


def open_study(settings: Settings, name: str, runs: TrialRuns | None = None) -> optuna.Study:
    """The study `name`, made where it does not exist; with `runs`, dead workers' trials are ended there too.

    Raises DriftloopError where the database cannot be used; its password is not shown.
    """
    url = database_url(settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sqlite = url.startswith("sqlite")
    try:
        try:
            storage = _storage(url, settings, runs)
        except (IntegrityError, ProgrammingError):
            # Workers that start at once make the tables of an empty database at once, and one of them is too late.
            storage = _storage(url, settings, runs)
        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction="minimize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(n_startup_trials=STARTS, multivariate=False, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=0, n_min_trials=WARM_UP),
        )
    except Exception as error:  # SQLAlchemy's drivers have no common class of errors
        parts = urlsplit(url)
        where = url if sqlite else f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"
        raise DriftloopError(
            f"the database of the studies cannot be used ({type(error).__name__})",
            where=where,
            remedy="correct DRIFTLOOP_STUDY_DATABASE, or start the database",
        ) from (error if sqlite else None)


def _storage(url: str, settings: Settings, runs: TrialRuns | None) -> optuna.storages.RDBStorage:
    """The database, with its tables made where they are missing."""
    with warnings.catch_warnings():
        # Heartbeats are called experimental since Optuna 2.9.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RDBStorage(
            url,
            # SQLite makes writers wait for each other; PostgreSQL drops connections that idle.
            engine_kwargs={"connect_args": {"timeout": _CONNECTION_S}}
            if url.startswith("sqlite")
            else {"pool_pre_ping": True},
            heartbeat_interval=settings.study_grace_s // HEARTBEATS,
            grace_period=settings.study_grace_s,
            heartbeat_stale_trial_callback=_Requeue(runs),
        )


def agree(study: optuna.Study, runs: Sequence[Run], budget: Budget) -> None:
    """Note what the study is judged on, or raise DriftloopError where an earlier call said something else."""
    lines = "\n".join(f"{run.run_id} {run.sha256}" for run in sorted(runs, key=lambda run: run.run_id))
    facts = {"data_sha256": hashlib.sha256(lines.encode()).hexdigest(), "engines": len(runs), **asdict(budget)}
    known = study.user_attrs.get(_FACTS)
    if known is None:
        study.set_user_attr(_FACTS, facts)
        return
    different = [name for name in facts if facts[name] != known.get(name)]
    if different:
        shown = ", ".join(f"{name} {known.get(name)} before, {facts[name]} now" for name in different)
        raise DriftloopError(
            f"its trials could not be compared: {shown}",
            where=f"study {study.study_name}",
            remedy="use another --study",
        )


def work(
    study: optuna.Study, learn: Sequence[Run], schema: Schema, budget: Budget, runs: TrialRuns,
    *, trials: int, timeout_s: float | None,
) -> None:  # fmt: skip
    """Run trials until the study has `trials` finished ones, or for `timeout_s`."""
    parts = search.folds(learn, budget.folds)

    def objective(trial: optuna.Trial) -> float:
        config = search.suggest(trial, configuration.default(schema), seed=budget.seed, steps=budget.steps)
        trial.set_user_attr(_TRIAL_CONFIG, configuration.as_json(config))
        with _recorded(trial, config, study.study_name, runs) as run_id:

            def report(evaluation: int, error: float) -> None:
                trial.report(error, evaluation)
                runs.log(run_id, {"early_stop_rmse": error}, evaluation)
                if trial.should_prune():
                    raise optuna.TrialPruned(f"RMSE {error:.2f} at evaluation {evaluation}")

            found = search.cross_validate(parts, schema, config, report)
            value = sum(found) / len(found)
            runs.log(run_id, {"rmse": value, **{f"rmse_fold_{i}": error for i, error in enumerate(found)}})
            return value

    if _finished(study) >= trials:
        return
    study.optimize(
        objective,
        timeout=timeout_s,
        callbacks=[MaxTrialsCallback(trials, states=DONE)],
        # A configuration that cannot be trained is a failed trial, not the end of the search.
        catch=(ValueError, FloatingPointError),
    )


def result(study: optuna.Study) -> dict[str, Any]:
    """The study as plain JSON: its facts, its trials, the best of them; importance where enough trials tell it."""
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = min(complete, key=lambda trial: trial.value or float("inf"), default=None)
    return {
        "study": study.study_name,
        "time": durable.now(),
        **study.user_attrs.get(_FACTS, {}),
        "states": {state.name.lower(): sum(trial.state is state for trial in trials) for state in TrialState},
        "best": _shown(best) | {"config": best.user_attrs[_TRIAL_CONFIG]} if best is not None else None,
        "importance": importance(study, complete),
        "trials": [_shown(trial) for trial in trials],
    }


def importance(study: optuna.Study, complete: Sequence[FrozenTrial]) -> dict[str, float]:
    """Share of each parameter in the spread of the RMSE; empty for fewer than four trials.

    Source: Watanabe, Bansal & Hutter, "PED-ANOVA", IJCAI 2023.
    """
    if len(complete) < 4:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError, ZeroDivisionError):
            return {}
    return {name: round(float(share), 4) for name, share in found.items() if math.isfinite(share)}


def write(study: optuna.Study, folder: Path) -> dict[str, Any]:
    """Write tuning.json, and best_config.json where a trial is complete; returns the result."""
    found = result(study)
    durable.write_json(folder / RESULT, found)
    if found["best"] is not None:
        durable.write_json(folder / CONFIG, found["best"]["config"])
    return found


def _finished(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=DONE))


@contextmanager
def _recorded(trial: optuna.Trial, config: TrainConfig, study: str, runs: TrialRuns) -> Iterator[str]:
    """An MLflow run for the trial; what becomes of the trial becomes of the run."""
    tags = {"study": study, "trial": str(trial.number), "worker": f"{os.uname().nodename}:{os.getpid()}"}
    flat = asdict(config)
    run_id = runs.start(f"{study}-{trial.number}", {**flat.pop("architecture"), **flat}, tags)
    trial.set_user_attr(_RUN, run_id)
    try:
        yield run_id
    except optuna.TrialPruned:
        runs.end(run_id, FINISHED, {"state": "pruned"})
        raise
    except KeyboardInterrupt:
        runs.end(run_id, KILLED, {"state": "interrupted"})
        raise
    except Exception:
        _end_quietly(runs, run_id, FAILED, "failed")  # the first error is the one to show
        raise
    runs.end(run_id, FINISHED, {"state": "complete"})


class _Requeue:
    """Ends the MLflow run of a dead worker's trial, and queues its configuration again."""

    def __init__(self, runs: TrialRuns | None) -> None:
        self._runs = runs

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        log.warning("the worker of trial %d is gone; its configuration is queued again", trial.number)
        run_id = trial.user_attrs.get(_RUN)
        if self._runs is not None and run_id is not None:
            _end_quietly(self._runs, run_id, KILLED, "worker gone")
        optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)


def _end_quietly(runs: TrialRuns, run_id: str, status: str, state: str) -> None:
    try:
        runs.end(run_id, status, {"state": state})
    except RegistryUnavailable as error:
        log.warning("the MLflow run %s stays open: %s", run_id, error)


def _shown(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "rmse": round(trial.value, 4) if trial.state is TrialState.COMPLETE and trial.value is not None else None,
        "reached": [round(value, 4) for _, value in sorted(trial.intermediate_values.items())],
        "seconds": round(trial.duration.total_seconds(), 1) if trial.duration is not None else None,
        "parameters": trial.params,
        "mlflow_run": trial.user_attrs.get(_RUN),
    }
