"""A model from its search to its service: trials, learning curve, accuracy, registry, and whether the server agrees."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftloop.drift.baseline import read_baseline
from driftloop.drift.bins import Binner
from driftloop.drift.source import ScrapeSource
from driftloop.errors import DriftloopError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import N_SETTINGS, RUL_CAP, SCHEMA
from driftloop.loop.judge import promotion
from driftloop.model import bundle
from driftloop.model.accuracy import coverage, engine_bootstrap, phm08_score
from driftloop.model.answers import Answers, Model, evaluate, open_model
from driftloop.model.registry import DIGEST_TAG, PRODUCTION, Registry
from driftloop.model.signature import OUTPUTS
from driftloop.protocol.client import Client, Server
from driftloop.settings import Settings
from driftloop.training.train import TrainConfig, Trained, train
from driftloop_bench.notebooks.drawing import BLUE, GREEN, ORANGE, panels
from driftloop_bench.own import wait_for_model

_LAST = 10**6
"""A stride that leaves nothing but the last window of each run."""
_AGREE_CYCLES = 1e-3
_FOLLOW_S = 120.0


def search(runs: Sequence[Run], base: TrainConfig, trials: int, say: Callable[[str], None] = print) -> Any:
    """An Optuna study over learning rate, width and weight decay: the least RMSE on the early-stop engines wins.

    Every trial is a full training with `base`'s seed and steps on `runs`. The test engines have no part in it.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=base.seed))

    def attempt(trial: Any) -> float:
        trained = train(runs, SCHEMA, configuration(base, suggested(trial)))
        error = trained.metrics["early_stop_rmse"]
        say(f"trial {trial.number}: {error:.2f} cycles with {_listed(trial.params)}")
        return error

    study.optimize(attempt, n_trials=trials)
    return study


def suggested(trial: Any) -> dict[str, float | int]:
    """One point of the search space, by name."""
    return {
        "lr": trial.suggest_float("lr", 2e-3, 3e-2, log=True),
        "perceptron": trial.suggest_categorical("perceptron", [64, 128, 256]),
        "weight_decay": trial.suggest_float("weight_decay", 3e-2, 1.0, log=True),
    }


def configuration(base: TrainConfig, point: dict[str, Any]) -> TrainConfig:
    """`base` with one point of the search space."""
    architecture = replace(base.architecture, perceptron=point["perceptron"])
    return replace(base, architecture=architecture, lr=point["lr"], weight_decay=point["weight_decay"])


def trials_figure(study: Any, data_source: str) -> Figure:
    """Every trial over the learning rate, coloured by the width of the perceptron; the best one is ringed."""
    figure, axes = panels(1, 2, height=2.4, sharey=True, data_source=data_source)
    done = [trial for trial in study.trials if trial.value is not None]
    for axis, name, label in (
        (axes[0, 0], "lr", "learning rate"),
        (axes[0, 1], "weight_decay", "weight decay"),
    ):
        for width, colour in ((64, ORANGE), (128, BLUE), (256, GREEN)):
            mine = [trial for trial in done if trial.params["perceptron"] == width]
            axis.plot(
                [trial.params[name] for trial in mine], [trial.value for trial in mine], "o", color=colour, ms=5,
                label=f"{width} units",
            )  # fmt: skip
        axis.plot(study.best_params[name], study.best_value, "o", ms=11, mfc="none", mec="black")
        axis.set_xlabel(label)
        axis.set_xscale("log")
    axes[0, 0].set_ylabel("RMSE on early-stop\nengines (cycles)")
    axes[0, 0].legend(title="perceptron")
    return figure


def figures(trained: Trained) -> str:
    """What a training says about itself, in one line."""
    found = trained.metrics
    return (
        f"RMSE on early-stop engines {found['early_stop_rmse']:.2f} cycles; "
        f"90 % interval {found['interval_width']:.0f} cycles wide on average, "
        f"calibrated on {found['calibrate_engines']:.0f} engines"
    )


