"""Readings that are worse than usual: planted ones are named, and those that healthy units have are not."""

from collections.abc import Callable

import numpy as np
import pytest

from driftloop.drift import sensors
from driftloop.drift.calibration import REQUESTS_PER_CHECK
from driftloop.drift.sensors import COUNTED, Fault, Life, Quality, faults, usual
from driftloop.fleet.quality import BEGINS, of_life
from driftloop.fleet.schema import Channel, Schema

SCHEMA = Schema(
    name="pumps",
    use_settings="none",
    sensors=tuple(Channel(name=name, range=(-20.0, 20.0)) for name in ("whole", "gaps", "bursts", "rests")),
)
WINDOW, AT_ONCE = 30, 12
PROMISED = 20_000
"""Requests for each false alarm, as few units can promise."""


def rows(number: int) -> np.ndarray:
    """A healthy life: 3 % of `gaps` missing at random, `bursts` in a third of the units, `rests` standing still."""
    random = np.random.default_rng([7, number])
    life = random.normal(size=(int(random.integers(100, 200)), 4))
    life[random.random(len(life)) < 0.03, 1] = np.nan
    if random.random() < 0.33:
        for start in random.integers(0, len(life), 2):
            life[start : start + 12, 2] = np.nan
    rest = int(random.integers(0, len(life) - 60))
    life[rest : rest + int(random.integers(25, 60)), 3] = 1.0
    return life


def healthy(units: int) -> Quality:
    return usual([Life(*of_life(rows(at), SCHEMA, WINDOW)) for at in range(units)], SCHEMA.columns)


def counts(life: Life) -> np.ndarray:
    """`[steps, columns, COUNTED]`"""
    parts = [life.codes == code for code in range(4)]
    return np.stack([*parts, *(life.begins & (life.codes == code) for code in BEGINS)], axis=-1).astype(np.int64)


def stream(n: int, seed: int, change: Callable[[np.ndarray, np.random.Generator], None] | None = None) -> np.ndarray:
    """`n` requests of units that no baseline has seen, AT_ONCE at a time in random order: `[n, columns, COUNTED]`."""
    random = np.random.default_rng([8, seed])
    fresh = iter(range(10_000 * (seed + 1), 10_000 * (seed + 2)))

    def unit() -> np.ndarray:
        life = rows(next(fresh))
        if change is not None:
            change(life, random)
        return counts(Life(*of_life(life, SCHEMA, WINDOW)))

    running = [unit() for _ in range(AT_ONCE)]
    at = [int(random.integers(len(life))) for life in running]
    sent = []
    for who in random.integers(AT_ONCE, size=n).tolist():
        sent.append(running[who][at[who]])
        at[who] += 1
        if at[who] == len(running[who]):
            running[who], at[who] = unit(), 0
    return np.array(sent)


def judged(sent: np.ndarray, known: Quality) -> list[Fault]:
    found = faults(sent.sum(axis=0), len(sent), known, REQUESTS_PER_CHECK, PROMISED)
    return [fault for fault in found if fault.score > 1]


@pytest.mark.parametrize("units", [12, 31])
def test_healthy_traffic_with_gaps_bursts_and_rests_raises_nothing_in_200000_requests(units: int) -> None:
    known, alarms = healthy(units), 0
    assert {(one.feature, one.kind) for one in known.usual} >= {("gaps", "missing"), ("rests", "stuck")}
    for seed in range(4):
        total = np.concatenate([[np.zeros((4, len(COUNTED)))], np.cumsum(stream(50_000, seed), axis=0)]).astype(int)
        for end in range(500, 50_001, REQUESTS_PER_CHECK):
            for window in (500, 2000):
                start = max(0, end - window)
                alarms += bool(
                    [
                        f
                        for f in faults(total[end] - total[start], end - start, known, REQUESTS_PER_CHECK, PROMISED)
                        if f.score > 1
                    ]
                )
    assert alarms == 0


def dead(life: np.ndarray, _: np.random.Generator) -> None:
    life[:, 0] = np.nan


def stuck(life: np.ndarray, _: np.random.Generator) -> None:
    life[:, 0] = 0.5


def beyond(life: np.ndarray, _: np.random.Generator) -> None:
    life[:, 0] = 999.0


def a_fifth(life: np.ndarray, random: np.random.Generator) -> None:
    life[random.random(len(life)) < 0.2, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "kind", "units"),
    [
        *((dead, "missing", units) for units in (12, 31)),
        *((beyond, "out_of_range", units) for units in (12, 31)),
        *((a_fifth, "missing", units) for units in (12, 31)),
        # Of a life's first rows nobody can tell, one in ten here; that is too many for what 12 units can promise.
        (stuck, "stuck", 20),
        (stuck, "stuck", 31),
    ],
)
def test_a_planted_fault_is_named_with_its_kind(units: int, change: Callable[..., None], kind: str) -> None:
    for seed in range(5):
        found = judged(stream(500, 20 + seed, change), healthy(units))
        assert [(fault.feature, fault.kind) for fault in found] == [("whole", kind)]


def test_more_missing_than_usual_is_named_where_some_is_usual() -> None:
    def more(life: np.ndarray, random: np.random.Generator) -> None:
        life[random.random(len(life)) < 0.2, 1] = np.nan

    assert [(f.feature, f.kind) for f in judged(stream(500, 30, more), healthy(31))] == [("gaps", "missing")]


def test_one_unit_with_a_dead_or_flapping_sensor_is_no_alarm() -> None:
    for flapping in (False, True):
        sent = stream(1000, 40)
        of_one = np.zeros((1000, len(COUNTED)), dtype=np.int64)
        of_one[::AT_ONCE, COUNTED.index("missing")] = 1
        of_one[:: 2 * AT_ONCE, COUNTED.index("missing_begins")] = flapping
        sent[:, 0] = of_one
        assert judged(sent, healthy(31)) == []


def test_few_requests_say_nothing() -> None:
    assert judged(stream(49, 50, dead), healthy(31)) == []
    assert judged(stream(50, 50, dead), healthy(31))[0].words == "whole (missing in 100%)"


def test_what_is_always_so_can_raise_nothing() -> None:
    def constant(life: np.ndarray, _: np.random.Generator) -> None:
        life[:, 0] = 0.5

    lives = []
    for at in range(31):
        life = rows(at)
        constant(life, np.random.default_rng(0))
        lives.append(Life(*of_life(life, SCHEMA, WINDOW)))
    assert judged(stream(2000, 60, constant), usual(lives, SCHEMA.columns)) == []


def test_the_first_number_that_is_no_chance_is_laplaces() -> None:
    # The predictive beta-binomial distribution as calibration.new_limit has it: 10 more units after none of 12.
    for level in (1e-3, 1e-5):
        first = sensors._first(10, 0.0, 12, level)
        chance, chances = 1.0, []
        for k in range(10):
            chance *= (10 - k) / (10 + 12 + 1 - k)
            chances.append(chance)
        assert first == next((k for k, at_least in enumerate(chances, 1) if at_least <= level), 11)
