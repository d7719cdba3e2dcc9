"""Following the `production` alias: what the registry says is served, what it cannot say leaves things as they are.

A thread looks the alias up, fetches the bundle, loads and validates it, and then switches. Bundles stay in a
folder as copies that only help out: when the registry is down at start, the last one that served goes on.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from driftloop.durable import write_atomically
from driftloop.errors import BundleError, DriftloopError, RegistryUnavailable
from driftloop.model import bundle
from driftloop.serving.engine import Engine, Slot, StubEngine, load
from driftloop.serving.metrics import Metrics

log = logging.getLogger(__name__)

PRODUCTION = "production"
_KEPT = 3
_RETRY_S, _LONGEST_RETRY_S = 5.0, 300.0


class Source(Protocol):
    """What a follower needs of a registry; driftloop.model.registry.Registry has it."""

    def alias(self, name: str) -> str | None:
        """The version behind an alias; raises RegistryUnavailable."""

    def fetch(self, version: str, folder: Path) -> Path:
        """Put the verified bundle of a version into `folder`; raises RegistryUnavailable, BundleError."""


class LastGood(msgspec.Struct):
    """Which of the kept bundles served last."""

    version: str
    digest: str


class Follower:
    """Keeps `slot` on the production version; `folder` holds the bundles."""

    def __init__(self, source: Source, slot: Slot, metrics: Metrics, folder: Path, interval_s: float) -> None:
        self._source, self._slot, self._metrics = source, slot, metrics
        self._folder, self._interval_s = folder, interval_s
        self._confirmed: str | None = None
        """The version that serves and that the registry has named; None before it could be asked."""
        self._refused: str | None = None
        self._retry_at, self._retry_s = 0.0, _RETRY_S
        self._up: bool | None = None
        self._stopping, self._settled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="follow", daemon=True)

    def start(self, patience_s: float) -> None:
        """Start following, and wait until the first look is over, `patience_s` at most."""
        self._thread.start()
        self._settled.wait(patience_s)

    def stop(self) -> None:
        """End following; a registry that is just being waited for is not waited for any longer."""
        self._stopping.set()
        self._thread.join(timeout=1.0)

    def restore(self) -> None:
        """Serve the bundle that served last, until the registry has been asked."""
        try:
            last = msgspec.json.decode((self._folder / "last.json").read_bytes(), type=LastGood)
            with self._alone():
                engine = load(self._folder / last.version, last.version, last.digest)
        except FileNotFoundError:
            return
        except (DriftloopError, OSError, msgspec.DecodeError) as error:
            log.warning("the bundle that served last cannot be used: %s", error)
            return
        self._switch(engine)
        log.info("serving version %s as before, until the registry has been asked", engine.version)

    def step(self) -> None:
        """Look once, and switch if the alias has moved."""
        try:
            version = self._source.alias(PRODUCTION)
        except RegistryUnavailable as error:
            self._registry_answers(False, error)
            return
        self._registry_answers(True)
        if version is None:
            self._nothing_in_production()
        elif version == self._confirmed:
            self._metrics.bundle_refused(False)
            self._refused = None
        elif version != self._refused or time.monotonic() >= self._retry_at:
            self._serve(version)

    def _work(self) -> None:
        self.restore()
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                log.exception("following the registry failed; what is served goes on being served")
            self._settled.set()
            self._stopping.wait(self._interval_s)

    def _serve(self, version: str) -> None:
        try:
            with self._alone():
                folder = self._source.fetch(version, self._folder / version)
                serving = self._slot.engine
                same = serving.version == version and serving.digest == bundle.digest(folder)
                engine = serving if same else load(folder, version)
                os.utime(folder)
        except RegistryUnavailable as error:
            self._registry_answers(False, error)
            return
        except Exception as error:
            self._refuse(version, error)
            return
        if not same:
            self._switch(engine)
            self._metrics.swapped(ok=True)
            log.info("serving version %s (digest %s)", version, engine.digest[:12])
        self._confirmed, self._refused = version, None
        self._metrics.bundle_refused(False)
        try:
            self._remember(engine)
        except OSError as error:
            log.warning("the folder %s of bundles cannot be written: %s", self._folder, error.strerror)

    def _switch(self, engine: Engine) -> None:
        # The series exist before the first answer that belongs into them.
        self._metrics.serving(engine)
        self._slot.engine = engine

    def _refuse(self, version: str, error: Exception) -> None:
        self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S) if version == self._refused else _RETRY_S
        self._refused, self._retry_at = version, time.monotonic() + self._retry_s
        self._metrics.swapped(ok=False)
        self._metrics.bundle_refused(True)
        log.error(
            "version %s is refused, %s goes on serving: %s",
            version,
            self._slot.engine.version,
            error,
            exc_info=None if isinstance(error, BundleError | OSError) else error,
        )

    def _nothing_in_production(self) -> None:
        if self._confirmed is None and self._slot.engine.metadata is not None:
            # The copy that was restored belongs to another registry: copies decide nothing.
            log.warning("the registry has no production version; version %s is put away", self._slot.engine.version)
            self._switch(StubEngine())

    def _registry_answers(self, up: bool, error: RegistryUnavailable | None = None) -> None:
        self._metrics.registry_answers(up)
        if up != self._up:
            if error is not None:
                log.warning("version %s goes on serving: %s", self._slot.engine.version, error)
            elif self._up is False:
                log.info("the registry answers again")
        self._up = up

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps the workers of one server from replacing a bundle that another is reading."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _remember(self, engine: Engine) -> None:
        """Write down what serves, and let go of all but the newest bundles."""
        last = LastGood(engine.version, engine.digest)
        with self._alone():
            write_atomically(self._folder / "last.json", msgspec.json.encode(last) + b"\n")
            bundles = [path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
            bundles.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for path in bundles[_KEPT:]:
                shutil.rmtree(path, ignore_errors=True)
