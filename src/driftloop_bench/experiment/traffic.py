"""Traffic of engines in service: an aging fleet, what may be wrong with it, and an open-loop load.

Open loop means that request i is due at start + i / rate, whatever became of the requests before it; a client
that waits for answers would slow down exactly when the server does and hide it (coordinated omission:
Schroeder, Wierman, Harchol-Balter, "Open versus closed: a cautionary tale", NSDI 2006).
"""

import asyncio
import gzip
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec
import numpy as np
import yarl
from numpy.typing import NDArray

from driftloop.errors import DriftloopError
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.fleet.wear import alike
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA

Kind = Literal["fleet", "bias", "stuck", "none"]
ANSWER_TIMEOUT_S = 2.0
_HEADERS = {"Content-Type": "application/json"}


class Change(msgspec.Struct, frozen=True):
    """What happens to the traffic at T0."""

    kind: Kind = "fleet"
    """`fleet`: units of another part; `bias`, `stuck`: a sensor of the same units; `none`: nothing."""
    subset: str = "FD002"
    """The part of the fleet that the changed units come from (`source.part`)."""
    share: float = 1.0
    """Share of requests from changed engines after T0, above 0 to 1."""
    sensor: int = 11
    """Number of the faulty sensor, from 1 (C-MAPSS's 11 is the static pressure behind the compressor)."""
    sigmas: float = 2.0
    """Bias in standard deviations of that sensor within an operating regime."""

    def check(self, schema: Schema = SCHEMA) -> None:
        """Raise DriftloopError for a share or a sensor that does not exist."""
        if not 0 < self.share <= 1:
            raise DriftloopError(f"a mixing share of {self.share:g}", remedy="give a share above 0 and up to 1")
        if self.kind in ("bias", "stuck") and not 1 <= self.sensor <= schema.n_sensors:
            raise DriftloopError(f"sensor {self.sensor} does not exist", remedy=f"give 1 to {schema.n_sensors}")

    def describe(self, unit: str = "engine") -> str:
        """The change in a few words, for tables and captions; `unit` is what the fleet calls its units."""
        share = f"{self.share:.0%} of requests"
        return {
            "fleet": f"{share} from {unit}s of {self.subset}",
            "bias": f"sensor {self.sensor} biased by {self.sigmas:g} sigma in {share}",
            "stuck": f"sensor {self.sensor} stuck in {share}",
            "none": "no change",
        }[self.kind]


def faulty_runs(runs: Sequence[Run], change: Change, seed: int, schema: Schema = SCHEMA) -> list[Run]:
    """The same engines with the sensor fault of `change`; their labels stay true.

    `bias` adds `sigmas` standard deviations of the sensor within an operating regime, pooled over regimes.
    `stuck` repeats one reading (of a random row of the fleet) in every row, as a shared acquisition channel that
    hangs would.
    """
    column = schema.n_settings + change.sensor - 1
    if change.kind == "bias":
        spread = spread_within_regimes(np.concatenate([run.rows for run in runs]), schema)
        shift = change.sigmas * spread[change.sensor - 1]
        return [Run(run.run_id, _with_column(run.rows, column, run.rows[:, column] + shift)) for run in runs]
    rows = np.concatenate([run.rows for run in runs])
    reading = float(rows[random.Random(seed).randrange(len(rows)), column])
    return [Run(run.run_id, _with_column(run.rows, column, reading)) for run in runs]


def spread_within_regimes(rows: NDArray[np.float64], schema: Schema = SCHEMA) -> NDArray[np.float64]:
    """Standard deviation of every sensor `[sensors]` around its mean in each operating regime of `rows` `[n, columns]`.

    In C-MAPSS a regime is a set of rows with the same altitude (setting 1, to the nearest thousand feet) and the same
    throttle setting (setting 3): these two tell the six operating points apart. In any other fleet it is one of rows
    with like settings. Missing values are passed over.
    """
    regime = _six_regimes(rows) if schema.name == SCHEMA.name else alike(rows[:, : schema.n_settings])
    sensors = rows[:, schema.n_settings :]
    there = np.isfinite(sensors)
    sums, counts = np.zeros((2, int(regime.max()) + 1, sensors.shape[1]))
    np.add.at(sums, regime, np.where(there, sensors, 0.0))
    np.add.at(counts, regime, there)
    centred = np.where(there, sensors - (sums / np.maximum(counts, 1))[regime], 0.0)
    return np.asarray(np.sqrt((centred**2).sum(axis=0) / np.maximum(there.sum(axis=0), 1)), dtype=np.float64)


