"""What `driftloop benchmark first-aid` does: parts of a fleet in, cases one by one, results out.

A case that was measured is kept under a name that says all that it depends on, so that a run that was stopped goes on.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftloop import durable
from driftloop.drift import (
    baseline,
    baseline_build,
    bins,
    calibration,
    estimating,
    live_error,
    mixture,
    provisional,
    statistics,
    verdict,
)
from driftloop.durable import read_json
from driftloop.errors import DataError, JsonError
from driftloop.fleets.cmapss.files import SUBSETS
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.fleets.cmapss.source import simulated_fleet
from driftloop.loop.judge import first_aid as judging
from driftloop.model import accuracy
from driftloop.training import configuration
from driftloop.training.build import git_commit
from driftloop_bench.experiment.source import Source, part
from driftloop_bench.first_aid import cases, figures, looks, models, summary, variants
from driftloop_bench.first_aid.cases import Json
from driftloop_bench.first_aid.models import Fleet
from driftloop_bench.rul import benchmark

if TYPE_CHECKING:
    from driftloop.settings import Settings

QUICK_ENGINES = 40
RESULTS, PAGE, PICTURE = "first-aid.json", "first-aid.md", "first-aid.png"
_CODE = (
    accuracy, baseline, baseline_build, bins, calibration, estimating, live_error, mixture, provisional, statistics,
    verdict, judging, cases, looks, models, variants,
)  # fmt: skip
"""What a case depends on beside its models."""

Tell = Callable[[str, int, int], None]
"""What is measured, how many cases are done, and of how many."""


def parts_of(given: str, configured: "Settings") -> list[str]:
    """The names in a list with commas; by default C-MAPSS's subsets. Raises DataError for fewer than two."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names and configured.schema.name == SCHEMA.name:
        return list(SUBSETS)
    if len(names) < 2:
        raise DataError("first aid is from one part of a fleet to another", where="--parts", remedy="name two or more")
    return names


def load(names: Sequence[str], source: Source, configured: "Settings") -> tuple[Fleet, str | None]:
    """The parts of the fleet of the settings, and what people must be told about their data."""
    found = {name: part(name, source, configured) for name in names}
    first = found[names[0]]
    fleet = Fleet(
        configured.schema,
        {name: each.runs for name, each in found.items()},
        first.data_source,
        configuration.default(configured.schema),
    )
    return fleet, first.warning


def quick(names: Sequence[str]) -> tuple[Fleet, str | None]:
    """Small simulated parts of C-MAPSS, and a training that takes a moment."""
    found = {name: simulated_fleet(name, 0, QUICK_ENGINES, splits=("train",)) for name in names}
    parts = {name: fleet.train for name, fleet in found.items()}
    return Fleet(SCHEMA, parts, "simulated", benchmark.QUICK_CONFIG), found[names[0]].warning


def measure(fleet: Fleet, sources: Sequence[str], seeds: int, folder: Path, tell: Tell) -> list[Json]:
    """Every case of `sources` and seeds, those from `folder` that are there; a source's own units are among them.

    Raises DataError for a source that is no part of the fleet.
    """
    for name in sources:
        if name not in fleet.parts:
            raise DataError(f"{name} is not among the parts", where="--sources", remedy="choose from --parts")
    work = [(source, target, seed) for source in sources for target in fleet.parts for seed in range(seeds)]
    found = []
    for number, (source, target, seed) in enumerate(work):
        tell(f"{source} to {target}, seed {seed}", number, len(work))
        path = folder / "cases" / f"{_digest(fleet, source, target, seed)}.json"
        case = _kept(path)
        if case is None:
            case = cases.measure(fleet, source, target, seed, folder / "models")
            durable.write_json(path, case)
        found.append(case)
    return found


def origin(fleet: Fleet, seeds: int) -> Json:
    """What a results file says of how its figures came about."""
    return {
        "created": durable.now(),
        "git_commit": git_commit(),
        "fleet": fleet.schema.name,
        "data_source": fleet.data_source,
        "data_sha256": {name: _rows(fleet, name) for name in fleet.parts},
        "environment": benchmark.environment(),
        "seeds": list(range(seeds)),
        "config": asdict(fleet.config),
    }


def write(found: Json, folder: Path) -> list[Path]:
    """Write results, tables and the picture into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_json(folder / RESULTS, found)
    durable.write_atomically(folder / PAGE, summary.markdown(found).encode())
    figures.draw(found, folder / PICTURE)
    return [folder / name for name in (RESULTS, PAGE, PICTURE)]


def _digest(fleet: Fleet, source: str, target: str, seed: int) -> str:
    code = models.code(*_CODE, *models.CODE)
    rows = [_rows(fleet, name) for name in (source, target)]
    config = asdict(replace(fleet.config, seed=seed))
    depends: list[Any] = [source, target, seed, rows, config, code, benchmark.environment()["packages"]]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def _rows(fleet: Fleet, name: str) -> str:
    runs = sorted(fleet.parts[name], key=lambda run: run.run_id)
    return hashlib.sha256("".join(f"{run.run_id} {run.sha256}\n" for run in runs).encode()).hexdigest()


def _kept(path: Path) -> Json | None:
    """A case that was measured before; None where there is none, or only something damaged."""
    try:
        return read_json(path, dict[str, Any])
    except (OSError, JsonError):
        return None