def learning_figure(trained: Trained, data_source: str) -> Figure:
    """The training loss, and the error on the engines that choose among the states of the weights."""
    figure, axes = panels(1, 2, height=2.3, data_source=data_source)
    looks = [(now.step, now.early_stop_rmse) for now in trained.history if now.early_stop_rmse is not None]
    axes[0, 0].plot([now.step for now in trained.history], [now.loss for now in trained.history], color=BLUE)
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel("loss on batches")
    axes[0, 1].plot(*zip(*looks, strict=True), "-o", color=ORANGE, ms=4)
    axes[0, 1].set_ylabel("RMSE on early-stop\nengines (cycles)")
    for axis in axes[0]:
        axis.set_xlabel("step")
        axis.set_xlim(0, trained.history[-1].steps * 1.03)
    return figure


def final_answers(model: Model, runs: Sequence[Run]) -> Answers:
    """The model's answers to the last window of each run: what the benchmark scores."""
    return evaluate(model, runs, stride=_LAST)


def accuracy(answers: Answers, runs: Sequence[Run]) -> pd.DataFrame:
    """Error on the last window of each of `runs`, on capped and on raw labels, and how the intervals do.

    RMSE with its 95 % interval from resampling engines; score as in PHM 2008.
    """
    table = {}
    raw = np.array([run.remaining for run in runs], dtype=np.float64)
    for name, true in ((f"capped at {RUL_CAP}", answers.true), ("raw", raw)):
        error = engine_bootstrap(answers.rul, true, answers.engine)
        table[name] = {
            "RMSE (cycles)": f"{error.value:.1f}",
            "95 % interval": f"{error.lower:.1f} to {error.upper:.1f}",
            "PHM08 score": f"{phm08_score(answers.rul, true):.0f}",
            "per engine": f"{phm08_score(answers.rul, true, per_engine=True):.1f}",
            "inside the 90 % interval": f"{coverage(answers.lower, answers.upper, true, answers.engine):.0%}",
            "its mean width (cycles)": f"{np.mean(answers.upper - answers.lower):.0f}",
        }
    found = pd.DataFrame(table).T
    found.index.name = "labels"
    return found


def accuracy_figure(answers: Answers, data_source: str) -> Figure:
    """Each test engine, in the order of its true remaining life: the truth, the prediction, and its interval."""
    order = np.argsort(answers.true, kind="stable")
    place = np.arange(len(order))
    figure, axes = panels(height=2.6, data_source=data_source)
    axis = axes[0, 0]
    axis.vlines(place, answers.lower[order], answers.upper[order], color=BLUE, alpha=0.3, lw=1.5)
    axis.plot(place, answers.rul[order], "o", color=BLUE, ms=2.5, label="prediction with 90 % interval")
    axis.plot(place, answers.true[order], color=ORANGE, lw=1.3, label="truth, capped")
    axis.set_xlabel("test engines, ordered by their remaining life")
    axis.set_ylabel("remaining life (cycles)")
    axis.legend(loc="upper left")
    return figure


def life_figure(model: Model, runs: Sequence[Run], data_source: str) -> Figure:
    """What the model says over whole lives that it has not learnt from, one panel each."""
    figure, axes = panels(1, len(runs), height=2.4, sharey=True, data_source=data_source)
    for axis, run in zip(axes[0], runs, strict=True):
        answers = evaluate(model, [run])
        axis.fill_between(answers.cycle, answers.lower, answers.upper, color=BLUE, alpha=0.25, lw=0)
        axis.plot(answers.cycle, answers.rul, color=BLUE, lw=1.2)
        axis.plot(answers.cycle, answers.true, color=ORANGE, lw=1, ls="--")
        axis.set_xlabel("cycle")
    axes[0, 0].set_ylabel("remaining life (cycles)")
    return figure


def promote(registry: Registry, version: str, settings: Settings, reason: str) -> str:
    """Move the alias `production`, tell the event log, and wait until the server answers with that version."""
    with Client(settings.retrainer_url, settings.token) as retrainer:
        promotion.promote(
            registry,
            version,
            reason=reason,
            cause=None,
            report=lambda event: retrainer.report(event, patiently=False),
        )
    deadline = time.monotonic() + _FOLLOW_S
    while (served := wait_for_model(settings)) != version:
        if time.monotonic() > deadline:
            raise DriftloopError(f"still answers with version {served}", where=settings.server_url)
        time.sleep(0.1)
    return served


