"""AdamW under a one-cycle learning rate, on torch's tensor operations alone.

`torch.optim` would do the same, but using it imports torch's compiler, which takes longer than a warm start.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
WARM_UP = 0.2
"""Share of the steps over which the learning rate rises; it falls along a cosine afterwards."""
START, END = 1 / 25, 1e-4
"""Learning rate at the first and after the last step, as shares of the highest."""


class AdamW:
    """Adam with decoupled weight decay: Loshchilov & Hutter, ICLR 2019; gradients are clipped to norm 1 together."""

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._mean = [torch.zeros_like(weight) for weight in self._parameters]
        self._square = [torch.zeros_like(weight) for weight in self._parameters]
        self._steps = 0

    def step(self, lr: float) -> None:
        """One step along the gradients, which are cleared."""
        gradients = [weight.grad for weight in self._parameters]
        self._steps += 1
        with torch.no_grad():
            norm = torch.stack(torch._foreach_norm(gradients)).norm().item()
            torch._foreach_mul_(gradients, min(1.0, 1.0 / (norm + 1e-6)))
            torch._foreach_mul_(self._parameters, 1.0 - lr * self._weight_decay)
            torch._foreach_lerp_(self._mean, gradients, 1.0 - BETAS[0])
            torch._foreach_mul_(self._square, BETAS[1])
            torch._foreach_addcmul_(self._square, gradients, gradients, 1.0 - BETAS[1])
            spread = torch._foreach_sqrt(self._square)
            torch._foreach_div_(spread, math.sqrt(1.0 - BETAS[1] ** self._steps))
            torch._foreach_add_(spread, EPSILON)
            torch._foreach_addcdiv_(self._parameters, self._mean, spread, -lr / (1.0 - BETAS[0] ** self._steps))
        for weight in self._parameters:
            weight.grad = None


def one_cycle(step: int, steps: int, highest: float) -> float:
    """The learning rate of step 1 to `steps`: up along a cosine, then down along another.

    Source: Smith & Topin, "Super-convergence", 2019.
    """
    done, peak = (step - 1) / max(steps - 1, 1), WARM_UP
    if done < peak:
        start, end, share = START, 1.0, done / peak
    else:
        start, end, share = 1.0, END, (done - peak) / (1.0 - peak)
    return highest * (end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0)
