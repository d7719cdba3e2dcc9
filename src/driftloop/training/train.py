"""Training: from runs to a network, from nothing or from the champion, the same for the same seed.

Engines take part by role alone. `train` engines give regimes, normalisation and weights, `early_stop` engines
choose among the states the weights went through, `calibrate` engines set the width of the intervals
(driftloop.training.intervals). Runs of any other role are not looked at.

A warm start keeps the champion's regimes and their statistics, appends those that only newer runs show, and
goes on from its weights for few steps, on batches of which a fixed share replays the old runs.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftloop import durable
from driftloop.errors import BundleError, DataError
from driftloop.fleet.labels import auto_cap, capped, window_ends
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.model.accuracy import coverage, rmse
from driftloop.model.bundle import CHECKPOINT, read_metadata
from driftloop.training import regimes
from driftloop.training.intervals import NOMINAL, band_offsets
from driftloop.training.network import Architecture, Form, RulNetwork
from driftloop.training.optimiser import AdamW, one_cycle
from driftloop.training.regimes import Regimes

QUANTILES = ((1.0 - NOMINAL) / 2.0, (1.0 + NOMINAL) / 2.0)
LEARNING_ROLES = ("train", "early_stop", "calibrate")
AT_ONCE = 1024
"""Windows that are looked at together where nothing is learnt from them."""


@dataclass(frozen=True)
class TrainConfig:
    """What a training does: equal configurations and runs give equal weights.

    The amount of work is a number of steps, never a time, since a time would make results depend on the machine.
    """

    seed: int = 0
    architecture: Architecture = field(default_factory=Architecture)
    batch: int = 256
    steps: int = 500
    lr: float = 4e-3
    """Highest learning rate of a full training."""
    warm_steps: int = 160
    warm_lr: float = 4e-3
    replay: float = 0.25
    """Share of old windows in the batches of a warm start."""
    perceptron_steps: int = 3
    """Steps of the perceptron, where there is one, for each of the LSTM's, which overfits where it gets as many."""
    perceptron_lr: float = 1.0
    """Highest learning rate of the perceptron in units of the LSTM's, which does not bear as high ones."""
    weight_decay: float = 1e-2
    quantile_weight: float = 0.3
    averaging: float = 0.98
    """Decay per step of the moving average of the weights; the average is what is judged and kept."""
    evaluations: int = 5
    """How often the early-stop engines are looked at, evenly over the second half of the steps."""
    evaluation_stride: int = 3
    old_tolerance: float = 0.15
    """Share by which a warm start may worsen RMSE on old early-stop engines before it counts as failed."""
    threads: int = 1
    """Steps this small gain nothing from a second thread, which serving needs more."""


@dataclass(frozen=True)
class Progress:
    """Where a training is: shown to people while it runs, and logged."""

    step: int
    steps: int
    loss: float
    early_stop_rmse: float | None = None
    """Cycles, of the averaged weights; None between evaluations."""


