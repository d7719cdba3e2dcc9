"""A request's body: read with a limit, of the right type, unpacked."""

from typing import NamedTuple

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from driftloop.protocol.bodies import is_packed, unpacked
from driftloop.protocol.problems import Problem, RequestRefused
from driftloop.protocol.windows import CONTENT_TYPE

_MSGPACK = CONTENT_TYPE.encode()


class Body(NamedTuple):
    """What was sent."""

    content: bytes
    is_msgpack: bool
    """MessagePack (driftloop.protocol.windows); else JSON."""


async def read(request: Request, most: int, *, msgpack: bool = False) -> Body:
    """The body, unpacked, never more than `most` bytes of it; raises RequestRefused for a longer one, another type or
    encoding. MessagePack is only taken where `msgpack` says so."""
    declared, packed, is_msgpack = 0, False, False
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            declared = int(value)
        elif name == b"content-type" and msgpack and value.strip().lower() == _MSGPACK:
            is_msgpack = True
        elif name == b"content-type" and not _is_json(value):
            kind = value[:80].decode("ascii", "replace")
            problem = f"is {kind}; send JSON with the header Content-Type: application/json"
            raise RequestRefused(415, [Problem("Content-Type", problem)])
        elif name == b"content-encoding":
            packed = is_packed(value.decode("ascii", "replace"), "JSON")
    pieces: list[bytes] = []
    size = 0
    # Nothing of a body is read that says itself that it is too long.
    while declared <= most:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > most:
            break
        pieces.append(piece)
        if not message.get("more_body", False):
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return Body(await run_in_threadpool(_unpacked, body, most) if packed else body, is_msgpack)
    raise _too_large(most)


def _unpacked(body: bytes, most: int) -> bytes:
    content = unpacked(body, most)
    if content is None:
        raise _too_large(most)
    return content


def _too_large(most: int) -> RequestRefused:
    return RequestRefused(413, [Problem("body", f"is larger than {most} bytes; send fewer windows in one request")])


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
