"""Engines that wear out, without a model: what the drift room's tests judge."""

from pathlib import Path

import numpy as np

from driftloop import durable
from driftloop.drift.baseline import Baseline
from driftloop.drift.baseline_build import Trace
from driftloop.drift.source import COUNTER
from driftloop.model.bundle import BASELINE, SERVING_FILES, Example, Metadata, write_metadata


def trace(number: int, domain: int = 0, *, fleet: int = 0, bias: dict[int, float] | None = None) -> Trace:
    """One engine's life: sensors that wear or not, AR(1) noise, an offset of its own.

    Fleet 1 runs elsewhere, which sensor 5 shows.
    """
    rng = np.random.default_rng([number, domain, fleet])
    cycles = int(rng.integers(120, 260))
    worn = np.clip(1 - np.arange(cycles - 1, -1, -1) / 125, 0, 1)[:, None] ** 2
    direction = np.where(np.arange(21) % 3 == 0, 0.0, np.where(np.arange(21) % 2 == 0, 2.5, -2.5))
    noise = rng.normal(size=(cycles, 21))
    for cycle in range(1, cycles):
        noise[cycle] = 0.5 * noise[cycle - 1] + np.sqrt(0.75) * noise[cycle]
    newest = worn * direction + noise + 0.2 * rng.normal(size=21)
    newest[:, 4] = 5.0 * fleet
    for sensor, amount in (bias or {}).items():
        newest[:, sensor - 1] += amount
    settings = np.column_stack([rng.normal(size=cycles) + 10 * fleet, rng.integers(0, 6, cycles), np.full(cycles, 100)])
    prediction = np.clip(125 * (1 - np.sqrt(worn[:, 0])) + 8 * rng.normal(size=cycles), 0, 125)
    regime = np.full(cycles, fleet)
    return Trace(f"eng-{number}", domain, "train", prediction, settings, newest, regime)


def lives(baseline: Baseline, traces: list[Trace]) -> list[np.ndarray]:
    """Flat bins of each engine's rows, `[cycles, F]`."""
    binner = baseline.binner
    return [binner.indices(t.prediction, t.settings, t.newest, t.regime) + binner.offsets for t in traces]


def stream(engines: list[np.ndarray], n: int, rng: np.random.Generator, at_once: int = 12) -> np.ndarray:
    """Flat bins of n requests from engines that age at once, in random order, `[n, F]`."""
    running = rng.choice(len(engines), at_once, replace=len(engines) < at_once)
    at = np.array([rng.integers(len(engines[e])) for e in running])
    rows = np.empty((n, engines[0].shape[1]), dtype=np.int64)
    for i, who in enumerate(rng.integers(at_once, size=n)):
        rows[i] = engines[running[who]][at[who]]
        at[who] += 1
        if at[who] == len(engines[running[who]]):
            running[who], at[who] = rng.integers(len(engines)), 0
    return rows


def tally(baseline: Baseline, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Counts per feature of flat bins."""
    return baseline.binner.split(np.bincount(rows.ravel(), minlength=baseline.binner.total))


def metrics_text(version: str, counts: dict[str, np.ndarray]) -> str:
    """What a server would answer to a scrape."""
    return "".join(
        f'{COUNTER}{{fleet="cmapss",model_version="{version}",feature="{name}",bin="{i}"}} {count}.0\n'
        for name, part in counts.items()
        for i, count in enumerate(part)
    )


METADATA = Metadata(
    window=1, regimes=1, manifest=[], example=Example([], [], [], []), data_source="simulated", seed=0,
    training="full", cap=125,
)  # fmt: skip


def write_bundle(folder: Path, baseline: bytes, metadata: Metadata = METADATA) -> Path:
    """A bundle of which the watch needs the baseline alone."""
    for name in SERVING_FILES:
        durable.write_atomically(folder / name, b"")
    durable.write_atomically(folder / BASELINE, baseline)
    write_metadata(folder, metadata)
    return folder
