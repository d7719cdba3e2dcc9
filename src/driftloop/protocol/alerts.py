"""Drift alerts, both ends: as the watch writes them to the retrainer or to Alertmanager, and as the retrainer reads
them from either.

Straight to the retrainer goes what Alertmanager would send it: its webhook, version 4. Alertmanager itself takes a
list of alerts. An alert is sent again and again while it fires, as Alertmanager expects, and once when it ends.
Sources: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
https://prometheus.io/docs/alerting/latest/alerts_api/
"""

from datetime import timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from driftloop import durable
from driftloop.durable import format_time, parse_time
from driftloop.errors import DriftloopError, JsonError
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT, Cause, CauseKind

DRIFT_ALERT = "DriftloopDrift"
_DRIFTS = {str(kind): kind for kind in (FLEET_CHANGE, SENSOR_FAULT)}
_WORDS = {FLEET_CHANGE: "the fleet has changed", SENSOR_FAULT: "a sensor does not tell the truth"}
_NEVER = "0001-01-01T00:00:00Z"
"""How Alertmanager writes the end of an alert that still fires."""

_Text = Annotated[str, msgspec.Meta(max_length=4000)]


class WebhookAlert(msgspec.Struct):
    """One alert as Alertmanager sends it."""

    status: Literal["firing", "resolved"]
    labels: dict[_Text, _Text]
    startsAt: _Text
    annotations: dict[_Text, _Text] = {}
    endsAt: _Text = _NEVER


class Webhook(msgspec.Struct):
    """A webhook's body; fields that are not listed here are passed over."""

    version: Literal["4"]
    alerts: Annotated[list[WebhookAlert], msgspec.Meta(max_length=1000)]


class _LooseWebhook(msgspec.Struct):
    """The same before its alerts are looked at, each by itself."""

    version: Literal["4"]
    alerts: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=1000)]


class Alert(msgspec.Struct, frozen=True):
    """One drift alert: what changed, for which model version, since when."""

    firing: bool
    drift: CauseKind
    """`fleet_change`, `sensor_fault` or `concept`."""
    model_version: str
    starts_at: str
    """Time of the first check that saw it, RFC 3339, UTC."""
    features: list[str]
    """To blame when it began; part of the alert's identity, so they stay."""
    n: float | None = None
    score: float | None = None
    summary: str = ""
    fleet: str | None = None
    """Name of the fleet that it is about; None in alerts of earlier versions, which knew one fleet only."""
    ends_at: str | None = None
    """When it ended, where that is known."""

    @property
    def cause(self) -> Cause:
        """What a retraining is for; the same for an alert that is sent again."""
        return Cause(self.drift, self.model_version)

    @property
    def event_id(self) -> str:
        """Id of the event that tells of its beginning: watch and retrainer both report it, and it is logged once."""
        return f"alert_firing:{self.model_version}:{self.drift}:{self.starts_at}"

    @property
    def end_id(self) -> str:
        """The same of the event that tells of its end."""
        return f"alert_resolved:{self.model_version}:{self.drift}:{self.starts_at}"

    @property
    def labels(self) -> dict[str, str]:
        """What makes this alert another than that."""
        fleet = {"fleet": self.fleet} if self.fleet is not None else {}
        return {
            "alertname": DRIFT_ALERT,
            "model_version": self.model_version,
            "kind": self.drift,
            "features": ",".join(self.features),
            **fleet,
        }

    @property
    def annotations(self) -> dict[str, str]:
        """What is said about it, and may change."""
        figures = {"n": self.n, "score": self.score}
        said = {"summary": self.summary} if self.summary else {}
        return {**said, **{name: _shown(figure) for name, figure in figures.items() if figure is not None}}


class Unusable(DriftloopError):
    """A webhook, or an alert in one, that cannot be used; `where` is the field."""


class Read(NamedTuple):
    """The alerts of a webhook: those for us, in order, and why the others are not."""

    ours: list[Alert]
    others: list[Unusable]


def summary(drift: CauseKind, model_version: str, features: list[str]) -> str:
    """What the watch says of an alert, in a sentence."""
    return f"Traffic of model version {model_version} has drifted, {_WORDS[drift]}: {', '.join(features)}"


# The watch's end.