Report = Callable[[Progress], None]


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

    A full training takes the place of a warm start where the champion's checkpoint cannot be used (an older network,
    a damaged file), and where the warm start worsens RMSE on the old early-stop engines by more than
    `config.old_tolerance`; `Trained.training` and `Trained.note` say so. Raises DataError where a learning role has
    no engine.
    """
    ordered = sorted(runs, key=lambda run: run.run_id)
    for role in LEARNING_ROLES:
        if not with_role(ordered, role):
            raise DataError(
                f"none of the {len(ordered)} runs has the role {role!r}",
                remedy="add completed runs; roles follow from the engines' ids, so a few dozen are needed",
            )
    note = None
    if warm_start is not None:
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
        batches = _shuffled(len(windows), config.batch, np.random.default_rng(config.seed))
        metrics, history, seconds = _optimise(
            network, windows, batches, judged, config, config.steps, config.lr, progress
        )
        return Trained(network, schema, config, "full", metrics | _calibrate(network, calibrate), history, seconds)


def load_checkpoint(folder: Path, architecture: Architecture, extended_by: Sequence[Run] = ()) -> RulNetwork:
    """The network of a bundle's `checkpoint.npz`, with the regimes of further train-role runs appended.

    What the fleet's rows are, and the cap of its labels, the bundle's metadata says.

    Raises BundleError where the file is missing, damaged or of another architecture.
    """
    path = folder / CHECKPOINT
    metadata = read_metadata(folder)
    form = Form.of(metadata.schema, metadata.cap)
    try:
        arrays = durable.read_arrays(path)
        scales = arrays["scales"].astype(np.float64)
        known = Regimes(arrays["centres"], arrays["mean"], arrays["std"], arrays["varies"], scales)
        weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
        RulNetwork(architecture, known, form).load_state_dict(weights)
    except (OSError, DataError, ValueError, TypeError, KeyError, RuntimeError) as error:
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


class Windows:
    """Every `stride`-th window of some runs, normalised; each is cut out of one flat array when it is wanted."""

    def __init__(self, network: RulNetwork, runs: Sequence[Run], stride: int = 1) -> None:
        self._back = torch.arange(1 - network.architecture.window, 1)
        inputs, ends, labels, self.sizes = [], [], [], []
        position = 0
        for run in runs:
            padding = np.repeat(run.rows[:1], network.architecture.window - 1, axis=0)
            rows = torch.from_numpy(np.concatenate([padding, run.rows]).astype(np.float32))
            with torch.no_grad():
                inputs.append(network.for_lstm(rows, *network.normalise(rows)).T)
            cycles = window_ends(len(run.rows), stride)
            ends.append(position + len(padding) + cycles)
            labels.append(capped(run.rul[cycles], network.form.cap))
            self.sizes.append(len(cycles))
            position += len(rows)
        self._inputs = torch.cat(inputs)
        self._ends = torch.from_numpy(np.concatenate(ends))
        self.labels = torch.from_numpy(np.concatenate(labels).astype(np.float32))
        """Capped RUL `[n]`, cycles."""

    def __len__(self) -> int:
        return len(self._ends)

    def of_first(self, runs: int) -> int:
        """How many windows the first `runs` runs have; theirs come first."""
        return sum(self.sizes[:runs])

    def cut(self, chosen: Tensor) -> Tensor:
        """The chosen windows, `[len(chosen), sensors + 1, window]`."""
        return self._inputs[self._ends[chosen, None] + self._back].transpose(1, 2)

    def each(self, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """What `ask` says of every window, `[n, ...]`; it is given some at a time, `[batch, sensors + 1, window]`."""
        return torch.cat([ask(self.cut(part)) for part in torch.arange(len(self)).split(AT_ONCE)])


def estimates(network: RulNetwork, windows: Windows) -> NDArray[np.float64]:
    """RUL, lower and upper quantile of each window before clipping and conformal correction, cycles, `[n, 3]`."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        found = windows.each(network.estimate)
    network.train(was_training)
    return np.asarray(found.numpy().astype(np.float64) * network.form.cap)


def window_rmse(network: RulNetwork, windows: Windows, first: int | None = None) -> float:
    """RMSE of the clipped RUL over the first `first` windows, by default all, in cycles."""
    predicted = estimates(network, windows)[:first, 0].clip(0.0, network.form.cap)
    return rmse(predicted, windows.labels.numpy()[:first])


def loss(estimate: Tensor, true: Tensor, quantile_weight: float) -> Tensor:
    """Squared error of RUL plus pinball losses of the two quantiles: `estimate` `[n, 3]`, `true` `[n]`, in caps.

    Source of the pinball loss: Koenker & Bassett, "Regression quantiles", Econometrica 1978.
    """
    total = ((estimate[:, 0] - true) ** 2).mean()
    for column, quantile in enumerate(QUANTILES, start=1):
        below = true - estimate[:, column]
        total = total + quantile_weight * torch.maximum(quantile * below, (quantile - 1.0) * below).mean()
    return total


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
    batches = _replaying(old_learn, len(learn), config, rng)
    metrics, history, seconds = _optimise(
        network, learn, batches, stop, config, config.warm_steps, config.warm_lr, progress
    )
    if before is not None:
        after = window_rmse(network, stop, old_stop)
        metrics |= {"old_early_stop_rmse_before": before, "old_early_stop_rmse": after}
        if after > before * (1.0 + config.old_tolerance):
            note = (
                f"the warm start was given up: on old early-stop engines RMSE rose from {before:.2f} to {after:.2f} "
                f"cycles, more than the tolerated {config.old_tolerance:.0%}"
            )
            return Trained(network, schema, config, "warm_start", metrics, history, seconds, note)
    calibrated = _calibrate(network, with_role(runs, "calibrate"))
    return Trained(network, schema, config, "warm_start", metrics | calibrated, history, seconds)


