"""HTTP to the platform's own addresses, in one place: no proxy of the environment, no trailing slash, one patience.

Proxies named in the environment are for the world outside; what belongs to the platform is always asked directly.
"""

import functools
import ssl
import time
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx

from driftloop.closing import Closing
from driftloop.errors import DriftloopError, ExitCode

JSON = {"Content-Type": "application/json"}
_URL = "write it as http://host:port"
_REPEATED = frozenset({408, 425, 429})
"""Refusals that say nothing against the request itself."""
_READ = httpx.ByteStream(b"")
_UNCONNECTED = (
    ("refused", "nothing listens there"),
    ("certificate", "its certificate is not trusted"),
    ("name", "its name is not known here"),
    ("unreachable", "no way leads there"),
    ("no route", "no way leads there"),
)
"""What systems say of a connection that could not be made, and what it means."""

T = TypeVar("T")


class Patience(NamedTuple):
    """How long an answer is waited for, and how often the question is put."""

    timeout_s: float
    connect_s: float
    tries: int = 1
    first_pause_s: float = 0.5
    """Before the second try; twice as long before each further one."""

    @property
    def timeout(self) -> httpx.Timeout:
        """The same for httpx."""
        return httpx.Timeout(self.timeout_s, connect=self.connect_s)


GLANCE = Patience(2.0, 2.0)
"""For a screen that shows what answers at once."""
ONCE = Patience(60.0, 5.0)
"""For a person who asks, and what must not happen twice."""
PATIENT = Patience(60.0, 5.0, tries=4)
"""For what may be sent again."""
REPORTING = Patience(5.0, 5.0, tries=5, first_pause_s=0.2)
"""For events: who reports has something else to do."""

Answer = httpx.Response | httpx.RequestError
Attempts = Generator[float, Answer, T]
"""Yields the pause before each try, is sent what became of it, and returns the last answer."""


def attempts(patience: Patience) -> Attempts[Answer]:
    """The policy of every client: tries again where there is no answer, or one that may be another next time."""
    answer = yield 0.0
    for attempt in range(1, patience.tries):
        if isinstance(answer, httpx.Response) and not may_change(answer):
            break
        answer = yield patience.first_pause_s * 2 ** (attempt - 1)
    return answer


def tried(http: httpx.Client, patience: Patience, **request: Any) -> Answer:
    """What became of a request, which is sent again as `attempts` says."""
    tries = attempts(patience)
    pause = next(tries)
    while True:
        time.sleep(pause)
        try:
            answer: Answer = http.request(**request)
        except httpx.RequestError as error:
            answer = error
        try:
            pause = tries.send(answer)
        except StopIteration as last:
            found: Answer = last.value
            return found


def may_change(answer: httpx.Response) -> bool:
    """Whether the same request may be answered otherwise a little later."""
    return answer.status_code >= 500 or answer.status_code in _REPEATED


def exit_code(answer: httpx.Response) -> ExitCode:
    """With which code a command ends that was answered so."""
    if may_change(answer):
        return ExitCode.UNREACHABLE
    return ExitCode.MISSING if answer.status_code == httpx.codes.NOT_FOUND else ExitCode.REFUSED


def in_path(name: str) -> str:
    """A name, whatever letters it has, as one part of a path; `.` and `..` are names too, and lead nowhere else."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")


class _Client(httpx.Client):
    """httpx ties an answer and its stream in a circle, so that megabytes that were sent live on until Python looks for
    circles; here they go with the answer."""

    def send(self, request: httpx.Request, *, stream: bool = False, **more: Any) -> httpx.Response:
        answer = super().send(request, stream=stream, **more)
        if not stream:
            answer.stream = _READ
        return answer


class _AsyncClient(httpx.AsyncClient):
    """The same for asyncio."""

    async def send(self, request: httpx.Request, *, stream: bool = False, **more: Any) -> httpx.Response:
        answer = await super().send(request, stream=stream, **more)
        if not stream:
            answer.stream = _READ
        return answer


def why(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Why there was no answer, in words for whoever reads it."""
    said = str(error)
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    if isinstance(error, httpx.ConnectError):
        return next((words for part, words in _UNCONNECTED if part in said.lower()), said or "no connection")
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return "the connection was cut"
    return said or type(error).__name__


def client(
    url: str = "", token: str = "", patience: Patience = ONCE, headers: Mapping[str, bytes] | None = None, **more: Any
) -> httpx.Client:
    """A client of one of the platform's processes, with `headers` too; raises DriftloopError where `url` is none."""
    made = _Client(**_options(url, token, patience), **more)
    made.headers.update({name.encode(): value for name, value in (headers or {}).items()})
    return made


def async_client(url: str = "", token: str = "", patience: Patience = ONCE, **more: Any) -> httpx.AsyncClient:
    """The same for asyncio."""
    return _AsyncClient(**_options(url, token, patience), **more)


def _options(url: str, token: str, patience: Patience) -> dict[str, Any]:
    try:
        base = httpx.URL(url.strip().rstrip("/"))
    except httpx.InvalidURL as error:
        raise DriftloopError(f"{url!r} is no URL: {error}", remedy=_URL) from error
    if url.strip() and base.scheme not in ("http", "https"):
        raise DriftloopError(f"{url!r} is no URL: it does not begin with http:// or https://", remedy=_URL)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    options = {"base_url": base, "headers": headers, "timeout": patience.timeout, "trust_env": False}
    # A client without an address of its own may be asked for any.
    return options if base.scheme == "http" else {**options, "verify": _trusted()}


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whom this machine trusts, with SSL_CERT_FILE: a platform may have an authority of its own."""
    return ssl.create_default_context()


class Connected(Closing):
    """Whatever asks one address and is closed at the end."""

    def __init__(self, url: str, token: str = "", **more: Any) -> None:
        """`more` goes to httpx: a transport for tests."""
        self._http = client(url, token, **more)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncConnected:
    """The same from asyncio."""

    def __init__(self, url: str, token: str = "", **more: Any) -> None:
        self._http = async_client(url, token, **more)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
