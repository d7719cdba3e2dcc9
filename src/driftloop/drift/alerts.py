"""Alerts in Alertmanager's formats, and the outbox that delivers them and the events.

Straight to the retrainer goes what Alertmanager would send it (webhook, version 4); Alertmanager itself takes a
list of alerts. An alert is sent again and again while it fires, as Alertmanager expects, and once when it ends.
Sources: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
https://prometheus.io/docs/alerting/latest/alerts_api/
"""

import logging
import threading
import uuid
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from driftloop import durable

log = logging.getLogger(__name__)

ALERT = "DriftloopDrift"
_NEVER = "0001-01-01T00:00:00Z"
"""How Alertmanager writes the end of an alert that still fires."""
_RETRY_S = 1.0
_RETRIED = frozenset({401, 403, 408, 425, 429})


_AnyAlarm = TypeVar("_AnyAlarm", bound=msgspec.Struct)


class Alarm(msgspec.Struct):
    """A drift alert that fires, or did: what survives a restart of the watch."""

    model_version: str
    kind: str
    """`fleet_change` or `sensor_fault`."""
    starts_at: str
    """Time of the first check that saw it, RFC 3339."""
    features: list[str]
    """To blame when it began; part of the alert's identity, so they stay."""
    n: int
    score: float
    ends_at: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What makes this alert another than that."""
        return {
            "alertname": ALERT,
            "model_version": self.model_version,
            "kind": self.kind,
            "features": ",".join(self.features),
        }

    @property
    def annotations(self) -> dict[str, str]:
        """What is said about it, and may change."""
        what = "the fleet has changed" if self.kind == "fleet_change" else "a sensor does not tell the truth"
        return {
            "summary": f"Traffic of model version {self.model_version} has drifted, {what}: {', '.join(self.features)}",
            "n": str(self.n),
            "score": f"{self.score:g}",
        }


def save_alarm(path: Path, alarm: msgspec.Struct | None) -> None:
    """Keep the alert that fires, or that none does, over a restart."""
    durable.write_json(path, {"alarm": msgspec.to_builtins(alarm)})


def read_alarm(path: Path, kind: type[_AnyAlarm]) -> _AnyAlarm | None:
    """What `save_alarm` kept; None where no alert fired, or where the file cannot be used, which is logged."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Any]).get("alarm")
        return None if kept is None else msgspec.convert(kept, kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s cannot be used (%s); an alert that fired before begins anew", path, error)
        return None


def webhook(alarm: Alarm) -> dict[str, Any]:
    """The body of Alertmanager's webhook, version 4, for one alert."""
    status = "firing" if alarm.ends_at is None else "resolved"
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{ALERT}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "driftloop-retrainer",
        "groupLabels": {"alertname": ALERT},
        "commonLabels": alarm.labels,
        "commonAnnotations": alarm.annotations,
        "externalURL": "",
        "alerts": [
            {
                "status": status,
                "labels": alarm.labels,
                "annotations": alarm.annotations,
                "startsAt": alarm.starts_at,
                "endsAt": alarm.ends_at or _NEVER,
                "generatorURL": "",
                "fingerprint": "",
            }
        ],
    }


def alertmanager_alerts(alarm: Alarm, lasts_s: float) -> list[dict[str, Any]]:
    """The body of POST /api/v2/alerts; one that fires ends `lasts_s` seconds from now unless it is sent again."""
    ends = alarm.ends_at or durable.format_time(durable.parse_time(durable.now()) + timedelta(seconds=lasts_s))
    return [
        {"labels": alarm.labels, "annotations": alarm.annotations, "startsAt": alarm.starts_at, "endsAt": ends},
    ]


class Outbox:
    """Posts JSON in order, without making the watch wait: what cannot be delivered now is kept and tried again.

    At most `most` messages wait; beyond that the oldest is dropped and counted. A message with a `key` replaces
    a waiting one with the same key.
    """

    def __init__(
        self, token: str = "", *, most: int = 1000, timeout_s: float = 2.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(timeout=timeout_s, trust_env=False, headers=headers, transport=transport)
        self._most = most
        self._waiting: deque[tuple[str, str | None, Any]] = deque()
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._failing = False
        self.dropped = 0
        """Messages that were given up: the outbox was full, or the receiver refused them."""

    def put(self, url: str, body: Any, key: str | None = None) -> None:
        """Queue a message."""
        with self._guard:
            if key is not None:
                self._waiting = deque(message for message in self._waiting if message[1] != key)
            self._waiting.append((url, key, body))
            while len(self._waiting) > self._most:
                self._waiting.popleft()
                self.dropped += 1
        self._wake.set()

    def event(self, url: str, event: dict[str, Any]) -> None:
        """Queue an event for the retrainer at `url`; its id makes sure that it is logged once."""
        self.put(f"{url.rstrip('/')}/events", {"time": durable.now(), "id": uuid.uuid4().hex, **event})

    @property
    def waiting(self) -> int:
        """Messages not yet delivered."""
        return len(self._waiting)

    def deliver(self) -> bool:
        """Send what waits, oldest first; True when nothing is left.

        Where a receiver cannot be reached, the rest of its messages wait for the next time.
        """
        with self._guard:
            messages = list(self._waiting)
        unreachable: set[str] = set()
        for message in messages:
            receiver = httpx.URL(message[0]).netloc.decode()
            if receiver in unreachable:
                continue
            if not self._sent(message[0], message[2]):
                unreachable.add(receiver)
                continue
            with self._guard:
                # put() may have replaced or dropped it in the meantime.
                self._waiting = deque(other for other in self._waiting if other is not message)
        return not self._waiting

    def start(self) -> None:
        """Deliver in a thread of its own from now on."""
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Try once more to deliver what waits, then end."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.deliver()
        self._http.close()

    def _work(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while not self.deliver() and not self._stopping:
                self._wake.wait(_RETRY_S)
                self._wake.clear()

    def _sent(self, url: str, body: Any) -> bool:
        try:
            answer = self._http.post(url, json=body)
        except httpx.HTTPError as error:
            self._complain(f"{url} does not answer ({type(error).__name__}: {error}); it is tried again")
            return False
        if answer.is_success:
            self._failing = False
            return True
        what = f"{url} answered {answer.status_code}: {answer.text[:200]}"
        if answer.is_client_error and answer.status_code not in _RETRIED:
            log.error("%s; the message is given up", what)
            self.dropped += 1
            return True
        self._complain(f"{what}; it is tried again")
        return False

    def _complain(self, what: str) -> None:
        if not self._failing:
            log.warning("%s", what)
        self._failing = True
