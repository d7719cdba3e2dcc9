"""driftloop for programs: what a platform knows, what may be done with it, predictions, and rows of units.

    from driftloop.client import Gateway, Platform, Predictor

    with Platform("http://127.0.0.1:8400", token="...") as platform:
        for unit in platform.units("cmapss", limit=10).units:
            print(unit.unit, unit.low, unit.rul)
        for event in platform.follow():
            print(event.time, event.event)

`AsyncPlatform`, `AsyncPredictor` and `AsyncGateway` have the same methods for asyncio. What may be asked again is asked
again where nobody answers, with a growing pause; acts are sent once. All methods raise DriftloopError.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, overload

import httpx

from driftloop.errors import DriftloopError
from driftloop.protocol import platform as api
from driftloop.protocol import platform_acts as acts
from driftloop.protocol.client import Question, put, put_async
from driftloop.protocol.following import PATH, TIMEOUT, Place
from driftloop.protocol.http import AsyncConnected, Connected
from driftloop.protocol.platform import window
from driftloop.protocol.platform_answers import (
    About,
    Act,
    Answered,
    Archived,
    Drivers,
    Event,
    Fleet,
    FleetInWhole,
    Happened,
    Kept,
    Loop,
    MaintenancePlan,
    Model,
    Moved,
    NewToken,
    Prediction,
    Run,
    RunPage,
    Sensor,
    Token,
    Unit,
    UnitInWhole,
    UnitPage,
    Verdict,
    Withdrawn,
    Work,
)

__all__ = [
    "About", "Act", "Answered", "Archived", "AsyncGateway", "AsyncPlatform", "AsyncPredictor", "DriftloopError",
    "Drivers", "Event", "Fleet", "FleetInWhole", "Gateway", "Happened", "Kept", "Loop", "MaintenancePlan", "Model",
    "Moved", "NewToken", "Platform", "Prediction", "Predictor", "Run", "RunPage", "Sensor", "Token", "Unit",
    "UnitInWhole", "UnitPage", "Verdict", "Withdrawn", "Work", "window",
]  # fmt: skip

CONSOLE, SERVER, UNITS = "http://127.0.0.1:8400", "http://127.0.0.1:8500", "http://127.0.0.1:8700"
P = ParamSpec("P")
T = TypeVar("T")


class Asked(Generic[P, T]):
    """A question as a method: it gives the answer, and of a client for asyncio what the answer is awaited by."""

    def __init__(self, question: Callable[P, Question[T]]) -> None:
        self._question = question

    @overload
    def __get__(self, asking: None, kind: type) -> Callable[P, Question[T]]: ...
    @overload
    def __get__(self, asking: "_Ordinary", kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, asking: "_Awaited", kind: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, asking: Any, kind: type) -> Callable[P, Any]:
        """The method; of the class itself the question, with its words and parameters."""
        if asking is None:
            return self._question

        def method(*given: P.args, **named: P.kwargs) -> Any:
            return asking.ask(self._question(*given, **named))

        return method


class _Ordinary(Connected):
    """Asks and waits."""

    whom = ""

    def ask(self, question: Question[T]) -> T:
        """The answer to a question; raises DriftloopError."""
        return put(self._http, question, self.whom)


class _Awaited(AsyncConnected):
    """The same from asyncio."""

    whom = ""

    async def ask(self, question: Question[T]) -> T:
        """The answer to a question; raises DriftloopError."""
        return await put_async(self._http, question, self.whom)


class _OfPlatform:
    """What may be asked of a platform, and done with it."""

    whom = "the platform"

    about = Asked(api.about)
    fleets = Asked(api.fleets)
    fleet = Asked(api.fleet)
    units = Asked(api.units)
    unit = Asked(api.unit)
    drivers = Asked(api.drivers)
    plan = Asked(api.plan)
    loop = Asked(api.loop)
    verdict = Asked(api.verdict)
    models = Asked(api.models)
    model = Asked(api.model)
    runs = Asked(api.runs)
    events = Asked(api.events)
    schedules = Asked(api.schedules)
    retrain = Asked(acts.retrain)
    first_aid = Asked(acts.first_aid)
    promote = Asked(acts.promote)
    rollback = Asked(acts.rollback)
    answer = Asked(acts.answer)
    mute = Asked(acts.mute)
    unmute = Asked(acts.unmute)
    add_schedule = Asked(acts.add_schedule)
    cancel_schedule = Asked(acts.cancel_schedule)
    archive = Asked(acts.archive)
    withdraw = Asked(acts.withdraw)
    tell = Asked(acts.tell)
    take_back = Asked(acts.take_back)
    rename = Asked(acts.rename)
    split = Asked(acts.split)
    tokens = Asked(acts.tokens)
    add_token = Asked(acts.add_token)
    revoke_token = Asked(acts.revoke_token)
    audit = Asked(acts.audit)


class Platform(_OfPlatform, _Ordinary):
    """The platform whose console is at `url`; one object may be used by several threads."""

    def __init__(self, url: str = CONSOLE, token: str = "", **more: Any) -> None:
        """`more` goes to httpx: a transport for tests."""
        super().__init__(url, token, **more)

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


class AsyncPlatform(_OfPlatform, _Awaited):
    """The same from asyncio."""

    def __init__(self, url: str = CONSOLE, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)

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


class _OfServer:
    whom = "the server"

    predict = Asked(api.predict)
    predict_many = Asked(api.predict_many)


class Predictor(_OfServer, _Ordinary):
    """The prediction server at `url`."""

    def __init__(self, url: str = SERVER, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)


class AsyncPredictor(_OfServer, _Awaited):
    """The same from asyncio."""

    def __init__(self, url: str = SERVER, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)


class _OfUnits:
    whom = "the service that keeps units"

    send = Asked(api.send)


class Gateway(_OfUnits, _Ordinary):
    """The service at `url` that keeps units: rows in."""

    def __init__(self, url: str = UNITS, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)


class AsyncGateway(_OfUnits, _Awaited):
    """The same from asyncio."""

    def __init__(self, url: str = UNITS, token: str = "", **more: Any) -> None:
        super().__init__(url, token, **more)
