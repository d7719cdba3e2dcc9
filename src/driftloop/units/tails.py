"""The newest rows of a life as the server takes them (driftloop.protocol.windows): float32, row by row."""

from dataclasses import dataclass, field

_OBJECTS = 160
"""Bytes that Python adds to a tail."""


@dataclass(slots=True)
class Tail:
    """At most `most` rows of `width` bytes. Once it is full, each row takes the place of the oldest one, so that a tail
    stays where it is in memory and is no larger than its rows."""

    most: int
    width: int
    _rows: bytearray = field(default_factory=bytearray)
    _oldest: int = 0
    """Where the oldest row begins."""

    def __len__(self) -> int:
        return len(self._rows) // self.width

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self._rows) + _OBJECTS

    def content(self) -> bytes:
        """The rows, oldest first."""
        rows = memoryview(self._rows)
        return b"".join((rows[self._oldest :], rows[: self._oldest]))

    def append(self, row: bytes) -> None:
        """Add the next row; the oldest goes where there are too many."""
        whole = self.most * self.width
        if len(self._rows) < whole:
            self._rows += row
            if len(self._rows) == whole:
                # Without the room that a growing one has in reserve.
                self._rows = bytearray(self._rows)
            return
        self._rows[self._oldest : self._oldest + self.width] = row
        self._oldest = (self._oldest + self.width) % whole

    def skip(self, rows: int, nothing: bytes) -> None:
        """Add so many rows without values."""
        for _ in range(min(rows, self.most)):
            self.append(nothing)

    def clear(self) -> None:
        """Begin anew."""
        self._rows, self._oldest = bytearray(), 0
