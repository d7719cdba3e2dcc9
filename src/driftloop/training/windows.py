"""Windows of runs as a network sees them, and what it says of each."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftloop.fleet.labels import capped, window_ends
from driftloop.fleet.names import unit_of
from driftloop.fleet.runs import Run
from driftloop.model.accuracy import rmse
from driftloop.training.network import RulNetwork

AT_ONCE = 128
"""Windows that are looked at together where nothing is learnt from them; many more leave the processor's cache."""


class Windows:
    """Every `stride`-th window of some runs, normalised; each is cut out of one flat array when it is wanted."""

    def __init__(self, network: RulNetwork, runs: Sequence[Run], stride: int = 1) -> None:
        self._network = network
        self._back = torch.arange(1 - network.architecture.window, 1)
        inputs, ends, labels, self.sizes = [], [], [], []
        position = 0
        for run in runs:
            padding = np.repeat(run.rows[:1], network.architecture.window - 1, axis=0)
            rows = torch.from_numpy(np.concatenate([padding, run.rows]).astype(np.float32))
            with torch.no_grad():
                if network.form.counted:
                    is_there = torch.arange(len(rows)) >= len(padding)
                    inputs.append(network.filled(rows, is_there)[0].T)
                else:
                    inputs.append(network.for_weights(rows, *network.normalise(rows)).T)
            cycles = window_ends(len(run.rows), stride)
            ends.append(position + len(padding) + cycles)
            labels.append(capped(run.rul[cycles], network.form.cap))
            self.sizes.append(len(cycles))
            position += len(rows)
        numbers: dict[str, int] = {}
        of_runs = [numbers.setdefault(unit_of(run.run_id), len(numbers)) for run in runs]
        self.units = np.repeat(np.array(of_runs, dtype=np.int64), self.sizes)
        """The number of each window's unit, `[n]`; all lives of a unit are one."""
        self._inputs = torch.cat(inputs)
        self._ends = torch.from_numpy(np.concatenate(ends))
        self.labels = torch.from_numpy(np.concatenate(labels).astype(np.float32))
        """Capped RUL `[n]`, cycles."""

    def __len__(self) -> int:
        return len(self._ends)

    @functools.cached_property
    def statistics(self) -> Tensor:
        """What perceptrons are shown of every window, `[n, ...]`; no weight changes it, so it is found once."""
        with torch.no_grad():
            return self._each(self._network.statistics)

    def parts(self, count: int) -> Tensor:
        """Which of `count` parts of the units each window's unit belongs to, `[n]`."""
        return torch.from_numpy(self.units % count)

    def of_first(self, runs: int) -> int:
        """How many windows the first `runs` runs have; theirs come first."""
        return sum(self.sizes[:runs])

    def cut(self, chosen: Tensor) -> Tensor:
        """The chosen windows, `[len(chosen), sensors + 1, window]`."""
        return self._inputs[self._ends[chosen, None] + self._back].transpose(1, 2)

    def each(self, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """What `ask` says of the statistics of every window, `[n, ...]`; it is given some at a time."""
        return torch.cat([ask(part) for part in self.statistics.split(AT_ONCE)])

    def _each(self, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """What `ask` says of every window, `[n, ...]`; it is given some at a time, `[batch, sensors + 1, window]`."""
        return torch.cat([ask(self.cut(part)) for part in torch.arange(len(self)).split(AT_ONCE)])


def estimates(network: RulNetwork, windows: Windows) -> NDArray[np.float64]:
    """RUL, lower and upper quantile of each window before clipping and conformal correction, cycles, `[n, 3]`."""
    with torch.no_grad():
        found = windows.each(network.estimated)
    return np.asarray(found.numpy().astype(np.float64) * network.form.cap)


def answers(network: RulNetwork, windows: Windows) -> NDArray[np.float64]:
    """RUL and both ends of its interval for each window, steps, `[n, 3]`."""
    with torch.no_grad():
        found = windows.each(lambda statistics: torch.stack(network.answered(statistics), dim=1))
    return np.asarray(found.numpy().astype(np.float64))


def window_rmse(network: RulNetwork, windows: Windows, first: int | None = None) -> float:
    """RMSE of the clipped RUL over the first `first` windows, by default all, in cycles."""
    predicted = estimates(network, windows)[:first, 0].clip(0.0, network.form.cap)
    return rmse(predicted, windows.labels.numpy()[:first])


def unseen_estimates(network: RulNetwork, learnt: Windows) -> NDArray[np.float64]:
    """What `estimates` says, of each window by the one of several perceptrons that was taught without its unit."""
    count = network.architecture.members
    parts = learnt.parts(count)

    def of_each(statistics: Tensor) -> Tensor:
        return torch.stack(network.by_members(statistics), dim=1)

    with torch.no_grad():
        found = learnt.each(of_each)
    chosen = found[torch.arange(len(parts)), parts]
    return np.asarray(chosen.numpy().astype(np.float64) * network.form.cap)
