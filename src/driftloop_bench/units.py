"""What the service of the fleet in service takes: rows a second, until when they are readable, and what a row costs.

The prediction server and the service run as processes of their own, on a core each where there are two; the sender
shares them, and must take little of them: what it takes of a row is a figure too. Rows are of a made-up fleet of
C-MAPSS's columns; every row is a step, and every step is predicted.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import msgspec
import numpy as np

from driftloop.durable import now
from driftloop.embedded.components import DRIFTLOOP
from driftloop.embedded.status import answers
from driftloop.errors import DriftloopError
from driftloop.fleet.schema import Schema
from driftloop.memory import memory_bytes
from driftloop.settings import Settings
from driftloop_bench.machine import processor
from driftloop_bench.own import free_url, wait

BATCH, SENDERS, SINGLE_SENDERS = 100, 4, 16
QUARTER_ROWS, QUARTER_SINGLES = 500.0, 75.0
"""Rows a second, in batches and singly, at which it is measured when they are readable."""
SAMPLED = 40
START_S, SETTLE_S = 300.0, 300.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    sizes: Sequence[int]
    """Units in service."""
    seconds: float
    """Length of each measurement."""
    databases: Sequence[str]
    """SQLAlchemy URLs; an empty one is a new SQLite file. On any other server a database of its own is made."""
    server: str
    """A prediction server that runs; empty: one of its own."""
    model: bool
    """Whether its own server serves the version in production; else it answers with the stub."""
    history: int = 0
    """Rows that each unit has before; 0: as many as the model looks at, so that every window is whole."""


def run(configured: Settings, asked: Asked, tell: Tell) -> dict[str, Any]:
    """Measure every store with every size of fleet; the figures."""
    found = []
    for url in asked.databases:
        for size in asked.sizes:
            tell(f"{_kind(url)}, {size} units")
            with (
                tempfile.TemporaryDirectory(prefix="driftloop-units-") as folder,
                _database(url) as database,
                _processes(configured, Path(folder), database, asked) as place,
            ):
                found.append({"store": _kind(url), "units": size, **asyncio.run(place.measure(size, asked, tell))})
    return {"measured": now(), "processor": processor(), "cores": os.cpu_count(), "figures": found}


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The figures as rows of text, the first one their names."""
    heads = (
        "store",
        "units",
        "model",
        "backfill rows/s",
        "rows/s by 100",
        "ms of processor a row",
        "rows/s singly",
        "ms of processor a row singly",
        "readable after, p99, by 100",
        "readable after, p99, singly",
        "memory",
    )
    rows = [
        (
            str(one["store"]), str(one["units"]), f"{one['model']} ({one['model_rows']} rows)",
            f"{one['backfill_rows_s']:.0f}",
            f"{one['batched']['rows_s']:.0f}",
            _of_processes(one["batched"]),
            f"{one['singly']['rows_s']:.0f}",
            _of_processes(one["singly"]),
            f"{one['readable_batched_s']['p99']:.2f} s",
            f"{one['readable_singly_s']['p99']:.2f} s", f"{one['memory_mib']:.0f} MiB",
        )
        for one in results["figures"]
    ]  # fmt: skip
    return [heads, *rows]


def _of_processes(measured: dict[str, Any]) -> str:
    return ", ".join(f"{name} {ms:.3f}" for name, ms in measured["cpu_ms_a_row"].items())


