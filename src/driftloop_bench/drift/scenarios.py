"""What happens to a fleet in service, and the requests before and after it happens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet.runs import Run
from driftloop_bench.drift.champions import Champion, Lives, held_out
from driftloop_bench.drift.faults import ALTITUDE, Fault, faulty
from driftloop_bench.drift.traffic import PLACES, Engines, engines, requests

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
SIGMAS = (0.5, 1.0, 2.0, 3.0)
GAIN, NOISE, RAMP = 1.002, 2.0, 1.0
"""A gain of 0.2 %, noise of twice the usual amplitude on top, and a bias of 1 sigma more every 1,000 requests."""
OLD, YOUNG = (60, 90), (150, 120)
"""Most remaining cycles of a fleet of old engines, and least of one of young engines."""
MISREPORTED, FEET = 0.05, 10.0
"""Share of the requests whose altitude is wrong, as if of one engine of twenty, and by how many thousand feet."""
LOST = (0.5, 0.75, 1.0)
"""Share of its requests that one operating regime of six loses."""
RAMP_PER = 1000
CORRUPTED = 1e-4
"""Share of healthy requests that are corrupted where detectors must put up with that."""


@dataclass(frozen=True)
class Scenario:
    """A change of the traffic of one champion's fleet."""

    family: str
    """`fleet`, `bias`, `gain`, `stuck`, `noise`, `ramp`, `age`, `regimes`, `altitude` or `corrupt`."""
    severity: float
    """Share of requests, sigmas, factor, sigmas per 1,000 requests, remaining cycles, share that a regime loses, or
    number of requests."""
    subset: str = "FD001"
    """Of foreign engines; else the champion's."""
    sensor: int = 0
    champion: str = "FD001"

    @property
    def name(self) -> str:
        """A name, fit for a file."""
        subset = self.subset if self.family in {"fleet", "corrupt"} else ""
        parts = (self.champion, self.family, subset, f"{self.severity:g}")
        return "-".join(part for part in (*parts, f"sensor_{self.sensor}" if self.sensor else "") if part)


@dataclass(frozen=True, eq=False)
class World:
    """A champion, the engines that it never saw, and everybody else's engines."""

    champion: Champion
    fleets: dict[str, list[Run]]
    """All engines of each subset."""
    seed: int
    memory: dict[str, Lives] = field(default_factory=dict)

    def runs(self, subset: str) -> list[Run]:
        """The held-out engines of a subset."""
        return held_out(self.fleets[subset], self.champion.split)

    def lives(self, subset: str, fault: Fault | None = None) -> Lives:
        """The champion's answers to a subset's held-out engines, whole or with a faulty sensor."""
        name = subset if fault is None else f"{subset}-{fault.name}"
        if name not in self.memory:
            runs = self.runs(subset)
            self.memory[name] = self.champion.answers(runs if fault is None else faulty(runs, fault, self.seed), name)
        return self.memory[name]


def catalogue(sensors: Sequence[int], subsets: Sequence[str] = ("FD002", "FD003", "FD004")) -> list[Scenario]:
    """Every scenario for an FD001 champion with these varying `sensors`, and the change of regimes for FD002's."""
    found = [Scenario("fleet", share, subset) for subset in subsets for share in SHARES]
    for sensor in sensors:
        found += [Scenario("bias", sigmas, sensor=sensor) for sigmas in SIGMAS]
        found += [Scenario("gain", GAIN, sensor=sensor), Scenario("stuck", 0.0, sensor=sensor)]
        found += [Scenario("noise", NOISE, sensor=sensor), Scenario("ramp", RAMP, sensor=sensor)]
    found += [Scenario("age", float(cycles)) for cycles in (*OLD, *YOUNG)]
    found.append(Scenario(ALTITUDE, MISREPORTED))
    if "FD002" in subsets:
        found += [Scenario("corrupt", 1.0, "FD002"), Scenario(ALTITUDE, MISREPORTED, champion="FD002")]
        found += [Scenario("regimes", lost, "FD002", champion="FD002") for lost in LOST]
    return found


def sign(sensor: int) -> float:
    """Biases go up for even sensors and down for odd ones, so that both directions are met."""
    return 1.0 if sensor % 2 == 0 else -1.0


