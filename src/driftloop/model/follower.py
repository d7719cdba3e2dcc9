"""Following the alias `production`: what the registry says is used, what it cannot say leaves things as they are.

A `Follower` looks the alias up, fetches the bundle, and loads of it what its owner needs: the server an engine, the
watch a baseline. Bundles stay in a folder as copies that only help out: while the registry is away, also at a start,
the last one that was good goes on. A bundle that is damaged, or of another fleet, is refused: the one before stays.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from driftloop.durable import read_json, write_atomically
from driftloop.errors import BundleError, DriftloopError, RegistryUnavailable
from driftloop.fleet.difference import difference
from driftloop.fleet.schema import Schema
from driftloop.model import bundle
from driftloop.model.registry import PRODUCTION

log = logging.getLogger(__name__)

UNUSABLE, OTHER_FLEET = "unusable", "other_fleet"
"""Why a version is refused: its bundle cannot be loaded, or its rows are those of another fleet."""
LEFT_S = 3600.0
"""Age from which a download that is not whole is nobody's any more: it was killed."""
_RETRY_S, _LONGEST_RETRY_S = 5.0, 300.0
_LAST = "last.json"

T = TypeVar("T")


class Source(Protocol):
    """What is needed of a registry; driftloop.model.registry.Registry has it."""

    def alias(self, name: str) -> str | None:
        """The version behind an alias; raises RegistryUnavailable."""

    def fetch(self, version: str, folder: Path) -> Path:
        """Put the verified bundle of a version into `folder`; raises RegistryUnavailable, BundleError."""


class OtherFleet(BundleError):
    """A bundle whose rows are those of another fleet."""


class LastGood(msgspec.Struct):
    """Which of the kept bundles was good last."""

    version: str
    digest: str


@dataclass(frozen=True)
class RefusedVersion:
    """A production version that is not used, and why: `kind` is UNUSABLE or OTHER_FLEET."""

    version: str
    kind: str
    reason: str


class Bundles:
    """Bundles by version as folders below `folder`, which processes may share; `prune` leaves the newest `keep`."""

    def __init__(self, source: Source, folder: Path, keep: int = 3) -> None:
        self.folder, self._source, self._keep = folder, source, keep

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps the processes that share the folder from replacing a bundle that another is reading."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def fetch(self, version: str) -> Path:
        """A version's bundle, downloaded where it is not here; raises RegistryUnavailable and BundleError."""
        folder = self._source.fetch(version, self.folder / version)
        os.utime(folder)
        return folder

    def prune(self) -> None:
        """Let go of all but the bundles that were fetched last, and of what downloads that were cut short left."""
        folders = [path for path in self.folder.iterdir() if path.is_dir()]
        kept = [path for path in folders if not path.name.startswith(".")]
        kept.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        left = [path for path in folders if path.name.startswith(".") and _is_left(path)]
        for path in (*kept[self._keep :], *left):
            shutil.rmtree(path, ignore_errors=True)

    def last(self) -> LastGood | None:
        """Which bundle was good last; None where none ever was. Raises DriftloopError for a damaged record."""
        try:
            return read_json(self.folder / _LAST, LastGood)
        except FileNotFoundError:
            return None

    def remember(self, last: LastGood) -> None:
        """Write down which bundle is good."""
        write_atomically(self.folder / _LAST, msgspec.json.encode(last) + b"\n")


