"""The drift benchmark: what is measured, piece by piece; every finished piece is kept, so that a stopped run goes on.

Healthy traffic gives the false alarms, scenarios the delays, and a few scenarios the comparison with other detectors.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop import durable
from driftloop.drift.baseline import FORMAT, Baseline
from driftloop.drift.verdict import DRIFT, ENDS_BELOW
from driftloop.fleet.runs import Run
from driftloop_bench.drift import detectors
from driftloop_bench.drift.champions import Champion, Lives, champion
from driftloop_bench.drift.faults import varying_sensors
from driftloop_bench.drift.scenarios import Scenario, World, catalogue, corrupted, traffic
from driftloop_bench.drift.traffic import PLACES, bins, engines, requests

CHAMPIONS = ("FD001", "FD002")
CHUNK = 50_000
"""Requests of one healthy stream: a fleet of its own."""
STEP = 10
"""Requests between two checks after a change: the watch's one second at 10 requests/s."""
CALM_STEP = 50
"""Requests between two checks of healthy traffic: two windows that are nearer to each other hardly differ."""
COMPARED_STEP, COMPARED_CALM_STEP = 1, 10
"""The same for the comparison: detectors that look at a window are asked after every request, as those are that look at
every request."""
SCRAPE = 500
"""Requests between two checks where Prometheus scrapes every 5 s at 100 requests/s."""
CHECKS_PER_SCRAPE = 5
"""The watch looks every second."""
BEFORE, AFTER = 1000, 2000
"""Requests before a change, and after it: what is not found by then is missed."""
SETTLED = 1000
"""Requests after a change at which kind and score are noted."""
COMPARED = (
    Scenario("fleet", 1.0, "FD002"), Scenario("fleet", 0.25, "FD002"), Scenario("fleet", 0.05, "FD002"),
    Scenario("fleet", 1.0, "FD003"), Scenario("bias", 1.0, sensor=2), Scenario("bias", 1.0, sensor=9),
    Scenario("bias", 1.0, sensor=11), Scenario("noise", 2.0, sensor=11), Scenario("age", 60.0),
    Scenario("corrupt", 1.0, "FD002"),
)  # fmt: skip
"""What the other detectors are shown too: the last two are no drift."""
FOREIGN = "FD002"
"""Whose rows corrupted requests bring."""

