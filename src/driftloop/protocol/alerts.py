"""Alertmanager's webhook, version 4, read into what the loop needs of it.

Source of the format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from typing import Annotated, Literal

import msgspec

from driftloop.durable import format_time, parse_time
from driftloop.errors import DriftloopError
from driftloop.protocol import causes
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT, Cause

DRIFT_ALERT = "DriftloopDrift"
_DRIFTS = {str(kind): kind for kind in (FLEET_CHANGE, SENSOR_FAULT)}

_Text = Annotated[str, msgspec.Meta(max_length=4000)]


class WebhookAlert(msgspec.Struct):
    """One alert as Alertmanager sends it."""

    status: Literal["firing", "resolved"]
    labels: dict[_Text, _Text]
    startsAt: _Text
    annotations: dict[_Text, _Text] = {}


class Webhook(msgspec.Struct):
    """A webhook's body; fields that are not listed here are passed over."""

    version: Literal["4"]
    alerts: Annotated[list[WebhookAlert], msgspec.Meta(max_length=1000)]


class Alert(msgspec.Struct, frozen=True):
    """One drift alert: what changed, for which model version, since when."""

    firing: bool
    drift: causes.CauseKind
    """`fleet_change`, `sensor_fault` or `concept`."""
    model_version: str
    starts_at: str
    """RFC 3339, UTC."""
    features: list[str]
    n: float | None = None
    score: float | None = None
    summary: str = ""

    @property
    def cause(self) -> Cause:
        """What a retraining is for; the same for an alert that is sent again."""
        return Cause(self.drift, self.model_version)


class Unusable(DriftloopError):
    """A webhook that cannot be used; `where` is the field."""


def read_webhook(body: bytes) -> list[Alert]:
    """The drift alerts of a webhook's body, in order; alerts of other names are passed over.

    Raises Unusable naming the field.
    """
    try:
        webhook = msgspec.json.decode(body, type=Webhook)
    except msgspec.DecodeError as error:
        what, _, path = str(error).partition(" - at ")
        raise Unusable(what, where=path.strip("`").removeprefix("$.") or "body") from error
    except RecursionError as error:
        raise Unusable("is nested too deeply", where="body") from error
    return [
        _read(alert, f"alerts[{i}]")
        for i, alert in enumerate(webhook.alerts)
        if alert.labels.get("alertname") == DRIFT_ALERT
    ]


def _read(alert: WebhookAlert, where: str) -> Alert:
    version = alert.labels.get("model_version", "")
    if not (version.isascii() and version.isdigit()) or len(version) > 18:
        raise Unusable(f"{version!r} is no model version", where=f"{where}.labels.model_version")
    kind = alert.labels.get("kind", "")
    drift = _DRIFTS.get(kind)
    if drift is None:
        raise Unusable(f"{kind!r} is neither {FLEET_CHANGE} nor {SENSOR_FAULT}", where=f"{where}.labels.kind")
    try:
        starts_at = format_time(parse_time(alert.startsAt))
    except (ValueError, OverflowError) as error:
        raise Unusable(str(error), where=f"{where}.startsAt") from error
    return Alert(
        firing=alert.status == "firing",
        drift=drift,
        model_version=version,
        starts_at=starts_at,
        features=[name.strip() for name in alert.labels.get("features", "").split(",") if name.strip()],
        n=_number(alert.annotations.get("n"), f"{where}.annotations.n"),
        score=_number(alert.annotations.get("score"), f"{where}.annotations.score"),
        summary=alert.annotations.get("summary", ""),
    )


def _number(text: str | None, where: str) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise Unusable(f"{text!r} is no number", where=where) from error
    if not abs(number) < float("inf"):
        raise Unusable(f"{text!r} is not finite", where=where)
    return number
