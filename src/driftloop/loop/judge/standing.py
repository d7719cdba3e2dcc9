"""Which of two versions is the better one, by completed units that neither has learnt from.

A version is left, or stays, by what is known of both. What is known is a paired bootstrap over units, as at the gate:
first over units that were completed since the version was made, and where these are too few to tell, over those that
its gate kept apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from driftloop.fleet.runs import Run
from driftloop.loop.judge import gate
from driftloop.loop.judge.evaluation import STRIDE
from driftloop.loop.judge.gate import Evaluation
from driftloop.model import answers
from driftloop.model.bundle import ManifestEntry

MOST = 50
"""Units that a comparison looks at."""
SINCE, KEPT_APART = "completed since", "kept apart by the gate"


class Standing(msgspec.Struct, frozen=True):
    """How a version compares with another one."""

    version: str
    than: str
    better: bool
    """Shown to be better; else shown to be worse."""
    why: str
    """On how many units, and both errors."""


def groups(
    entries: Sequence[ManifestEntry], others: Sequence[ManifestEntry], completed: Sequence[str]
) -> Mapping[str, list[str]]:
    """The units that a version with the manifest `entries` may be compared on with one that has `others`.

    `completed` are the archived units with labels. Those that the gate kept apart are of the version's newest domain.
    """
    known, learnt = {entry.run_id: entry for entry in entries}, {entry.run_id for entry in others}
    newest = max((entry.domain for entry in entries), default=0)
    since = [unit for unit in completed if unit not in known and unit not in learnt]
    apart = [
        unit
        for unit in completed
        if unit in known
        and unit not in learnt
        and known[unit].role == "gate"
        and known[unit].domain == newest
        and not known[unit].superseded
    ]
    return {SINCE: since[:MOST], KEPT_APART: apart[:MOST]}


def compare(version: str, folder: Path, than: str, other: Path, runs: Sequence[Run], which: str) -> Standing | None:
    """What these units say of two versions with the bundles `folder` and `other`; None where they do not tell.

    Raises BundleError for a bundle that cannot be used.
    """
    if len(runs) < gate.LEAST_UNITS:
        return None
    found, known = (answers.evaluate(answers.open_model(of), runs, stride=STRIDE) for of in (folder, other))
    figures = gate.compare(
        Evaluation(known.rul.astype("f8"), found.rul.astype("f8"), found.true, found.engine.tolist()), seed=0
    )
    if figures.lower <= 0 <= figures.upper:
        return None
    why = (
        f"on {figures.engines} units {which} version {version} has an RMSE of {figures.rmse_challenger:.2f}, "
        f"version {than} of {figures.rmse_champion:.2f}"
    )
    return Standing(version, than, figures.upper < 0, why)