Json = dict[str, Any]
Report = Callable[[str, int, int], None]
"""Called with what is being done, pieces done, and pieces in all."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    requests: int = 6_000_000
    """Healthy requests in all."""
    splits: int = 3
    streams: int = 10
    """Streams of each scenario and split (of sensor faults, of one split)."""
    seed: int = 0
    subsets: tuple[str, ...] = ("FD001", "FD002", "FD003", "FD004")
    steps: int | None = None
    """Training steps; None: as many as a champion gets."""
    sensors: int | None = None
    """Sensors that fail; None: every one that varies."""
    compared: int = 3
    """Streams of each scenario that the other detectors are shown."""
    calibrated: int = 300_000
    """Healthy requests that the detectors are calibrated on."""


QUICK = Plan(
    requests=20_000, splits=1, streams=2, subsets=("FD001", "FD002"), steps=60, sensors=1, compared=1, calibrated=5_000
)


def run(plan: Plan, fleets: Mapping[str, list[Run]], folder: Path, report: Report) -> dict[str, Json]:
    """All pieces by name; those already in `folder` are not measured again.

    `fleets`: the completed runs of every subset of the plan.
    """
    worlds: dict[tuple[str, int], World] = {}

    def world(subset: str, split: int) -> World:
        if (subset, split) not in worlds:
            report(f"champion of {subset}, split {split}", done, len(pieces))
            made = champion(subset, fleets[subset], split, folder / "models", steps=plan.steps)
            worlds[subset, split] = World(made, dict(fleets), plan.seed)
        return worlds[subset, split]

    pieces = dict(_pieces(plan, fleets, world))
    kept = folder / "pieces" / _fingerprint(plan)
    found: dict[str, Json] = {}
    done = 0
    for done, (name, measure_piece) in enumerate(pieces.items()):
        path = kept / f"{name}.json"
        if not path.exists():
            report(name, done, len(pieces))
            durable.write_json(path, measure_piece())
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    report("done", len(pieces), len(pieces))
    return found


def _pieces(
    plan: Plan, fleets: Mapping[str, list[Run]], world: Callable[[str, int], World]
) -> Iterator[tuple[str, Callable[[], Json]]]:
    sensors = varying_sensors(fleets["FD001"])[: plan.sensors]
    foreign = [subset for subset in plan.subsets if subset != "FD001"]
    for number, scenario in enumerate(catalogue(sensors, foreign)):
        splits = [number % plan.splits] if scenario.sensor else range(plan.splits)
        for split in splits:
            name = f"{scenario.name}-{split}"
            yield name, partial(_lazily, changed, world, scenario.champion, split, scenario, plan, _seed(plan, name))
    champions = [subset for subset in CHAMPIONS if subset in plan.subsets]
    chunk = min(CHUNK, max(1000, plan.requests // (len(champions) * plan.splits)))
    chunks = -(-plan.requests // (len(champions) * plan.splits * chunk))
    for subset in champions:
        for split in range(plan.splits):
            for part in range(chunks):
                # Every other stream is of half as large a fleet, the smallest that the thresholds are made for.
                places = PLACES if part % 2 == 0 else PLACES // 2
                name = f"healthy-{subset}-{split}-{part}"
                yield name, partial(_lazily, healthy, world, subset, split, chunk, places, _seed(plan, name))
    for method in (*detectors.WINDOWED, *detectors.STREAMED):
        name = f"detector-{method.replace(' ', '_')}"
        yield name, partial(_lazily, compare, world, "FD001", 0, method, plan)


def _lazily(
    measured: Callable[..., Json], world: Callable[[str, int], World], subset: str, split: int, *rest: Any
) -> Json:
    return measured(world(subset, split), *rest)


def healthy(world: World, n: int, places: int, seed: int) -> Json:
    """False alarms on one stream of `n` healthy requests, checked every CALM_STEP requests."""
    model, lives = world.champion, world.lives(world.champion.subset)
    rows = requests(engines(lives), n, np.random.default_rng(seed), places)
    windows_seen = detectors.seen_of(model.baseline, bins(lives, model.baseline.binner)[rows], CALM_STEP)
    scores, ages = detectors.scored(windows_seen, model.baseline)
    enough = np.arange(1, len(scores) + 1) * CALM_STEP >= model.baseline.min_n
    aged = enough & (np.abs(ages) > 1) & (scores <= 1)
    return {
        "champion": model.subset,
        "split": model.split,
        "places": places,
        "requests": n,
        "checks": len(scores),
        "alarms": episodes(scores),
        "alarms_scraped": episodes(scores[SCRAPE // CALM_STEP - 1 :: SCRAPE // CALM_STEP]),
        "score_max": round(float(scores.max()), 4),
        "score_99": round(float(np.quantile(scores, 0.99)), 4),
        "fleet_age_checks": int(aged.sum()),
        "fleet_age_spells": int((np.diff(aged.astype(int), prepend=0) == 1).sum()),
    }


def changed(world: World, scenario: Scenario, plan: Plan, seed: int) -> Json:
    """Delays and verdicts of our detector on the streams of one scenario and split."""
    model = world.champion
    delays: list[int | None] = []
    scraped: list[int | None] = []
    firsts, kinds, settled_kinds, scores, verdicts = [], [], [], [], []
    rng = np.random.default_rng(seed)
    for _ in range(plan.streams):
        stream = traffic(scenario, world, BEFORE, AFTER, rng)
        windows_seen = detectors.seen(model, stream, STEP)
        alarm = detectors.first_alarm(model, windows_seen, STEP, BEFORE)
        delays.append(alarm.delay if alarm else None)
        firsts.append(alarm.verdict.blamed[0] if alarm else None)
        kinds.append(alarm.verdict.kind if alarm else None)
        # Nothing ties a change to the scrapes: it comes anywhere between two of them.
        offset = int(rng.integers(SCRAPE))
        scrapes = detectors.seen(model, stream.taken(slice(offset, None)), SCRAPE)
        late = detectors.first_alarm(model, scrapes, SCRAPE, BEFORE - offset, CHECKS_PER_SCRAPE)
        scraped.append(late.delay if late else None)
        settled = detectors.verdict_at(windows_seen, model.baseline, (BEFORE + SETTLED) // STEP - 1)
        scores.append(settled.score)
        settled_kinds.append(settled.kind if settled.verdict == DRIFT else settled.verdict)
        verdicts.append(_verdicts_after(windows_seen, model.baseline))
    return {
        **asdict(scenario),
        "split": model.split,
        "delays": delays,
        "scraped": scraped,
        "first": firsts,
        "kinds": kinds,
        "settled_kinds": settled_kinds,
        "scores": scores,
        "fleet_age": [round(share, 4) for share in verdicts],
    }


def compare(world: World, method: str, plan: Plan) -> Json:
    """One detector, as it comes and calibrated in two ways: delays in COMPARED's scenarios, and as it comes the share
    of healthy stretches of SCRAPE requests with an alarm.

    Calibrated means the lowest threshold without an alarm in the healthy requests: an advantage for whoever would
    need a higher one on more of them. Robust is the same where a few of these requests are corrupted.
    """
    model = world.champion
    known = detectors.reference(model)
    scenarios = [s for s in COMPARED if s.subset in plan.subsets and (not s.sensor or plan.sensors is None)]
    streams = {
        s.name: [
            traffic(s, world, BEFORE, AFTER, np.random.default_rng([_seed(plan, s.name), i]))
            for i in range(plan.compared)
        ]
        for s in scenarios
    }
    clean = [
        traffic(None, world, 0, n, np.random.default_rng([plan.seed, i])) for i, n in enumerate(_parts(plan.calibrated))
    ]
    soiled = [
        corrupted(stream, world, FOREIGN, np.random.default_rng([plan.seed, i, 1])) for i, stream in enumerate(clean)
    ]
    measured = _windowed if method in detectors.WINDOWED else _streamed
    return {
        "method": method,
        "healthy_requests": plan.calibrated,
        **measured(method, model, known, streams, clean, soiled),
    }


Streams = Mapping[str, list[Lives]]


def _windowed(
    method: str, model: Champion, known: detectors.Reference, streams: Streams, clean: list[Lives], soiled: list[Lives]
) -> Json:
    series, default = detectors.WINDOWED[method]
    full = detectors.WINDOW // COMPARED_CALM_STEP - 1
    calm, unclean = (
        [series(model, known, stream, COMPARED_CALM_STEP, full) for stream in healthy_streams]
        for healthy_streams in (clean, soiled)
    )
    shown = {
        name: [series(model, known, s, COMPARED_STEP, BEFORE // COMPARED_STEP) for s in each]
        for name, each in streams.items()
    }

    def delays(threshold: float) -> Json:
        return {name: [_delay(values > threshold, COMPARED_STEP) for values in each] for name, each in shown.items()}

    calibrated, robust = (max(float(part.max()) for part in parts) for parts in (calm, unclean))
    alarms = np.concatenate([_stretches(part > default) for part in calm])
    thresholds = {"default": default, "calibrated": calibrated, "robust": max(calibrated, robust)}
    return _compared(thresholds, alarms, delays)


def _streamed(
    method: str, _: Champion, known: detectors.Reference, streams: Streams, clean: list[Lives], soiled: list[Lives]
) -> Json:
    make, default, grid = detectors.STREAMED[method]

    def alarms(parameter: float, stream: Lives, *, first_only: bool = False) -> list[int]:
        return detectors.streamed_alarms(make(parameter), known, stream, first_only=first_only)

    def delays(parameter: float) -> Json:
        return {
            name: [detectors.first_after(alarms(parameter, s), BEFORE) for s in each] for name, each in streams.items()
        }

    def first_calm(parameters: Sequence[float], healthy_streams: list[Lives]) -> float | None:
        calm = (p for p in parameters if not any(alarms(p, stream, first_only=True) for stream in healthy_streams))
        return next(calm, None)

    calibrated = first_calm(grid, clean)
    # What alarms on the clean requests is not asked again with corrupted ones among them.
    robust = None if calibrated is None else first_calm(grid[grid.index(calibrated) :], soiled)
    at_default = [_alarmed(alarms(default, stream), len(stream.prediction)) for stream in clean]
    thresholds = {"default": default, "calibrated": calibrated, "robust": robust}
    return _compared(thresholds, np.concatenate(at_default), delays)


def episodes(scores: NDArray[np.float64]) -> int:
    """How often the watch would raise its alert: it begins above 1 and ends below ENDS_BELOW."""
    count, firing = 0, False
    for score in scores[(scores > 1) | (scores < ENDS_BELOW)]:
        if score > 1 and not firing:
            count += 1
        firing = bool(score > 1)
    return count


def _verdicts_after(windows_seen: detectors.Seen, baseline: Baseline) -> float:
    """Share of the checks after a change, from the first full window on, that say `fleet_age`."""
    first = (BEFORE + detectors.WINDOW) // STEP
    scores, ages = detectors.scored(windows_seen.since(first), baseline)
    return float(((scores <= 1) & (np.abs(ages) > 1)).mean())


def _compared(
    thresholds: Mapping[str, float | None], alarms: NDArray[np.bool_], delays: Callable[[float], Json]
) -> Json:
    """Thresholds, delays at each (none without a threshold), and the default's share of stretches with an alarm."""
    found = {f"{kind}_delays": delays(value) for kind, value in thresholds.items() if value is not None}
    return {**thresholds, **found, "default_false_alarms": round(float(alarms.mean()), 5)}


