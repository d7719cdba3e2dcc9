"""The run's story as one page that needs nothing beside it: what happened when, with charts that can be hovered over.

It is opened from a folder, so everything stands inline: the console's colours, charts and words, and the run's data.
"""

import html
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftloop.console.files import FOLDER
from driftloop.drift.verdict import DRIFT, WITHOUT_DRIFT
from driftloop.protocol.events import Event
from driftloop_bench.experiment.figures import rolling_error
from driftloop_bench.experiment.marks import RATIO_LIMIT, event_time
from driftloop_bench.experiment.recording import ROLLING
from driftloop_bench.experiment.recovery import MEANINGS, Outcome
from driftloop_bench.experiment.traffic import Record

MOST_POINTS = 400
"""Of one curve; more cannot be told apart on a screen."""
MODULES = ("dom", "format", "words", "chart")
"""Modules of the console that the page is made with, in the order in which they need each other."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{styles}
</style>
</head>
<body class="story">
<main id="main"></main>
<script type="application/json" id="run">{run}</script>
<script>
{library}
</script>
<script>
{script}
</script>
</body>
</html>
"""


def page(outcome: Outcome) -> str:
    """The whole document."""
    run = json.dumps(told(outcome), separators=(",", ":"), allow_nan=False)
    vendor = FOLDER / "vendor"
    here = Path(__file__)
    return _PAGE.format(
        title=html.escape(f"Recovery of {outcome.recording.schema.name} · driftloop"),
        styles="\n".join(
            path.read_text(encoding="utf-8")
            for path in (vendor / "uPlot.min.css", FOLDER / "console.css", here.with_name("story.css"))
        ),
        # Inside a script element only `<` can end it.
        run=run.replace("<", "\\u003c"),
        library=(vendor / "uPlot.iife.min.js").read_text(encoding="utf-8"),
        script=joined([*(FOLDER / "js" / f"{name}.js" for name in MODULES), here.with_name("story.js")]),
    )


def joined(modules: Sequence[Path]) -> str:
    """The modules as one script: what imports is left out, and what is exported is simply there."""
    parts = []
    for path in modules:
        text = re.sub(r"^import .*?;\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        parts.append(re.sub(r"^export ", "", text, flags=re.MULTILINE))
    return "(() => {\n" + "\n".join(parts) + "\n})();"


def told(outcome: Outcome) -> dict[str, Any]:
    """What the page tells, as plain JSON: times in seconds after T0, errors in steps."""
    recording, marks = outcome.recording, outcome.marks
    origin = marks.t0 or recording.started
    last = outcome.prefixes[-1] if outcome.prefixes else None
    return {
        "fleet": {"name": recording.schema.name, "unit": recording.schema.unit, "step": recording.schema.step},
        "change": recording.plan.change.describe(recording.schema.unit),
        "healthy": recording.plan.healthy_subset,
        "metrics": outcome.metrics,
        "marks": _marks(outcome, origin),
        "drift": _drift(recording.events, origin),
        "errors": _errors(outcome, origin),
        "answers": _answers(recording.records, origin),
        "reference": None if last is None else {"rmse": last.reference, "limit": last.reference * RATIO_LIMIT},
        "events": [
            {"at": round(event_time(event) - origin, 3), **{k: v for k, v in event.items() if _plain(v)}}
            for event in recording.events
            if event.get("kind") != "verdict"
        ],
    }


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _marks(outcome: Outcome, origin: float) -> list[dict[str, Any]]:
    marks, metrics = outcome.marks, outcome.metrics
    return [
        {
            "mark": name.upper(),
            "at": None if (value := getattr(marks, name)) is None else round(value - origin, 3),
            "time": metrics[name],
            "meaning": MEANINGS[name],
            "missing": marks.reasons.get(name),
        }
        for name in marks.told
    ]


def _drift(events: Sequence[Event], origin: float) -> list[dict[str, Any]]:
    """The drift score of each version: the statistic in units of its threshold."""
    known = [
        event for event in events if event.get("kind") == "verdict" and event["verdict"] in {DRIFT, *WITHOUT_DRIFT}
    ]
    versions = list(dict.fromkeys(str(event["model_version"]) for event in known))
    found = []
    for version in versions:
        mine = [event for event in known if str(event["model_version"]) == version]
        points = [(event_time(event) - origin, float(event["score"])) for event in mine]
        found.append({"version": version, **_thinned(points)})
    return found


def _errors(outcome: Outcome, origin: float) -> list[dict[str, Any]]:
    """The error over the newest answers of each version; the champion's afresh from T0 on."""
    recording, marks = outcome.recording, outcome.marks
    count = min(ROLLING, max(20, int(recording.plan.rate * 3)))
    found = []
    for version in dict.fromkeys(record.version for record in recording.records if record.version is not None):
        mine = [record for record in recording.records if record.version == version]
        before = [record for record in mine if marks.t0 is not None and record.sent < marks.t0]
        after = [record for record in mine if marks.t0 is None or record.sent >= marks.t0]
        for part in (before, after):
            newest = min(count, max(20, len(part) // 4))
            points = list(zip(*rolling_error(part, origin, newest), strict=True))
            if points:
                found.append({"version": version, "newest": newest, **_thinned(points)})
    return found


def _answers(records: Sequence[Record], origin: float) -> dict[str, Any]:
    """Answers a second by version, and what was not answered."""
    seconds: dict[int, dict[str, int]] = {}
    for record in records:
        at = math.floor((record.answered if record.ok else record.sent) - origin)
        name = str(record.version) if record.ok else "failed"
        counts = seconds.setdefault(at, {})
        counts[name] = counts.get(name, 0) + 1
    # The first and the last second are not whole ones.
    whole = sorted(seconds)[1:-1]
    names = list(dict.fromkeys(name for second in whole for name in seconds[second]))
    return {"at": whole, "by": {name: [seconds[second].get(name, 0) for second in whole] for name in names}}


def _thinned(points: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    """At most MOST_POINTS of them, evenly, the last one among them."""
    stride = max(1, -(-len(points) // MOST_POINTS))
    kept = [*points[:-1][::stride], *points[-1:]]
    return {"at": [round(at, 2) for at, _ in kept], "values": [round(value, 3) for _, value in kept]}
