"""The RUL benchmark: its protocol, and the trainings that it needs.

Protocol. A seed shuffles the training engines of each subset and sets a share aside for calibrating the intervals;
on all others one network and the gradient-boosting baseline are fitted, for a number of steps that was fixed
beforehand. Both are asked once per test engine, after its last row; the network as the exported ONNX graph, on raw
rows. Nothing is ever chosen by what comes out: `CONFIG` and `BOOSTING` were found by cross-validation over training
engines (docs/model-card.md).

What a seed gave is kept in a file named after everything that it depends on, so that a run that was killed goes on.
"""

import hashlib
import io
import json
import os
import platform
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from driftloop import durable
from driftloop.errors import DataError
from driftloop.fleet import labels
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss import files
from driftloop.fleets.cmapss.files import SHA256, SPLITS, SUBSETS, names_of
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.fleets.cmapss.source import Fleet, load_fleet, simulated_fleet
from driftloop.model import regimes
from driftloop.model.signature import INPUT
from driftloop.training import export, intervals, network
from driftloop.training import train as training
from driftloop.training.build import git_commit
from driftloop.training.network import Architecture
from driftloop.training.train import TrainConfig
from driftloop_bench import boosting
from driftloop_bench.boosting import BoostingConfig
from driftloop_bench.machine import processor

if TYPE_CHECKING:
    from driftloop.settings import Settings

CONFIG = TrainConfig()
"""The one configuration for all subsets, which the loop trains and serves."""
BOOSTING = BoostingConfig()
ROLLING = BoostingConfig(history=False)
"""The usual baseline: rolling features alone. `BOOSTING` is shown what the network is shown, and is stricter."""
CALIBRATE_SHARE = 0.12
QUICK_ENGINES = 12
QUICK_CONFIG = replace(
    CONFIG, architecture=replace(CONFIG.architecture, window=64, perceptron=16), steps=150, batch=64, lr=0.01
)
QUICK_BOOSTING = replace(BOOSTING, iterations=20, min_leaf=10)
QUICK_ROLLING = replace(QUICK_BOOSTING, history=False)
TIMED_CALLS = 2000
ANSWERS = ("true", "rul", "lower", "upper", "boosting", "rolling")
"""What a `SeedResult` holds of every test engine."""


@dataclass(frozen=True)
class Plan:
    """What one benchmark does."""

    subsets: tuple[str, ...]
    seeds: tuple[int, ...]
    per_subset: bool
    quick: bool
    config: TrainConfig
    boosting: BoostingConfig
    rolling: BoostingConfig

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Subsets that share a model."""
        return tuple((subset,) for subset in self.subsets) if self.per_subset else (self.subsets,)


@dataclass(frozen=True, eq=False)
class Data:
    """The engines of a plan's subsets, and what identifies them."""

    fleets: Mapping[str, Fleet]
    hashes: Mapping[str, str]
    """SHA-256 by file; of the rows where they were simulated."""
    data_source: str
    warning: str | None


@dataclass(frozen=True, eq=False)
class Split:
    """Training engines by the part they take for one seed; no engine is in both."""

    fit: list[Run]
    calibrate: list[Run]


@dataclass(frozen=True, eq=False)
class SeedResult:
    """What one training answered for the test engines of one subset, in the order of the files; cycles."""

    seed: int
    subset: str
    rul: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    boosting: NDArray[np.float64]
    rolling: NDArray[np.float64]
    """Of gradient boosting on rolling features alone."""
    true: NDArray[np.float64]
    """Raw remaining useful life."""
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Stage:
    """Where a benchmark is, for people."""

    done: int
    of: int
    what: str


Report = Callable[[Stage], None]


