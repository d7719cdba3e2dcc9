"""Where a file can be replayed to: the service itself, or a broker in one of three languages."""

import asyncio
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import msgspec

from driftloop.errors import DriftloopError
from driftloop.protocol import platform
from driftloop.protocol.client import put_async
from driftloop.protocol.http import PATIENT, async_client
from driftloop.units.brokers import Broker, connect, name_of

_PATIENCE = PATIENT._replace(tries=6)
"""A restart is waited for."""


class Sink(Protocol):
    """Takes rows while it is entered; a row was taken when `send` returns."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def send(self, row: bytes) -> bool:
        """Send a row as JSON; False where it is refused, and sending it again would not help."""
        ...


def sink(address: str, fleet: str, token: str, password: str = "", *, jump: bool = False) -> Sink:
    """What is at an address: http(s), nats, kafka or mqtt; raises DriftloopError for any other.

    With `jump`, times may be far off, which only the service itself can be told.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        return Http(address, token, jump=jump)
    if jump:
        remedy = "replay to http://, or let the service take older rows by DRIFTLOOP_UNITS_PAST_DAYS"
        raise DriftloopError("a broker cannot be told that times are right", where=address, remedy=remedy)
    if scheme == "mqtt":
        return Mqtt(address, fleet, password)
    return Stream(connect(address, fleet, password))


class Http:
    """`POST /telemetry`, a row in each request; one that gets no answer is sent again."""

    def __init__(self, address: str, token: str, *, jump: bool) -> None:
        self._http, self._jump = async_client(address, token), jump

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, row: bytes) -> bool:
        """Send a row; raises DriftloopError where nobody answers for long, or no row is taken of whoever sends."""
        question = platform.keep(msgspec.Raw(row), jump=self._jump)._replace(patience=_PATIENCE)
        return not (await put_async(self._http, question, "units")).refused


class Stream:
    """NATS or Kafka, which confirm each row."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __aenter__(self) -> Self:
        await self._broker.start({}, ())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._broker.stop()

    async def send(self, row: bytes) -> bool:
        """Send a row; what is refused later is told by the stream of refused rows."""
        await self._broker.tell("rows", "", row)
        return True


class Mqtt:
    """An MQTT 3.1.1 broker, such as NATS's door; every row at least once (QoS 1)."""

    def __init__(self, address: str, fleet: str, password: str) -> None:
        try:
            from paho.mqtt import client, enums
        except ModuleNotFoundError as error:
            raise DriftloopError(
                "needs the package paho-mqtt", where=address, remedy="pip install paho-mqtt"
            ) from error
        parts = urlsplit(address)
        self._at = (parts.hostname or "127.0.0.1", parts.port or 1883)
        self._topic = name_of(fleet, "rows").replace(".", "/")
        self._client: Any = client.Client(enums.CallbackAPIVersion.VERSION2, protocol=client.MQTTv311)
        if parts.username:
            self._client.username_pw_set(parts.username, password or parts.password)

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(lambda: self._client.connect(*self._at))
        except OSError as error:
            where = f"{self._at[0]}:{self._at[1]}"
            raise DriftloopError(f"no MQTT broker answers: {error}", where=where) from error
        self._client.loop_start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    async def send(self, row: bytes) -> bool:
        """Send a row, and wait until the broker has it."""
        info = self._client.publish(self._topic, row, qos=1)
        await asyncio.to_thread(info.wait_for_publish, 30.0)
        if not info.is_published():
            raise DriftloopError("the broker does not confirm the row", where=f"{self._at[0]}:{self._at[1]}")
        return True
