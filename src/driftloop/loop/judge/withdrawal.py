"""What follows when runs are taken back: which versions have learnt from them, and which labels hold again."""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftloop.drift import outcomes
from driftloop.errors import BundleError, DriftloopError
from driftloop.model.bundle import Metadata, read_metadata
from driftloop.model.registry import PRODUCTION, Registry

ENOUGH = 0.5
"""Labels stay superseded while half of the runs that spoke against them, and enough for a verdict, are left."""


@dataclass(frozen=True)
class Affected:
    """The versions that know withdrawn runs, oldest first: how many each, and what is in production."""

    versions: dict[str, int]
    production: str | None
    go_back_to: str | None
    """The newest version before production that knows none of them; None where production itself does not."""
    unreadable: list[str]
    """Versions whose manifest could not be read."""

    def plain(self) -> dict[str, Any]:
        """As an answer says it."""
        return {
            "versions": [
                {"model_version": version, "runs": count, "in_production": version == self.production}
                for version, count in self.versions.items()
            ],
            "go_back_to": self.go_back_to,
            **({"unreadable": self.unreadable} if self.unreadable else {}),
        }


def affected(registry: Registry, withdrawn: Collection[str]) -> Affected:
    """Which versions were trained or judged with runs that are withdrawn now; raises RegistryUnavailable."""
    gone = set(withdrawn)
    production = registry.alias(PRODUCTION)
    versions: dict[str, int] = {}
    clean: list[str] = []
    unreadable: list[str] = []
    for version in sorted((found.version for found in registry.versions()), key=int):
        try:
            manifest = _metadata(registry, version).manifest
        except BundleError:
            unreadable.append(version)
            continue
        count = sum(entry.run_id in gone and not entry.superseded for entry in manifest)
        if count:
            versions[version] = count
        else:
            clean.append(version)
    earlier = [version for version in clean if production is not None and int(version) < int(production)]
    return Affected(versions, production, earlier[-1] if earlier and production in versions else None, unreadable)


def restored(registry: Registry, champion: Metadata, withdrawn: Collection[str]) -> set[str]:
    """The runs whose labels were superseded because of runs that are withdrawn now, so that they hold again.

    It reads back, from the champion to its ancestors, what each version superseded and which runs spoke for that. An
    ancestor that is gone ends the search: what it superseded stays so.
    """
    gone, found, version = set(withdrawn), set(), champion
    while version.parent_version is not None and gone & {entry.run_id for entry in version.manifest}:
        try:
            parent = _metadata(registry, version.parent_version)
        except (BundleError, DriftloopError):
            break
        before = {entry.run_id for entry in parent.manifest if entry.superseded}
        lost = {entry.run_id for entry in version.manifest if entry.superseded} - before
        because = {entry.run_id for entry in version.manifest if not entry.superseded}
        if len(because - gone) < max(ENOUGH * len(because), outcomes.LEAST):
            found |= lost - gone
        version = parent
    return found


def _metadata(registry: Registry, version: str) -> Metadata:
    with tempfile.TemporaryDirectory(prefix="driftloop-") as folder:
        return read_metadata(registry.fetch(version, Path(folder) / "bundle"))
