"""Whether first aid may be given, judged without a label.

What can be told: known regimes stay as they are; the drift that is left is small; units wear, so that below the cap
answers fall by about one a step; and no more of them are at the cap than healthy traffic has. What cannot be told: a
bias that all units of a regime share, and a new way to fail. Limits are fixed with FD001 and FD003 as sources.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from driftloop.drift.baseline import Baseline
from driftloop.drift.baseline_build import Trace
from driftloop.drift.verdict import measure
from driftloop.fleet.runs import Run
from driftloop.model import first_aid
from driftloop.model.bundle import Rehearsal
from driftloop.model.first_aid import Aided, Known
from driftloop.protocol.windows import UnitWindow

LEAST_UNITS = 5
"""Units that must have first_aid.LEAST_ANSWERS answers below the cap."""
SLOWEST, FASTEST = 0.3, 2.0
"""Of the healthy slope: what the median unit's may be."""
SPREADS = 2.0
"""Standard errors by which the share at the cap may be above the healthy one, and by which a slope must be beyond its
limits before it is no chance of few units."""
LEFT = 0.5
"""Share of the drift that may be left where it is above its threshold."""
CHECKED = 1000
"""Answers that the drift is measured on."""


class Evidence(NamedTuple):
    """What an aided model shows."""

    familiar_equal: bool
    """Whether all answers in known regimes, intervals included, are the served model's bit for bit."""
    finite: bool
    drift_before: float
    """Largest score by the served model's baseline, in units of its threshold."""
    drift_after: float
    """By the provisional one."""
    slopes: list[float]
    """Change of the answer a step, of each unit with enough answers below the cap."""
    at_cap: float
    """Share of answers at the cap."""
    units: int
    rows: float
    """Mean rows of the windows."""


class Attempt(NamedTuple):
    """What became of trying first aid."""

    kind: Literal["given", "waiting", "refused"]
    """`waiting`: nothing speaks against it but that too few windows are there yet."""
    reason: str
    aided: Aided | None = None
    """What was made, whatever the judge says of it."""
    young: bool = False
    """Of `refused`: it may be given later, when the units have lived on (`only_young`)."""


def attempt(known: Known, seen: Sequence[UnitWindow]) -> Attempt:
    """Make first aid for `known` from the windows `seen` of units in service, and judge it."""
    seen = [one for one in seen if len(one.rows)]
    runs = first_aid.newest([Run(one.unit, one.rows.astype(np.float64)) for one in seen])
    lacking = first_aid.lacking(known.regimes, runs)
    if lacking is not None:
        return Attempt("waiting", lacking)
    aided = first_aid.give(known, runs, begins(seen))
    if aided is None:
        return Attempt("waiting", "no new regime has rows enough")
    assert known.metadata.rehearsal is not None
    evidence = gather(known, aided)
    against = refusal(evidence, known.metadata.rehearsal)
    if against is not None:
        few = len(evidence.slopes) < LEAST_UNITS and evidence.finite and evidence.familiar_equal
        return Attempt("waiting" if few else "refused", against, aided, only_young(evidence, known.metadata.rehearsal))
    reason = f"{aided.added} new regimes from {len(aided.strange)} units, without labels"
    return Attempt("given", reason, aided)


def begins(seen: Sequence[UnitWindow]) -> dict[str, int]:
    """The steps of each unit's life before its window; units of which nobody can tell are not in it.

    Who does not name the step sends as many rows as there are, up to a limit: a window that is shorter than others
    begins with the life.
    """
    longest = max((len(one.rows) for one in seen if one.step is None), default=0)
    found = {one.unit: 0 for one in seen if one.step is None and len(one.rows) < longest}
    return found | {one.unit: max(0, one.step - len(one.rows)) for one in seen if one.step is not None}