def _delay(above: NDArray[np.bool_], step: int) -> int | None:
    found = np.flatnonzero(above)
    return (int(found[0]) + 1) * step if len(found) else None


def _stretches(above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each whole stretch of SCRAPE requests has an alarm."""
    checks = SCRAPE // COMPARED_CALM_STEP
    return np.asarray(above[: len(above) // checks * checks].reshape(-1, checks).any(axis=1))


def _alarmed(alarms: Sequence[int], requests: int) -> NDArray[np.bool_]:
    """Whether each whole stretch of SCRAPE of the `requests` has one of the `alarms`."""
    stretches = requests // SCRAPE
    found = np.bincount(np.asarray(alarms, dtype=np.int64) // SCRAPE, minlength=stretches)
    return np.asarray(found[:stretches] > 0)


def _parts(total: int) -> list[int]:
    return [min(CHUNK, total - begin) for begin in range(0, total, CHUNK)]


def _seed(plan: Plan, name: str) -> int:
    return plan.seed * 2**32 + zlib.crc32(name.encode())


def _fingerprint(plan: Plan) -> str:
    """Pieces of other plans, or of baselines of another format, are kept apart."""
    return hashlib.sha256(json.dumps([asdict(plan), FORMAT, STEP, CALM_STEP, BEFORE, AFTER]).encode()).hexdigest()[:12]


__all__ = ["CHAMPIONS", "COMPARED", "QUICK", "Champion", "Plan", "changed", "compare", "episodes", "healthy", "run"]
