"""What completed runs say: which of them a version knows, and which of two versions is the better one.

It answers from bundles and the archive, and remembers what it has found; where a bundle is gone or cannot be used it
knows nothing, and says so in the log. Raises RegistryUnavailable while the registry is away.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.fleet.runs import Run
from driftloop.loop.judge import belonging, standing
from driftloop.loop.judge.belonging import Counts
from driftloop.loop.judge.standing import Standing
from driftloop.model.bundle import read_metadata
from driftloop.model.follower import Bundles
from driftloop.model.registry import Registry

log = logging.getLogger(__name__)


class Archive(Protocol):
    """What is asked of the archive."""

    def failed_ids(self) -> list[str]:
        """The ids of the archived runs that have labels: neither withdrawn nor censored."""
        ...

    def read(self, run_id: str) -> Run:
        """One archived run."""
        ...


class Evidence:
    """Answers one thread at a time; bundles that it needs are kept below `folder`."""

    def __init__(self, registry: Registry, folder: Path, archive: Archive) -> None:
        self._archive, self._bundles = archive, Bundles(registry, folder, keep=2)
        self._reader: tuple[str, belonging.Reader | None] | None = None
        self._counts: dict[str, Counts] = {}
        self._known: tuple[tuple[str, ...], dict[str, int]] = ((), {})
        self._compared: tuple[tuple[str, str, bool, tuple[str, ...]], Standing | None] | None = None

    def known(self, version: str, run_ids: Sequence[str]) -> dict[str, int]:
        """Those of the runs that are of a domain `version` knows with labels, each with the number of that domain."""
        if not run_ids:
            return {}
        if self._reader is None or self._reader[0] != version:
            self._reader, self._counts, self._known = (version, self._open(version)), {}, ((), {})
        reader = self._reader[1]
        if reader is None:
            return {}
        if self._known[0] != tuple(run_ids):
            for run_id in run_ids:
                if run_id not in self._counts:
                    self._counts[run_id] = reader.counts(self._archive.read(run_id))
            self._known = tuple(run_ids), reader.known({run_id: self._counts[run_id] for run_id in run_ids})
        return self._known[1]

    def compare(self, version: str, than: str, *, only_since: bool = False) -> Standing | None:
        """How `version` compares with another; None where that is not known. `only_since`: by units completed since."""
        asked = (version, than, only_since, tuple(self._archive.failed_ids()))
        if self._compared is None or self._compared[0] != asked:
            self._compared = asked, self._compare(*asked)
        return self._compared[1]

    def _compare(self, version: str, than: str, only_since: bool, completed: Sequence[str]) -> Standing | None:
        try:
            with self._bundles.alone():
                folder, other = self._bundles.fetch(version), self._bundles.fetch(than)
                self._bundles.prune()
                manifests = read_metadata(folder).manifest, read_metadata(other).manifest
                groups = standing.groups(*manifests, completed)
                for which in (standing.SINCE,) if only_since else (standing.SINCE, standing.KEPT_APART):
                    runs = [self._archive.read(unit) for unit in groups[which]]
                    found = standing.compare(version, folder, than, other, runs, which)
                    if found is not None:
                        return found
        except RegistryUnavailable:
            raise
        except DriftloopError as error:
            log.warning("version %s cannot be compared with version %s: %s", version, than, error)
        return None

    def _open(self, version: str) -> belonging.Reader | None:
        try:
            with self._bundles.alone():
                folder = self._bundles.fetch(version)
                self._bundles.prune()
                return belonging.Reader(folder)
        except RegistryUnavailable:
            raise
        except DriftloopError as error:
            log.warning("what version %s knows cannot be read, so every new run counts: %s", version, error)
            return None