def make_plan(subsets: str, seeds: int, *, per_subset: bool = False, quick: bool = False) -> Plan:
    """The plan of a command line; raises DataError for a subset that does not exist."""
    chosen = tuple(dict.fromkeys(part.strip() for part in subsets.split(",") if part.strip()))
    for subset in chosen:
        names_of(subset)
    if not chosen:
        raise DataError("no subset is named", remedy=f"choose from {', '.join(SUBSETS)}")
    configs = (QUICK_CONFIG, QUICK_BOOSTING, QUICK_ROLLING) if quick else (CONFIG, BOOSTING, ROLLING)
    return Plan(chosen, tuple(range(seeds)), per_subset, quick, *configs)


def load_data(plan: Plan, settings: "Settings", splits: tuple[files.Split, ...] = SPLITS) -> Data:
    """The engines that the plan is about: NASA's where there are any, else simulated; for a quick one always these.

    `splits` leaves out what is not to be read.
    """
    if plan.quick:
        fleets = {subset: simulated_fleet(subset, 0, QUICK_ENGINES, splits=splits) for subset in plan.subsets}
    else:
        fleets = {subset: load_fleet(subset, settings, splits=splits) for subset in plan.subsets}
    first = fleets[plan.subsets[0]]
    if first.data_source == "nasa":
        hashes = {name: SHA256[name] for subset in plan.subsets for name in names_of(subset, splits)}
    else:
        hashes = {subset: _rows_hash(fleet.train + fleet.test) for subset, fleet in fleets.items()}
    return Data(fleets, hashes, first.data_source, first.warning)


def split(fleets: Mapping[str, Fleet], seed: int) -> Split:
    """Shuffle each subset's training engines by `seed` and set CALIBRATE_SHARE of them aside, at least one."""
    fit, calibrate = [], []
    for subset, fleet in fleets.items():
        rng = np.random.default_rng([seed, *subset.encode()])
        order = [fleet.train[i] for i in rng.permutation(len(fleet.train))]
        aside = max(1, round(CALIBRATE_SHARE * len(order)))
        calibrate += order[:aside]
        fit += order[aside:]
    return Split(sorted(fit, key=lambda run: run.run_id), sorted(calibrate, key=lambda run: run.run_id))


def run(plan: Plan, data: Data, cache: Path, report: Report | None = None) -> list[SeedResult]:
    """Every seed and group of the plan, those taken from `cache` that are there; ordered by subset and seed."""
    work = [(seed, group) for seed in plan.seeds for group in plan.groups]
    steps = plan.config.steps
    found = []
    for number, (seed, group) in enumerate(work):
        path = cache / f"{_digest(plan, data, seed, group)}.npz"
        what = f"seed {seed}, {' '.join(group)}"

        def tell(step: int, doing: str, at: int = number * steps, what: str = what) -> None:
            if report is not None:
                report(Stage(at + step, len(work) * steps, f"{what}: {doing}"))

        arrays = _read(path)
        if arrays is None:
            arrays = _measure(plan, {subset: data.fleets[subset] for subset in group}, seed, tell)
            _write(path, arrays)
        tell(steps, "done")
        found += [_result(seed, subset, arrays) for subset in group]
    return sorted(found, key=lambda result: (plan.subsets.index(result.subset), result.seed))


def origin(plan: Plan, data: Data) -> dict[str, Any]:
    """What a results file says of how its figures came about."""
    return {
        "created": durable.now(),
        "git_commit": git_commit(),
        "data_source": data.data_source,
        "data_sha256": dict(data.hashes),
        "environment": environment(),
        "seeds": list(plan.seeds),
        "models": "one per subset" if plan.per_subset else "one for all subsets",
        "config": asdict(plan.config),
        "boosting_config": asdict(plan.boosting),
        "rolling_config": asdict(plan.rolling),
    }


