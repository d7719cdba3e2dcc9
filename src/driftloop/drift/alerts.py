"""The alert that fires, and the one that ended last, kept in a file over a restart of the watch that raised them."""

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


def save_alerts(path: Path, firing: Alert | None, ended: Alert | None) -> None:
    """Keep the drift watch's alert, or that none fires, and the alert that ended last."""
    durable.write_json(path, {"alarm": _plain(firing), "ended": _plain(ended)})


def read_alert(path: Path, fleet: str | None = None) -> Alert | None:
    """The alert that `save_alerts` kept, of this fleet; None where none fires, or where the file cannot be used."""
    return _read_alert(path, "alarm", fleet)


def read_ended(path: Path, fleet: str | None = None) -> Alert | None:
    """The one that ended last; None where none has, or where the file cannot be used."""
    return _read_alert(path, "ended", fleet)


def _plain(alert: Alert | None) -> Any:
    if alert is None:
        return None
    return msgspec.to_builtins(
        _Kept(alert.model_version, alert.drift, alert.starts_at, alert.features, alert.n, alert.score, alert.ends_at)
    )


def _read_alert(path: Path, name: str, fleet: str | None) -> Alert | None:
    kept = read_kept(path, _Kept, name)
    if kept is None:
        return None
    return Alert(
        firing=name == "alarm",
        drift=kept.kind,
        model_version=kept.model_version,
        starts_at=kept.starts_at,
        features=kept.features,
        n=kept.n,
        score=kept.score,
        summary=summary(kept.kind, kept.model_version, kept.features),
        fleet=fleet,
        ends_at=kept.ends_at,
    )


def keep(path: Path, state: msgspec.Struct | None) -> None:
    """Keep what stands for an alert that fires, or that none does."""
    durable.write_json(path, {"alarm": msgspec.to_builtins(state)})


def read_kept(path: Path, kind: type[_AnyKept], name: str = "alarm") -> _AnyKept | None:
    """What `keep` wrote; None where no alert fired, or where the file cannot be used, which is logged."""
    try:
        kept = durable.read_json(path, dict[str, Any]).get(name)
        found = None if kept is None else msgspec.convert(kept, kind)
    except FileNotFoundError:
        return None
    except (JsonError, ValueError) as error:
        log.warning("%s cannot be used (%s); an alert that fired before begins anew", path, error)
        return None
    return found
