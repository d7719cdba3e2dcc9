"""Bodies of the public API: bounded, decoded once, described with an example that works."""

from typing import TypeVar

from fastapi import Request

from driftloop import durable
from driftloop.api.problems import Problem
from driftloop.protocol import bodies

MOST_BYTES = 256 * 1024
"""Of every body but an archive's."""

T = TypeVar("T")


async def bytes_of(request: Request, most: int = MOST_BYTES) -> bytes:
    """The body of a request; raises Problem for one that is too long or says that it is no JSON."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "Content-Type", f"is {kind[:80]}; send JSON with Content-Type: application/json")
    content = await bodies.read(request, most)
    if content is None:
        raise Problem(413, "body", f"has more than {most} bytes")
    return content


async def body_of(request: Request, kind: type[T]) -> T:
    """The body of a request as `kind`, whose defaults stand for a body that is empty; JsonError for anything else."""
    return durable.decode_json(await bytes_of(request) or b"{}", kind)
