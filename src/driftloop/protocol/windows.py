"""Whole windows of units in service as MessagePack, since rows are many numbers: float32, little-endian, row by row.

A server answers to GET /windows with recent ones, and takes batches of them at POST /predict. Every replica holds the
windows of the requests that it answered, so all are asked, and of a unit that several know the newest counts.
"""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DriftloopError, ExitCode
from driftloop.protocol.http import Patience, client, why

PATH = "/windows"
CONTENT_TYPE = "application/msgpack"
TIMEOUT_S = 2.0


class Sent(msgspec.Struct, frozen=True):
    """One unit's newest window: `step` is that of its newest row where the request named it, `age_s` how long ago the
    request was answered."""

    unit: str
    step: int | None
    age_s: float
    rows: bytes


class Page(msgspec.Struct, frozen=True):
    """Some windows, in the order of their units; `after` begins the next page, None on the last one."""

    fleet: str
    """Digest of the fleet's schema."""
    columns: int
    windows: list[Sent]
    after: str | None = None


@dataclass(frozen=True, eq=False)
class UnitWindow:
    """Rows of one unit in service, oldest first."""

    unit: str
    rows: NDArray[np.float32]
    """`[n, columns]`, raw; NaN where a value was missing."""
    step: int | None = None
    """Of the newest row, where it is known."""
    age_s: float = 0.0
    """Since the request was answered."""


class WindowsUnavailable(DriftloopError):
    """No replica gives its windows now."""

    exit_code = ExitCode.UNREACHABLE


Name = Annotated[str, msgspec.Meta(max_length=200)]


class Asked(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One window that is to be answered: what a window in JSON is, with NaN for a missing value."""

    rows: bytes
    engine_id: Name | None = None
    cycle: Annotated[int, msgspec.Meta(ge=0, le=10**9)] | None = None
    request_id: Name | None = None
    history: bool = False
    """Of a history that was sent at once: answered, and counted nowhere as traffic of now."""


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /predict."""

    windows: Annotated[list[Asked], msgspec.Meta(min_length=1)]


encode = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode
_decode = msgspec.msgpack.Decoder(Page).decode


def sent(window: UnitWindow) -> Sent:
    """A window as it travels."""
    return Sent(window.unit, window.step, window.age_s, np.ascontiguousarray(window.rows, dtype="<f4").tobytes())


def read(
    urls: Sequence[str], token: str, fleet: str, *, transport: httpx.BaseTransport | None = None
) -> list[UnitWindow]:
    """The newest window of each unit that any of the servers `urls` knows, in the order of the units.

    `fleet` is the digest of the schema that rows must be of. A replica that does not answer is passed over; raises
    WindowsUnavailable where none answers, or one refuses the token or serves another fleet.
    """
    found: dict[str, UnitWindow] = {}
    failed: WindowsUnavailable | None = None
    answered = False
    for url in urls:
        try:
            for window in _of_replica(url, token, fleet, transport):
                known = found.get(window.unit)
                if known is None or _newness(window) > _newness(known):
                    found[window.unit] = window
            answered = True
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failed = WindowsUnavailable(f"does not answer: {why(error)}", where=url + PATH)
    if failed is not None and not answered:
        raise failed
    return [found[unit] for unit in sorted(found)]


def replicas(url: str) -> list[str]:
    """The address of each replica behind `url`: one for each address that its host name has, such as the pods behind a
    headless Service; `url` itself where the name is not known."""
    parsed = httpx.URL(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    try:
        known = socket.getaddrinfo(parsed.host, port, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = dict.fromkeys(str(address[0]) for family, *_, address in known if family in _FAMILIES)
    return [str(parsed.copy_with(host=host)).rstrip("/") for host in _one_family(hosts)] or [url]


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _one_family(hosts: Iterable[str]) -> list[str]:
    """IPv4 addresses, or all where there is none: a pod has one of each kind, and must not be asked twice."""
    every = list(hosts)
    return [host for host in every if ":" not in host] or every


def _newness(window: UnitWindow) -> tuple[int, float]:
    return (-1 if window.step is None else window.step, -window.age_s)


def _of_replica(url: str, token: str, fleet: str, transport: httpx.BaseTransport | None) -> list[UnitWindow]:
    windows: list[UnitWindow] = []
    with client(url, token, Patience(TIMEOUT_S, TIMEOUT_S), transport=transport) as http:
        after: str | None = ""
        while after is not None:
            answer = http.get(PATH, params={"after": after})
            if answer.status_code in (401, 403):
                raise WindowsUnavailable(
                    "refuses the token", where=url + PATH, remedy="set DRIFTLOOP_TOKEN_FILE alike for both"
                )
            answer.raise_for_status()
            page = _page(answer.content, url)
            if page.fleet != fleet:
                raise WindowsUnavailable("serves another fleet", where=url, remedy="check DRIFTLOOP_SERVER_URL")
            windows += [
                UnitWindow(
                    one.unit, np.frombuffer(one.rows, dtype="<f4").reshape(-1, page.columns), one.step, one.age_s
                )
                for one in page.windows
            ]
            after = page.after
    return windows


def _page(content: bytes, url: str) -> Page:
    try:
        page = _decode(content)
    except msgspec.MsgspecError as error:
        raise WindowsUnavailable(f"answers with something else than windows: {error}", where=url + PATH) from error
    if page.columns < 1 or any(len(one.rows) % (4 * page.columns) for one in page.windows):
        raise WindowsUnavailable("answers with rows that are cut short", where=url + PATH)
    return page
