"""A request's body, of which no more is kept than is allowed; one that is packed by gzip is unpacked."""

import zlib
from typing import Any

import msgspec
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from driftloop.protocol.problems import refusal

_GZIP = 16 + zlib.MAX_WBITS
_MOST_PARTS = 16
"""Streams that one gzip body may be made of: each is looked for in all that follows."""


async def read(request: Request, most: int) -> bytes | None:
    """The body, unpacked; None for one that has more than `most` bytes, of which the rest is not read.

    Raises RequestRefused where it cannot be unpacked, or came only in part.
    """
    packed = is_packed(request.headers.get("content-encoding", ""))
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                return None
    except ClientDisconnect:
        # Nobody hears it, and nothing has failed here.
        raise refusal(400, "body", "came only in part: the connection was closed") from None
    return await run_in_threadpool(unpacked, bytes(body), most) if packed else bytes(body)


def is_packed(coding: str, what: str = "body") -> bool:
    """Whether a body with this Content-Encoding is gzip, of what is `what` to people; raises RequestRefused for any
    other encoding."""
    wanted = coding.strip().lower()
    if wanted not in ("", "identity", "gzip", "x-gzip"):
        raise refusal(415, "Content-Encoding", f"is {coding[:80]}; send gzip, or the bare {what}")
    return "gzip" in wanted


def unpacked(body: bytes, most: int) -> bytes | None:
    """What a gzip body holds, None where that is more than `most` bytes: no more are ever unpacked, however small the
    body is. Raises RequestRefused for what is no gzip.
    """
    content, parts = b"", 0
    try:
        while body:
            parts += 1
            if parts > _MOST_PARTS:
                raise refusal(400, "body", f"is gzip of more than {_MOST_PARTS} parts; send one")
            part = zlib.decompressobj(wbits=_GZIP)
            content += part.decompress(body, most + 1 - len(content))
            if len(content) > most:
                return None
            if not part.eof:
                raise refusal(400, "body", "is gzip that is cut short")
            body = part.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise refusal(400, "body", f"is no gzip, as Content-Encoding says: {error}") from None
    return content


def documented(kind: type[msgspec.Struct], example: Any, *, required: bool = True) -> dict[str, Any]:
    """How the OpenAPI document describes a body."""
    schema = msgspec.json.schema(kind)
    [definition] = schema["$defs"].values()
    content = {"schema": definition, "example": example}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}
