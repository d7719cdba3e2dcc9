"""Why there is a retraining: its cause, as state files, events, tags and alerts write it.

A cause is a kind and the model version that it is about, in one text, such as `fleet_change:3`. What a person asked
for has a time too, so that each time is a cause of its own: `by_hand:3:2026-01-31T12:00:00.000Z`. What was done by
hand before anything was in production is `by_hand` alone.
"""

import contextlib
import re
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError

CauseKind = Literal["fleet_change", "sensor_fault", "concept", "by_hand"]
FLEET_CHANGE: CauseKind = "fleet_change"
"""The inputs have changed: another fleet is in service."""
SENSOR_FAULT: CauseKind = "sensor_fault"
"""A sensor does not tell the truth; a model must not learn it."""
CONCEPT: CauseKind = "concept"
"""The inputs are as ever, the remaining life that belongs to them is another; said by the retrainer's own watch."""
BY_HAND: CauseKind = "by_hand"
"""A person asked for it."""
KINDS: tuple[CauseKind, ...] = get_args(CauseKind)

_VERSION = re.compile(r"[0-9]{1,18}")


class Cause(msgspec.Struct, frozen=True):
    """What a retraining is for; `str` gives its text, `parse` reads it back equal. Raises DriftloopError."""

    kind: CauseKind
    model_version: str | None = None
    """A whole number; None only for `by_hand`, where nothing was in production."""
    asked_at: str | None = None
    """When a person asked for it, RFC 3339; only for `by_hand`."""

    def __post_init__(self) -> None:
        by_hand = self.kind == BY_HAND
        if self.kind not in KINDS:
            raise DriftloopError(f"{self.kind!r} is no kind of cause", remedy=f"known are {', '.join(KINDS)}")
        if self.model_version is None and (not by_hand or self.asked_at is not None):
            raise DriftloopError(f"a cause of the kind {self.kind} needs a model version")
        if self.model_version is not None and not _VERSION.fullmatch(self.model_version):
            raise DriftloopError(f"{self.model_version!r} is no model version")
        if self.asked_at is not None and not by_hand:
            raise DriftloopError(f"a cause of the kind {self.kind} has no time")

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.model_version, self.asked_at) if part is not None)

    @property
    def learnable(self) -> bool:
        """Whether a model may learn from what happened: what a faulty sensor says is no truth."""
        return self.kind != SENSOR_FAULT

    @property
    def changes_labels(self) -> bool:
        """Whether it says that the labels of earlier engines no longer hold."""
        return self.kind == CONCEPT

    @property
    def of_inputs(self) -> bool:
        """Whether it was seen in the inputs, where the drift watch sees its end too."""
        return self.kind in (FLEET_CHANGE, SENSOR_FAULT)


def by_hand(model_version: str | None, asked_at: str | None = None) -> Cause:
    """The cause of what a person asked for."""
    return Cause(BY_HAND, model_version, asked_at)


def parse(text: str) -> Cause:
    """A cause from its text; raises DriftloopError for any other text."""
    kind, *rest = text.split(":", 2)
    try:
        asked_at = rest[1] if len(rest) > 1 else None
        if asked_at is not None:
            durable.parse_time(asked_at)
        return Cause(kind, rest[0] if rest else None, asked_at)  # type: ignore[arg-type]
    except (DriftloopError, ValueError) as error:
        what = error.what if isinstance(error, DriftloopError) else str(error)
        raise DriftloopError(f"{text[:200]!r} is no cause: {what}") from error


def about(texts: Iterable[str], model_version: str | None) -> list[Cause]:
    """Those of the causes, in their order, that are about a model version; other texts are passed over."""
    found = []
    for text in texts:
        with contextlib.suppress(DriftloopError):
            found.append(parse(text))
    return [cause for cause in found if cause.model_version == model_version]
