"""A run: one unit's life as rows of settings and sensors, its labels, its role and its windows."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.labels import capped, window_ends
from driftloop.fleet.roles import role_of


@dataclass(frozen=True, eq=False)
class Run:
    """Rows of one unit from its first recorded step on; `remaining` steps were left after the last row.

    A completed run-to-failure has `remaining == 0`.
    """

    run_id: str
    rows: NDArray[np.float64]
    """`[steps, columns]`, columns as in the fleet's schema; NaN where a value is missing."""
    remaining: int = 0
    censored: bool = False
    """Whether the unit was taken out before it failed: its rows are inputs like any others, but have no labels."""
    dealt: str | None = None
    """The role that the archive has for it, where roles were dealt."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the rows' bytes (little-endian float64, row by row)."""
        return hashlib.sha256(np.ascontiguousarray(self.rows, dtype="<f8").tobytes()).hexdigest()

    @cached_property
    def rul(self) -> NDArray[np.float64]:
        """Raw remaining useful life at each row, in steps, `[steps]`."""
        return np.arange(len(self.rows) - 1, -1, -1, dtype=np.float64) + self.remaining

    @property
    def role(self) -> str:
        """The fixed role of this unit: what was dealt, else what the hash of its id says."""
        return self.dealt or role_of(self.run_id)


def windows(
    run: Run, width: int, cap: float, stride: int = 1, *, counted: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a server would be sent over a run's life: `[n, width, columns]`, and the capped RUL `[n]` after each.

    One window ends at the last row and every `stride` rows before it, down to the first row. A history
    shorter than `width` is padded by repeating its first row, exactly as the exported model does it; by rows without
    any value where padding is `counted`.
    """
    if width < 1 or stride < 1:
        raise ValueError(f"width and stride must be at least 1, not {width} and {stride}")
    ends = window_ends(len(run.rows), stride)
    return windows_at(run, ends, width, counted=counted), capped(run.rul[ends], cap).astype(np.float32)


def windows_at(run: Run, ends: NDArray[np.int64], width: int, *, counted: bool = False) -> NDArray[np.float32]:
    """The windows `[n, width, columns]` that end at the rows `ends` `[n]` of a run, padded as `windows` says."""
    index = ends[:, None] + np.arange(1 - width, 1)[None, :]
    rows: NDArray[np.float32] = run.rows[np.clip(index, 0, None)].astype(np.float32)
    if counted:
        rows[index < 0] = np.nan
    return rows
