"""The parts of a running service: the store, what is known of the units, and the threads that work."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from driftloop.errors import DriftloopError
from driftloop.settings import Settings
from driftloop.units import telemetry
from driftloop.units.archiving import Archiver
from driftloop.units.committing import Committer
from driftloop.units.keeper import Keeper
from driftloop.units.memory import Memory
from driftloop.units.predicting import Predictor
from driftloop.units.rows import BadRow, Reader, Row
from driftloop.units.store import Store
from driftloop.units.telemetry import Manner, Taken

T = TypeVar("T")


class Stream(Protocol):
    """The streams, as far as the service shows them."""

    problem: str | None


class Service:
    """One fleet's units."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.memory = Memory(settings.schema, settings.units_tail_bytes)
        self.keeper = Keeper(self.store, self.memory, settings)
        self.keeper.rebuild()
        self.reader = Reader(settings.schema)
        self.committer = Committer(self.store.writes, self.keeper.rebuild)
        self.predictor = Predictor(self.keeper, self.committer, settings.server_url, settings.token)
        self.archiver = Archiver(self.keeper, self.committer, settings)
        self.streams: Stream | None = None
        self.rows: Counter[str] = Counter()
        """What became of the rows since the start."""

    def start(self) -> None:
        """Start the threads."""
        self.committer.start()
        self.predictor.start()
        self.archiver.start()

    def stop(self) -> None:
        """End the threads, in the order of the flow, and close the store."""
        self.predictor.stop()
        self.archiver.stop()
        self.committer.stop()
        self.store.close()

    @property
    def alive(self) -> bool:
        """Whether every thread works."""
        return self.committer.alive and self.predictor.alive and self.archiver.alive

    def take(self, rows: list[Row | BadRow], manner: Manner = telemetry.MANNER) -> "Callable[[Connection], Taken]":
        """The piece of work that keeps rows."""

        def work(connection: Connection) -> Taken:
            return telemetry.take(connection, self.keeper, rows, time.time(), manner)

        return work

    def count(self, taken: Taken) -> None:
        """Count what became of rows."""
        self.rows.update(taken.results)

    def change(self, work: Callable[[Connection], T]) -> T:
        """Do a piece of work, wait until it is on disk, and deliver what follows from it."""
        done = self.committer.do(work)
        self.archiver.poke()
        return done

    def deliver_now(self) -> None:
        """Deliver what waits, where the retrainer answers; else it is delivered later."""
        with contextlib.suppress(DriftloopError):
            self.archiver.deliver(self.clock())

    @staticmethod
    def clock() -> float:
        """Seconds since 1970."""
        return time.time()

    def status(self) -> dict[str, Any]:
        """How it stands, for people and for `driftloop status`."""
        memory = self.memory
        with memory.lock:
            states = Counter(unit.life.state for unit in memory.units.values() if unit.lives)
            waiting, behind = self.predictor.waiting, sum(life.behind for life in memory.lives.values())
        return {
            "fleet": self.settings.schema.name,
            "store": self.store.where,
            "units": dict(sorted(states.items())),
            "rows": {result: self.rows[result] for result in telemetry.RESULTS},
            "predictions": self.predictor.kept,
            "steps_waiting": waiting,
            "units_behind": behind,
            "model_version": self.predictor.version or None,
            "model_rows": self.predictor.window or None,
            "predicting": self.predictor.problem or "yes",
            "archiving": self.archiver.problem or "yes",
            "streaming": (self.streams.problem or "yes") if self.streams is not None else "no broker is named",
        }
