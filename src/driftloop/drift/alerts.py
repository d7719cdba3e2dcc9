"""The alert that fires, kept in a file over a restart of the watch that raised it."""

import logging
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError, JsonError
from driftloop.protocol.alerts import Alert, summary
from driftloop.protocol.causes import Cause, CauseKind

log = logging.getLogger(__name__)

_AnyKept = TypeVar("_AnyKept", bound=msgspec.Struct)


class _Kept(msgspec.Struct):
    """The drift watch's alert, as its `state.json` holds it."""

    model_version: str
    kind: CauseKind
    starts_at: str
    features: list[str]
    n: float | None
    score: float | None
    ends_at: str | None = None

    def __post_init__(self) -> None:
        durable.parse_time(self.starts_at)
        try:
            summary(self.kind, self.model_version, self.features)
            Cause(self.kind, self.model_version)
        except (DriftloopError, KeyError) as error:
            raise ValueError(str(error)) from error


def save_alert(path: Path, alert: Alert | None) -> None:
    """Keep the drift watch's alert, or that none fires."""
    kept = None
    if alert is not None:
        kept = _Kept(
            alert.model_version, alert.drift, alert.starts_at, alert.features, alert.n, alert.score, alert.ends_at
        )
    keep(path, kept)


def read_alert(path: Path, fleet: str | None = None) -> Alert | None:
    """The alert that `save_alert` kept, of this fleet; None where none fires, or where the file cannot be used."""
    kept = read_kept(path, _Kept)
    if kept is None:
        return None
    about = summary(kept.kind, kept.model_version, kept.features)
    return Alert(
        True, kept.kind, kept.model_version, kept.starts_at, kept.features, kept.n, kept.score, about, fleet=fleet
    )


def keep(path: Path, state: msgspec.Struct | None) -> None:
    """Keep what stands for an alert that fires, or that none does."""
    durable.write_json(path, {"alarm": msgspec.to_builtins(state)})


def read_kept(path: Path, kind: type[_AnyKept]) -> _AnyKept | None:
    """What `keep` wrote; None where no alert fired, or where the file cannot be used, which is logged."""
    try:
        kept = durable.read_json(path, dict[str, Any]).get("alarm")
        found = None if kept is None else msgspec.convert(kept, kind)
    except FileNotFoundError:
        return None
    except (JsonError, ValueError) as error:
        log.warning("%s cannot be used (%s); an alert that fired before begins anew", path, error)
        return None
    return found
