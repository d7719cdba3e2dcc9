"""What the loop forgets: old versions, pipeline runs and downloaded bundles. (Events forget by themselves.)"""

import shutil
from pathlib import Path

from driftloop.model.registry import Registry

KEEP_RUNS = 5
"""Newest pipeline runs whose files stay for people to look at."""


def prune_versions(registry: Registry, keep: int) -> list[str]:
    """Delete the oldest versions without an alias beyond the newest `keep` of them; returns what was deleted."""
    spare = [version.version for version in registry.versions() if not version.aliases]
    gone = spare[: max(0, len(spare) - keep)]
    for version in gone:
        registry.delete_version(version)
    return gone


def prune_folders(parent: Path, keep: int, *, in_use: str | None = None) -> list[str]:
    """Delete all but the `keep` newest folders in `parent`, never the one named `in_use`."""
    if not parent.is_dir():
        return []
    folders = sorted((path for path in parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    gone = [path for path in folders[: max(0, len(folders) - keep)] if path.name != in_use]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in gone]
