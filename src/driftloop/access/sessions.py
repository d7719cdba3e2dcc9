"""Sessions of people who have logged in, known by the SHA-256 of a random id in a cookie.

They are kept in a file, so that they outlive a restart of the console; it holds no secret: who reads it can log in as
nobody. What must come with a change is made from the cookie's value too, and is kept nowhere.
"""

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from driftloop.access.files import Kept
from driftloop.access.people import People, Person
from driftloop.errors import DriftloopError

COOKIE = "driftloop_session"
COOKIE_OF_HTTPS = f"__Host-{COOKIE}"
"""Browsers take a cookie of such a name over https, from this very address and for all of it: no neighbour under the
same domain can lay one ready."""
FILE = "sessions.json"
MOST = 1000
"""Sessions at once; the one that has been idle for longest goes first."""
SEEN_S = 60.0
"""That a session is in use is written down no more often, or than a tenth of the time after which an idle one ends."""


class Session(msgspec.Struct):
    """One person in one browser; times in seconds since 1970."""

    name: str
    stamp: str
    began: float
    seen: float


class Book(msgspec.Struct):
    """All of them, by the SHA-256 of the cookie's value."""

    sessions: dict[str, Session] = {}


class Sessions:
    """The sessions in a folder; any number of threads and processes may use it."""

    def __init__(
        self, folder: Path, people: People, *, idle_s: float, longest_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._kept = Kept(folder / FILE, Book)
        self._people, self._idle_s, self._longest_s, self._clock = people, idle_s, longest_s, clock

    def begin(self, person: Person) -> str:
        """A new session of a person; the cookie's value. Raises DriftloopError where it cannot be kept."""
        value, now = secrets.token_urlsafe(32), self._clock()
        with self._kept.change() as book:
            book.sessions = {key: one for key, one in book.sessions.items() if self._person(one, now) is not None}
            book.sessions[_key(value)] = Session(person.name, person.stamp, now, now)
            for key in sorted(book.sessions, key=lambda key: book.sessions[key].seen)[:-MOST]:
                del book.sessions[key]
        return value

    def find(self, value: str) -> tuple[Person, str] | None:
        """Whose session it is, and what must come with a change; None where it has ended, or the person is gone or has
        another password."""
        key, now = _key(value), self._clock()
        found = self._kept.read().sessions.get(key)
        person = self._person(found, now) if found is not None else None
        if found is None or person is None:
            return None
        if now - found.seen > min(SEEN_S, self._idle_s / 10):
            self._see(key, now)
        return person, hashlib.sha256(f"csrf {value}".encode(errors="surrogateescape")).hexdigest()

    def end(self, value: str) -> None:
        """End a session."""
        with self._kept.change() as book:
            book.sessions.pop(_key(value), None)

    def _person(self, one: Session, now: float) -> Person | None:
        """Whose session it is, while it lasts. One that began ahead of the clock, which was set back, has ended."""
        if not 0 <= now - one.began <= self._longest_s or now - one.seen > self._idle_s:
            return None
        person = self._people.find(one.name)
        return person if person is not None and person.stamp == one.stamp else None

    def _see(self, key: str, now: float) -> None:
        """Write down that it is in use; where that fails now, it ends a little earlier."""
        with contextlib.suppress(DriftloopError), self._kept.change() as book:
            if key in book.sessions:
                book.sessions[key].seen = now


def _key(value: str) -> str:
    return hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
