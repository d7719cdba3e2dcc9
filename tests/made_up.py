"""Small made-up fleets, and a real small bundle trained on one, for the tests of every room."""

from pathlib import Path

import numpy as np

from driftloop.fleet.roles import ROLES, role_of
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import N_SENSORS, SCHEMA

SEA_LEVEL, CRUISE = (0.0, 0.0, 100.0), (42.0, 0.84, 100.0)
CONSTANT = (0, 4, 9, 15, 17, 18)
"""Sensors that do not vary within a regime."""


def run(run_id: str, *, cycles: int = 60, settings: tuple[tuple[float, ...], ...] = (SEA_LEVEL,), seed: int = 0) -> Run:
    """One engine's life: sensors that wear out, with noise, each flight at one of `settings`."""
    rng = np.random.default_rng([seed, *run_id.encode()])
    flown = np.array(settings)[rng.integers(len(settings), size=cycles)]
    flown = flown + rng.normal(0, (0.005, 0.0003, 0.0), (cycles, 3))
    # What a sensor reads depends on the altitude, so that it cannot be used without the regime.
    level = 100.0 + 10.0 * np.arange(N_SENSORS) + 2.0 * np.round(flown[:, :1])
    wear = np.exp(-np.arange(cycles - 1, -1, -1) / 25.0)[:, None] * np.linspace(-4, 4, N_SENSORS)
    sensors = level + wear + rng.normal(0, 0.5, (cycles, N_SENSORS))
    sensors[:, CONSTANT] = level[:, CONSTANT]
    return Run(run_id, np.round(np.hstack([flown, sensors]), 4))


def fleet(
    *,
    name: str = "a",
    per_role: int = 4,
    settings: tuple[tuple[float, ...], ...] = (SEA_LEVEL,),
    cycles: int = 60,
    seed: int = 0,
) -> list[Run]:
    """`per_role` engines of each role, lives of about `cycles`, sorted by id; another `name` gives other engines."""
    chosen: dict[str, list[str]] = {role: [] for role in ROLES}
    number = 0
    while any(len(ids) < per_role for ids in chosen.values()):
        run_id = f"eng-{name}{number:04d}"
        number += 1
        if len(chosen[role_of(run_id)]) < per_role:
            chosen[role_of(run_id)].append(run_id)
    ids = sorted(run_id for ids in chosen.values() for run_id in ids)
    return [run(run_id, cycles=cycles + i % 7, settings=settings, seed=seed) for i, run_id in enumerate(ids)]


def tiny_bundle(
    folder: Path, *, runs: list[Run] | None = None, seed: int = 0, steps: int = 60, data_source: str = "simulated"
) -> Path:
    """A complete bundle of a small model trained for a moment; by default on a fleet with one regime."""
    from driftloop.training.build import build_bundle, first_manifest

    chosen = fleet() if runs is None else runs
    trained = train(chosen, tiny_config(seed=seed, steps=steps))
    return build_bundle(
        trained,
        chosen,
        first_manifest(chosen),
        folder,
        data_source=data_source,
        created="2026-01-01T00:00:00.000Z",
    )


def train(runs: list[Run], config, **named):  # type: ignore[no-untyped-def]
    """A training on engines of C-MAPSS's schema."""
    from driftloop.training.train import train as of_any_fleet

    return of_any_fleet(runs, SCHEMA, config, **named)


def tiny_config(*, seed: int = 0, steps: int = 60, **changes: object):  # type: ignore[no-untyped-def]
    """A configuration for networks that train in a fraction of a second."""
    from driftloop.training.network import Architecture
    from driftloop.training.train import TrainConfig

    small = Architecture(window=15, oldest=4, health=5, perceptron=16)
    chosen = {
        "architecture": small,
        "steps": steps,
        "warm_steps": steps,
        "batch": 64,
        "lr": 0.01,
        "evaluations": 2,
        "threads": 1,
    }
    return TrainConfig(seed=seed, **(chosen | changes))


FEATURES = ("prediction", *SCHEMA.columns, "regime")
"""What is watched of an engine, in order."""


def build_baseline(traces, weights=None, **named):  # type: ignore[no-untyped-def]
    """The baseline of engines of C-MAPSS's schema."""
    from driftloop.drift.baseline_build import build_baseline as of_any_fleet

    return of_any_fleet(traces, SCHEMA, 125, weights, **named)
