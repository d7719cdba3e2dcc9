"""Where a file can be replayed to: the service itself, or a broker in one of three languages."""

import asyncio
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from driftloop.errors import DriftloopError
from driftloop.protocol.http import JSON, async_client, may_change
from driftloop.units.brokers import Broker, connect, name_of

_TRIES = 20
_PAUSE_S = 0.5


class Sink(Protocol):
    """Takes rows while it is entered; a row was taken when `send` returns."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def send(self, row: bytes) -> bool:
        """Send a row as JSON; False where it is refused, and sending it again would not help."""
        ...


def sink(address: str, fleet: str, token: str, password: str = "") -> Sink:
    """What is at an address: http(s), nats, kafka or mqtt; raises DriftloopError for any other."""
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        return Http(address, token)
    if scheme == "mqtt":
        return Mqtt(address, fleet, password)
    return Stream(connect(address, fleet, password))


class Http:
    """`POST /telemetry`, a row in each request; one that gets no answer is sent again."""

    def __init__(self, address: str, token: str) -> None:
        self._http = async_client(address, token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, row: bytes) -> bool:
        """Send a row; raises DriftloopError where nobody answers for long."""
        import httpx

        said = ""
        for _ in range(_TRIES):
            try:
                answer = await self._http.post("/telemetry", content=row, headers=JSON)
            except httpx.RequestError as error:
                said = str(error) or type(error).__name__
            else:
                if answer.is_success or answer.status_code in (409, 422):
                    return answer.is_success
                said = answer.text[:300]
                if not may_change(answer):
                    break
            await asyncio.sleep(_PAUSE_S)
        raise DriftloopError(f"the row is not taken: {said}", where=str(self._http.base_url))


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
