"""What the goldens are made from: rows of made-up engines and requests, in plain Python and numpy.

Nothing here imports the product, so that nothing here changes with it. A row has C-MAPSS's 24 columns: three
settings, then 21 sensors.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

SEA_LEVEL, CRUISE, UNSEEN = (0.0, 0.0, 100.0), (42.0, 0.84, 100.0), (25.0, 0.62, 60.0)
CONSTANT = (0, 4, 9, 15, 17, 18)
"""Sensors that do not vary within a regime."""
RUN_ID = "eng-golden.1"


def engine(name: str, cycles: int, *settings: tuple[float, ...]) -> Rows:
    """An engine's life `[cycles, 24]`: sensors that wear out, with noise, each flight at one of `settings`."""
    rng = np.random.default_rng(list(name.encode()))
    flown = np.array(settings)[rng.integers(len(settings), size=cycles)]
    flown = flown + rng.normal(0, (0.005, 0.0003, 0.0), (cycles, 3))
    level = levels(flown[:, :1])
    wear = np.exp(-np.arange(cycles - 1, -1, -1) / 25.0)[:, None] * np.linspace(-4, 4, 21)
    sensors = level + wear + rng.normal(0, 0.5, (cycles, 21))
    sensors[:, CONSTANT] = level[:, CONSTANT]
    return np.round(np.hstack([flown, sensors]), 4)


def levels(altitude: Rows) -> Rows:
    """What healthy sensors read at an altitude, `[n, 21]`."""
    return 100.0 + 10.0 * np.arange(21) + 2.0 * np.round(altitude)


def fleets() -> list[dict[str, Rows]]:
    """Two operating domains, runs by id: one regime, then the same and another one."""
    return [
        {f"eng-g{i:03d}": engine(f"eng-g{i:03d}", 50 + 3 * (i % 7), SEA_LEVEL) for i in range(16)},
        {f"eng-h{i:03d}": engine(f"eng-h{i:03d}", 60 + 5 * (i % 5), SEA_LEVEL, CRUISE) for i in range(14)},
    ]


def histories() -> dict[str, NDArray[np.float32]]:
    """Batches `[batch, cycles, 24]` that models are asked about: padded, whole, longer than any window, far off."""
    near, both, far = engine("near", 300, SEA_LEVEL), engine("both", 300, SEA_LEVEL, CRUISE), engine("far", 9, UNSEEN)
    found = {
        "one row": both[None, :1],
        "short": np.stack([near[:7], both[40:47], far[:7]]),
        "whole": np.stack([near[100:160], both[200:260]]),
        "long": np.stack([near, both]),
        "at rest": np.repeat(near[None, 20:21], 12, axis=1),
        "beyond reason": np.stack([near[:5] + 50.0, near[:5] * -3.0, np.full((5, 24), 3e38)]),
    }
    return {name: rows.astype(np.float32) for name, rows in found.items()}


@dataclass(frozen=True)
class Ask:
    """One request."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    until: tuple[str, str] | None = None
    """A path and a text: what the request sets going is over when GET of that path shows the text."""
    pieces: int = 0
    """Send the body so many times, without saying its length."""

    def content(self) -> bytes | Iterator[bytes] | None:
        """What to send."""
        body = self.body
        return body if body is None or not self.pieces else (body for _ in range(self.pieces))


def cell(rows: Rows, row: int, column: int, value: Any) -> list[list[Any]]:
    """The rows as lists, one value replaced."""
    changed: list[list[Any]] = rows.tolist()
    changed[row][column] = value
    return changed