def traffic(
    scenario: Scenario | None, world: World, before: int, after: int, rng: np.random.Generator, places: int = PLACES
) -> Lives:
    """What the champion saw in `before` healthy requests and `after` changed ones, one request after the other.

    None leaves the traffic healthy.
    """
    own = world.champion.subset
    healthy = world.lives(own)
    fleet, total = engines(healthy), before + after
    rows = requests(fleet, total, rng, places)
    base = healthy.taken(rows)
    if scenario is None:
        return base
    changed = np.arange(total) >= before
    if scenario.family in {"fleet", ALTITUDE}:
        changed &= rng.random(total) < scenario.severity
    elif scenario.family == "corrupt":
        changed &= np.arange(total) < before + scenario.severity
    if scenario.family in {"fleet", "corrupt"}:
        foreign = world.lives(scenario.subset)
        return mixed(base, foreign.taken(requests(engines(foreign), total, rng, places)), changed)
    if scenario.family == "age":
        aged = aged_fleet(healthy, scenario.severity)
        return mixed(base, healthy.taken(requests(aged, total, rng, places)), changed)
    if scenario.family == "regimes":
        return mixed(base, healthy.taken(_without(healthy, fleet, scenario.severity, total, rng, places)), changed)
    if scenario.family == "ramp":
        return _ramp(scenario, world, base, rows, before)
    amount = {"bias": scenario.severity * sign(scenario.sensor), ALTITUDE: FEET}.get(scenario.family, scenario.severity)
    fault = Fault(scenario.family, scenario.sensor, amount)
    return mixed(base, world.lives(own, fault).taken(rows), changed)


def corrupted(stream: Lives, world: World, subset: str, rng: np.random.Generator) -> Lives:
    """`stream` with a share CORRUPTED of its requests, at random places, replaced by those of `subset`'s engines."""
    n = len(stream.prediction)
    foreign = world.lives(subset)
    return mixed(stream, foreign.taken(rng.integers(len(foreign.prediction), size=n)), rng.random(n) < CORRUPTED)


def aged_fleet(lives: Lives, cycles: float) -> Engines:
    """Engines with at most `cycles` cycles left where that is old (OLD), with at least as many where it is young."""
    return engines(lives, int(cycles)) if cycles in OLD else engines(lives, oldest=int(cycles))


def mixed(first: Lives, second: Lives, where: NDArray[np.bool_]) -> Lives:
    """Requests of `second` where `where`, of `first` elsewhere."""
    wide = where[:, None]
    return Lives(
        np.where(where, second.prediction, first.prediction),
        np.where(wide, second.settings, first.settings),
        np.where(wide, second.newest, first.newest),
        np.where(where, second.regime, first.regime),
        first.length,
    )


def _ramp(scenario: Scenario, world: World, base: Lives, rows: NDArray[np.int64], before: int) -> Lives:
    """A bias that grows with every request; predictions between the levels that the model was asked about."""
    bias = scenario.severity * np.maximum(np.arange(len(rows)) - before, 0) / RAMP_PER
    levels, own = (0.0, *SIGMAS), world.champion.subset
    faulted = [
        world.lives(own, Fault("bias", scenario.sensor, level * sign(scenario.sensor)) if level else None)
        for level in levels
    ]
    below = np.clip(np.searchsorted(levels, bias, side="right") - 1, 0, len(levels) - 2)
    part = np.clip((bias - np.array(levels)[below]) / np.diff(levels)[below], 0, 1)
    predicted = np.stack([lives.prediction[rows] for lives in faulted])
    at = np.arange(len(rows))
    prediction = (1 - part) * predicted[below, at] + part * predicted[below + 1, at]
    column = scenario.sensor - 1
    step = (faulted[2].newest[rows, column] - base.newest[:, column]) / SIGMAS[1]
    newest = base.newest.copy()
    newest[:, column] += (bias * step).astype(np.float32)
    return replace(base, prediction=prediction.astype(np.float32), newest=newest)


def _without(
    lives: Lives, fleet: Engines, lost: float, total: int, rng: np.random.Generator, places: int
) -> NDArray[np.int64]:
    """Requests of a fleet that flies one regime, the most common one, less often than before."""
    counts = np.bincount(lives.regime[lives.regime >= 0])
    rare = int(counts.argmax())
    # Twice as many as are left over on average: enough but for a chance that need not be thought of.
    flown = math.ceil(2 * total / max(1 - lost * counts[rare] / len(lives.regime), 1e-3))
    rows = requests(fleet, flown, rng, places)
    kept = (lives.regime[rows] != rare) | (rng.random(len(rows)) >= lost)
    return np.asarray(rows[kept][:total])
