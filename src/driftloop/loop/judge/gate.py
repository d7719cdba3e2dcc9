"""The gate: may the challenger replace the champion? A pure function of both models' errors on gate engines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.model.accuracy import paired_engine_bootstrap, rmse

LEVEL = 0.90
"""Two-sided level of the intervals, so that each end is a one-sided 95 % bound."""
LEAST_UNITS = 3
"""Gate units of a group below which nothing is approved and a person is asked. For equally good models, where 5 % is
meant, the bound of one unit calls the challenger better in 49 % of cases, of two in 24 %, of three in 20 %, of eight in
9 %: three, on which C-MAPSS's retrainings from 20 engines have always been decided, is the least that stays automatic,
and whoever wants a firmer bound raises the fleet's `least.gate`."""
OLD, NEW = "old", "new"

BETTER, NOT_BETTER = "better", "not_better"
KEPT, FORGOT, SUPERSEDED, NO_OLD = "kept", "forgot", "superseded", "no_old"
NOT_FINITE, TOO_FEW, WITHDRAWN = "not_finite", "too_few", "withdrawn"
"""What the gate finds, for programs: on new engines better or not shown to be; on old ones kept, not shown to be no
worse (forgot), with labels that no longer hold, or none there to show it; answers that are not finite; and,
where everything else speaks for the challenger, too few units to bound that; runs that it learnt from were withdrawn
meanwhile, so that it is not judged, and another one is trained."""


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

    @property
    def undecided(self) -> bool:
        """Whether a person must decide: nothing speaks against the challenger, but too few units speak for it."""
        return TOO_FEW in self.findings


def decide(
    old: Evaluation | None, new: Evaluation | None, *, old_tolerance: float, seed: int, superseded: bool = False
) -> Decision:
    """Approve a challenger that is better on new engines and not worse on old ones beyond the tolerance.

    Better: the upper 95 % bound of RMSE(challenger) - RMSE(champion) over new engines is below zero.
    Not worse: the same bound over old engines is at most `old_tolerance` times the champion's RMSE there.
    Bounds come from a paired bootstrap over engines. Fewer than LEAST_UNITS engines, or no new one (`new` is None),
    bound nothing: then the difference itself stands in for the bound, and a challenger that passes is not approved but
    undecided; so is one that is better on new engines and seems worse on too few old ones. `old` is None where the
    champion has no gate engine, which refuses the challenger: nothing shows that it still knows them, unless their
    labels are `superseded`, when there is nothing to keep. An answer that is not finite refuses it too.
    Raises ValueError for no windows or unequal lengths.
    """
    groups = {name: group for name, group in ((NEW, new), (OLD, old)) if group is not None}
    broken = [name for name, group in groups.items() if not np.isfinite(group.challenger).all()]
    if broken:
        reasons = [f"the challenger's answers on {name} engines are not finite" for name in broken]
        return Decision(False, reasons, findings=[NOT_FINITE])
    figures = {name: compare(group, seed=seed) for name, group in groups.items()}

    reasons, findings, passes = [], [], True
    if NEW in figures:
        better = _worst(figures[NEW]) < 0
        findings.append(BETTER if better else NOT_BETTER)
        reasons.append(_finding("better" if better else "not shown to be better", NEW, figures[NEW], "below 0"))
        passes = better
    if OLD in figures:
        allowed = old_tolerance * figures[OLD].rmse_champion
        kept = _worst(figures[OLD]) <= allowed
        findings.append(KEPT if kept else FORGOT)
        words = "not worse" if kept else "not shown to be no worse"
        reasons.append(_finding(words, OLD, figures[OLD], f"{allowed:+.2f}"))
        # Too few units to show that it has kept what it knew are too few to show that it has not.
        passes = passes and (kept or _too_few(figures[OLD]))
    elif superseded:
        findings.append(SUPERSEDED)
        reasons.append("the labels of old engines no longer hold")
    else:
        findings.append(NO_OLD)
        reasons.append("no old engine in the gate role, so nothing shows what was kept")
        passes = False
    few = [] if NEW in figures else [f"no {NEW} one"]
    few += [f"only {part.engines} {name}" for name, part in figures.items() if _too_few(part)]
    if passes and few:
        findings.append(TOO_FEW)
        reasons.append(
            f"{' and '.join(few)} in the gate role, and fewer than {LEAST_UNITS} bound nothing: a person must decide"
        )
    return Decision(passes and not few, reasons, figures, findings)


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


def _too_few(figures: Figures) -> bool:
    return figures.engines < LEAST_UNITS


def _worst(figures: Figures) -> float:
    """The difference that a challenger is judged by: the upper bound, or what was seen where nothing bounds it."""
    return figures.difference if _too_few(figures) else figures.upper


def _finding(words: str, name: str, figures: Figures, allowed: str) -> str:
    judged = "difference" if _too_few(figures) else "upper bound"
    return f"{words} on {_describe(name, figures)}: {judged} {_worst(figures):+.2f}, allowed {allowed}"


def _describe(name: str, figures: Figures) -> str:
    what = "engine" if figures.engines == 1 else "engines"
    return f"{figures.engines} {name} {what} (RMSE {figures.rmse_challenger:.2f} against {figures.rmse_champion:.2f})"