def webhook(alert: Alert) -> dict[str, Any]:
    """The body of Alertmanager's webhook, version 4, for one alert."""
    status = "firing" if alert.firing else "resolved"
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{DRIFT_ALERT}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "driftloop-retrainer",
        "groupLabels": {"alertname": DRIFT_ALERT},
        "commonLabels": alert.labels,
        "commonAnnotations": alert.annotations,
        "externalURL": "",
        "alerts": [
            {
                "status": status,
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": alert.starts_at,
                "endsAt": alert.ends_at or _NEVER,
                "generatorURL": "",
                "fingerprint": "",
            }
        ],
    }


def alertmanager_alerts(alert: Alert, lasts_s: float) -> list[dict[str, Any]]:
    """The body of POST /api/v2/alerts; one that fires ends `lasts_s` seconds from now unless it is sent again."""
    soon = format_time(parse_time(durable.now()) + timedelta(seconds=lasts_s))
    ends = soon if alert.firing else alert.ends_at or durable.now()
    return [
        {"labels": alert.labels, "annotations": alert.annotations, "startsAt": alert.starts_at, "endsAt": ends},
    ]


# The retrainer's end.


def read_webhook(body: bytes, fleet: str | None = None) -> Read:
    """The drift alerts of a webhook's body; those of other names, of other fleets, and those that cannot be used are
    told apart, each with its field, and take none of ours with them.

    An alert without the label `fleet` is of whatever fleet is asked for, as it was sent by earlier versions.
    Raises Unusable naming the field where the body is no webhook.
    """
    try:
        found = durable.decode_json(body, _LooseWebhook)
    except JsonError as error:
        raise Unusable(error.message, where=error.field or "body") from error
    read = Read([], [])
    for i, raw in enumerate(found.alerts):
        try:
            read.ours.append(_one(raw, f"alerts[{i}]", fleet))
        except Unusable as error:
            read.others.append(error)
    return read


def _one(raw: msgspec.Raw, where: str, fleet: str | None) -> Alert:
    try:
        alert = durable.decode_json(bytes(raw), WebhookAlert)
    except JsonError as error:
        raise Unusable(error.message, where=".".join(part for part in (where, error.field) if part)) from error
    name, of_fleet = alert.labels.get("alertname", ""), alert.labels.get("fleet", "")
    if name != DRIFT_ALERT:
        raise Unusable(f"{name!r} is not {DRIFT_ALERT}", where=f"{where}.labels.alertname")
    if fleet is not None and of_fleet not in ("", fleet):
        raise Unusable(f"{of_fleet!r} is not this fleet, {fleet}", where=f"{where}.labels.fleet")
    return _read(alert, where)


def _read(alert: WebhookAlert, where: str) -> Alert:
    version = alert.labels.get("model_version", "")
    if not (version.isascii() and version.isdigit()) or len(version) > 18:
        raise Unusable(f"{version!r} is no model version", where=f"{where}.labels.model_version")
    kind = alert.labels.get("kind", "")
    drift = _DRIFTS.get(kind)
    if drift is None:
        raise Unusable(f"{kind!r} is neither {FLEET_CHANGE} nor {SENSOR_FAULT}", where=f"{where}.labels.kind")
    firing = alert.status == "firing"
    return Alert(
        firing=firing,
        drift=drift,
        model_version=version,
        starts_at=_time(alert.startsAt, f"{where}.startsAt"),
        features=[name.strip() for name in alert.labels.get("features", "").split(",") if name.strip()],
        n=_number(alert.annotations.get("n"), f"{where}.annotations.n"),
        score=_number(alert.annotations.get("score"), f"{where}.annotations.score"),
        summary=alert.annotations.get("summary", ""),
        fleet=alert.labels.get("fleet") or None,
        ends_at=None if firing or alert.endsAt == _NEVER else _time(alert.endsAt, f"{where}.endsAt"),
    )


def _time(text: str, where: str) -> str:
    try:
        return format_time(parse_time(text))
    except (ValueError, OverflowError) as error:
        raise Unusable(str(error), where=where) from error


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


def _shown(figure: float) -> str:
    """Short where that says all, and never less than all."""
    short = f"{figure:g}"
    return short if float(short) == figure else repr(figure)
