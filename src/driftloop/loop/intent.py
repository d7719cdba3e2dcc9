"""What a person does with the alias `production`, as it is written down before the alias moves."""

from typing import Literal

import msgspec


class Intent(msgspec.Struct, frozen=True):
    """A promotion or a rollback by hand."""

    kind: Literal["promoted", "rolled_back"]
    version: str
    """What goes into production."""
    before: str | None
    """What was there."""
    cause: str
    reason: str
    who: str
    archived: int
    """Completed runs in the archive: more of them open a cause again that this settles."""
    run: str | None = None
    """The retraining that made the version, where one did."""