def _six_regimes(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.unique(np.round(rows[:, [0, 2]]), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _with_column(rows: NDArray[np.float64], column: int, values: NDArray[np.float64] | float) -> NDArray[np.float64]:
    changed = rows.copy()
    changed[:, column] = values
    return changed


@dataclass(frozen=True, eq=False)
class SentEngine:
    """An engine as it is sent: each row encoded once, and the numbers that a reader of that text gets."""

    engine_id: str
    encoded: list[bytes]
    """Each row as a JSON list of numbers with seven significant digits; null where a value is missing."""
    rows: NDArray[np.float32]
    """`[steps, columns]`, read back from `encoded`."""
    rul: NDArray[np.float64]
    """`[steps]`, the true remaining life in steps, capped."""


def encode(run: Run, cap: float = RUL_CAP) -> SentEngine:
    """Encode every row of `run`, labels capped at `cap`; seven digits hold any float32 that C-MAPSS contains."""
    texts = [[f"{value:.7g}" for value in row] for row in run.rows]
    rows = np.array([[float(text) for text in row] for row in texts], dtype=np.float64).astype(np.float32)
    encoded = [("[" + ",".join(row).replace("nan", "null") + "]").encode() for row in texts]
    return SentEngine(run.run_id, encoded, rows, np.minimum(run.rul, cap))


@dataclass
class Request:
    """One newest window, ready to be sent."""

    engine_id: str
    cycle: int
    """Cycle of the newest row, counted from 1."""
    rul: float
    changed: bool
    body: bytes


class AgingFleet:
    """Engines in service, one place each, all aging at once from random phases.

    `next_request` lets a random place fly one more cycle. An engine that has failed is followed by another of the
    same fleet from its first cycle on; followers come from a shuffled deck of all engines, which keeps them evenly
    represented.
    """

    def __init__(self, engines: Sequence[SentEngine], window: int, seed: int, *, changed: bool = False) -> None:
        if not engines:
            raise DriftloopError("a fleet without units in service", remedy="choose a part that has live units")
        self._engines, self._window, self._changed = engines, window, changed
        self._random = random.Random(seed)
        self._places = [(engine, self._random.randrange(len(engine.encoded))) for engine in engines]
        self._deck: list[SentEngine] = []

    def next_request(self) -> Request:
        """The newest window (up to `window` rows, fewer for a young engine) of a random place."""
        place = self._random.randrange(len(self._places))
        engine, flown = self._places[place]
        cycle = flown + 1
        rows = b",".join(engine.encoded[max(0, cycle - self._window) : cycle])
        body = b'{"engine_id":"%b","cycle":%d,"rows":[%b]}' % (engine.engine_id.encode(), cycle, rows)
        if cycle == len(engine.encoded):
            self._places[place] = (self._follower(engine), 0)
        else:
            self._places[place] = (engine, cycle)
        return Request(engine.engine_id, cycle, float(engine.rul[flown]), self._changed, body)

    def _follower(self, failed: SentEngine) -> SentEngine:
        if not self._deck:
            self._deck = self._random.sample(self._engines, len(self._engines))
        if self._deck[-1] is failed and len(self._deck) > 1:
            self._deck[-1], self._deck[0] = self._deck[0], self._deck[-1]
        return self._deck.pop()


class Mixture:
    """Requests of a healthy fleet and, from `change_now` on, a share of them from a changed one."""

    def __init__(self, healthy: AgingFleet, changed: AgingFleet | None, share: float, seed: int) -> None:
        self._healthy, self._changed, self._share = healthy, changed, share
        self._random = random.Random(seed)
        self._active = self._first = False

    def change_now(self) -> None:
        """From the next request on, mix in the changed fleet; the very next request comes from it."""
        self._active = self._first = True

    def next_request(self) -> Request:
        """The next request of the mixture."""
        if self._active and self._changed is not None and (self._first or self._random.random() < self._share):
            self._first = False
            return self._changed.next_request()
        return self._healthy.next_request()


class Record(msgspec.Struct):
    """What became of one request. Times are seconds since 1970."""

    sent: float
    answered: float
    """When the answer was complete, or the request given up."""
    lag: float
    """Seconds that the request was sent later than it was due."""
    status: int
    """HTTP status; 0 for a request without an answer."""
    engine_id: str
    cycle: int
    true_rul: float
    """Capped."""
    changed: bool
    """Whether it came from the changed fleet."""
    rul: float | None = None
    version: str | None = None
    flags: list[str] = msgspec.field(default_factory=list)
    error: str | None = None
    lower: float | None = None
    upper: float | None = None

    @property
    def ok(self) -> bool:
        """Answered with a prediction, in time."""
        return self.status == 200 and self.rul is not None


class _Answer(msgspec.Struct):
    rul: float
    model_version: str
    lower: float | None = None
    upper: float | None = None
    flags: list[str] = []


async def at_rate(rate: float, send: Callable[[float], Coroutine[Any, Any, None]], stopped: Callable[[], bool]) -> None:
    """Begin `send(due)` so many times a second until `stopped()`, whatever became of those before; wait for all.

    `due` is when it was to begin, by `time.perf_counter`.
    """
    start, begun, tasks = time.perf_counter() + 0.05, 0, set[asyncio.Task[None]]()
    while not stopped():
        due = start + begun / rate
        # A delay of zero or less still gives the answers that came in meanwhile their turn.
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(send(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        begun += 1
    await asyncio.gather(*tasks)


@dataclass
class Load:
    """Sends `next_request()` at `rate` a second to `url` until `stop`; every request leaves one record.

    No retries; an answer that takes longer than `timeout_s` is a failure; a late answer delays nobody, since every
    request is a task of its own and the number of connections is not limited.
    """

    url: str
    rate: float
    next_request: Callable[[], Request]
    timeout_s: float = ANSWER_TIMEOUT_S
    records: list[Record] = field(default_factory=list)
    cpu_s: float = 0.0
    """Processor seconds of this thread while the load ran."""
    wall_s: float = 0.0
    _stop: bool = False

    def stop(self) -> None:
        """Send nothing more; `run` returns when the last answer is in or given up."""
        self._stop = True

    async def run(self) -> None:
        """Send until `stop`, then wait for the answers that are still out."""
        # A server closes connections that were idle for long. One that it closes while a
        # request is on its way would count as a failure of ours, so idle connections are dropped before that.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        # No cookies and no decompression: what the server never sends need not cost the generator anything.
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        ) as session:  # fmt: skip
            url = yarl.URL(self.url)
            cpu, wall = time.thread_time(), time.perf_counter()
            await at_rate(self.rate, lambda due: self._send(session, url, due), lambda: self._stop)
            self.cpu_s, self.wall_s = time.thread_time() - cpu, time.perf_counter() - wall

    async def _send(self, session: aiohttp.ClientSession, url: yarl.URL, due: float) -> None:
        request = self.next_request()
        sent, lag = time.time(), time.perf_counter() - due
        record = Record(sent, sent, lag, 0, request.engine_id, request.cycle, request.rul, request.changed)
        # Recorded before the answer, so that the order of records is the order of sending.
        self.records.append(record)
        try:
            async with session.post(url, data=request.body, headers=_HEADERS) as response:
                content = await response.read()
            record.status = response.status
            if response.status == 200:
                answer = _decode(content)
                record.rul, record.version, record.flags = answer.rul, answer.model_version, answer.flags
                record.lower, record.upper = answer.lower, answer.upper
            else:
                record.error = content[:200].decode(errors="replace")
        except TimeoutError:
            record.error = f"no answer within {self.timeout_s:g} s"
        except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            record.error = f"{type(error).__name__}: {error}"
        record.answered = time.time()


_decode = msgspec.json.Decoder(_Answer).decode


def failed(records: Iterable[Record]) -> list[Record]:
    """The records of requests without a prediction in time."""
    return [record for record in records if not record.ok]


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the traffic log: one JSON line a request, compressed."""
    encoder = msgspec.json.Encoder()
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", compresslevel=5) as file:
        for record in records:
            file.write(encoder.encode(record) + b"\n")


def read_records(path: Path) -> list[Record]:
    """Read a traffic log written by `write_records`."""
    decoder = msgspec.json.Decoder(Record)
    with gzip.open(path, "rb") as file:
        return [decoder.decode(line) for line in file]