class Place:
    """A running service, its server, and a fleet that sends to it."""

    def __init__(self, url: str, token: str, pids: dict[str, int], schema: Schema) -> None:
        self._url, self._pids, self._schema = url, pids, schema
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._drawn = random.Random(0)
        self._base = np.random.default_rng(0).normal(100.0, 10.0, schema.n_columns)
        self._next: list[int] = []

    async def measure(self, size: int, asked: Asked, tell: Tell) -> dict[str, Any]:
        """All figures of one fleet."""
        seconds = asked.seconds
        self._next = [1] * size
        async with aiohttp.ClientSession(
            self._url, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=120.0), connector=aiohttp.TCPConnector(limit=64),
        ) as http:  # fmt: skip
            history = asked.history or int((await _found(http, "/status"))["model_rows"])
            backfill = await self._backfill(http, size, history)
            tell(f"  history of {history} rows each: {backfill:.0f} rows/s")
            batched = await self._throughput(http, BATCH, SENDERS, seconds)
            tell(f"  in batches {batched['rows_s']:.0f} rows/s, ms of processor a row {batched['cpu_ms_a_row']}")
            singly = await self._throughput(http, 1, SINGLE_SENDERS, seconds)
            tell(f"  singly {singly['rows_s']:.0f} rows/s")
            readable = await self._readable(http, BATCH, QUARTER_ROWS, seconds)
            readable_singly = await self._readable(http, 1, QUARTER_SINGLES, seconds)
            tell(f"  readable p99 {readable['p99']:.2f} s and {readable_singly['p99']:.2f} s")
            status = await _found(http, "/status")
        memory = {name: round(memory_bytes(pid) / 2**20, 1) for name, pid in self._pids.items()}
        tell(f"  memory {memory} MiB")
        return {
            "model": status["model_version"],
            "model_rows": status["model_rows"],
            "history_rows": history,
            "backfill_rows_s": round(backfill, 1),
            "batched": batched,
            "singly": singly,
            "readable_batched_s": readable,
            "readable_singly_s": readable_singly,
            "memory_mib": memory["units"],
            "memory_server_mib": memory.get("server"),
        }

    def _body(self, units: Sequence[int], steps: int = 1) -> bytes:
        """The next rows of some units."""
        columns = ["unit", self._schema.time.column or "index", *self._schema.columns]
        rows = []
        for unit in units:
            for _ in range(steps):
                values = self._base + 0.01 * self._drawn.random()
                rows.append([f"unit-{unit}", self._next[unit], *np.round(values, 4).tolist()])
                self._next[unit] += 1
        return msgspec.json.encode({"columns": columns, "rows": rows})

    async def _post(self, http: aiohttp.ClientSession, body: bytes, rows: int, *, history: bool = False) -> None:
        async with http.post(f"/telemetry{'?backfill=true' if history else ''}", data=body) as answer:
            said = await answer.read()
        if not answer.ok or msgspec.json.decode(said).get("stored") != rows:
            raise DriftloopError(f"rows were not stored: {said[:300].decode(errors='replace')}", where=self._url)

    async def _backfill(self, http: aiohttp.ClientSession, size: int, history: int) -> float:
        """Give every unit a history; rows a second."""
        at_once, took = max(1, 5000 // history), 0.0
        for start in range(0, size, at_once):
            units = range(start, min(start + at_once, size))
            body = self._body(units, history)
            started = time.perf_counter()
            await self._post(http, body, history * len(units), history=True)
            took += time.perf_counter() - started
        await self._settled(http)
        return size * history / took

    async def _throughput(self, http: aiohttp.ClientSession, rows: int, senders: int, seconds: float) -> dict[str, Any]:
        """Rows a second with a prediction each, as many as go: until the last of them was predicted."""
        size, cursor, sent = len(self._next), 0, 0
        started, cpu = time.perf_counter(), self._cpu()

        async def send() -> None:
            nonlocal cursor, sent
            while time.perf_counter() - started < seconds:
                units = [(cursor + at) % size for at in range(rows)]
                cursor += rows
                await self._post(http, self._body(units), rows)
                sent += rows

        await asyncio.gather(*(send() for _ in range(senders)))
        acknowledged = time.perf_counter() - started
        await self._settled(http)
        took, used = time.perf_counter() - started, self._cpu()
        return {
            "rows": sent,
            "acknowledged_rows_s": round(sent / acknowledged, 1),
            "rows_s": round(sent / took, 1),
            "cpu_ms_a_row": {name: round((used[name] - cpu[name]) / sent * 1000, 4) for name in used},
        }

    async def _readable(self, http: aiohttp.ClientSession, rows: int, rate: float, seconds: float) -> dict[str, float]:
        """Seconds from sending a row until its prediction can be read, at a steady rate."""
        size, cursor, waits = len(self._next), 0, list[float]()
        started, requests = time.perf_counter(), max(1, int(seconds * rate / rows))
        every = max(1, requests // SAMPLED)
        tasks = []

        async def one(units: list[int], body: bytes, *, sampled: bool) -> None:
            sent = time.perf_counter()
            step = self._next[units[-1]] - 1
            await self._post(http, body, rows)
            while sampled:
                found = await _found(http, f"/units/unit-{units[-1]}?steps=1")
                if found["step"] is not None and found["step"] >= step:
                    waits.append(time.perf_counter() - sent)
                    return
                await asyncio.sleep(0.01)

        for at in range(requests):
            await asyncio.sleep(max(0.0, started + at * rows / rate - time.perf_counter()))
            units = [(cursor + place) % size for place in range(rows)]
            cursor += rows
            tasks.append(asyncio.create_task(one(units, self._body(units), sampled=at % every == 0)))
        await asyncio.gather(*tasks)
        return {
            "rate": rate,
            "sampled": len(waits),
            "median": round(float(np.median(waits)), 4),
            "p99": round(float(np.quantile(waits, 0.99)), 4),
        }

    async def _settled(self, http: aiohttp.ClientSession) -> None:
        deadline = time.perf_counter() + SETTLE_S
        while time.perf_counter() < deadline:
            status = await _found(http, "/status")
            if not status["steps_waiting"] and not status["units_behind"]:
                return
            await asyncio.sleep(0.02)
        raise DriftloopError("steps still wait for their prediction", where=self._url)

    def _cpu(self) -> dict[str, float]:
        """Processor seconds that each process has used, the sender's among them."""
        return {**{name: _cpu_s(pid) for name, pid in self._pids.items()}, "sender": time.process_time()}


async def _found(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as answer:
        return msgspec.json.decode(await answer.read())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _database(url: str) -> Iterator[str]:
    """A database of its own on the server of a URL, which is deleted at the end; of SQLite a new file."""
    if _kind(url) == "SQLite":
        yield url
        return
    import sqlalchemy as sa

    address, name = sa.make_url(url), f"driftloop_benchmark_{os.getpid()}"
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        try:
            yield address.set(database=name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        engine.dispose()


@contextlib.contextmanager
def _processes(configured: Settings, folder: Path, database: str, asked: Asked) -> Iterator[Place]:
    """The service on one core and, unless one is named, a server on the other."""
    server = asked.server
    # A server that runs already knows its own platform's token.
    token = (configured.token if server else "") or "benchmark-of-the-units"
    (folder / "token").write_text(token)
    units, own = free_url("http://127.0.0.1:18700"), server or free_url("http://127.0.0.1:18500")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DRIFTLOOP_")},
        "DRIFTLOOP_FLEET": configured.fleet,
        "DRIFTLOOP_STATE_DIR": str(folder),
        "DRIFTLOOP_SERVER_URL": own,
        "DRIFTLOOP_UNITS_URL": units,
        "DRIFTLOOP_RETRAINER_URL": "http://127.0.0.1:9",
        "DRIFTLOOP_MLFLOW_URL": configured.mlflow_url if asked.model else "http://127.0.0.1:9",
        "DRIFTLOOP_MODEL_NAME": configured.model,
        "DRIFTLOOP_UNITS_DATABASE": database,
        "OMP_NUM_THREADS": "1",
    }
    with contextlib.ExitStack() as stack, (folder / "log").open("ab") as log:

        def start(core: int, url: str, *command: str) -> int:
            process = subprocess.Popen(
                [*DRIFTLOOP, *command, "--port", url.rpartition(":")[2]],
                env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if (os.cpu_count() or 1) > 1:
                os.sched_setaffinity(process.pid, {core})
            wait(lambda: answers(f"{url}/healthz"), START_S, lambda: process.poll() is not None, url, folder / "log")
            return process.pid

        pids = {} if server else {"server": start(1, own, "serve")}
        if asked.model and not server:
            wait(lambda: _serves(own), START_S, lambda: False, f"the version in production, by {own}", folder / "log")
        pids["units"] = start(0, units, "units", "serve")
        wait(lambda: _knows_model(units), START_S, lambda: False, units, folder / "log")
        yield Place(units, token, pids, configured.schema)


def _serves(url: str) -> bool:
    """Whether a server answers with a model, and not with the stub."""
    with contextlib.suppress(httpx.HTTPError, KeyError):
        return not httpx.get(f"{url}/model", trust_env=False).json()["stub"]
    return False


def _knows_model(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError, KeyError):
        return bool(httpx.get(f"{url}/status", trust_env=False).json()["model_rows"])
    return False


def _kind(database: str) -> str:
    return "SQLite" if not database or database.startswith("sqlite") else database.partition(":")[0].partition("+")[0]
