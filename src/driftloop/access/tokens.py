"""Named bearer tokens of programs, kept as SHA-256.

A token is 256 random bits, so a fast hash is right: there is nothing to guess, and what a slow hash defends, passwords
that people choose, is elsewhere (driftloop.access.people). The file says when each ends; it is read again whenever it
has changed, so that what is revoked is refused with the next request, by every process.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from driftloop import durable
from driftloop.access.files import Kept
from driftloop.access.roles import ROLES
from driftloop.errors import DriftloopError, ExitCode
from driftloop.protocol.roles import Role

FILE = "tokens.json"
PREFIX = "driftloop_"
"""By which scanners for secrets know one."""
OWN = "platform"
"""Name of the platform's own token, which its processes bring to each other."""
LOCAL = "local"
"""Name of whom nothing but being on this machine vouches for."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
DAY_S = 86_400.0
RATE = 100.0
"""Requests in a second that a token may make, where nothing else is said."""


class Hash(msgspec.Struct):
    """The SHA-256 of one secret, and until when it counts."""

    sha256: str
    until: str | None = None


class Entry(msgspec.Struct):
    """One named token; while it is rotated, the one before may still count."""

    name: str
    role: Role
    created: str
    hashes: list[Hash]
    rate: float = RATE


class Book(msgspec.Struct):
    """All of them."""

    tokens: list[Entry] = []


class Named(NamedTuple):
    """Whose token it is."""

    name: str
    role: Role
    rate: float | None
    """Requests in a second; None: any number."""


class Tokens:
    """The tokens in a folder, and the platform's own, where it has one."""

    def __init__(self, folder: Path, own: str = "") -> None:
        self._kept = Kept(folder / FILE, Book)
        self._own = _sha256(own) if own else None

    @property
    def any(self) -> bool:
        """Whether there is a token that counts."""
        return self._own is not None or any(any(map(_valid, entry.hashes)) for entry in self._kept.read().tokens)

    def find(self, token: str) -> Named | None:
        """Whose token this is; None for one that is unknown, revoked or has ended. Takes as long for each."""
        given, found = _sha256(token), None
        if self._own is not None and hmac.compare_digest(given, self._own):
            found = Named(OWN, "admin", None)
        for entry in self._kept.read().tokens:
            for one in entry.hashes:
                if hmac.compare_digest(given, one.sha256) and _valid(one):
                    found = Named(entry.name, entry.role, entry.rate)
        return found

    def list(self) -> list[dict[str, object]]:
        """What there is to know of each, without the secrets."""
        return [
            {
                "name": entry.name,
                "role": entry.role,
                "created": entry.created,
                "expires": entry.hashes[-1].until,
                "expired": not any(map(_valid, entry.hashes)),
                "rate": entry.rate,
            }
            for entry in self._kept.read().tokens
        ]

    def add(self, name: str, role: Role, *, days: float | None = None, rate: float = RATE) -> str:
        """A new token, which is not kept and so can be told this once; raises DriftloopError for a name that is taken
        or cannot be used."""
        check(name, role, of="token", where="tokens")
        with self._kept.change() as book:
            if any(entry.name == name for entry in book.tokens):
                what, remedy = f"there is a token {name!r}", "rotate it, or revoke it"
                raise DriftloopError(what, where="tokens", remedy=remedy, exit_code=ExitCode.REFUSED)
            token = _new()
            book.tokens.append(Entry(name, role, durable.now(), [Hash(_sha256(token), _after(days))], rate))
        return token

    def rotate(self, name: str, *, days: float | None = None, overlap_s: float = 0.0) -> str:
        """A new secret for a token; the one before counts for `overlap_s` seconds more."""
        with self._kept.change() as book:
            entry = _of(book, name)
            token, end = _new(), _after(overlap_s / DAY_S)
            kept = [Hash(one.sha256, _earlier(one.until, end)) for one in entry.hashes if _valid(one)]
            entry.hashes = [*(kept if overlap_s > 0 else []), Hash(_sha256(token), _after(days))]
        return token

    def revoke(self, name: str) -> None:
        """Take a token back."""
        with self._kept.change() as book:
            book.tokens.remove(_of(book, name))


def _of(book: Book, name: str) -> Entry:
    for entry in book.tokens:
        if entry.name == name:
            return entry
    what = f"there is no token {name!r}"
    raise DriftloopError(what, where="tokens", remedy="driftloop tokens list", exit_code=ExitCode.MISSING)


def check(name: str, role: str, *, of: str, where: str, kept: Collection[str] = (OWN,)) -> None:
    """Raise DriftloopError for a name that cannot be used or is `kept` for others, or a role that there is not."""
    if not NAME.fullmatch(name) or name in kept:
        raise DriftloopError(
            f"{name!r} cannot be the name of a {of}",
            where=where,
            remedy="use letters, digits and . _ @ -, at most 64 of them",
        )
    if role not in ROLES:
        raise DriftloopError(f"there is no role {role!r}", where=where, remedy=f"choose of {', '.join(ROLES)}")


def _new() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def _valid(one: Hash) -> bool:
    return one.until is None or durable.parse_time(one.until).timestamp() > time.time()


def _after(days: float | None) -> str | None:
    """The time so many days from now; None for ever."""
    if days is None:
        return None
    return durable.format_seconds(time.time() + days * DAY_S)


def _earlier(one: str | None, other: str | None) -> str | None:
    """The earlier of two times in the one form of every time."""
    return min((time for time in (one, other) if time is not None), default=None)
