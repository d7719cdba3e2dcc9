"""The descent: from a network's weights to better ones, by batches of windows, AdamW and a moving average."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftloop.training.filling import take_away
from driftloop.training.intervals import NOMINAL
from driftloop.training.network import Architecture, RulNetwork
from driftloop.training.optimiser import AdamW, one_cycle
from driftloop.training.windows import Windows, window_rmse

LEAST_SPREAD = 0.05
"""Of a statistic, so that one that hardly varies is not blown up."""
QUANTILES = ((1.0 - NOMINAL) / 2.0, (1.0 + NOMINAL) / 2.0)


@dataclass(frozen=True)
class TrainConfig:
    """What a training does: equal configurations and runs give equal weights.

    The amount of work is a number of steps, never a time, since a time would make results depend on the machine.
    """

    seed: int = 0
    architecture: Architecture = field(default_factory=Architecture)
    batch: int = 256
    steps: int = 1500
    lr: float = 8e-3
    """Highest learning rate of a full training."""
    warm_steps: int = 800
    warm_lr: float = 8e-3
    replay: float = 0.5
    """Share of old windows in the batches of a warm start."""
    weight_decay: float = 0.3
    quantile_weight: float = 0.3
    averaging: float = 0.98
    """Decay per step of the moving average of the weights; the average is what is judged and kept."""
    evaluations: int = 5
    """How often the early-stop engines are looked at, evenly over the second half of the steps."""
    evaluation_stride: int = 3
    old_tolerance: float = 0.15
    """Share by which a warm start may worsen RMSE on old early-stop engines before it counts as failed."""
    missing: float = 0.0
    """Share of the windows from which values are taken away, so that the network bears missing ones."""
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


def loss(estimate: Tensor, true: Tensor, quantile_weight: float) -> Tensor:
    """Squared error of RUL plus pinball losses of the two quantiles: `estimate` `[n, 3]`, `true` `[n]`, in caps.

    Source of the pinball loss: Koenker & Bassett, "Regression quantiles", Econometrica 1978.
    """
    total = ((estimate[:, 0] - true) ** 2).mean()
    for column, quantile in enumerate(QUANTILES, start=1):
        below = true - estimate[:, column]
        total = total + quantile_weight * torch.maximum(quantile * below, (quantile - 1.0) * below).mean()
    return total


def optimise(
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

    Returns metrics, history and seconds.
    """
    began = time.monotonic()
    if network.architecture.standardised:
        with torch.no_grad():
            network.centre.copy_(learn.statistics.mean(0))
            network.spread.copy_(learn.statistics.std(0).clamp(min=LEAST_SPREAD))
    looks = {round(steps / 2 * (1 + i / config.evaluations)) for i in range(1, config.evaluations)} | {steps}
    best, kept, average = float("inf"), None, network
    history = []
    for step, now, average in _descend(network, _loss_of_next(network, learn, batches, config), config, steps, lr):
        error = None
        if stop is not None and step in looks:
            error = window_rmse(average, stop)
            if error < best:
                best, kept = error, copy.deepcopy(average.state_dict())
        if error is not None or step % 20 == 0:
            history.append(Progress(step, steps, now, error))
            if progress is not None:
                progress(history[-1])
    network.load_state_dict(kept or average.state_dict())
    metrics = {"steps": float(steps)} | ({"early_stop_rmse": best} if stop is not None else {})
    return metrics, history, time.monotonic() - began


def _loss_of_next(
    network: RulNetwork, learn: Windows, batches: Iterator[NDArray[np.int64]], config: TrainConfig
) -> Callable[[], Tensor]:
    """The loss on the next batch, of all perceptrons together.

    Each learns the whole answer by itself, so that their errors differ and the mean is better than any.
    """
    generator = torch.Generator().manual_seed(config.seed)

    def statistics(chosen: Tensor) -> Tensor:
        shown = learn.statistics[chosen]
        if config.missing:
            hit = torch.rand(len(chosen), generator=generator) < config.missing
            lacking = take_away(learn.cut(chosen[hit]), network.form.sensors, generator)
            with torch.no_grad():
                shown[hit] = network.statistics(lacking)
        return shown

    def value() -> Tensor:
        chosen = torch.from_numpy(next(batches))
        true = learn.labels[chosen] / network.form.cap
        answers = network.by_members(statistics(chosen))
        if len(answers) == 1:
            return loss(answers[0], true, config.quantile_weight)
        # A member that has not seen a unit can say how wrong it is about one (`fit`'s intervals).
        parts = learn.parts(len(answers))[chosen]
        seen = [parts != member for member in range(len(answers))]
        each = [loss(answer[use], true[use], config.quantile_weight) for answer, use in zip(answers, seen, strict=True)]
        return torch.stack(each).sum()

    return value


def _descend(
    network: RulNetwork,
    value: Callable[[], Tensor],
    config: TrainConfig,
    steps: int,
    lr: float,
) -> Iterator[tuple[int, float, RulNetwork]]:
    """Descend along the loss `value` of `network`.

    Yields after every step its number, its loss, and the network with the moving average of the weights.
    """
    average = copy.deepcopy(network)
    moving, averaged = list(network.parameters()), list(average.parameters())
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


def shuffled(n: int, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of indices below `n` without end; each index comes once before any comes again."""
    waiting = np.zeros(0, dtype=np.int64)
    while True:
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(n)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def replaying(old: int, n: int, config: TrainConfig, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of which the share `config.replay` are indices below `old`, the others from there up to `n`."""
    if old in (0, n):
        yield from shuffled(n, config.batch, rng)
    share = round(config.batch * config.replay)
    replayed, fresh = shuffled(old, share, rng), shuffled(n - old, config.batch - share, rng)
    while True:
        yield np.concatenate([next(replayed), next(fresh) + old])
