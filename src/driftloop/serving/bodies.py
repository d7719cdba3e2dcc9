"""A request's body: read with a limit, of the right type, unpacked."""

import zlib

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from driftloop.protocol.problems import Problem, RequestRefused

_MOST_PARTS = 16
"""Streams that one gzip body may be made of: each is looked for in all that follows."""


async def read(request: Request, most: int) -> bytes:
    """The body, unpacked, never more than `most` bytes of it; raises RequestRefused for a longer one, another type or
    encoding."""
    declared, packed = 0, False
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            declared = int(value)
        elif name == b"content-type" and not _is_json(value):
            kind = value[:80].decode("ascii", "replace")
            problem = f"is {kind}; send JSON with the header Content-Type: application/json"
            raise RequestRefused(415, [Problem("Content-Type", problem)])
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            packed = value.strip().lower() in {b"gzip", b"x-gzip"}
            if not packed:
                encoding = value[:80].decode("ascii", "replace")
                raise RequestRefused(415, [Problem("Content-Encoding", f"is {encoding}; send gzip, or the bare JSON")])
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
            return await run_in_threadpool(_unpacked, body, most) if packed else body
    raise _too_large(most)


def _unpacked(body: bytes, most: int) -> bytes:
    """What a gzip body holds; no more than `most` bytes are ever unpacked, however small the body is."""
    content, parts = b"", 0
    try:
        while body:
            parts += 1
            if parts > _MOST_PARTS:
                raise RequestRefused(400, [Problem("body", f"is gzip of more than {_MOST_PARTS} parts; send one")])
            part = zlib.decompressobj(wbits=31)
            content += part.decompress(body, most + 1 - len(content))
            if len(content) > most:
                raise _too_large(most)
            if not part.eof:
                raise RequestRefused(400, [Problem("body", "is gzip that is cut short")])
            body = part.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise RequestRefused(400, [Problem("body", f"is no gzip, as Content-Encoding says: {error}")]) from None
    return content


def _too_large(most: int) -> RequestRefused:
    return RequestRefused(413, [Problem("body", f"is larger than {most} bytes; send fewer windows in one request")])


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
