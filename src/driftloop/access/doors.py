"""The one door that server, retrainer and console share: who is asking, and whether they may.

Who asks is told by a bearer token, by a trusted proxy, by the cookie of a session, or by nothing but being on this
machine. The last may look, ask for predictions, and change nothing where there is any credential at all.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from driftloop.access.limits import Failures, Rate, retry_after
from driftloop.access.people import People
from driftloop.access.proxy import Proxies
from driftloop.access.roles import may
from driftloop.access.sessions import COOKIE, COOKIE_OF_HTTPS, Sessions
from driftloop.access.tokens import LOCAL, OWN, Tokens
from driftloop.errors import DriftloopError
from driftloop.protocol.client import ACTOR
from driftloop.protocol.roles import Role
from driftloop.settings import Settings

How = Literal["loopback", "token", "session", "proxy"]
CSRF_HEADER = "x-csrf-token"
LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
_HOST = frozenset("@/?#\\")
"""What is in no name of a machine, and would have the name looked for beside it."""
_ONCE = frozenset({"authorization", "host", "origin", CSRF_HEADER, ACTOR.lower()})
"""What tells who is asking: of two values a proxy may look at the one and this process at the other."""


class TurnedAway(DriftloopError):
    """Who is not let in, and why: 400 for a header that is there twice, 401 without
    credentials that count, 403 with too few rights, 429 for the moment."""

    def __init__(
        self, status: int, field: str, what: str, headers: dict[str, str] | None = None, who: "Who | None" = None
    ) -> None:
        super().__init__(what)
        self.status, self.field, self.headers, self.who = status, field, headers or {}, who


@dataclass(frozen=True)
class Asking:
    """What of a request tells who is asking; names of `headers` are in lower case."""

    method: str
    headers: Mapping[str, str]
    peer: str
    """Address of the other end of the connection."""
    repeated: frozenset[str] = frozenset()
    """Headers that came more than once, of which `headers` has all values."""
    https: bool = False
    """Whether the connection itself is encrypted."""


@dataclass(frozen=True)
class Who:
    """Who is asking, and what they may."""

    name: str
    role: Role
    how: How
    address: str
    """From where, as far as trusted proxies tell."""
    csrf: str | None = None
    """What must come with a change, where a browser brings the credentials by itself."""

    def may(self, needed: Role) -> bool:
        """Whether they may do what needs this role; on this machine, predictions are for everybody."""
        return may(self.role, needed) or (self.how == "loopback" and needed == "predict")

    @property
    def is_platform(self) -> bool:
        """Whether a process of the platform is asking."""
        return self.how == "token" and self.name == OWN


class Door:
    """The door of one process; any number of threads may use it."""

    def __init__(self, settings: Settings, *, sessions: bool = False) -> None:
        """With `sessions`, people may log in here: at the console, and nowhere else."""
        folder = settings.access_folder
        self.tokens, self.people = Tokens(folder, settings.token), People(folder)
        idle_s, longest_s = settings.session_idle_s, settings.session_longest_s
        kept = Sessions(folder, self.people, idle_s=idle_s, longest_s=longest_s)
        self.sessions: Sessions | None = kept if sessions else None
        self.proxies = Proxies.of(
            settings.trusted_proxies,
            settings.proxy_user_header,
            settings.proxy_groups_header,
            settings.proxy_roles,
            settings.proxy_password_file,
        )
        self.rate, self.failures = Rate(), Failures()
        self._key = secrets.token_bytes(32)

    @property
    def credentials(self) -> bool:
        """Whether there is any way to prove who one is."""
        return bool(self.tokens.any or self.people.any or self.proxies.networks)

    def who(self, asking: Asking, needed: Role | None = None, *, anew: bool = True) -> Who:
        """Who is asking, for what needs this role; raises TurnedAway for credentials that do not count, or none where
        some are needed. What is not asked `anew` counts neither for a token's rate nor as a try that failed."""
        for name in asking.repeated & (_ONCE | {self.proxies.user_header, self.proxies.groups_header}):
            raise TurnedAway(400, name, "came more than once; send it once")
        address = self.proxies.client(asking.peer, asking.headers)
        given = asking.headers.get("authorization")
        if self.proxies.speaks(asking.peer, asking.headers):
            named = self._by_proxy(asking.headers, address)
            if named is not None:
                return named
        elif given is not None:
            return self._by_token(given, address, anew)
        session = self._by_session(asking, address)
        if session is not None:
            return session
        if _is_local(asking):
            # Predictions are for everybody here; whether there are credentials would be two looks at the disk for each.
            looking = needed == "predict" or self.credentials
            return Who(LOCAL, "view" if looking else "operate", "loopback", address)
        said = "must be `Bearer ` and a token, or log in"
        if is_loopback(asking.peer):
            said += "; without, ask this machine itself and by its name localhost or 127.0.0.1"
        raise TurnedAway(401, "Authorization", said, {"WWW-Authenticate": "Bearer"})

    def admit(self, asking: Asking, needed: Role) -> Who:
        """Who is asking, if they may do what needs this role; raises TurnedAway."""
        who = self.who(asking, needed)
        if not who.may(needed):
            if who.how == "loopback":
                said = "must be `Bearer ` and a token, or log in: without, one may look"
                raise TurnedAway(401, "Authorization", said, {"WWW-Authenticate": "Bearer"}, who)
            raise TurnedAway(403, "role", f"{who.name} has the role {who.role}; this needs {needed}", who=who)
        if asking.method not in LOOKING:
            _check_origin(who, asking)
        return who

    def admits(self, asking: Asking, needed: Role) -> bool:
        """Whether who was let in still would be."""
        try:
            return self.who(asking, needed, anew=False).may(needed)
        except DriftloopError:
            return False

    def cookie_name(self, asking: Asking) -> str:
        """What the session's cookie is called: under https browsers take it from this address alone."""
        return COOKIE_OF_HTTPS if self.by_https(asking) else COOKIE

    def by_https(self, asking: Asking) -> bool:
        """Whether the browser came by https, as far as this process or a trusted proxy knows."""
        if self.proxies.trusts(asking.peer):
            return asking.headers.get("x-forwarded-proto", "https" if asking.https else "http") == "https"
        return asking.https

    def session_of(self, asking: Asking) -> str:
        """The value of the session's cookie; empty where there is none."""
        return _cookie(asking.headers, self.cookie_name(asking))

    def csrf_of(self, name: str) -> str:
        """What must come with a change by whom a proxy has let in, whose cookie the browser brings by itself."""
        return hmac.new(self._key, name.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()

    def _by_token(self, given: str, address: str, anew: bool) -> Who:
        scheme, _, token = given.partition(" ")
        found = self.tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            if anew:
                self.slow(address)
                self.failures.failed(address)
            raise TurnedAway(
                401, "Authorization", "must be `Bearer ` and a token that counts", {"WWW-Authenticate": "Bearer"}
            )
        if anew and found.rate is not None and (wait_s := self.rate.wait_s(found.name, found.rate)) > 0:
            raise TurnedAway(429, "rate", f"{found.name} may ask {found.rate:g} times a second", retry_after(wait_s))
        return Who(found.name, found.role, "token", address)

    def slow(self, address: str) -> None:
        """Raise TurnedAway where so many tries have failed that another is not even looked at now."""
        wait_s = self.failures.wait_s(address)
        if wait_s > 0:
            raise TurnedAway(429, "Authorization", "too many tries have failed; come again later", retry_after(wait_s))

    def _by_proxy(self, headers: Mapping[str, str], address: str) -> Who | None:
        found = self.proxies.identity(headers)
        if found is None:
            return None
        name, role = found
        if role is None:
            raise TurnedAway(
                403, "role", f"neither {name} nor a group of theirs has a role here (DRIFTLOOP_PROXY_ROLES)"
            )
        return Who(name, role, "proxy", address, self.csrf_of(name))

    def _by_session(self, asking: Asking, address: str) -> Who | None:
        value = self.session_of(asking)
        found = self.sessions.find(value) if value and self.sessions is not None else None
        if found is None:
            return None
        person, csrf = found
        return Who(person.name, person.role, "session", address, csrf)


def _cookie(headers: Mapping[str, str], wanted: str) -> str:
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""


def same_site(headers: Mapping[str, str]) -> bool:
    """Whether a page of this address asks, or no page at all: browsers name the page's address in `Origin`."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _check_origin(who: Who, asking: Asking) -> None:
    """Raise TurnedAway for a change that a page of somebody else may have made a browser send."""
    if who.how == "token":
        return  # No browser brings it by itself.
    if who.how == "loopback":
        if not same_site(asking.headers):
            raise TurnedAway(403, "Origin", "is another page than this address's", who=who)
        return
    if not hmac.compare_digest(asking.headers.get(CSRF_HEADER, "").encode(), (who.csrf or "").encode()):
        raise TurnedAway(403, "X-CSRF-Token", "must be what GET /api/v1/me says", who=who)


def _is_local(asking: Asking) -> bool:
    """Whether the request comes from this machine, by an address that only this machine has, and not through a proxy.

    A page from elsewhere may give its own name the address 127.0.0.1 (DNS rebinding): the browser then sends that name.
    """
    if not is_loopback(asking.peer) or any(name in asking.headers for name in _FORWARDED):
        return False
    return is_loopback(_without_port(asking.headers.get("host", "")))


@lru_cache(maxsize=1024)
def _without_port(host: str) -> str:
    if not _HOST.isdisjoint(host):
        return ""  # Whose name this is, a process between may read in another way.
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def check_start(settings: Settings, host: str) -> None:
    """Raise DriftloopError where a process would listen for others than this machine, and nobody could prove to it who
    they are."""
    if is_loopback(host) or Door(settings).credentials:
        return
    raise DriftloopError(
        "without credentials anybody who reaches this address could use it",
        where=f"--host {host}",
        remedy="make a token (`driftloop tokens add NAME --role ROLE`), set DRIFTLOOP_TOKEN_FILE to a file with at "
        "least 16 random characters, add people (`driftloop people add NAME`), or listen on 127.0.0.1",
    )
