"""A request's body, of which no more is kept than is allowed; one that is packed by gzip is unpacked on the way."""

import zlib

from fastapi import Request

from driftloop.protocol.problems import refusal

_GZIP = 16 + zlib.MAX_WBITS


async def read(request: Request, most: int) -> bytes | None:
    """The body as it was before it was packed; None for one that has more than `most` bytes, of which the rest is not
    read. Raises RequestRefused where it cannot be unpacked.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("gzip", "identity", ""):
        raise refusal(415, "Content-Encoding", f"is {coding[:40]}; send a body as it is, or packed by gzip")
    body, unpacking = bytearray(), _Unpacking() if coding == "gzip" else None
    async for piece in request.stream():
        body += piece if unpacking is None else unpacking.more(piece, most + 1 - len(body))
        if len(body) > most:
            return None
    if unpacking is not None and not unpacking.whole:
        raise refusal(400, "body", "ends in the middle of what gzip has packed")
    return bytes(body)


class _Unpacking:
    """Unpacks gzip as it comes, never more than is asked for; several packed texts one after the other are one."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether nothing is missing at the end."""
        return not self._begun

    def more(self, piece: bytes, most: int) -> bytes:
        """What the next piece unpacks to, at most so many bytes of it."""
        found = bytearray()
        while piece and len(found) < most:
            try:
                found += self._member.decompress(piece, most - len(found))
            except zlib.error as error:
                raise refusal(400, "body", f"is no gzip: {error}") from error
            self._begun = not self._member.eof
            piece = self._member.unconsumed_tail
            if self._member.eof:
                piece, self._member = self._member.unused_data, zlib.decompressobj(_GZIP)
        return bytes(found)
