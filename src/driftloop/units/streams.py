"""Streams by NATS JetStream or Kafka: rows and life events in, predictions, verdicts and alerts out.

In at least once: a message is acknowledged when what it holds is on disk, and a row that comes again is known. Out at
least once too: how far was told is kept in the store after it was told. NATS's MQTT door brings what MQTT clients send.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from driftloop import durable
from driftloop.errors import DriftloopError, JsonError
from driftloop.protocol.client import Client
from driftloop.protocol.problems import RequestRefused, of_json
from driftloop.units import brokers, life_events, views
from driftloop.units.brokers import Broker, Message
from driftloop.units.committing import StoreUnavailable
from driftloop.units.rows import name_of
from driftloop.units.service import Service
from driftloop.units.store import cursor, keep_cursor

log = logging.getLogger(__name__)

ROWS, EVENTS, REFUSED = "rows", "events", "refused"
PREDICTIONS, VERDICTS, ALERTS = "predictions", "verdicts", "alerts"
IN, OUT = (ROWS, EVENTS), (PREDICTIONS, VERDICTS, ALERTS, REFUSED)
_OF_KIND = {
    "verdict": VERDICTS,
    "concept_verdict": VERDICTS,
    "alert_firing": ALERTS,
    "alert_resolved": ALERTS,
}
_AT_ONCE = 500
_LOOK_S = 0.2
_EVENTS_S = 1.0
_AGAIN_S = 2.0
_PATIENCE_S = 5.0

_encode = msgspec.json.Encoder().encode


class Told(NamedTuple):
    """One message that goes out."""

    place: int
    name: str
    key: str
    body: bytes


class StreamedEvent(life_events.PostedEvent, forbid_unknown_fields=True, kw_only=True):
    """A life event as a stream brings it: with the unit's name."""

    unit: str


