"""How soon the watch names a change from one part of any fleet to another, and how often it cries wolf.

For each split a champion of the first part is trained and gets its baseline by the product's rules; thresholds are the
product's. Traffic comes from units that neither has seen: healthy streams of the first part, and streams that are
healthy until another part takes over. The watch is asked after every STEP requests.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.training.train import cap_of
from driftloop_bench.drift import detectors
from driftloop_bench.drift.champions import HELD_OUT, Champion, Lives, champion, dealt, resplit
from driftloop_bench.drift.run import episodes
from driftloop_bench.drift.summary import quantile, upper_rate
from driftloop_bench.drift.traffic import PLACES, bins, engines, of_units

CHUNK = 10_000
"""Requests of one healthy stream: a fleet of its own."""
STEP = 10
BEFORE, AFTER = 1000, 2000
STREAMS = 10

Json = dict[str, Any]


def hidden(runs: Sequence[Run], schema: Schema) -> tuple[list[Run], Schema]:
    """The same runs and fleet without settings."""
    bare = msgspec.structs.replace(schema, name=f"{schema.name}-hidden", settings=(), use_settings="none")
    return [replace(run, rows=run.rows[:, schema.n_settings :]) for run in runs], bare


def measure(
    first: str,
    parts: Mapping[str, Sequence[Run]],
    schema: Schema,
    folder: Path,
    *,
    splits: int,
    healthy: int,
    in_service: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Json:
    """False alarms on `healthy` requests of the part `first`, and delays of changes to each other part of `parts`.

    Champions are kept in `folder`. `in_service` units send at once, by default all that were held out, PLACES at most.
    """
    others = [name for name in parts if name != first]
    calm, found = [], {name: [] for name in others}  # type: ignore[var-annotated]
    for split in range(splits):
        tell(f"split {split}")
        own = dealt(resplit(parts[first], split), schema)
        model = champion(first, parts[first], split, folder / schema.name, schema=schema, cap=cap_of(schema, own))
        lives = model.answers(with_role(own, *HELD_OUT), "held-out")
        rng = np.random.default_rng(split)
        places = in_service or min(PLACES, len(lives.length))
        calm.append(_calm(model, lives, healthy // splits, places, rng))
        for name in others:
            asked = model.answers(parts[name], name.replace("/", "-"))
            found[name] += [_changed(model, lives, asked, places, rng) for _ in range(STREAMS)]
    alarms, total = sum(part["alarms"] for part in calm), sum(part["requests"] for part in calm)
    return {
        "from": first,
        "splits": calm,
        "healthy": {
            "requests": total,
            "alarms": alarms,
            "rate_upper_95": upper_rate(alarms) / total,
            "claimed_rate": max(1 / part["requests_per_false_alarm"] for part in calm),
        },
        "changes": {name: _summary(streams) for name, streams in found.items()},
    }


def _calm(model: Champion, lives: Lives, n: int, places: int, rng: np.random.Generator) -> Json:
    alarms, units = 0, len(lives.length)
    streams = -(-n // CHUNK)
    for _ in range(streams):
        rows, sending = of_units(engines(lives), CHUNK, rng, places)
        binned = bins(lives, model.baseline.binner)[rows]
        seen = detectors.seen_of(model.baseline, binned, STEP, sending)
        alarms += episodes(detectors.scored(seen, model.baseline)[0])
    promise = model.baseline.false_alarms
    return {
        "split": model.split, "units": units, "in_service": places, "requests": streams * CHUNK, "alarms": alarms,
        "requests_per_false_alarm": promise.requests_per_false_alarm, "baseline_units": promise.units,
    }  # fmt: skip


def _changed(model: Champion, own: Lives, other: Lives, places: int, rng: np.random.Generator) -> Json:
    """The first alarm of a stream that changes after BEFORE requests."""
    binner = model.baseline.binner
    (before, own_units), (after, other_units) = (
        of_units(engines(lives), n, rng, min(places, len(lives.length))) for lives, n in ((own, BEFORE), (other, AFTER))
    )
    binned = np.concatenate([bins(own, binner)[before], bins(other, binner)[after]])
    sending = np.concatenate([own_units, other_units + own_units.max() + 1])
    windows_seen = detectors.seen_of(model.baseline, binned, STEP, sending)
    alarm = detectors.first_alarm(model, windows_seen, STEP, BEFORE)
    if alarm is None:
        return {"delay": None, "kind": None, "blamed": []}
    return {"delay": alarm.delay, "kind": alarm.verdict.kind, "blamed": list(alarm.verdict.blamed[:3])}


def _summary(streams: Sequence[Json]) -> Json:
    delays = [stream["delay"] for stream in streams]
    return {
        "streams": len(streams),
        "found": sum(delay is not None for delay in delays),
        "median": quantile(delays, 0.5),
        "90_percent": quantile(delays, 0.9),
        "kinds": dict(Counter(stream["kind"] for stream in streams)),
        "blamed": dict(Counter(name for stream in streams for name in stream["blamed"]).most_common(6)),
    }
