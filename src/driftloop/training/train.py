"""Training: from runs to a network, from nothing or from the champion, the same for the same seed.

Engines take part by role alone. `train` engines give regimes, normalisation and weights, `early_stop` engines
choose among the states the weights went through, `calibrate` engines set the width of the intervals
(driftloop.training.intervals). Runs of any other role are not looked at.

A warm start keeps the champion's regimes and their statistics, appends those that only newer runs show, and
goes on from its weights for few steps, on batches of which a fixed share replays the old runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from driftloop import durable
from driftloop.errors import BundleError, DataError
from driftloop.fleet.labels import auto_cap
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.model import regimes
from driftloop.model.accuracy import coverage
from driftloop.model.bundle import CHECKPOINT, read_metadata
from driftloop.model.regimes import Regimes
from driftloop.training.descent import Progress, Report, TrainConfig, optimise, replaying, shuffled
from driftloop.training.intervals import band_offsets, cross_guarantee, crossed
from driftloop.training.network import Architecture, Form, RulNetwork
from driftloop.training.windows import Windows, answers, estimates, unseen_estimates, window_rmse

LEARNING_ROLES = ("train", "early_stop", "calibrate")

__all__ = [
    "LEARNING_ROLES",
    "Progress",
    "Report",
    "TrainConfig",
    "Trained",
    "Windows",
    "answers",
    "cap_of",
    "checkpoint_arrays",
    "estimates",
    "fit",
    "load_checkpoint",
    "train",
    "window_rmse",
]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network with its interval calibrated, and how it came about."""

    network: RulNetwork
    schema: Schema
    config: TrainConfig
    training: str
    """`full` or `warm_start`."""
    metrics: dict[str, float]
    history: list[Progress]
    optimiser_s: float
    """Time spent in optimiser steps, early-stop evaluations included; the only thing that differs between repeats."""
    note: str | None = None
    """Why a warm start was given up and a full training took its place; None where that did not happen."""


def train(
    runs: Sequence[Run],
    schema: Schema,
    config: TrainConfig,
    warm_start: Path | None = None,
    progress: Report | None = None,
    cap: int | None = None,
) -> Trained:
    """Train on `runs` of the fleet `schema`, from the champion's bundle folder `warm_start` if given.

    Labels are capped at `cap` steps; None takes the champion's cap, or else the schema's, where `auto` is found from
    the lives of the train-role runs (driftloop.fleet.labels.auto_cap).

    A full training takes the place of a warm start where the configuration has no `warm_steps`, where the champion's
    checkpoint cannot be used (an older network, a damaged file), and where the warm start worsens RMSE on the old
    early-stop engines by more than `config.old_tolerance`; `Trained.training` and `Trained.note` say so. Raises
    DataError where a learning role has no engine.
    """
    # Nobody knows the labels of a unit that was taken out before it failed.
    ordered = sorted((run for run in runs if not run.censored), key=lambda run: run.run_id)
    for role in LEARNING_ROLES:
        if schema.least[role] and not with_role(ordered, role):
            raise DataError(
                f"none of the {len(ordered)} runs has the role {role!r}",
                remedy=f"add completed runs; roles follow from the {schema.units}' ids, so a few dozen are needed",
            )
    note = None
    if warm_start is not None and config.warm_steps:
        try:
            with _own_torch(config):
                trained = _warm(ordered, schema, config, warm_start, progress)
            if trained.note is None:
                return trained
            note = trained.note
        except BundleError as error:
            note = f"there was no warm start: {error}"
    learn, stop, calibrate = (with_role(ordered, role) for role in LEARNING_ROLES)
    if cap is None:
        cap = cap_of(schema, learn)
    return replace(fit(learn, stop, calibrate, schema, cap, config, progress), note=note)


def cap_of(schema: Schema, learn: Sequence[Run]) -> int:
    """The cap of a first model's labels, in steps: the schema's, or by the lives of the units that it learns from."""
    return auto_cap([len(run.rows) for run in learn]) if schema.cap == "auto" else schema.cap


def fit(
    learn: Sequence[Run],
    stop: Sequence[Run],
    calibrate: Sequence[Run],
    schema: Schema,
    cap: int,
    config: TrainConfig,
    progress: Report | None = None,
) -> Trained:
    """A full training on engines that somebody else has given their parts, whatever their roles are.

    Without `stop` engines the averaged weights after the last step are kept. `train` does this with the engines'
    own roles.
    """
    with _own_torch(config):
        torch.manual_seed(config.seed)
        network = RulNetwork(config.architecture, regimes.find(learn, schema), Form.of(schema, cap))
        windows = Windows(network, learn)
        judged = Windows(network, stop, config.evaluation_stride) if stop else None
        batches = shuffled(len(windows), config.batch, np.random.default_rng(config.seed))
        metrics, history, seconds = optimise(
            network, windows, batches, judged, config, config.steps, config.lr, progress
        )
        calibrated = _calibrate(network, calibrate, windows)
        return Trained(network, schema, config, "full", metrics | calibrated, history, seconds)


