"""Labels: remaining useful life in steps, where it is capped, and the bands that it is looked at in. numpy alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

AUTO_SHARE = 0.6
"""Share of the median life that `auto` caps labels at; C-MAPSS's usual cap is that share of its lives."""
LEAST_CAP = 10
AGE_SHARES = (0.2, 0.4, 0.64, 1.0, 1.4)
N_BANDS = 5
"""Bands of equal width below the cap."""


def capped(rul: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Remaining life `[n]` with what is above the cap set to it: a healthy unit shows no trace of what it has left.

    Source: Heimes, "Recurrent neural networks for remaining useful life estimation", PHM 2008.
    """
    return np.minimum(rul, cap)


def auto_cap(lives: Sequence[int]) -> int:
    """The cap of a fleet that names none: AUTO_SHARE of the median life, to two significant digits, at least LEAST_CAP.

    `lives`: steps of the failed units that the first model learns from. Raises ValueError without any.
    """
    if not len(lives):
        raise ValueError("a cap needs at least one life")
    cap = AUTO_SHARE * float(np.median(lives))
    digits = 1 - int(np.floor(np.log10(max(cap, 1.0))))
    return max(LEAST_CAP, round(cap, min(digits, 0)).__int__())


def bands(cap: int) -> tuple[tuple[int, int], ...]:
    """Bands of the capped label in whole steps, ends included: N_BANDS below the cap, and the cap itself.

    A small cap has fewer: a band holds one step at least.
    """
    edges = [min(round(k * cap / N_BANDS), cap - 1) for k in range(1, N_BANDS)] + [cap - 1]
    starts = [0, *(edge + 1 for edge in edges[:-1])]
    return (*((low, high) for low, high in zip(starts, edges, strict=True) if low <= high), (cap, cap))


def age_edges(cap: int) -> tuple[int, ...]:
    """Remaining steps at which a unit passes from one age band to the next; the first band is the oldest.

    They bound how the fleet's make-up is told from drift: three below the cap, the cap itself, and one above.
    """
    return tuple(sorted({max(1, round(share * cap)) for share in AGE_SHARES}))


def window_ends(rows: int, stride: int) -> NDArray[np.int64]:
    """Which rows of a life are asked about: the last one and every `stride` rows before it, in order, `[n]`."""
    return np.arange(rows - 1, -1, -stride)[::-1]
