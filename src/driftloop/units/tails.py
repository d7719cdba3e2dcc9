"""The newest rows of a life as the server takes them (driftloop.protocol.windows): float32, row by row."""

from dataclasses import dataclass, field

_OBJECTS = 160
"""Bytes that Python adds to a tail."""


@dataclass(slots=True)
class Tail:
    """At most `most` rows of `width` bytes, oldest first."""

    most: int
    width: int
    rows: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.rows) // self.width

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.rows) + _OBJECTS

    def append(self, row: bytes) -> None:
        """Add the next row; the oldest goes where there are too many."""
        self.rows += row
        beyond = len(self.rows) - self.most * self.width
        if beyond > 0:
            del self.rows[:beyond]

    def skip(self, rows: int, nothing: bytes) -> None:
        """Add so many rows without values."""
        for _ in range(min(rows, self.most)):
            self.append(nothing)

    def clear(self) -> None:
        """Begin anew."""
        self.rows.clear()
