"""Sessions of people who have logged in: in this process alone, known by the SHA-256 of a random id in a cookie."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from driftloop.access.people import People, Person

COOKIE = "driftloop_session"
MOST = 10_000
"""Sessions at once; the one that has been idle for longest goes first."""


@dataclass
class Session:
    """One person in one browser; `csrf` must come with every change."""

    name: str
    stamp: str
    csrf: str
    began: float
    seen: float


class Sessions:
    """All sessions; any number of threads may use it."""

    def __init__(
        self, people: People, *, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._people, self._idle_s, self._longest_s, self._clock = people, idle_s, longest_s, clock
        self._guard = threading.Lock()
        self._known: OrderedDict[str, Session] = OrderedDict()

    def begin(self, person: Person) -> str:
        """A new session of a person; the cookie's value."""
        value, now = secrets.token_urlsafe(32), self._clock()
        with self._guard:
            self._known[_key(value)] = Session(person.name, person.stamp, secrets.token_urlsafe(32), now, now)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return value

    def find(self, value: str) -> tuple[Person, str] | None:
        """Whose session it is, and its `csrf`; None where it has ended, or the person is gone or has another
        password."""
        key, now = _key(value), self._clock()
        with self._guard:
            found = self._known.get(key)
            if found is None:
                return None
            over = now - found.seen > self._idle_s or now - found.began > self._longest_s
            person = None if over else self._people.find(found.name)
            if person is None or person.stamp != found.stamp:
                del self._known[key]
                return None
            found.seen = now
            self._known.move_to_end(key)
            return person, found.csrf

    def end(self, value: str) -> None:
        """End a session."""
        with self._guard:
            self._known.pop(_key(value), None)


def _key(value: str) -> str:
    return hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
