"""People who log in by name and password; passwords are kept as scrypt, as RFC 7914 has it.

Source of the cost (32 MiB and some 100 ms): OWASP, "Password Storage Cheat Sheet".
"""

import hashlib
import hmac
import secrets
import threading
from pathlib import Path

import msgspec

from driftloop import durable
from driftloop.access.files import Kept
from driftloop.access.tokens import LOCAL, OWN, check
from driftloop.errors import DriftloopError, ExitCode
from driftloop.protocol.roles import Role

FILE = "people.json"
SHORTEST, LONGEST = 12, 1024
"""Characters of a password."""
_N, _R, _P = 2**15, 8, 1
_MEMORY = 64 * 2**20


class Person(msgspec.Struct):
    """One person; `stamp` is another with every password, and ends the sessions of the one before."""

    name: str
    role: Role
    created: str
    salt: str
    scrypt: str
    stamp: str


class Book(msgspec.Struct):
    """Everybody."""

    people: list[Person] = []


class People:
    """The people in a folder."""

    def __init__(self, folder: Path) -> None:
        self._kept = Kept(folder / FILE, Book)
        # Each takes 32 MiB and a processor.
        self._hashing = threading.Semaphore(2)

    @property
    def any(self) -> bool:
        """Whether anybody may log in."""
        return bool(self._kept.read().people)

    def find(self, name: str) -> Person | None:
        """A person by name."""
        return next((one for one in self._kept.read().people if one.name == name), None)

    def check(self, name: str, password: str) -> Person | None:
        """The person, if the password is right; takes as long where there is no such person."""
        found = self.find(name)
        salt = found.salt if found is not None else "00" * 16
        with self._hashing:
            given = _scrypt(password[:LONGEST], salt)
        right = hmac.compare_digest(given, found.scrypt if found is not None else "")
        return found if right else None

    def list(self) -> list[dict[str, object]]:
        """What there is to know of each, without the secrets."""
        return [{"name": one.name, "role": one.role, "created": one.created} for one in self._kept.read().people]

    def add(self, name: str, role: Role, password: str) -> None:
        """Let a person log in; raises DriftloopError for a name or a password that cannot be used."""
        check(name, role, of="person", where="people", kept=(OWN, LOCAL))
        made = _person(name, role, password)
        with self._kept.change() as book:
            if any(one.name == name for one in book.people):
                what, remedy = f"there is a person {name!r}", "driftloop people passwd"
                raise DriftloopError(what, where="people", remedy=remedy, exit_code=ExitCode.REFUSED)
            book.people.append(made)

    def set_password(self, name: str, password: str) -> None:
        """Give a person another password; all sessions end."""
        with self._kept.change() as book:
            at = _place(book, name)
            before = book.people[at]
            book.people[at] = _person(name, before.role, password, before.created)

    def remove(self, name: str) -> None:
        """Let a person log in no more; all sessions end."""
        with self._kept.change() as book:
            book.people.pop(_place(book, name))


def _place(book: Book, name: str) -> int:
    for at, one in enumerate(book.people):
        if one.name == name:
            return at
    what = f"there is no person {name!r}"
    raise DriftloopError(what, where="people", remedy="driftloop people list", exit_code=ExitCode.MISSING)


def _person(name: str, role: Role, password: str, created: str | None = None) -> Person:
    if not SHORTEST <= len(password) <= LONGEST:
        raise DriftloopError(
            f"a password has from {SHORTEST} to {LONGEST} characters", where="people", remedy="choose another"
        )
    salt = secrets.token_hex(16)
    return Person(name, role, created or durable.now(), salt, _scrypt(password, salt), secrets.token_hex(8))


def _scrypt(password: str, salt: str) -> str:
    given = password.encode(errors="surrogatepass")
    return hashlib.scrypt(given, salt=bytes.fromhex(salt), n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=32).hex()
