"""Brokers by FastStream: the same few messages over NATS JetStream and over Kafka.

Names: `driftloop.<fleet>.rows`, `.events`, `.predictions`, `.verdicts`, `.alerts`, `.refused`; an MQTT client at NATS's
door writes slashes for the points.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit

from driftloop.errors import DriftloopError
from driftloop.settings import Settings
from driftloop.units import passwords

_BATCH = 500
"""Messages that are taken together, in one transaction."""
_FETCH_S = 0.25
"""How long messages are waited for that would share the transaction of one that came."""
_PATIENCE_S = 10.0
_AGAIN_S = 5.0
"""After which a message that was on its way when a connection or process ended comes again: before its step is
predicted without it (DRIFTLOOP_UNITS_LATENESS_S, 10 s by default). JetStream would wait for 30 s."""
_KEPT_BYTES = 2**30
"""Of each stream that driftloop makes in JetStream, the oldest go first."""


class Message(NamedTuple):
    """A message that came."""

    body: bytes
    content_type: str
    id: str
    """The same where it comes again, and no other message's: of a stream that was made anew the time differs."""


Handler = Callable[[Sequence[Message], "Broker"], Awaitable[None]]


class Broker(Protocol):
    """One connection."""

    async def start(self, handlers: Mapping[str, Handler], out: Sequence[str]) -> None:
        """Connect; messages under these names go to their handlers, and are acknowledged when they return."""
        ...

    async def stop(self) -> None:
        """Close the connection."""
        ...

    async def tell(self, name: str, key: str, body: bytes) -> None:
        """Send a message; returns when the broker has it."""
        ...

    async def answers(self) -> bool:
        """Whether the broker answers."""
        ...


def broker(settings: Settings) -> Broker:
    """The broker that the settings name; raises DriftloopError where the address is none."""
    password = passwords.password(settings.units_stream_password_file, "DRIFTLOOP_UNITS_STREAM_PASSWORD_FILE")
    return connect(settings.units_stream, settings.schema.name, password)


def connect(url: str, fleet: str, password: str = "") -> Broker:
    """A broker at an address, for the streams of a fleet."""
    parts = urlsplit(url)
    if parts.scheme in ("nats", "tls") and parts.hostname:
        return Nats(_with(parts, password), fleet)
    if parts.scheme == "kafka" and parts.netloc:
        return Kafka(parts, fleet, password)
    raise DriftloopError(
        f"{url[:80]!r} is no address of a broker",
        where="DRIFTLOOP_UNITS_STREAM",
        remedy="write nats://host:4222 or kafka://host:9092",
    )


def shown(settings: Settings) -> str:
    """The broker's address for people."""
    parts = urlsplit(settings.units_stream)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def name_of(fleet: str, name: str) -> str:
    """The subject or topic of a stream."""
    return f"driftloop.{fleet}.{name}"


class Nats:
    """NATS with JetStream: what comes in and what goes out are kept in a stream each."""

    def __init__(self, url: str, fleet: str) -> None:
        from faststream.nats import NatsBroker

        self._fleet = fleet
        self._broker = NatsBroker(url, logger=None, apply_types=False, max_reconnect_attempts=-1, reconnect_time_wait=1)
        self._out = f"driftloop-{fleet}-out"

    async def start(self, handlers: Mapping[str, Handler], out: Sequence[str]) -> None:
        """Make the streams where they are not there yet, and subscribe."""
        from faststream import AckPolicy
        from faststream.nats import JStream, PullSub
        from nats.js.api import ConsumerConfig

        if handlers:
            subjects = [name_of(self._fleet, name) for name in handlers]
            stream = JStream(f"driftloop-{self._fleet}-in", subjects=subjects, max_bytes=_KEPT_BYTES)
        for name, handler in handlers.items():
            self._broker.subscriber(
                name_of(self._fleet, name),
                stream=stream,
                durable=f"units-{name}",
                config=ConsumerConfig(ack_wait=_AGAIN_S),
                pull_sub=PullSub(batch_size=_BATCH, timeout=_FETCH_S, batch=True),
                ack_policy=AckPolicy.NACK_ON_ERROR,
                decoder=_raw_batches(_in_jetstream),
            )(_together(handler, self))
        await self._broker.start()
        if out:
            subjects = [name_of(self._fleet, name) for name in out]
            connection = self._broker.config.broker_config.connection_state.stream
            await _ensure(connection, self._out, subjects)

    async def stop(self) -> None:
        """Close the connection."""
        await self._broker.stop()

    async def answers(self) -> bool:
        """Whether the server answers a ping."""
        return await self._broker.ping(_PATIENCE_S)

    async def tell(self, name: str, key: str, body: bytes) -> None:
        """Send a message to the stream, which confirms it."""
        headers = {"content-type": "application/json", **({"unit": key} if key.isascii() and key else {})}
        stream = self._out if name not in ("rows", "events") else f"driftloop-{self._fleet}-in"
        await self._broker.publish(body, name_of(self._fleet, name), headers=headers, stream=stream, timeout=10.0)


