"""The models that the benchmark of first aid asks: champions of one part of a fleet, and their labelled retrainings.

A seed divides each part's units anew into roles and seeds the training. What is trained is kept in a folder named after
all that it depends on, so that a benchmark goes on where it was stopped, and another one starts with what is there.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

from driftloop.errors import DataError
from driftloop.fleet import roles
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.model import answers, bundle, first_aid, grafting, regimes
from driftloop.model.answers import Model
from driftloop.model.bundle import METADATA, MODEL, Metadata
from driftloop.training import (
    build,
    configuration,
    descent,
    export,
    intervals,
    network,
    rehearsal,
    train,
    windows,
)
from driftloop.training.train import TrainConfig
from driftloop_bench.drift.champions import resplit
from driftloop_bench.experiment.source import needed

CODE = (answers, build, descent, export, first_aid, grafting, intervals, network, regimes, rehearsal, train, windows)
"""What a kept model depends on beside its data and its configuration."""


@dataclass(frozen=True, eq=False)
class Fleet:
    """The parts of a fleet with their failed units, and how its models are trained."""

    schema: Schema
    parts: Mapping[str, Sequence[Run]]
    data_source: str
    config: TrainConfig

    def units(self, name: str, seed: int, *, first: bool) -> list[Run]:
        """The units of a part with the roles that `seed` gives them, as for a first model or for a later one.

        Raises DataError where a part has too few units for a live one to be among them.
        """
        runs = resplit(self.parts[name], seed)
        dealt = roles.deal([run.run_id for run in runs], needed(self.schema, first=first), {})
        found = roles.assign(runs, dealt)
        if not with_role(found, "live"):
            raise DataError(
                "has no live unit that could send traffic", where=name, remedy="name a part with more units"
            )
        return found


def champion(fleet: Fleet, name: str, seed: int, folder: Path) -> Path:
    """The bundle of a model of one part, trained where it is not kept yet."""
    runs = _learnt(fleet.units(name, seed, first=True))
    config = replace(fleet.config, seed=seed)
    kept = folder / f"{_safe(name)}-{seed}-{_digest(runs, config)}"
    # The metadata are written last: a training that was stopped has none.
    if not (kept / METADATA).exists():
        trained = train.train(runs, fleet.schema, config)
        build.build_bundle(trained, runs, build.first_manifest(runs), kept, data_source=fleet.data_source)
    return kept


def labelled(fleet: Fleet, of: Path, name: str, new: str, seed: int, folder: Path) -> Model:
    """What the loop's retraining makes of the champion in `of` when the labels of the part `new` have come."""
    known = bundle.read_metadata(of)
    runs = _learnt([*fleet.units(name, seed, first=True), *fleet.units(new, seed, first=False)])
    config = replace(configuration.of_model(known.parameters), seed=seed)
    kept = folder / f"{_safe(name)}-{_safe(new)}-{seed}-{_digest(runs, config)}"
    if not (kept / MODEL).exists():
        kept.mkdir(parents=True, exist_ok=True)
        trained = train.train(runs, fleet.schema, config, warm_start=of, cap=known.cap)
        export.export(trained.network, runs[0].rows, kept)
    return opened(known, kept)


def opened(known: Metadata, folder: Path) -> Model:
    """The graph in `folder`, of the same fleet as the model of `known`."""
    return Model(answers.open_session(folder / MODEL), known.window, known.schema, known.cap)


def code(*modules: ModuleType) -> str:
    """SHA-256 over the code of some modules."""
    return hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()


def _learnt(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.role != "live"]


def _digest(runs: Sequence[Run], config: TrainConfig) -> str:
    depends = {
        "runs": [[run.run_id, run.role, run.sha256] for run in sorted(runs, key=lambda run: run.run_id)],
        "config": asdict(config),
        "code": code(*CODE),
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-+." else "_" for letter in name)
