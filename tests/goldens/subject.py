"""The one place where the goldens touch the product: what is imported, and how its parts are put together.

When modules move, only this file follows.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI
from numpy.typing import NDArray

import driftloop
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.loop.api import service
from driftloop.loop.judge import concept
from driftloop.model.regimes import Regimes
from driftloop.serving.app import create_app
from driftloop.settings import Settings
from driftloop.training.build import build_bundle, extended_manifest, first_manifest
from driftloop.training.network import Form, RulNetwork
from driftloop.training.train import TrainConfig, Trained
from loop.fakes import FakeBackend, FakeRegistry

from . import material

VERSION = driftloop.__version__
TOKEN = "a-token-of-enough-length"
CREATED = "2001-01-01T00:00:00.000Z"


# Archive.


def archive(folder: Path, run_id: str, rows: material.Rows) -> None:
    """Add a run to the archive in `folder`."""
    open_archive(folder, SCHEMA).add(Run(run_id, rows))


def archived(folder: Path, run_id: str) -> material.Rows:
    """The rows of a run in the archive in `folder`."""
    return open_archive(folder, SCHEMA).read(run_id).rows


COLUMNS = SCHEMA.columns

# Models whose weights are drawn, not trained: those of a training depend on the processor.


def loop_bundle(folder: Path) -> Path:
    """The bundle of the loop's network, over two operating domains."""
    first, second = ([Run(run_id, rows) for run_id, rows in fleet.items()] for fleet in material.fleets())
    config = TrainConfig(seed=2)
    trained = Trained(_network(config), SCHEMA, config, "full", {"early_stop_rmse": 12.25}, [], 0.0)
    manifest = extended_manifest(first_manifest(first), first + second)
    return build_bundle(
        trained, first + second, manifest, folder, [0.25, 0.75], data_source="simulated", created=CREATED
    )


def _network(config: TrainConfig) -> RulNetwork:
    network = RulNetwork(config.architecture, _regimes(), Form.of(SCHEMA, RUL_CAP))
    rng = np.random.default_rng(config.seed)
    drawn: dict[str, NDArray[np.float64]] = {}
    for name, weight in sorted(network.named_parameters()):
        shape = tuple(weight.shape)
        spread = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        drawn[name] = rng.normal(0.0, spread, shape)
        if shape == (3,):
            drawn[name] += (0.6, 0.4, 0.8)
    drawn["offsets"] = np.array([4.5, 6.25, 8.0, 9.75, 7.0, -2.5])
    weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in drawn.items()}
    network.load_state_dict(network.state_dict() | weights)
    return network.eval()


def _regimes() -> Regimes:
    centres = np.array([material.SEA_LEVEL, material.CRUISE])
    varies = np.ones((2, 21))
    varies[:, material.CONSTANT] = 0.0
    std = np.where(varies > 0, 0.75 + 0.0625 * np.arange(21), 1.0)
    parts = (centres, material.levels(centres[:, :1]), std, varies)
    centres, mean, std, varies = (part.astype(np.float32) for part in parts)
    return Regimes(centres, mean, std, varies, np.array([42.0, 0.84, 100.0]))


# The prediction server.


class OneVersion:
    """A registry with one version, 1, in production, or with none."""

    def __init__(self, bundle: Path | None) -> None:
        self._bundle = bundle

    def alias(self, name: str) -> str | None:
        """The version in production."""
        assert name == "production"
        return "1" if self._bundle else None

    def fetch(self, version: str, folder: Path) -> Path:
        """Copy the bundle."""
        assert version == "1"
        assert self._bundle is not None
        shutil.copytree(self._bundle, folder, dirs_exist_ok=True)
        return folder


def server_app(state: Path, bundle: Path | None, **limits: int) -> FastAPI:
    """The prediction server, with `bundle` as version 1 in production or, without one, with its stub."""
    return create_app(Settings(state_dir=state, follow_interval_s=0.05, **limits), OneVersion(bundle))


# The retrainer.


@contextmanager
def retrainer_app(
    state: Path, *, versions: int = 0, away: bool = False, token: bool = True, retrains: bool = True, **limits: int
) -> Iterator[tuple[FastAPI, Callable[[], None]]]:
    """The retrainer with a registry of so many versions, which may be away, and pipelines that never end.

    With it comes what takes the registry away later on.

    Nothing looks at completed engines by itself meanwhile: when that happens is a matter of seconds.
    """
    registry = FakeRegistry()
    registry.close = lambda: None  # type: ignore[attr-defined]
    for version in range(1, versions + 1):
        registry.add(**({"parent_version": str(version - 1)} if version > 1 else {}))
    registry.down = away

    def take_away() -> None:
        registry.down = True

    state.mkdir(parents=True)
    if token:
        (state / "token").write_text(TOKEN)
    settings = Settings(state_dir=state, enable_retraining=retrains, first_aid=False, **limits)
    real_registry, real_pause = service.Registry, concept.LOOK_S
    service.Registry, concept.LOOK_S = lambda *_: registry, 3600.0  # type: ignore[assignment, misc, return-value]
    try:
        yield service.create_app(settings, backend=FakeBackend()), take_away
    finally:
        service.Registry, concept.LOOK_S = real_registry, real_pause  # type: ignore[misc]
