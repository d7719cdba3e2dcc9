"""Missing values inside the network: the last value is held, and training takes values away to get used to it."""

import torch
from torch import Tensor


def hold(values: Tensor, there: Tensor) -> Tensor:
    """`values` `[..., steps]` where `there` is 1, else the last value before that is; 0 where there is none yet.

    Each pass looks twice as far back as the one before, so that few passes reach through any window.
    """
    values = values * there
    shift, steps = 1, values.shape[-1]
    while shift < steps:
        before = torch.nn.functional.pad(values[..., :-shift], (shift, 0))
        before_there = torch.nn.functional.pad(there[..., :-shift], (shift, 0))
        values = torch.where(there > 0, values, before)
        there = torch.maximum(there, before_there)
        shift *= 2
    return values


LOST_VALUES = 0.2
"""Largest share of single values that a window loses in training."""
DEAD = 0.5
"""Share of such windows that lose a whole sensor too, from some step on or from the first."""


def take_away(inputs: Tensor, sensors: int, generator: torch.Generator) -> Tensor:
    """Windows `[batch, channels, steps]` that have lost values of their first `sensors` channels at random."""
    batch, _, steps = inputs.shape

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    single = chance(batch, sensors, steps) < LOST_VALUES * chance(batch, 1, 1)
    sensor = torch.arange(sensors)[None, :, None] == (chance(batch, 1, 1) * sensors).long()
    # Half of the dead ones were dead before the window began.
    since = (chance(batch, 1, 1) * 2 - 1).clamp(min=0) * steps
    dead = (chance(batch, 1, 1) < DEAD) & sensor & (torch.arange(steps) >= since)
    there = (~(single | dead)).to(inputs.dtype)
    return torch.cat([hold(inputs[:, :sensors], there), inputs[:, sensors:]], dim=1)
