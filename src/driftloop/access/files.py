"""Files that several processes read and people change: read again when they have changed, written one at a time."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError

T = TypeVar("T", bound=msgspec.Struct)

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """What changes whenever a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class Kept(Generic[T]):
    """The content of a JSON file, `kind()` where there is none; any number of threads and processes may use it."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path, self._kind = path, kind
        self._guard = threading.Lock()
        self._stamp: Stamp = None
        self._value = kind()

    def read(self) -> T:
        """What is in the file now; raises JsonError for one that is damaged: then nobody's access is known."""
        now = stamp(self.path)
        with self._guard:
            if now != self._stamp:
                self._value = self._load()
                self._stamp = now
            return self._value

    @contextlib.contextmanager
    def change(self) -> Iterator[T]:
        """The content, to be changed in place; written when the block ends, and not where it raises."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            value = self._load()
            yield value
            try:
                durable.write_json(self.path, msgspec.to_builtins(value), mode=0o600)
            except OSError as error:
                raise self._unwritable(error) from error
        finally:
            os.close(handle)

    def _load(self) -> T:
        try:
            return durable.read_json(self.path, self._kind, remedy="restore it from a backup, or delete it")
        except FileNotFoundError:
            return self._kind()

    def _unwritable(self, error: OSError) -> DriftloopError:
        return DriftloopError(
            f"cannot be written: {error.strerror}", where=str(self.path), remedy="set DRIFTLOOP_ACCESS_DIR"
        )
