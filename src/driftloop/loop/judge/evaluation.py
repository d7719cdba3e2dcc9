"""Both models' answers on the gate engines, with ONNX Runtime alone, as the server would give them."""

from collections.abc import Sequence
from pathlib import Path

from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.loop.judge.gate import Evaluation
from driftloop.model import answers

STRIDE = 5
"""Every fifth cycle of an engine is asked for, the last one always: neighbours hardly differ."""


def evaluate(champion: Path, challenger: Path, runs: Sequence[Run], stride: int = STRIDE) -> Evaluation | None:
    """Both bundles' answers on the gate-role engines of `runs`; None where there is none.

    Raises BundleError for a bundle that cannot be used.
    """
    chosen = with_role(runs, "gate")
    if not chosen:
        return None
    before = answers.evaluate(answers.open_model(champion), chosen, stride=stride)
    after = answers.evaluate(answers.open_model(challenger), chosen, stride=stride)
    return Evaluation(before.rul.astype("f8"), after.rul.astype("f8"), before.true, before.engine.tolist())
