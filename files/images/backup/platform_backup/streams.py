"""Streams through age: a part is never whole in memory or unencrypted on a disk."""

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from platform_backup.manifest import Part, Refused
from platform_backup.places import Place

PIECE = 1 << 20


class Counting:
    """A stream that is read through, with its digest and size."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._sum, self.size = stream, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._sum.update(piece)
        self.size += len(piece)
        return piece

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()


def keep(place: Place, backup: str, kind: str, of: str, recipient: str, produce: Callable[[BinaryIO], Any]) -> Part:
    """Encrypt what `produce` writes for `recipient`, and keep it as a part."""
    name = f"{kind}-{of}.age"
    age = subprocess.Popen(["age", "-r", recipient], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert age.stdin is not None
    assert age.stdout is not None
    failed: list[BaseException] = []

    def feed() -> None:
        try:
            produce(age.stdin)
        except BaseException as error:
            failed.append(error)
            # Without its end the other side must not take the file for a whole one.
            age.kill()
        finally:
            with suppress(OSError):
                age.stdin.close()

    feeding = threading.Thread(target=feed)
    feeding.start()
    counted = Counting(age.stdout)
    try:
        place.put(backup, name, counted)  # type: ignore[arg-type]
    finally:
        feeding.join()
        code = age.wait()
    if failed:
        raise failed[0]
    if code != 0:
        raise Refused(f"age failed with code {code} for {name}: is `{recipient}` a recipient?")
    return Part(name, kind, of, counted.sha256, counted.size)


def check(place: Place, backup: str, part: Part) -> None:
    """Refuse a part that is missing or is not what the manifest says."""
    if not place.has(backup, part.name):
        raise Refused(f"{backup}/{part.name} is missing")
    counted = Counting(place.get(backup, part.name))
    while counted.read(PIECE):
        pass
    if (counted.size, counted.sha256) != (part.size, part.sha256):
        raise Refused(
            f"{backup}/{part.name} is damaged: it has {counted.size} bytes with another digest than the manifest"
        )


@contextmanager
def opened(place: Place, backup: str, part: Part, identity: str) -> Iterator[BinaryIO]:
    """What a part holds, decrypted with the key in the file `identity`."""
    age = subprocess.Popen(["age", "-d", "-i", identity], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert age.stdin is not None
    assert age.stdout is not None

    def feed() -> None:
        content = place.get(backup, part.name)
        try:
            while piece := content.read(PIECE):
                age.stdin.write(piece)
            age.stdin.close()
        except BrokenPipeError:
            pass

    feeding = threading.Thread(target=feed, daemon=True)
    feeding.start()
    try:
        yield age.stdout
        left = age.stdout.read(1)
    except BaseException:
        age.kill()
        age.wait()
        raise
    feeding.join()
    if age.wait() != 0 or left:
        raise Refused(f"{backup}/{part.name} cannot be decrypted to its end")


def opens(place: Place, backup: str, part: Part, identity: str) -> None:
    """Refuse a key that does not open a part; reads it to its end."""
    try:
        with opened(place, backup, part, identity) as content:
            while content.read(PIECE):
                pass
    except Refused as error:
        raise Refused(f"the key does not open {backup}/{part.name}: it was made for another one") from error