class Follower(Generic[T]):
    """Follows `production`; `load(folder, version)` makes of a bundle what `look` gives.

    `schema` is the fleet whose versions are taken; None takes any. `pause_s` is how long a registry that failed is
    not asked again: a slow one must not slow its owner down. One thread at a time may look.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        load: Callable[[Path, str], T],
        schema: Schema | None = None,
        *,
        keep: int = 3,
        pause_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._load, self._schema, self._clock = source, load, schema, clock
        self._bundles = Bundles(source, folder, keep)
        self._pause_s, self._not_before = pause_s, float("-inf")
        self._retry_at, self._retry_s = 0.0, _RETRY_S
        self._confirmed = self._tried_disk = self._nothing_before = False
        self.current: T | None = None
        """What was loaded of the last good version."""
        self.version: str | None = None
        """That version."""
        self.digest = ""
        """Of its bundle."""
        self.wanted: str | None = None
        """The production version as the registry named it last."""
        self.refused: RefusedVersion | None = None
        """The production version where it is not used."""
        self.refusals = 0
        """How often a version was tried and refused."""
        self.lost: str | None = None
        """Why what was good before the start is not used, until the registry says what is in production."""
        self.up = True
        """Whether the registry answered the last time."""

    @property
    def problem(self) -> str | None:
        """Why there is nothing although a version is in production; None where there is something, or need not be."""
        if self.current is not None:
            return None
        if self.refused is not None:
            return f"production version {self.refused.version} cannot be used: {self.refused.reason}"
        if self.wanted is not None and not self._nothing_before:
            return f"production version {self.wanted} has not been loaded yet"
        return self.lost

    def look(self) -> T | None:
        """Look once. What is in production; the last good version where that cannot be used or asked for; else None.

        Never raises for what a registry or a bundle can do.
        """
        if self._clock() < self._not_before:
            return self.current
        try:
            self.wanted = self._source.alias(PRODUCTION)
        except RegistryUnavailable as error:
            self._registry_answers(False, error)
            self.restore()
            return self.current
        self._registry_answers(True)
        self.lost = None
        if self.wanted is None:
            self._nothing_in_production()
        elif self._confirmed and self.wanted == self.version:
            self.refused = None
        elif self.refused is None or self.wanted != self.refused.version or self._clock() >= self._retry_at:
            self._follow(self.wanted)
        return self.current

    def restore(self) -> None:
        """Take what was good last from the disk, once; `look` does it by itself where the registry does not answer."""
        if self._tried_disk or self.current is not None:
            return
        self._tried_disk = True
        try:
            last = self._bundles.last()
            if last is None:
                return
            with self._bundles.alone():
                folder = self._bundles.folder / last.version
                found = bundle.digest(folder)
                if found != last.digest:
                    raise BundleError(f"has digest {found[:12]}, not {last.digest[:12]}", where=str(folder))
                loaded = self._loaded(folder, last.version)
        except Exception as error:
            self.lost = f"the version that was good last cannot be used: {error}"
            log.warning("%s", self.lost, exc_info=None if isinstance(error, DriftloopError | OSError) else error)
            return
        self.current, self.version, self.digest = loaded, last.version, last.digest
        log.info("version %s is used as before, until the registry has been asked", last.version)

    def _follow(self, version: str) -> None:
        try:
            with self._bundles.alone():
                folder = self._bundles.fetch(version)
                found = bundle.digest(folder)
                same = self.current is not None and (version, found) == (self.version, self.digest)
                loaded = self.current if same else self._loaded(folder, version)
        except RegistryUnavailable as error:
            self._registry_answers(False, error)
            self.restore()
            return
        except Exception as error:
            self._refuse(version, error)
            return
        self.current, self.version, self.digest = loaded, version, found
        self._confirmed, self.refused = True, None
        if not same:
            log.info("version %s (digest %s) is in production", version, found[:12])
        try:
            with self._bundles.alone():
                self._bundles.remember(LastGood(version, found))
                self._bundles.prune()
        except OSError as error:
            log.warning("the folder %s of bundles cannot be written: %s", self._bundles.folder, error.strerror)

    def _loaded(self, folder: Path, version: str) -> T:
        if self._schema is not None:
            check_fleet(folder, self._schema)
        return self._load(folder, version)

    def _refuse(self, version: str, error: Exception) -> None:
        again = self.refused is not None and version == self.refused.version
        self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S) if again else _RETRY_S
        self._retry_at = self._clock() + self._retry_s
        kind = OTHER_FLEET if isinstance(error, OtherFleet) else UNUSABLE
        self.refused, self.refusals = RefusedVersion(version, kind, str(error)), self.refusals + 1
        log.error(
            "version %s is refused, %s stays: %s",
            version,
            f"version {self.version}" if self.version else "what there is",
            error,
            exc_info=None if isinstance(error, DriftloopError | OSError) else error,
        )

    def _nothing_in_production(self) -> None:
        self.refused, self._nothing_before = None, True
        if not self._confirmed and self.current is not None:
            # The copy that was restored belongs to another registry: copies decide nothing.
            log.warning("the registry has no production version; version %s is put away", self.version)
            self.current, self.version, self.digest = None, None, ""

    def _registry_answers(self, up: bool, error: RegistryUnavailable | None = None) -> None:
        if not up:
            self._not_before = self._clock() + self._pause_s
        if up != self.up:
            if error is not None:
                log.warning("%s stays: %s", f"version {self.version}" if self.version else "what there is", error)
            else:
                log.info("the registry answers again")
        self.up = up


def check_fleet(folder: Path, schema: Schema) -> None:
    """Raises OtherFleet where the rows of the bundle in `folder` are not those of `schema`."""
    theirs = bundle.read_metadata(folder).schema
    if theirs.digest == schema.digest:
        return
    raise OtherFleet(
        f"is of the fleet {theirs.name} (digest {theirs.digest[:12]}), not of {schema.name} ({schema.digest[:12]}): "
        + difference(theirs, schema),
        where=str(folder / bundle.METADATA),
        remedy="point DRIFTLOOP_FLEET at the fleet file that it was trained with; where columns have changed, give the "
        "new file another name, then: driftloop up --fleet OLD --fleet NEW, driftloop fleet migrate OLD NEW",
    )


def _is_left(path: Path) -> bool:
    """Whether a download was given up; one that is whole by now has another name."""
    try:
        return time.time() - path.stat().st_mtime > LEFT_S
    except FileNotFoundError:
        return False
