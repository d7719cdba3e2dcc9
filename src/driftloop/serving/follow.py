"""What serves follows what is in production: a thread looks, and switches the engine when the version has moved."""

import logging
import threading
from pathlib import Path

from driftloop.fleet.schema import Schema
from driftloop.model import follower
from driftloop.model.follower import Source
from driftloop.serving.engine import Engine, OnnxEngine, Slot, StubEngine, load
from driftloop.serving.metrics import Metrics

log = logging.getLogger(__name__)

LEAST_S = 0.1
"""Pause between two looks, however much they are wanted."""


class Follower:
    """Keeps `slot` on the production version of the fleet `schema`; `folder` holds the bundles."""

    def __init__(
        self, source: Source, slot: Slot, metrics: Metrics, folder: Path, interval_s: float, schema: Schema
    ) -> None:
        self.production: follower.Follower[OnnxEngine] = follower.Follower(source, folder, load, schema)
        self._slot, self._metrics, self._interval_s, self._schema = slot, metrics, interval_s, schema
        self._followed: OnnxEngine | None = None
        self._stopping, self._settled, self._due = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="follow", daemon=True)

    def start(self, patience_s: float) -> None:
        """Start following, and wait until the first look is over, `patience_s` at most."""
        self._thread.start()
        self._settled.wait(patience_s)

    def stop(self) -> None:
        """End following; a registry that is just being waited for is not waited for any longer."""
        self._stopping.set()
        self._due.set()
        self._thread.join(timeout=1.0)

    def hurry(self) -> None:
        """Look soon: somebody asks what is served, as a retrainer does that has just promoted a version."""
        self._due.set()

    def restore(self) -> None:
        """Serve the bundle that served last, until the registry has been asked."""
        self.production.restore()
        self._switch()

    def step(self) -> None:
        """Look once, and switch if the version has moved."""
        looked = self.production
        refusals = looked.refusals
        looked.look()
        self._metrics.registry_answers(looked.up)
        self._metrics.bundle_refused(looked.refused.kind if looked.refused else None)
        if looked.refusals != refusals:
            self._metrics.swapped(ok=False)
        if self._switch() and looked.current is not None:
            self._metrics.swapped(ok=True)

    def _work(self) -> None:
        self.restore()
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                log.exception("following the registry failed; what is served goes on being served")
            self._settled.set()
            self._stopping.wait(min(LEAST_S, self._interval_s))
            self._due.wait(self._interval_s - LEAST_S)
            self._due.clear()

    def _switch(self) -> bool:
        if self.production.current is self._followed:
            return False
        self._followed = self.production.current
        engine: Engine = self._followed or StubEngine(self._schema)
        # The series exist before the first answer that belongs into them.
        self._metrics.serving(engine)
        self._slot.engine = engine
        return True