class Kafka:
    """Kafka: topics are made by the broker, or by whoever runs it."""

    def __init__(self, parts: SplitResult, fleet: str, password: str) -> None:
        from faststream.kafka import KafkaBroker
        from faststream.security import SASLScram512

        servers = parts.netloc.rpartition("@")[2].split(",")
        security = SASLScram512(username=parts.username, password=password) if parts.username else None
        self._fleet = fleet
        self._broker = KafkaBroker(
            servers, logger=None, apply_types=False, acks="all", enable_idempotence=True, security=security
        )

    async def start(self, handlers: Mapping[str, Handler], out: Sequence[str]) -> None:  # noqa: ARG002 - by the protocol
        """Subscribe."""
        from faststream import AckPolicy

        for name, handler in handlers.items():
            self._broker.subscriber(
                name_of(self._fleet, name),
                group_id=f"units-{self._fleet}",
                auto_offset_reset="earliest",
                batch=True,
                max_records=_BATCH,
                ack_policy=AckPolicy.NACK_ON_ERROR,
                decoder=_raw_batches(_in_kafka),
            )(_together(handler, self))
        await self._broker.start()

    async def stop(self) -> None:
        """Close the connection."""
        await self._broker.stop()

    async def answers(self) -> bool:
        """Whether a broker of the cluster answers."""
        return await self._broker.ping(_PATIENCE_S)

    async def tell(self, name: str, key: str, body: bytes) -> None:
        """Send a message; every replica in sync confirms it. Messages of one unit stay in order."""
        headers = {"content-type": "application/json"}
        await self._broker.publish(body, name_of(self._fleet, name), key=key.encode() or None, headers=headers)


def _raw_batches(identify: Callable[[Any], str]) -> Callable[[Any], Awaitable[list[Message]]]:
    # A decoder with more than one parameter would be given FastStream's own as the second.
    async def decode(message: Any) -> list[Message]:
        kinds = message.batch_headers or [{}] * len(message.body)
        return [
            Message(body or b"", str(headers.get("content-type") or ""), identify(raw))
            for body, headers, raw in zip(message.body, kinds, message.raw_message, strict=True)
        ]

    return decode


def _in_jetstream(raw: Any) -> str:
    known = raw.metadata
    return f"{known.stream} {known.sequence.stream} {known.timestamp.isoformat()}"


def _in_kafka(raw: Any) -> str:
    return f"{raw.topic} {raw.partition} {raw.offset} {raw.timestamp}"


def _together(handler: Handler, broker: Broker) -> Callable[[list[Message]], Awaitable[None]]:
    async def handle(messages: list[Message]) -> None:
        await handler(messages, broker)

    return handle


async def _ensure(jetstream: Any, name: str, subjects: Sequence[str]) -> None:
    """Make a stream, or add the subjects that it lacks."""
    from nats.js.api import StreamConfig
    from nats.js.errors import BadRequestError

    config = StreamConfig(name=name, subjects=list(subjects), max_bytes=_KEPT_BYTES)
    try:
        await jetstream.add_stream(config)
    except BadRequestError:
        await jetstream.update_stream(config)


def _with(parts: SplitResult, password: str) -> str:
    """The address with the password of its user."""
    if not password or not parts.username:
        return parts.geturl()
    return parts._replace(netloc=f"{parts.username}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()
