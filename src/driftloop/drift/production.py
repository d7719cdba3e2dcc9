"""Which model version is in production, and its baseline; kept on disk so that the watch outlives the registry."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from driftloop.drift.baseline import Baseline, read_baseline
from driftloop.errors import BundleError, DriftloopError
from driftloop.model.bundle import SERVING_FILES

log = logging.getLogger(__name__)

ALIAS = "production"
_PAUSE_S = 2.0
"""Before the registry is asked again after it failed: a slow one must not slow the watch down."""


class Versions(Protocol):
    """What is needed of the registry (driftloop.model.registry.Registry)."""

    def alias(self, name: str) -> str | None:
        """The version an alias points at."""

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:
        """Download a version's bundle."""


@dataclass(frozen=True)
class Model:
    """A model version and what healthy traffic looks like to it."""

    version: str
    baseline: Baseline
    folder: Path
    """Its bundle's files."""


class Production:
    """Follows the alias `production`; bundles are kept below `folder`."""

    def __init__(self, registry: Versions, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._folder, self._clock = registry, folder, clock
        self._current: Model | None = None
        self._not_before = float("-inf")
        self.up = True
        """Whether the registry answered the last time."""

    def look(self) -> Model | None:
        """The model in production; None where there is none yet.

        While the registry does not answer, or the new version's bundle cannot be used, it is the last one known,
        also from before a restart.
        """
        if self._clock() < self._not_before:
            return self._current
        try:
            version = self._registry.alias(ALIAS)
            if version is None:
                self._current = None
            elif self._current is None or version != self._current.version:
                self._current = self._load(version)
        except DriftloopError as error:
            if self.up:
                log.warning("%s; what was known of the model in production is used", error)
            self.up = False
            self._not_before = self._clock() + _PAUSE_S
            if self._current is None:
                self._current = self._from_disk()
        else:
            self.up = True
        return self._current

    def _load(self, version: str) -> Model:
        folder = self._folder / f"version-{version}"
        self._registry.fetch(version, folder)
        model = Model(version, read_baseline(folder), folder)
        for other in self._folder.glob("version-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        return model

    def _from_disk(self) -> Model | None:
        for folder in self._folder.glob("version-*"):
            try:
                return Model(folder.name.removeprefix("version-"), read_baseline(folder), folder)
            except BundleError as error:
                log.warning("%s", error)
        return None
