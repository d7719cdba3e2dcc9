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

BETTER, NOT_BETTER = "better", "not_better"
KEPT, FORGOT, SUPERSEDED, NO_OLD = "kept", "forgot", "superseded", "no_old"
NOT_FINITE = "not_finite"
"""What the gate finds, for programs: on new engines better or not shown to be; on old ones kept, not shown to be no
worse (forgot), with labels that no longer hold, or none there to show it; answers that are not finite."""


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
    findings: list[str] = field(default_factory=list)
    """The same as the reasons, in the words above: `better`, `forgot`, ..."""

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
        reasons = [f"the challenger's answers on {name} engines are not finite" for name in broken]
        return Decision(False, reasons, findings=[NOT_FINITE])
    figures = {name: compare(group, seed=seed) for name, group in groups.items()}

    better = figures[NEW].upper < 0
    reasons = [
        f"{'better' if better else 'not shown to be better'} on {_describe(NEW, figures[NEW])}: "
        f"upper bound {figures[NEW].upper:+.2f}, allowed below 0"
    ]
    found = BETTER if better else NOT_BETTER
    if old is None and superseded:
        reasons.append("the labels of old engines no longer hold")
        return Decision(better, reasons, figures, [found, SUPERSEDED])
    if old is None:
        reasons.append("no old engine in the gate role, so nothing shows what was kept")
        return Decision(False, reasons, figures, [found, NO_OLD])
    allowed = old_tolerance * figures[OLD].rmse_champion
    kept = figures[OLD].upper <= allowed
    reasons.append(
        f"{'not worse' if kept else 'not shown to be no worse'} on {_describe(OLD, figures[OLD])}: "
        f"upper bound {figures[OLD].upper:+.2f}, allowed {allowed:+.2f}"
    )
    return Decision(better and kept, reasons, figures, [found, KEPT if kept else FORGOT])


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
