"""The gate: may the challenger replace the champion? A pure function of both models' errors on gate engines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.model.accuracy import paired_engine_bootstrap, rmse

LEVEL = 0.90
"""Two-sided level of the intervals, so that each end is a one-sided 95 % bound."""
OLD, NEW = "old", "new"
FORGOT = "not shown to be no worse"
"""How a refusal because of old engines begins."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Both models on the same windows of gate engines: RUL `[n]`, and the engine of each window `[n]`."""

    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]
    true: NDArray[np.float64]
    engines: Sequence[str]


@dataclass(frozen=True)
class Figures:
    """RMSE in cycles of both models on one group of engines, and the bounds of their difference."""

    engines: int
    windows: int
    rmse_champion: float
    rmse_challenger: float
    difference: float
    """RMSE of the challenger minus the champion's."""
    lower: float
    upper: float


@dataclass(frozen=True)
class Decision:
    """What the gate decided, why, and on what figures (by group: `old`, `new`)."""

    approved: bool
    reasons: list[str]
    figures: dict[str, Figures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @property
    def reason(self) -> str:
        """The reasons as one sentence."""
        return "; ".join(self.reasons)


def decide(
    old: Evaluation | None, new: Evaluation, *, old_tolerance: float, seed: int, superseded: bool = False
) -> Decision:
    """Approve a challenger that is better on new engines and not worse on old ones beyond the tolerance.

    Better: the upper 95 % bound of RMSE(challenger) - RMSE(champion) over new engines is below zero.
    Not worse: the same bound over old engines is at most `old_tolerance` times the champion's RMSE there.
    Bounds come from a paired bootstrap over engines. `old` is None where the champion has no gate engine, which
    refuses the challenger: nothing shows that it still knows them, unless their labels are `superseded`, when there
    is nothing to keep. An answer that is not finite refuses it too.
    Raises ValueError for no windows or unequal lengths.
    """
    groups = {NEW: new} if old is None else {NEW: new, OLD: old}
    broken = [name for name, group in groups.items() if not np.isfinite(group.challenger).all()]
    if broken:
        return Decision(False, [f"the challenger's answers on {name} engines are not finite" for name in broken])
    figures = {name: compare(group, seed=seed) for name, group in groups.items()}

    better = figures[NEW].upper < 0
    reasons = [
        f"{'better' if better else 'not shown to be better'} on {_describe(NEW, figures[NEW])}: "
        f"upper bound {figures[NEW].upper:+.2f}, allowed below 0"
    ]
    if old is None and superseded:
        return Decision(better, [*reasons, "the labels of old engines no longer hold"], figures)
    if old is None:
        return Decision(False, [*reasons, "no old engine in the gate role, so nothing shows what was kept"], figures)
    allowed = old_tolerance * figures[OLD].rmse_champion
    kept = figures[OLD].upper <= allowed
    reasons.append(
        f"{'not worse' if kept else FORGOT} on {_describe(OLD, figures[OLD])}: "
        f"upper bound {figures[OLD].upper:+.2f}, allowed {allowed:+.2f}"
    )
    return Decision(better and kept, reasons, figures)


def compare(group: Evaluation, *, seed: int) -> Figures:
    """RMSE of both models on one group of engines with the bounds of their difference."""
    paired = paired_engine_bootstrap(
        group.challenger, group.champion, group.true, group.engines, seed=seed, level=LEVEL
    )
    return Figures(
        engines=paired.engines,
        windows=len(group.true),
        rmse_champion=rmse(group.champion, group.true),
        rmse_challenger=rmse(group.challenger, group.true),
        difference=paired.difference.value,
        lower=paired.difference.lower,
        upper=paired.difference.upper,
    )


def _describe(name: str, figures: Figures) -> str:
    return f"{figures.engines} {name} engines (RMSE {figures.rmse_challenger:.2f} against {figures.rmse_champion:.2f})"
