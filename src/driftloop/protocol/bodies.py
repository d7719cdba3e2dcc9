"""A request's body, of which no more is kept than is allowed."""

from fastapi import Request


async def read(request: Request, most: int) -> bytes | None:
    """The body; None for one that has more than `most` bytes, of which the rest is not read."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            return None
    return bytes(body)
