"""A fleet behind a gateway: units send a row a step, fail after their last one, and other units take their places.

What is predicted of them is read back from the service, so that a record here says the same as one of requests to the
prediction server: when a row was sent, and what was answered when.
"""

import asyncio
import functools
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from driftloop.durable import parse_time
from driftloop.errors import DriftloopError
from driftloop.fleet.schema import Schema
from driftloop_bench.experiment.traffic import Record, SentEngine, at_rate
from driftloop_bench.experiment.units_client import Units

TOGETHER = 10
"""Rows of one request, of as many units."""
READ_S = 0.5
HISTORY_S = 120.0
UNANSWERED = "was never predicted"


@dataclass(eq=False)
class Place:
    """Where a unit is in service; it is empty when no unit is left to take it."""

    unit: str = ""
    engine: SentEngine | None = None
    flown: int = 0
    """Rows that were sent."""
    changed: bool = False
    out: bool = False
    """A row, or the word that the unit has failed, is not acknowledged yet."""


@dataclass(frozen=True)
class Failure:
    """A unit that has failed, and when that was acknowledged, in seconds since 1970."""

    unit: str
    changed: bool
    at: float


@dataclass
class Stock:
    """Units that may take a place, in shuffled order; each has a name that is not in `taken`, and is there then."""

    engines: Sequence[SentEngine]
    drawn: random.Random
    changed: bool
    again: bool
    """When all were in service, they come again as other units with the same rows."""
    taken: set[str]
    """Names that the service knows."""
    _deck: list[SentEngine] = field(default_factory=list)
    _rounds: int = 0

    def next(self) -> Place | None:
        """The next unit, new in its place; None where none is left."""
        if not self._deck:
            if self._rounds and not self.again:
                return None
            self._deck, self._rounds = self.drawn.sample(self.engines, len(self.engines)), self._rounds + 1
        engine = self._deck.pop()
        names = itertools.chain([engine.engine_id], (f"{engine.engine_id}.{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self.taken)
        self.taken.add(name)
        return Place(name, engine, changed=self.changed)


class Gateway:
    """Sends the next row of every unit in turn, `rate` rows a second; `share` of the units that take a place after
    `change_now` are of the changed fleet.

    A unit sends nothing while its last row is not acknowledged: what is due then is sent the next time round.
    """

    def __init__(
        self,
        client: Units,
        schema: Schema,
        healthy: Stock,
        changed: Stock | None,
        *,
        places: int,
        rate: float,
        share: float,
        seed: int,
        records: list[Record],
    ) -> None:
        self._client, self._healthy, self._changed = client, healthy, changed
        self._rate, self._share, self._drawn = rate, share, random.Random(seed)
        self._columns = ["unit", schema.time.column or "index", *schema.columns]
        self.records, self.failures = records, list[Failure]()
        self.held_back = 0
        """Turns of units whose last row was not acknowledged yet."""
        self.cpu_s = self.wall_s = 0.0
        self.problem: DriftloopError | None = None
        self._of_step: dict[tuple[str, int], Record] = {}
        self._turn = self._read = 0
        self._changing = self._stop = False
        self.places = [place for place in (healthy.next() for _ in range(places)) if place is not None]
        for place in self.places:
            assert place.engine is not None
            place.flown = self._drawn.randrange(len(place.engine.encoded))

    def change_now(self) -> None:
        """From now on units of the changed fleet take the places of units that have failed."""
        self._changing = True

    def stop(self) -> None:
        """Send nothing more; `run` returns when all is acknowledged."""
        self._stop = True

    @property
    def empty(self) -> bool:
        """Whether no unit is in service any more."""
        return all(place.engine is None for place in self.places)

    async def send_history(self) -> None:
        """Send what the units in service lived before, as history, and wait until it is behind the service."""
        for place in self.places:
            if place.flown and place.engine is not None:
                rows = [self._row(place, at) for at in range(place.flown)]
                await self._client.send_rows(self._columns, rows, backfill=True)
        deadline = time.monotonic() + HISTORY_S
        while await self._client.waiting():
            if time.monotonic() > deadline:
                raise DriftloopError(f"history is not behind the service after {HISTORY_S:g} s", where=self._client.url)
            await asyncio.sleep(READ_S)
        self._read = await self._client.last_prediction()

    async def run(self) -> None:
        """Send until `stop`."""
        cpu, wall = time.thread_time(), time.perf_counter()
        reading = asyncio.create_task(self._keep_reading())
        together = min(TOGETHER, len(self.places))
        try:
            await at_rate(
                self._rate / together, lambda due: self._send(together, due), lambda: self._stop or bool(self.problem)
            )
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if self.problem is not None:
            raise self.problem
        self.cpu_s, self.wall_s = time.thread_time() - cpu, time.perf_counter() - wall

    async def read_all(self, patience_s: float) -> None:
        """Read answers until every row has one, or time is up; what has none then says so."""
        deadline = time.monotonic() + patience_s
        await self.read()
        while self._of_step and time.monotonic() < deadline:
            await asyncio.sleep(READ_S)
            await self.read()
        for record in self._of_step.values():
            record.error = UNANSWERED

    async def read(self) -> None:
        """Read the answers that were made since."""
        while True:
            page = await self._client.predictions(self._read)
            for one in page["predictions"]:
                record = self._of_step.pop((one["unit"], one["step"]), None)
                if record is not None:
                    _answer(record, one)
            if page["next"] == self._read:
                return
            self._read = page["next"]

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_S)
            await self._noting(self.read)

    async def _send(self, together: int, due: float) -> None:
        """The next row of the units whose turn it is; who has sent its last one has failed."""
        chosen = [self.places[(self._turn + at) % len(self.places)] for at in range(together)]
        self._turn += together
        self.held_back += sum(place.out for place in chosen)
        ready = [place for place in chosen if not place.out and place.engine is not None]
        if not ready:
            return
        lag, sent = time.perf_counter() - due, time.time()
        rows = []
        for place in ready:
            rows.append(self._row(place, place.flown))
            self._record(place, sent, lag)
            place.out, place.flown = True, place.flown + 1
        await self._noting(lambda: self._client.send_rows(self._columns, rows))
        for place in ready:
            assert place.engine is not None
            if place.flown == len(place.engine.encoded):
                await self._noting(functools.partial(self._fail, place))
            place.out = False

    async def _noting(self, act: Callable[[], Any]) -> None:
        """Do something; what fails ends the run, with its reason."""
        try:
            await act()
        except DriftloopError as error:
            self.problem = self.problem or error

    def _row(self, place: Place, at: int) -> bytes:
        assert place.engine is not None
        return b'["%b",%d,%b' % (place.unit.encode(), at + 1, place.engine.encoded[at][1:])

    def _record(self, place: Place, sent: float, lag: float) -> None:
        assert place.engine is not None
        step, true = place.flown + 1, float(place.engine.rul[place.flown])
        record = Record(sent, sent, lag, 0, place.engine.engine_id, step, true, place.changed)
        self.records.append(record)
        self._of_step[(place.unit, step)] = record

    async def _fail(self, place: Place) -> None:
        """Tell that a unit has failed, and put another one in its place."""
        await self._client.fail(place.unit)
        self.failures.append(Failure(place.unit, place.changed, time.time()))
        following = self._follower() or Place()
        place.unit, place.engine, place.flown, place.changed = following.unit, following.engine, 0, following.changed

    def _follower(self) -> Place | None:
        if self._changing and self._changed is not None and self._drawn.random() < self._share:
            return self._changed.next()
        return self._healthy.next()


def _answer(record: Record, one: dict[str, Any]) -> None:
    """Write an answer into the record of its row."""
    record.answered = parse_time(one["made"]).timestamp()
    record.version, record.flags = one["version"], one["flags"]
    record.rul, record.lower, record.upper = one["rul"], one["low"], one["high"]
    if record.rul is None:
        record.status, record.error = 422, "; ".join(record.flags)
    else:
        record.status = 200
