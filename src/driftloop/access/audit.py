"""The audit log: every act that needs `operate` or `admin`, one JSON line each, appended and never changed.

It holds who, what, from where and the outcome; no bodies, no queries, no secrets. Every process appends to the same
file, and its own log has each line too, for who collects those. A file that has grown is put aside whole, under the
number of its first entry; of these pieces the oldest go when there are more than PIECES.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from driftloop import durable
from driftloop.errors import DriftloopError

log = logging.getLogger(__name__)

FILE = "audit.jsonl"
PIECE_BYTES = 8 * 2**20
PIECES = 64
"""That are kept beside the newest file: 512 MiB, some two million acts."""
_TRIES = 5


class Audit:
    """The log in a folder, written by `service`."""

    def __init__(self, folder: Path, service: str) -> None:
        self.path, self._service = folder / FILE, service

    def check(self) -> None:
        """Raise DriftloopError where it cannot be written: what cannot be told must not be done."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
        except OSError as error:
            raise DriftloopError(
                f"the audit log cannot be written: {error.strerror}",
                where=str(self.path),
                remedy="make room, or set DRIFTLOOP_ACCESS_DIR to a folder that can be written",
            ) from error

    def write(
        self, *, who: str | None, role: str | None, how: str | None, address: str, act: str, outcome: str, **more: Any
    ) -> None:
        """Append one act; where that fails now, the process's log has it alone."""
        entry = {
            "time": durable.now(),
            "service": self._service,
            "who": who,
            "role": role,
            "how": how,
            "address": address,
            "act": _printable(act)[:500],
            "outcome": outcome,
            **{name: value for name, value in more.items() if value is not None},
        }
        log.info("audit %s", json.dumps(entry))
        try:
            self.check()
            with _alone(self.path):
                _put_aside(self.path)
                self.check()  # It makes the next piece, for its owner alone.
                durable.append_json_line(self.path, entry)
        except (OSError, DriftloopError) as error:
            log.error("%s; not written: %s", error, json.dumps(entry))


def _printable(act: str) -> str:
    """What a terminal would take for orders is written as in an address: anybody may ask for any path."""
    return "".join(letter if letter.isprintable() else quote(letter, errors="replace") for letter in act)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer at a time, of all processes: what a full disk took a part of is cut off again."""
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def pieces(path: Path) -> list[tuple[int, Path]]:
    """All files of the log, oldest first, each with the number of its first entry; the newest is `path` itself."""
    found = []
    for one in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        number = one.stem.removeprefix(f"{path.stem}-")
        if number.isdigit():
            found.append((int(number), one))
    found.sort()
    # The newest says nothing of its number: it follows those of the piece before.
    first = found[-1][0] + _count(found[-1][1]) if found else 1
    return [*found, (first, path)]


def _count(path: Path) -> int:
    return sum(1 for _ in durable.read_json_lines(path))


def _put_aside(path: Path) -> None:
    """Give the file another name where it is full, and delete the oldest pieces; needs to be alone with it."""
    try:
        if path.stat().st_size < PIECE_BYTES:
            return
    except FileNotFoundError:
        return
    *before, (first, _) = pieces(path)
    path.rename(path.with_name(f"{path.stem}-{first:012d}{path.suffix}"))
    for _, one in before[: max(0, len(before) + 1 - PIECES)]:
        one.unlink()


def read(path: Path, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """The first `limit` entries behind number `after`, or where that is 0 the newest; each with its number `seq`.

    A piece that is put aside meanwhile is read under either name, and nothing of it is missed.
    """
    for _ in range(_TRIES):
        known = pieces(path)
        found = _behind(known, after, limit) if after else _newest(known, limit)
        if pieces(path) == known:
            break
    return found


def _behind(known: list[tuple[int, Path]], after: int, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for at, (first, one) in enumerate(known):
        if at + 1 < len(known) and known[at + 1][0] <= after + 1:
            continue
        behind = (entry for entry in _entries(first, one) if entry["seq"] > after)
        found += islice(behind, limit - len(found))
        if len(found) == limit:
            break
    return found


def _newest(known: list[tuple[int, Path]], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for first, one in reversed(known):
        found = [*deque(_entries(first, one), maxlen=limit - len(found)), *found]
        if len(found) == limit:
            break
    return found


def _entries(first: int, path: Path) -> Iterator[dict[str, Any]]:
    return ({"seq": seq, **entry} for seq, entry in enumerate(durable.read_json_lines(path), first))