class Streams:
    """The streams of one service, on an event loop of their own: what holds them up holds nobody else up."""

    def __init__(self, service: Service) -> None:
        self._service, self._settings = service, service.settings
        self._retrainer = Client(self._settings.retrainer_url, self._settings.token)
        self._thread = threading.Thread(target=self._work, name="streams", daemon=True)
        self._stopping = threading.Event()
        self.problem: str | None = f"{brokers.shown(self._settings)}: was not reached yet"
        """Why nothing streams now."""

    def start(self) -> None:
        """Connect, and go on trying; what waits is told when the broker is there."""
        self._thread.start()

    def stop(self) -> None:
        """End the streams; what was not acknowledged comes again."""
        self._stopping.set()
        self._thread.join(2 * _PATIENCE_S)
        self._retrainer.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                asyncio.run(self._run())
            except Exception as error:
                said = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                self._notice(str(said) or type(said).__name__)
                self._stopping.wait(_AGAIN_S)

    async def _run(self) -> None:
        """One connection, which its client keeps up by itself."""
        broker = brokers.broker(self._settings)
        try:
            await asyncio.wait_for(broker.start({ROWS: self._rows, EVENTS: self._event}, OUT), 3 * _PATIENCE_S)
            self._notice(None)
            async with asyncio.TaskGroup() as group:
                telling = [
                    group.create_task(self._tell(broker, PREDICTIONS, self._predictions, _LOOK_S)),
                    group.create_task(self._tell(broker, EVENTS, self._loop_events, _EVENTS_S)),
                ]
                while not self._stopping.is_set():
                    await asyncio.sleep(_LOOK_S)
                    if not await broker.answers():
                        self._notice("does not answer")
                    elif self.problem is not None:
                        self._notice(None)
                for task in telling:
                    task.cancel()
        finally:
            # What is gone cannot be closed in order.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(broker.stop(), _PATIENCE_S)

    def _notice(self, problem: str | None) -> None:
        """Note, and log once, that the streams stand still or go on."""
        if (problem is None) is not (self.problem is None):
            log.warning("streams %s", f"stop: {problem}" if problem else "go on")
        self.problem = f"{brokers.shown(self._settings)}: {problem}" if problem else None

    # In.

    async def _rows(self, messages: Sequence[Message], broker: Broker) -> None:
        """Keep the rows of messages, in one piece of work; raises StoreUnavailable where they must come again."""
        rows = []
        for message in messages:
            try:
                rows += self._service.reader.read(message.body, message.content_type)
            except RequestRefused as error:
                await self._refuse(broker, message, str(error))
        if not rows:
            return
        taken = await self._settled(self._service.take(rows))
        self._service.count(taken)
        for problem in taken.problems:
            await broker.tell(REFUSED, str(problem["unit"] or ""), _encode(problem))

    async def _event(self, messages: Sequence[Message], broker: Broker) -> None:
        """Take life events, one after the other."""
        for message in messages:
            try:
                try:
                    event = durable.decode_json(message.body, StreamedEvent)
                except JsonError as error:
                    raise of_json(error) from error
                name = name_of(event.unit)
                # Without an id of its own it has the message's, so that it happens once however often that comes.
                event.id = event.id or message.id
                await self._settled(self._posting(name, event))
                self._service.archiver.poke()
            except RequestRefused as error:
                await self._refuse(broker, message, str(error))

    def _posting(self, name: str, event: StreamedEvent) -> Callable[[Connection], Any]:
        return lambda connection: life_events.post(
            connection, self._service.keeper, name, event, "", self._service.clock()
        )

    async def _settled(self, work: Callable[[Connection], Any]) -> Any:
        """What a piece of work gives, once it is on disk; where the store is away it is told after a pause."""
        try:
            return await asyncio.wrap_future(self._service.committer.submit(work))
        except StoreUnavailable:
            await asyncio.sleep(1.0)
            raise

    async def _refuse(self, broker: Broker, message: Message, why: str) -> None:
        said = {"message": why, "body": message.body[:2000].decode("utf-8", "replace")}
        await broker.tell(REFUSED, "", _encode(said))

    # Out.

    async def _tell(
        self, broker: Broker, name: str, find: Callable[[int], Awaitable[list[Told]]], pause: float
    ) -> None:
        """Tell what follows on what was told, forever."""
        place = await self._cursor(name)
        while True:
            found = await find(place)
            if found:
                try:
                    await asyncio.gather(*(broker.tell(one.name, one.key, one.body) for one in found if one.name))
                except Exception as error:
                    self._notice(str(error) or type(error).__name__)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                place = found[-1].place
                await self._settled(functools.partial(keep_cursor, name=name, place=place))
            if len(found) < _AT_ONCE:
                await asyncio.sleep(pause)

    async def _cursor(self, name: str) -> int:
        """How far was told; a stream that is new begins now."""

        def read() -> int | None:
            with self._service.store.read() as connection:
                return cursor(connection, name)

        known = await run_in_threadpool(read)
        if known is not None:
            return known
        now = self._service.memory.seq if name == PREDICTIONS else await run_in_threadpool(self._last_event)
        await self._settled(lambda connection: keep_cursor(connection, name, now))
        return now

    def _last_event(self) -> int:
        with contextlib.suppress(DriftloopError, KeyError):
            return int(self._retrainer.status()["last_event"])
        return 0

    async def _predictions(self, after: int) -> list[Told]:
        """The answers behind a place."""

        def read() -> list[Told]:
            fleet = self._settings.schema.name
            with self._service.store.read() as connection:
                found = views.answers_after(connection, after, _AT_ONCE)
            return [Told(seq, PREDICTIONS, one["unit"], _encode({"fleet": fleet, **one})) for seq, one in found]

        return await run_in_threadpool(read)

    async def _loop_events(self, after: int) -> list[Told]:
        """The retrainer's verdicts and alerts behind a place; other events only move it on."""

        def read() -> list[Told]:
            try:
                page = self._retrainer.events(after)
            except DriftloopError:
                return []
            fleet = self._settings.schema.name
            return [
                Told(int(one["seq"]), _OF_KIND.get(one["kind"], ""), fleet, _encode({"fleet": fleet, **one}))
                for one in page.events
            ]

        return await run_in_threadpool(read)
