"""driftloop for programs: what a platform knows, what may be done with it, and predictions.

    from driftloop.client import Platform, Predictor

    with Platform("http://127.0.0.1:8400", token="...") as platform:
        for unit in platform.units("cmapss", limit=10).units:
            print(unit.unit, unit.low, unit.rul)
        for event in platform.follow():
            print(event.time, event.event)

`AsyncPlatform` and `AsyncPredictor` have the same methods for asyncio. What may be asked again is asked again where
nobody answers, with a growing pause; acts are sent once. All methods raise DriftloopError.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import httpx

from driftloop.errors import DriftloopError
from driftloop.protocol import platform as api
from driftloop.protocol.client import Question, put, put_async
from driftloop.protocol.following import PATH, TIMEOUT, Place
from driftloop.protocol.http import AsyncConnected, Connected
from driftloop.protocol.platform import (
    Answered,
    Event,
    Fleet,
    Loop,
    Model,
    Moved,
    Prediction,
    Row,
    Sensor,
    Sort,
    Unit,
    UnitInWhole,
    UnitPage,
    window,
)

__all__ = [
    "Answered", "AsyncPlatform", "AsyncPredictor", "DriftloopError", "Event", "Fleet", "Loop", "Model", "Moved",
    "Platform", "Prediction", "Predictor", "Sensor", "Unit", "UnitInWhole", "UnitPage", "window",
]  # fmt: skip

CONSOLE, SERVER = "http://127.0.0.1:8400", "http://127.0.0.1:8500"
T = TypeVar("T")


class Platform(Connected):
    """The platform whose console is at `url`; one object may be used by several threads."""

    def __init__(self, url: str = CONSOLE, token: str = "", **more: Any) -> None:
        """`more` goes to httpx: a transport for tests."""
        super().__init__(url, token, **more)

    def fleets(self) -> list[Fleet]:
        """All fleets at a glance."""
        return self._ask(api.fleets())

    def units(
        self, fleet: str, *, sort: Sort = "low", order: Literal["asc", "desc"] = "asc", q: str = "", flag: str = "",
        offset: int = 0, limit: int = 100,
    ) -> UnitPage:  # fmt: skip
        """A page of units, by default those that are due first."""
        return self._ask(api.units(fleet, sort, order, q, flag, offset, limit))

    def unit(self, fleet: str, name: str) -> UnitInWhole:
        """One unit: its predictions over time, and its newest readings."""
        return self._ask(api.unit(fleet, name))

    def loop(self, fleet: str) -> Loop:
        """Where the loop is, and what it waits for."""
        return self._ask(api.loop(fleet))

    def models(self, fleet: str, limit: int = 100) -> list[Model]:
        """The newest versions of the model, the newest first."""
        return self._ask(api.models(fleet, limit))

    def model(self, fleet: str, version: str = "production") -> Model:
        """One version, by default the one in production."""
        return self._ask(api.model(fleet, version))

    def events(
        self, fleet: str, *, before: int = 0, limit: int = 100, q: str = "", kinds: Sequence[str] = ()
    ) -> list[Event]:
        """The newest events, the newest first; `kinds` such as `promoted`, or `-verdict` for all but these."""
        return self._ask(api.events(fleet, before, limit, q, kinds))

    def follow(self, fleet: str = "", after: str = "") -> Iterator[Event]:
        """Events as they happen, of one fleet or all, for ever: from now on, or behind the `place` of an earlier one.

        A cut connection is opened again and goes on where it was; nothing is missed. Raises DriftloopError where the
        platform refuses.
        """
        place = Place(after)
        while True:
            try:
                asked = {"fleet": fleet} if fleet else {}
                with self._http.stream("GET", PATH, params=asked, headers=place.headers, timeout=TIMEOUT) as answer:
                    if not answer.is_success:
                        answer.read()
                    place.opened(answer)
                    for line in answer.iter_lines():
                        message = place.read(line)
                        if message is not None and message.event == "event":
                            yield api.event(message.content, message.place)
            except httpx.TransportError:
                pass  # It goes on below, as where the other end has closed the stream.
            time.sleep(place.cut())

    def retrain(self, fleet: str, mode: Literal["warm", "full"] = "warm", reason: str = "") -> dict[str, Any]:
        """Start a retraining; the attempt."""
        return self._ask(api.retrain(fleet, mode, reason))

    def promote(self, fleet: str, version: str, reason: str = "") -> Moved:
        """Put a version into production."""
        return self._ask(api.promote(fleet, version, reason))

    def rollback(self, fleet: str, reason: str = "") -> Moved:
        """Put the version before production back."""
        return self._ask(api.rollback(fleet, reason))

    def answer(self, fleet: str, approval: str, word: Literal["approve", "reject"], reason: str = "") -> dict[str, Any]:
        """Answer what `loop().approval` asks, by its `id`."""
        return self._ask(api.answer(fleet, approval, word, reason))

    def _ask(self, question: Question[T]) -> T:
        return put(self._http, question, "the platform")


class AsyncPlatform(AsyncConnected):
    """The same from asyncio."""

    def __init__(self, url: str = CONSOLE, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)

    async def fleets(self) -> list[Fleet]:
        """All fleets at a glance."""
        return await self._ask(api.fleets())

    async def units(
        self, fleet: str, *, sort: Sort = "low", order: Literal["asc", "desc"] = "asc", q: str = "", flag: str = "",
        offset: int = 0, limit: int = 100,
    ) -> UnitPage:  # fmt: skip
        """A page of units, by default those that are due first."""
        return await self._ask(api.units(fleet, sort, order, q, flag, offset, limit))

    async def unit(self, fleet: str, name: str) -> UnitInWhole:
        """One unit: its predictions over time, and its newest readings."""
        return await self._ask(api.unit(fleet, name))

    async def loop(self, fleet: str) -> Loop:
        """Where the loop is, and what it waits for."""
        return await self._ask(api.loop(fleet))

    async def models(self, fleet: str, limit: int = 100) -> list[Model]:
        """The newest versions of the model, the newest first."""
        return await self._ask(api.models(fleet, limit))

    async def model(self, fleet: str, version: str = "production") -> Model:
        """One version, by default the one in production."""
        return await self._ask(api.model(fleet, version))

    async def events(
        self, fleet: str, *, before: int = 0, limit: int = 100, q: str = "", kinds: Sequence[str] = ()
    ) -> list[Event]:
        """The newest events, the newest first; `kinds` such as `promoted`, or `-verdict` for all but these."""
        return await self._ask(api.events(fleet, before, limit, q, kinds))

    async def follow(self, fleet: str = "", after: str = "") -> AsyncIterator[Event]:
        """As `Platform.follow`."""
        place = Place(after)
        while True:
            try:
                asked = {"fleet": fleet} if fleet else {}
                async with self._http.stream(
                    "GET", PATH, params=asked, headers=place.headers, timeout=TIMEOUT
                ) as answer:
                    if not answer.is_success:
                        await answer.aread()
                    place.opened(answer)
                    async for line in answer.aiter_lines():
                        message = place.read(line)
                        if message is not None and message.event == "event":
                            yield api.event(message.content, message.place)
            except httpx.TransportError:
                pass
            await asyncio.sleep(place.cut())

    async def retrain(self, fleet: str, mode: Literal["warm", "full"] = "warm", reason: str = "") -> dict[str, Any]:
        """Start a retraining; the attempt."""
        return await self._ask(api.retrain(fleet, mode, reason))

    async def promote(self, fleet: str, version: str, reason: str = "") -> Moved:
        """Put a version into production."""
        return await self._ask(api.promote(fleet, version, reason))

    async def rollback(self, fleet: str, reason: str = "") -> Moved:
        """Put the version before production back."""
        return await self._ask(api.rollback(fleet, reason))

    async def answer(
        self, fleet: str, approval: str, word: Literal["approve", "reject"], reason: str = ""
    ) -> dict[str, Any]:
        """Answer what `loop().approval` asks, by its `id`."""
        return await self._ask(api.answer(fleet, approval, word, reason))

    async def _ask(self, question: Question[T]) -> T:
        return await put_async(self._http, question, "the platform")


class Predictor(Connected):
    """The prediction server at `url`."""

    def __init__(self, url: str = SERVER, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)

    def predict(self, rows: Sequence[Row], unit: str | None = None, step: int | None = None) -> Prediction:
        """Remaining useful life after the newest of these rows of one unit, oldest first."""
        return self.predict_many([window(rows, unit, step)])[0]

    def predict_many(self, windows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """The same of several, each made by `window`: answered together, by one version."""
        return put(self._http, api.predict(windows), "the server")


class AsyncPredictor(AsyncConnected):
    """The same from asyncio."""

    def __init__(self, url: str = SERVER, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)

    async def predict(self, rows: Sequence[Row], unit: str | None = None, step: int | None = None) -> Prediction:
        """Remaining useful life after the newest of these rows of one unit, oldest first."""
        return (await self.predict_many([window(rows, unit, step)]))[0]

    async def predict_many(self, windows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """The same of several, each made by `window`: answered together, by one version."""
        return await put_async(self._http, api.predict(windows), "the server")
