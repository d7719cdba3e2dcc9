"""Timestamps of all files of a fleet: read one by one, understood together, since a day may stand before a month."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.cells import MISSING, Moment, moment
from driftloop.fleet.findings import Findings

_SCALES = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e-3), (1e14, 1e17, 1e-6), (1e17, 1e20, 1e-9))
"""From, to, and the length in seconds of a unit in which a time since 1970 is that large."""

Order = Literal["day", "month"]


class Clock:
    """Collects timestamps; `settle` says what they mean."""

    def __init__(self) -> None:
        self._day: list[NDArray[np.float64]] = []
        self._month: list[NDArray[np.float64]] = []
        self._zoned: list[NDArray[np.int8]] = []
        self.order: Order | None = None
        """What stands first in dates, once `settle` was asked, where some row can tell."""

    def add(self, cells: Sequence[str] | NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int]]:
        """Take some cells: a time for each, NaN where there is none, and the positions of those that are no time."""
        if isinstance(cells, np.ndarray):
            found = np.full(len(cells), np.nan)
            for low, high, scale in _SCALES:
                inside = (cells >= low) & (cells < high)
                found[inside] = cells[inside] * scale
            self._keep(found, found, np.full(len(cells), -1, dtype=np.int8))
            return found, np.flatnonzero(np.isnan(found) & np.isfinite(cells)).tolist()
        none = Moment(np.nan, np.nan, None)
        moments = [moment(cell) for cell in cells]
        bad = [at for at, found in enumerate(moments) if found is None and cells[at].strip().lower() not in MISSING]
        day, month, zoned = zip(*(found or none for found in moments), strict=True) if moments else ((), (), ())
        self._keep(
            np.array(day), np.array(month), np.array([-1 if z is None else int(z) for z in zoned], dtype=np.int8)
        )
        return self._day[-1], bad

    def _keep(self, day: NDArray[np.float64], month: NDArray[np.float64], zoned: NDArray[np.int8]) -> None:
        self._day.append(day)
        self._month.append(month)
        self._zoned.append(zoned)

    def settle(
        self, where: Callable[[int], str], findings: Findings, column: str, order: Order | None = None
    ) -> NDArray[np.float64]:
        """Seconds since 1970 of all rows; where no row can tell the day from the month, `order` does, and without one
        the problem is told.
        """
        day, month, zoned = np.concatenate(self._day), np.concatenate(self._month), np.concatenate(self._zoned)
        remedy = "write times as ISO 8601, such as 2024-02-01T13:45:00Z"
        if (zoned == 1).any() and (zoned == 0).any():
            at = int(np.flatnonzero(zoned != zoned[np.flatnonzero(zoned >= 0)[0]])[0])
            findings.add("problem", where(at), f"{column} names a zone in some rows and none in others", remedy)
        only_day, only_month = np.isnan(month) & np.isfinite(day), np.isnan(day) & np.isfinite(month)
        if only_day.any() and only_month.any():
            first, second = int(np.flatnonzero(only_day)[0]), int(np.flatnonzero(only_month)[0])
            what = f"{column} has the day first here, and the month first at {where(second)}"
            findings.add("problem", where(first), what, remedy)
        self.order = "month" if only_month.any() else "day" if only_day.any() else order
        if self.order == "month":
            return month
        if self.order == "day":
            return day
        unclear = np.flatnonzero(day != month)
        unclear = unclear[np.isfinite(day[unclear])]
        if len(unclear):
            what = f"{column} may have the day or the month first, and no row can tell"
            findings.add("problem", where(int(unclear[0])), what, remedy)
        return day