def _optimise(
    network: RulNetwork,
    learn: Windows,
    batches: Iterator[NDArray[np.int64]],
    stop: Windows | None,
    config: TrainConfig,
    steps: int,
    lr: float,
    progress: Report | None,
) -> tuple[dict[str, float], list[Progress], float]:
    """Leave in `network` the averaged weights that did best on `stop`, without it the last ones.

    The perceptron learns first and by itself, and is there when the LSTM is judged. Returns metrics, history and
    seconds.
    """
    began = time.monotonic()
    if network.architecture.perceptron:
        _fit_perceptron(network, learn, batches, config, steps, lr)

    def lstm_loss() -> Tensor:
        chosen = torch.from_numpy(next(batches))
        return loss(network.by_lstm(learn.cut(chosen)), learn.labels[chosen] / network.form.cap, config.quantile_weight)

    looks = {round(steps / 2 * (1 + i / config.evaluations)) for i in range(1, config.evaluations)} | {steps}
    best, kept, average = float("inf"), None, network
    history = []
    network.train()
    for step, value, average in _descend(network, RulNetwork.lstm_weights, lstm_loss, config, steps, lr):
        error = None
        if stop is not None and step in looks:
            error = window_rmse(average, stop)
            if error < best:
                best, kept = error, copy.deepcopy(average.state_dict())
        if error is not None or step % 20 == 0:
            history.append(Progress(step, steps, value, error))
            if progress is not None:
                progress(history[-1])
    network.load_state_dict(kept or average.state_dict())
    network.eval()
    metrics = {"steps": float(steps)} | ({"early_stop_rmse": best} if stop is not None else {})
    return metrics, history, time.monotonic() - began


def _fit_perceptron(
    network: RulNetwork,
    learn: Windows,
    batches: Iterator[NDArray[np.int64]],
    config: TrainConfig,
    steps: int,
    lr: float,
) -> None:
    """Leave in `network` the averaged weights of its perceptron after the last of its steps."""
    with torch.no_grad():
        shown = learn.each(network.statistics)

    def perceptron_loss() -> Tensor:
        chosen = torch.from_numpy(next(batches))
        return loss(
            network.by_perceptron(shown[chosen]), learn.labels[chosen] / network.form.cap, config.quantile_weight
        )

    steps, lr = steps * config.perceptron_steps, lr * config.perceptron_lr
    *_, (_, _, average) = _descend(network, RulNetwork.perceptron_weights, perceptron_loss, config, steps, lr)
    network.load_state_dict(average.state_dict())


def _descend(
    network: RulNetwork,
    weights: Callable[[RulNetwork], list[Tensor]],
    value: Callable[[], Tensor],
    config: TrainConfig,
    steps: int,
    lr: float,
) -> Iterator[tuple[int, float, RulNetwork]]:
    """Descend along the loss `value` of some weights of `network`.

    Yields after every step its number, its loss, and the network with the moving average of these weights.
    """
    average = copy.deepcopy(network)
    moving, averaged = weights(network), weights(average)
    optimiser = AdamW(moving, config.weight_decay)
    for step in range(1, steps + 1):
        now = value()
        now.backward()
        optimiser.step(one_cycle(step, steps, lr))
        # A long memory from the first step on would keep the start in the average.
        decay = min(config.averaging, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(averaged, moving, 1.0 - decay)
        yield step, now.item(), average


def _calibrate(network: RulNetwork, chosen: Sequence[Run]) -> dict[str, float]:
    """Set the interval's offsets from these engines, none of which took part in the training."""
    windows = Windows(network, chosen)
    values, labels = estimates(network, windows), windows.labels.numpy()
    scores = np.maximum(values[:, 1] - labels, labels - values[:, 2])
    engines = np.repeat(np.arange(len(chosen)), windows.sizes)
    network.offsets.copy_(torch.from_numpy(band_offsets(scores, labels, engines, network.form.cap)))
    _, lower, upper = (end.numpy() for end in network.interval(torch.from_numpy(values)))
    return {
        "interval_width": float(np.mean(upper - lower)),
        "calibrate_coverage": coverage(lower, upper, labels, engines),
        "calibrate_engines": float(len(chosen)),
    }


def _shuffled(n: int, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of indices below `n` without end; each index comes once before any comes again."""
    waiting = np.zeros(0, dtype=np.int64)
    while True:
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(n)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def _replaying(old: int, n: int, config: TrainConfig, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of which the share `config.replay` are indices below `old`, the others from there up to `n`."""
    if old in (0, n):
        yield from _shuffled(n, config.batch, rng)
    share = round(config.batch * config.replay)
    replayed, fresh = _shuffled(old, share, rng), _shuffled(n - old, config.batch - share, rng)
    while True:
        yield np.concatenate([next(replayed), next(fresh) + old])