def environment() -> dict[str, Any]:
    """Versions and processor: with data, seed and configuration, what the figures depend on."""
    packages = ("driftloop", "torch", "numpy", "onnxruntime", "scikit-learn", "scipy")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _measure(
    plan: Plan, fleets: Mapping[str, Fleet], seed: int, tell: Callable[[int, str], None]
) -> dict[str, NDArray[np.float64]]:
    """Fit the models on a seed's split of these subsets and ask them about the test engines."""
    parts = split(fleets, seed)
    config = replace(plan.config, seed=seed)
    tell(0, "network")
    began = time.process_time()
    trained = training.fit(
        parts.fit,
        [],
        parts.calibrate,
        SCHEMA,
        RUL_CAP,
        config,
        lambda now: tell(now.step, f"network, loss {now.loss:.4f}"),
    )
    training_s = time.process_time() - began
    session = export.session(export.onnx_bytes(trained.network))
    tell(config.steps, "gradient boosting")
    began = time.process_time()
    boosted = boosting.fit(parts.fit, plan.boosting, seed)
    boosting_s = time.process_time() - began
    rolling = boosting.fit(parts.fit, plan.rolling, seed)
    arrays: dict[str, NDArray[np.float64]] = {}
    for subset, fleet in fleets.items():
        answers = [
            session.run(["rul", "lower", "upper"], {INPUT: engine.rows[None].astype(np.float32)})
            for engine in fleet.test
        ]
        for i, name in enumerate(("rul", "lower", "upper")):
            arrays[f"{subset}/{name}"] = np.array([answer[i][0] for answer in answers], dtype=np.float64)
        arrays[f"{subset}/boosting"] = boosted.predict_last(fleet.test)
        arrays[f"{subset}/rolling"] = rolling.predict_last(fleet.test)
        arrays[f"{subset}/true"] = np.array([engine.remaining for engine in fleet.test], dtype=np.float64)
    costs = {
        "training_s": training_s,
        "optimiser_s": trained.optimiser_s,
        "boosting_s": boosting_s,
        "inference_us": _inference_us(session, parts.fit[0], config.architecture),
        "fit_engines": float(len(parts.fit)),
        "calibrate_engines": float(len(parts.calibrate)),
    }
    return arrays | {f"cost/{name}": np.array(value) for name, value in costs.items()}


def _inference_us(session: Any, engine: Run, architecture: Architecture) -> float:
    """Processor time of one window in one call on one thread, microseconds, the mean of many."""
    rows = engine.rows[-architecture.window :][None].astype(np.float32)
    began = time.process_time()
    for _ in range(TIMED_CALLS):
        session.run(["rul", "lower", "upper"], {"rows": rows})
    return (time.process_time() - began) / TIMED_CALLS * 1e6


def _result(seed: int, subset: str, arrays: Mapping[str, NDArray[np.float64]]) -> SeedResult:
    costs = {name.removeprefix("cost/"): float(value) for name, value in arrays.items() if name.startswith("cost/")}
    mine = {name: arrays[f"{subset}/{name}"] for name in ANSWERS}
    return SeedResult(seed, subset, **mine, costs=costs)


def _digest(plan: Plan, data: Data, seed: int, group: Sequence[str]) -> str:
    """Names a seed's file after all that it depends on: data, configurations, packages, and this code."""
    code = {
        module.__name__: hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
        for module in (boosting, intervals, network, regimes, training)
    }
    depends = {
        "seed": seed,
        "group": list(group),
        "data": dict(data.hashes),
        "config": asdict(plan.config),
        "boosting": asdict(plan.boosting),
        "rolling": asdict(plan.rolling),
        "calibrate_share": CALIBRATE_SHARE,
        "packages": environment()["packages"],
        "code": code,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, NDArray[np.float64]] | None:
    """What is kept of a seed; None where there is nothing, or only something damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: Mapping[str, NDArray[np.float64]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    durable.write_atomically(path, buffer.getvalue())


def _rows_hash(runs: Sequence[Run]) -> str:
    whole = hashlib.sha256()
    for engine in runs:
        whole.update(f"{engine.run_id} {engine.remaining} {engine.sha256}\n".encode())
    return whole.hexdigest()


def capped(true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels as trained on."""
    return labels.capped(true, RUL_CAP)
