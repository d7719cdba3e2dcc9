"""What was found in data: what cannot be used, what is suspicious, what was understood; where, and what to do."""

from collections.abc import Hashable, Iterator
from typing import Literal

import msgspec

from driftloop.errors import DataError

Level = Literal["problem", "warning", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person should know about the data."""

    level: Level
    where: str
    """File and line, unit or column."""
    what: str
    remedy: str | None = None
    more: int = 0
    """How many more of the same kind there are."""

    def __str__(self) -> str:
        more = f"; {self.more} more like this" if self.more else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.where}: {self.what}{more}{remedy}"


class Findings:
    """Findings as they come up: of each kind the first one is kept, and the others are counted."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Finding] = {}

    def add(
        self, level: Level, where: str, what: str, remedy: str | None = None, *, kind: Hashable = None, more: int = 0
    ) -> None:
        """Note one; those of the same `kind` are counted, without a kind each is kept."""
        key = (level, where, what) if kind is None else (level, kind)
        first = self._found.get(key)
        if first is None:
            self._found[key] = Finding(level=level, where=where, what=what, remedy=remedy, more=more)
        elif kind is not None:
            self._found[key] = msgspec.structs.replace(first, more=first.more + 1 + more)

    def add_error(self, error: DataError) -> None:
        """Note an error as a problem."""
        self.add("problem", error.where or "data", error.what, error.remedy, kind=error.what)

    def __iter__(self) -> Iterator[Finding]:
        order = {"problem": 0, "warning": 1, "note": 2}
        return iter(sorted(self._found.values(), key=lambda finding: order[finding.level]))

    @property
    def problems(self) -> list[Finding]:
        """What cannot be used."""
        return [finding for finding in self if finding.level == "problem"]
