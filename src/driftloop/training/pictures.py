"""The pictures of a study: what its trials reached one after the other, and which parameters matter."""

from pathlib import Path
from typing import Any

from driftloop.drawing import BLUE, GREY, ORANGE, picture

HISTORY, IMPORTANCE = "history.png", "importance.png"


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what can be drawn of driftloop.training.tuning's result; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if result["best"] is not None:
        _history(result, folder / HISTORY)
        drawn.append(folder / HISTORY)
    if result["importance"]:
        _importance(result, folder / IMPORTANCE)
        drawn.append(folder / IMPORTANCE)
    return drawn


def _history(result: dict[str, Any], path: Path) -> None:
    complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
    pruned = [trial for trial in result["trials"] if trial["state"] == "pruned" and trial["reached"]]
    with picture(path, height=3.0) as (_, ((axis,),)):
        numbers = [trial["trial"] for trial in complete]
        axis.plot(numbers, [trial["rmse"] for trial in complete], "o", color=BLUE, ms=4, label="complete")
        if pruned:
            last = [trial["reached"][-1] for trial in pruned]
            at = [trial["trial"] for trial in pruned]
            axis.plot(at, last, "x", color=GREY, ms=4, label="pruned, RMSE when it ended")
        best = [min(trial["rmse"] for trial in complete[: i + 1]) for i in range(len(complete))]
        axis.step(numbers, best, where="post", color=ORANGE, lw=1.2, label="best so far")
        axis.set_xlabel("trial")
        axis.set_ylabel("early-stop RMSE (cycles)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(f"{result['study']}: {_judged(result)}", loc="left")
        axis.legend()


def _importance(result: dict[str, Any], path: Path) -> None:
    shares = dict(sorted(result["importance"].items(), key=lambda item: item[1]))
    with picture(path, height=0.6 + 0.24 * len(shares)) as (_, ((axis,),)):
        axis.barh(list(shares), list(shares.values()), color=BLUE, height=0.6)
        for row, share in enumerate(shares.values()):
            axis.text(share, row, f" {share:.0%}", va="center", fontsize=7, color=GREY)
        axis.set_xlabel("share of the spread in RMSE that it explains (PED-ANOVA)")
        axis.set_title(f"{result['study']}: {result['states']['complete']} complete trials", loc="left")


def _judged(result: dict[str, Any]) -> str:
    folds = result.get("folds", 1)
    how = f"{folds} folds" if folds > 1 else "held-out early-stop engines"
    return f"{how} of {result.get('engines')} engines, labels capped"
