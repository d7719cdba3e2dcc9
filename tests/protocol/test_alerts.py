"""Both ends of an alert: what the watch writes, the retrainer reads back equal, whichever way it goes."""

import json
import random
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.durable import format_time, parse_time
from driftloop.protocol.alerts import Alert, Unusable, alertmanager_alerts, read_webhook, summary, webhook
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT, Cause

TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.timezones()).map(format_time)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True)
NUMBERS = st.none() | st.integers(0, 10**9) | st.floats(allow_nan=False, allow_infinity=False)
SINCE = "2026-01-31T12:00:00.000Z"


@st.composite
def alerts(draw: st.DrawFn) -> Alert:
    firing = draw(st.booleans())
    return Alert(
        firing=firing,
        drift=draw(st.sampled_from([FLEET_CHANGE, SENSOR_FAULT])),
        model_version=draw(st.integers(0, 10**18 - 1).map(str)),
        starts_at=draw(TIMES),
        features=draw(st.lists(NAMES, max_size=8)),
        n=draw(NUMBERS),
        score=draw(NUMBERS),
        summary=draw(st.text(max_size=200)),
        fleet=draw(st.none() | st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)),
        ends_at=None if firing else draw(TIMES),
    )


def through_alertmanager(alert: Alert) -> bytes:
    """The webhook that Alertmanager makes of an alert: labels without text go, times get nanoseconds and a zone."""
    (sent,) = json.loads(json.dumps(alertmanager_alerts(alert, lasts_s=60)))
    made = {
        "status": "firing" if alert.firing else "resolved",
        "labels": {name: text for name, text in sorted(sent["labels"].items()) if text},
        "annotations": sent["annotations"],
        "startsAt": sent["startsAt"].replace("Z", "000000+00:00"),
        "endsAt": "0001-01-01T00:00:00Z" if alert.firing else sent["endsAt"].replace("Z", "000000+00:00"),
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "f" * 16,
    }
    others = [{**made, "labels": {"alertname": "Watchdog", "severity": "none"}}]
    body = {"version": "4", "receiver": "retrainer", "status": made["status"], "truncatedAlerts": 0}
    return json.dumps({**body, "alerts": random.Random(0).sample([made, *others], 2)}).encode()


@given(alerts())
def test_what_the_watch_sends_the_retrainer_reads_back_equal(alert: Alert):
    assert read_webhook(json.dumps(webhook(alert)).encode(), alert.fleet).ours == [alert]


@given(alerts())
def test_by_way_of_alertmanager_it_is_the_same(alert: Alert):
    assert read_webhook(through_alertmanager(alert), alert.fleet).ours == [alert]


@given(alerts(), st.from_regex(r"[a-z]{1,9}", fullmatch=True))
def test_alerts_of_other_fleets_are_passed_over_and_those_without_a_fleet_are_ours(alert: Alert, ours: str):
    expected = [alert] if alert.fleet in (None, ours) else []
    assert read_webhook(json.dumps(webhook(alert)).encode(), ours).ours == expected


def alert(**change: Any) -> Alert:
    about = summary(FLEET_CHANGE, "3", ["sensor_11", "sensor_4"])
    made = Alert(True, FLEET_CHANGE, "3", SINCE, ["sensor_11", "sensor_4"], 500, 3.25, about, "cmapss")
    return msgspec.structs.replace(made, **change)


def test_an_alert_says_which_cause_it_is_and_what_it_is_about():
    assert alert().cause == Cause(FLEET_CHANGE, "3")
    assert alert().event_id == f"alert_firing:3:fleet_change:{SINCE}"
    assert alert().labels == {
        "alertname": "DriftloopDrift",
        "model_version": "3",
        "kind": "fleet_change",
        "features": "sensor_11,sensor_4",
        "fleet": "cmapss",
    }
    assert alert().annotations == {
        "summary": "Traffic of model version 3 has drifted, the fleet has changed: sensor_11, sensor_4",
        "n": "500",
        "score": "3.25",
    }


def test_an_alert_that_fires_ends_by_itself_at_alertmanager_and_one_that_ended_has_its_end():
    (fires,) = alertmanager_alerts(alert(), lasts_s=60)
    assert parse_time(fires["endsAt"]) > parse_time(SINCE)
    (ended,) = alertmanager_alerts(alert(firing=False, ends_at=SINCE), lasts_s=60)
    assert ended["endsAt"] == SINCE


@given(st.binary())
def test_whatever_arrives_is_read_or_refused_with_the_field(body: bytes):
    good = json.dumps(webhook(alert())).encode()
    for sent in (body, good.replace(b"drifted", body), good[: len(body)] + body):
        try:
            read_webhook(sent)
        except Unusable as error:
            named = error.where
        else:
            named = "nothing"
        assert named


def test_a_latin_1_byte_is_refused_as_what_it_is():
    body = json.dumps(webhook(alert(summary="caf?"))).encode().replace(b"?", b"\xe9")
    read = read_webhook(body)
    assert (read.ours, [str(other) for other in read.others]) == ([], ["alerts[0]: it is not UTF-8"])
    with pytest.raises(Unusable, match="it is not UTF-8"):
        read_webhook(b'{"version": "caf\xe9", "alerts": []}')
