"""Which model version is in production, and its baseline; kept on disk so that a watch outlives the registry."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from driftloop.drift.baseline import Baseline, read_baseline
from driftloop.fleet.schema import Schema
from driftloop.model.follower import Follower, Source

PAUSE_S = 2.0
"""Before the registry is asked again after it failed: a slow one must not slow the watch down."""


@dataclass(frozen=True)
class WatchedModel:
    """A model version and what healthy traffic looks like to it."""

    version: str
    baseline: Baseline
    folder: Path
    """Its bundle's files."""


Production = Follower[WatchedModel]


def follow(registry: Source, folder: Path, schema: Schema, clock: Callable[[], float] = time.monotonic) -> Production:
    """A follower of the versions of the fleet `schema`, for a watch whose state is in `folder`."""
    return Follower(registry, folder / "bundles", _load, schema, keep=1, pause_s=PAUSE_S, clock=clock)


def _load(folder: Path, version: str) -> WatchedModel:
    return WatchedModel(version, read_baseline(folder), folder)