def load_checkpoint(folder: Path, architecture: Architecture, extended_by: Sequence[Run] = ()) -> RulNetwork:
    """The network of a bundle's `checkpoint.npz`, with the regimes of further train-role runs appended.

    What the fleet's rows are, and the cap of its labels, the bundle's metadata says.

    Raises BundleError where the file is missing, damaged or of another architecture.
    """
    path = folder / CHECKPOINT
    try:
        arrays = durable.read_arrays(path)
        metadata = read_metadata(folder)
        form = Form.of(metadata.schema, metadata.cap)
        scales = arrays["scales"].astype(np.float64)
        known = Regimes(
            arrays["centres"], arrays["mean"], arrays["std"], arrays["varies"], scales,
            arrays.get("slopes", regimes.NO_SLOPES), arrays.get("known", regimes.NO_SLOPES),
        )  # fmt: skip
        weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
        RulNetwork(architecture, known, form).load_state_dict(weights)
    except (OSError, DataError, BundleError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise BundleError(
            f"cannot be used for a warm start: {error}", where=str(path), remedy="train in full instead"
        ) from error
    network = RulNetwork(architecture, regimes.extend(known, extended_by), form)
    grown = dict(network.named_buffers())
    network.load_state_dict({name: value for name, value in weights.items() if name not in grown} | grown)
    return network


def checkpoint_arrays(network: RulNetwork) -> dict[str, NDArray[np.float32]]:
    """Weights and buffers by name, as `checkpoint.npz` holds them."""
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


@contextmanager
def _own_torch(config: TrainConfig) -> Iterator[None]:
    """Threads as configured, and random numbers of our own: the caller's are left as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _warm(runs: list[Run], schema: Schema, config: TrainConfig, champion: Path, progress: Report | None) -> Trained:
    known = {entry.run_id for entry in read_metadata(champion).manifest}
    old, new = [run for run in runs if run.run_id in known], [run for run in runs if run.run_id not in known]
    torch.manual_seed(config.seed)
    network = load_checkpoint(champion, config.architecture, extended_by=with_role(new, "train"))
    learn = Windows(network, with_role(old, "train") + with_role(new, "train"))
    stop = Windows(network, with_role(old, "early_stop") + with_role(new, "early_stop"), config.evaluation_stride)
    old_learn, old_stop = learn.of_first(len(with_role(old, "train"))), stop.of_first(len(with_role(old, "early_stop")))
    before = window_rmse(network, stop, old_stop) if old_stop else None
    rng = np.random.default_rng(config.seed)
    batches = replaying(old_learn, len(learn), config, rng)
    metrics, history, seconds = optimise(
        network, learn, batches, stop, config, config.warm_steps, config.warm_lr, progress
    )
    if before is not None:
        after = window_rmse(network, stop, old_stop)
        metrics |= {"old_early_stop_rmse_before": before, "old_early_stop_rmse": after}
        if after > before * (1.0 + config.old_tolerance):
            note = (
                f"the warm start was given up: on old early-stop {schema.units} RMSE rose from {before:.2f} "
                f"to {after:.2f} {schema.steps}, more than the tolerated {config.old_tolerance:.0%}"
            )
            return Trained(network, schema, config, "warm_start", metrics, history, seconds, note)
    calibrated = _calibrate(network, with_role(runs, "calibrate"), learn)
    return Trained(network, schema, config, "warm_start", metrics | calibrated, history, seconds)


def _calibrate(network: RulNetwork, chosen: Sequence[Run], learnt: Windows) -> dict[str, float]:
    """Set how wide intervals are: by CV+ over the units that were learnt from where members do not know each other's
    units, else by the units `chosen`, which nothing was learnt from.

    CV+ leaves the `chosen` units to tell how often it holds.
    """
    windows = Windows(network, chosen) if chosen else None
    found: dict[str, float] = {}
    if network.architecture.crossed:
        members, units = network.architecture.members, learnt.units
        count = len(np.unique(units))
        scores = _scores(unseen_estimates(network, learnt), learnt)
        reach = crossed(scores, units, learnt.parts(members).numpy(), members)
        network.scores.copy_(torch.from_numpy(reach.scores))
        network.score_weights.copy_(torch.from_numpy(reach.weights))
        found = {
            "interval_units": float(count),
            "interval_guarantee": cross_guarantee(count, members),
        }
    elif windows is not None:
        scores = _scores(estimates(network, windows), windows)
        offsets = band_offsets(scores, windows.labels.numpy(), windows.units, network.form.cap)
        network.offsets.copy_(torch.from_numpy(offsets))
    else:
        network.offsets.fill_(network.form.cap)
    asked = windows or learnt
    _, lower, upper = answers(network, asked).T
    found["interval_width"] = float(np.mean(upper - lower))
    if windows is not None:
        found["calibrate_coverage"] = coverage(lower, upper, windows.labels.numpy(), windows.units)
    return found | {"calibrate_engines": float(len(chosen))}


def _scores(values: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
    """By how much each label lies outside of its window's quantiles, negative inside them."""
    labels = windows.labels.numpy()
    return np.asarray(np.maximum(values[:, 1] - labels, labels - values[:, 2]), dtype=np.float64)
