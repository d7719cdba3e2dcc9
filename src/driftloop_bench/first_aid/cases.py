"""One case of the benchmark of first aid: the model of one part of a fleet meets the units of another.

Asked is every window of the live-role units of the other part, whose labels nobody but the measure knows: the champion
as it is, with first aid from each look at the traffic, and what a retraining with labels makes of it. The variants
are asked every fifth window.
"""

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from driftloop.drift import estimating
from driftloop.drift.baseline import Baseline, read_baseline
from driftloop.drift.verdict import judge
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.loop.judge import first_aid as judging
from driftloop.model import answers, bundle, first_aid
from driftloop.model.accuracy import interval_scores, rmse
from driftloop.model.answers import Answers, Model
from driftloop.model.first_aid import Known
from driftloop_bench.first_aid import looks, models, variants
from driftloop_bench.first_aid.models import Fleet

Json = dict[str, Any]
STRIDE = 5
"""Every fifth window is asked of the variants: they are compared with one another."""
GIVEN, NOT_DUE, REFUSED = "given", "not due", "refused"


def measure(fleet: Fleet, source: str, target: str, seed: int, folder: Path) -> Json:
    """All figures of a champion of `source` on the live units of `target`; models are kept in `folder`."""
    kept = models.champion(fleet, source, seed, folder)
    live = with_role(fleet.units(target, seed, first=source == target), "live")
    metadata = bundle.read_metadata(kept)
    champion = answers.open_model(kept)
    found = _asked(champion, live)
    case: Json = {"source": source, "target": target, "seed": seed, "units": len(live), "cap": metadata.cap}
    case |= {"windows": len(found.true), "champion": figures(found)}
    baseline = read_baseline(kept)
    case["live_error"] = {"champion": estimated(baseline, found, live, champion)}
    if source == target:
        return case
    case["labelled"] = figures(_asked(models.labelled(fleet, kept, source, target, seed, folder), live))
    impossible = first_aid.impossible(metadata)
    if impossible is not None:
        case["looks"] = {look: _untouched(case, REFUSED, impossible) for look in looks.LOOKS}
        return case
    known = first_aid.read(kept)
    rng = np.random.default_rng([seed, zlib.crc32(target.encode())])
    views = looks.seen(live, metadata.window, rng)
    case["looks"] = {look: _aided(case, known, seen, live) for look, seen in views.items()}
    shown = case["looks"][looks.HEADLINE]
    if "live_error" in shown:
        case["live_error"]["first_aid"] = shown.pop("live_error")
    for each in case["looks"].values():
        each.pop("live_error", None)
    reference = [run for run in fleet.units(source, seed, first=True) if run.role in variants.REFERENCE_ROLES]
    case["variants"] = {"as it was": {**figures(_asked(champion, live, STRIDE)), "refused": None}} | {
        name: {**figures(_asked(variant.model, variant.moved(live), STRIDE)), "refused": variant.refusal}
        for name, variant in variants.made(known, views[looks.HEADLINE], reference)
    }
    return case


def _aided(case: Json, known: Known, seen: Sequence[Any], live: Sequence[Run]) -> Json:
    """What first aid from these windows comes to; where it is not given the champion goes on as it was."""
    began = time.process_time()
    tried = judging.attempt(known, seen)
    spent = time.process_time() - began
    # Where time may cure what stands against it, the loop looks again.
    outcome = NOT_DUE if tried.young else {"given": GIVEN, "waiting": NOT_DUE, "refused": REFUSED}[tried.kind]
    shown = {**_untouched(case, outcome, tried.reason), "cpu_s": round(spent, 3)}
    if tried.kind == "given" and tried.aided is not None:
        found = _asked(tried.aided.model, live)
        shown |= figures(found) | {"live_error": estimated(tried.aided.baseline, found, live, tried.aided.model)}
    return shown


def _untouched(case: Json, outcome: str, reason: str) -> Json:
    return {"outcome": outcome, "reason": reason, **case["champion"]}


def _asked(model: Model, live: Sequence[Run], stride: int = 1) -> Answers:
    return answers.evaluate(model, live, stride=stride, threads=1)


def figures(found: Answers) -> Json:
    """RMSE, share covered and mean interval score of answers, labels capped."""
    inside = (found.lower <= found.true) & (found.true <= found.upper)
    return {
        "rmse": round(rmse(found.rul, found.true), 4),
        "covered": round(float(np.mean(inside)), 4),
        "interval_score": round(float(interval_scores(found.lower, found.upper, found.true).mean()), 3),
    }


def estimated(baseline: Baseline, found: Answers, live: Sequence[Run], model: Model) -> Json:
    """How wrong the answers look without labels, as the watch would say it, beside how wrong they are."""
    rows = {run.run_id: run.rows[:, : model.schema.n_settings] for run in live}
    given = np.stack([rows[unit][step - 1] for unit, step in zip(found.engine, found.cycle, strict=True)])
    counted = baseline.binner.counts(found.rul, given, found.newest, found.regime)
    counts = baseline.binner.split(counted)
    said = estimating.estimate([counts], baseline, judge(counts, baseline), len(live))
    return {**msgspec.to_builtins(said), "true": round(rmse(found.rul, found.true), 4)}