def refusal(evidence: Evidence, healthy: Rehearsal) -> str | None:
    """Why first aid may not be given, in words; None where it may."""
    if not evidence.finite or not evidence.familiar_equal:
        return "it changes answers in regimes that were known" if evidence.finite else "its answers are not finite"
    if evidence.drift_after > max(1.0, LEFT * evidence.drift_before):
        return f"drift is left: {evidence.drift_after:.1f} times its threshold, {evidence.drift_before:.1f} before"
    if len(evidence.slopes) < LEAST_UNITS:
        return (
            f"{len(evidence.slopes)} units have {first_aid.LEAST_ANSWERS} answers below the cap; "
            f"{LEAST_UNITS} are needed to see that answers fall"
        )
    slope = float(np.median(evidence.slopes))
    if not FASTEST * healthy.slope <= slope <= SLOWEST * healthy.slope:
        return f"answers change by {slope:.2f} a step in the median unit, by {healthy.slope:.2f} in healthy traffic"
    usual = usual_at_cap(healthy, evidence.rows)
    error = np.sqrt(usual * (1.0 - usual) * (1.0 / healthy.units + 1.0 / evidence.units))
    limit = usual + SPREADS * float(error)
    if evidence.at_cap > limit:
        return f"{evidence.at_cap:.0%} of the answers are at the cap, at most {limit:.0%} in healthy traffic"
    return None


def usual_at_cap(healthy: Rehearsal, rows: float) -> float:
    """The share of healthy answers at the cap along windows of so many `rows` in the mean: a model that sees few rows
    cannot tell wear from chance, and says more often that a unit is as good as new."""
    if healthy.short_at_cap is None:
        return healthy.at_cap
    return float(np.interp(rows, healthy.rows, (healthy.short_at_cap, healthy.at_cap)))


def only_young(evidence: Evidence, healthy: Rehearsal) -> bool:
    """Whether time may cure what stands against it: too many answers are at the cap, as a young fleet's are, or the
    median unit's slope is beyond its limits by no more than chance can do among so few units."""
    older = evidence._replace(at_cap=0.0)
    if len(evidence.slopes) >= LEAST_UNITS:
        slope, error = float(np.median(evidence.slopes)), SPREADS * median_error(evidence.slopes)
        if FASTEST * healthy.slope - error <= slope <= SLOWEST * healthy.slope + error:
            older = older._replace(slopes=[healthy.slope] * LEAST_UNITS)
    return refusal(evidence, healthy) is not None and refusal(older, healthy) is None


def median_error(values: Sequence[float]) -> float:
    """The standard error of the median of `values`, of a normal distribution as wide as their median absolute
    deviation says."""
    middle = np.median(values)
    sigma = 1.4826 * float(np.median(np.abs(np.asarray(values) - middle)))
    return float(np.sqrt(np.pi / 2 / len(values))) * sigma


def gather(known: Known, aided: Aided) -> Evidence:
    """The evidence from the windows that the first aid was made from."""
    fine, same = True, True
    for run in aided.familiar:
        before, after = first_aid.along(known.model, run), first_aid.along(aided.model, run)
        same = same and all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    for run in aided.strange:
        fine = fine and all(np.isfinite(part).all() for part in first_aid.along(aided.model, run))
    unaided = [first_aid.trace_of(known.model, run) for run in aided.strange]
    answers = [trace.prediction for trace in aided.traces]
    return Evidence(
        familiar_equal=same,
        finite=fine,
        drift_before=drift(known.baseline, unaided),
        drift_after=drift(aided.baseline, aided.traces),
        slopes=first_aid.slopes(answers, known.metadata.cap),
        at_cap=first_aid.at_cap(answers, known.metadata.cap),
        units=len(answers),
        rows=float(np.mean([len(run.rows) for run in aided.strange])),
    )


def drift(baseline: Baseline, traces: Sequence[Trace]) -> float:
    """The largest score of the newest answers of all units alike, CHECKED in all."""
    each = max(1, CHECKED // len(traces))
    parts = [
        baseline.binner.counts(t.prediction[-each:], t.settings[-each:], t.newest[-each:], t.regime[-each:])
        for t in traces
    ]
    return float(measure(np.sum(parts, axis=0), baseline).score.max())