def versions_table(registry: Registry) -> pd.DataFrame:
    """The registered versions of the model: aliases, how they came about, and what was decided."""
    aliases: dict[str, list[str]] = {}
    for alias, version in registry.aliases().items():
        aliases.setdefault(version, []).append(alias)
    return pd.DataFrame(
        {
            version.version: {
                "alias": ", ".join(aliases.get(version.version, ["-"])),
                "training": version.tags.get("training", "-"),
                "engines": version.tags.get("engines", "-"),
                "data_source": version.tags.get("data_source", "-"),
                "decision": version.tags.get("decision", "-"),
                "bundle digest": version.tags.get(DIGEST_TAG, "-")[:12],
            }
            for version in registry.versions()
        }
    ).T.rename_axis("version")


def synchronised(settings: Settings, folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Whether registry, server and the bundle in `folder` are one: version, files, answers, and counted bins.

    The newest window of each of `runs` is sent to the server and to the bundle's model. What the server counted
    meanwhile is compared with the baseline's own binning of the same answers, so nobody else may send traffic.
    """
    model, baseline = open_model(folder), read_baseline(folder)
    with Registry(settings.mlflow_url, settings.model) as registry:
        production = registry.version(str(registry.alias(PRODUCTION)))
    with Server(settings.server_url, settings.token) as server:
        served = server.model()
    source = ScrapeSource([settings.server_url], settings.schema.name)
    before = _counted(source, served["model_version"], baseline.binner)
    rows = [run.rows[-model.window :] for run in runs]
    body = {"windows": [{"rows": part.tolist()} for part in rows]}
    answer = httpx.post(f"{settings.server_url}/predict", json=body, timeout=30.0, trust_env=False)
    answer.raise_for_status()
    counted = _counted(source, served["model_version"], baseline.binner) - before
    source.close()
    rul, regime, newest, current = _ask(model, rows)
    expected = baseline.binner.counts(rul, current, newest, regime)
    told = np.array([one["rul"] for one in answer.json()["predictions"]])
    apart = float(np.abs(told - rul).max())
    checks = {
        "model version": (production.version, served["model_version"]),
        "digest of the bundle": (production.tags[DIGEST_TAG][:12], served["digest"][:12]),
        "the same, of the files here": (bundle.digest(folder)[:12], served["digest"][:12]),
        f"answers to {len(runs)} windows": ("the model's", f"at most {apart:.4f} cycles apart"),
        f"counts in {len(expected)} bins": (
            f"{expected.sum()} by the baseline", f"{counted.sum()}, {int((counted != expected).sum())} bins differ",
        ),
    }  # fmt: skip
    agree = [pair[0] == pair[1] for pair in list(checks.values())[:3]]
    agree += [apart <= _AGREE_CYCLES, bool((counted == expected).all())]
    table = pd.DataFrame.from_dict(checks, orient="index", columns=["registry and bundle", "server"])
    table["agree"] = ["yes" if one else "NO" for one in agree]
    return table


def _ask(model: Model, rows: Sequence[NDArray[np.float64]]) -> tuple[NDArray[Any], ...]:
    """RUL, regime, newest sensors and raw settings of the newest row of windows of any lengths."""
    # One by one: lives are shorter than the window, and those of one call must be equally long.
    answers = [model.session.run(list(OUTPUTS), {"rows": part[None].astype(np.float32)}) for part in rows]
    rul, _, _, regime, newest = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    return rul, regime, newest, np.stack([part[-1, :N_SETTINGS] for part in rows]).astype(np.float32)


def _counted(source: ScrapeSource, version: str, binner: Binner) -> NDArray[np.int64]:
    """What the server has counted in bins for a version so far, in the binner's flat order."""
    total = [0] * binner.total
    start = dict(zip(binner.names, binner.offsets.tolist(), strict=True))
    for counts in source.read(version).values():
        for (name, index), count in counts.items():
            # Units and the quality of readings are counted too.
            if name in start:
                total[start[name] + index] += count
    return np.array(total, dtype=np.int64)


def _listed(point: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in point.items())
