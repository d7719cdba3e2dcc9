import dataclasses
import threading
from collections import deque
from pathlib import Path

import httpx
import numpy as np
import pytest
from msgspec import structs

from driftloop import durable, exposition
from driftloop.drift.baseline import Baseline, baseline_bytes
from driftloop.drift.exporter import Exporter
from driftloop.drift.live_error import LiveErrors
from driftloop.drift.production import WatchedModel, follow
from driftloop.drift.source import SourceUnavailable
from driftloop.drift.watch import Watch, check_once
from driftloop.errors import RegistryUnavailable
from driftloop.fleet.schema import Channel, Schema
from driftloop.model.bundle import BASELINE, SERVING_FILES, ErrorTable
from driftloop.model.follower import OTHER_FLEET
from driftloop.protocol.outbox import Outbox
from driftloop.settings import Settings

from .engines import METADATA, lives, stream, trace, write_bundle

HEALTHY = [trace(i) for i in range(200, 240)]
OTHER = [trace(i, fleet=1) for i in range(200, 220)]
BIASED = [trace(i, bias={2: 3.0}) for i in range(200, 240)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeRegistry:
    """Serves one baseline for every version."""

    def __init__(self, baseline: Baseline) -> None:
        self.content = baseline_bytes(baseline)
        self.metadata = METADATA
        self.version: str | None = "1"
        self.up = True
        self.calls = 0

    def alias(self, name: str) -> str | None:
        self.calls += 1
        assert name == "production"
        if not self.up:
            raise RegistryUnavailable("down")
        return self.version

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:  # noqa: ARG002
        if not self.up:
            raise RegistryUnavailable("down")
        return write_bundle(folder, self.content, self.metadata)


class FakeSource:
    """Counters of one server, by version."""

    def __init__(self, baseline: Baseline) -> None:
        self.binner = baseline.binner
        self.flat: dict[str, np.ndarray] = {}
        self.up = True
        self.served: str | None = None

    def send(self, rows: np.ndarray, version: str = "1") -> None:
        more = np.bincount(rows.ravel(), minlength=self.binner.total)
        self.flat[version] = self.flat.get(version, 0) + more

    def read(self, version: str):
        if not self.up:
            raise SourceUnavailable("down")
        if version not in self.flat:
            return {"a": {}}
        counts = self.binner.split(self.flat[version])
        return {"a": {(name, i): int(c) for name, part in counts.items() for i, c in enumerate(part)}}

    def close(self) -> None:
        pass


class Platform:
    """A watch, and everything around it, under control."""

    def __init__(self, folder: Path, baseline: Baseline, **settings: object) -> None:
        self.folder, self.clock = folder, Clock()
        self.settings = Settings(retrainer_url="http://retrainer", **settings)
        self.registry, self.source = FakeRegistry(baseline), FakeSource(baseline)
        self.posted: deque[tuple[str, object]] = deque()
        self.reachable = True
        self.exporter = Exporter()
        self.rng = np.random.default_rng(0)
        self.start()

    def start(self) -> None:
        """Start, or start again after a crash."""
        self.outbox = Outbox("token-of-sixteen-characters", transport=httpx.MockTransport(self._answer))
        self.production = follow(self.registry, self.folder, self.settings.schema, self.clock)
        self.watch = Watch(
            self.settings, self.production, self.source, self.outbox,
            folder=self.folder, exporter=self.exporter, clock=self.clock,
        )  # fmt: skip

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not self.reachable:
            raise httpx.ConnectError("down", request=request)
        assert request.headers["Authorization"] == "Bearer token-of-sixteen-characters"
        self.posted.append((str(request.url), httpx.Response(200, content=request.content).json()))
        return httpx.Response(200, json={})

    def turn(self, traces=None, n: int = 100, version: str = "1", seconds: float = 1.0):
        """One check after n more requests."""
        if traces is not None:
            baseline = self.production.look().baseline
            self.source.send(stream(lives(baseline, traces), n, self.rng), version)
        self.clock.now += seconds
        verdict = self.watch.check()
        self.outbox.deliver()
        return verdict

    def events(self, kind: str) -> list[dict]:
        return [body for url, body in self.posted if url == "http://retrainer/events" and body["kind"] == kind]

    def alerts(self) -> list[dict]:
        return [body for url, body in self.posted if url == "http://retrainer/alerts"]


@pytest.fixture
def platform(tmp_path: Path, baseline: Baseline) -> Platform:
    return Platform(tmp_path, baseline)


def test_healthy_traffic_is_no_drift_once_there_is_enough(platform: Platform):
    said = [platform.turn(HEALTHY).verdict for _ in range(8)]
    assert said == ["not_enough_data"] * 2 + ["no_drift"] * 6
    assert platform.alerts() == []
    assert [e["verdict"] for e in platform.events("verdict")] == ["not_enough_data", "no_drift", "no_drift"]


def test_an_old_fleet_is_reported_as_fleet_age_without_any_alert(platform: Platform):
    old = [
        dataclasses.replace(
            t, prediction=t.prediction[-30:], settings=t.settings[-30:], newest=t.newest[-30:], regime=t.regime[-30:]
        )
        for t in HEALTHY
    ]
    for _ in range(12):
        verdict = platform.turn(old)
    assert verdict.verdict == "fleet_age"
    assert platform.alerts() == []
    assert platform.events("alert_firing") == []
    event = platform.events("verdict")[-1]
    assert (event["verdict"], "drift" in event) == ("fleet_age", False)
    assert event["age_shift"] < -1
    value = platform.exporter.registry.get_sample_value
    assert value("driftloop_drift_verdict", {"model_version": "1", "verdict": "fleet_age"}) == 1
    assert value("driftloop_drift_verdict", {"model_version": "1", "verdict": "no_drift"}) == 0
    assert value("driftloop_drift_age_shift", {"model_version": "1"}) == verdict.age_shift


def test_ten_rows_an_hour_are_counted_until_they_say_something(platform: Platform):
    said = {}
    for hour in range(1, 61):
        verdict = platform.turn(HEALTHY, n=10, seconds=3600.0)
        event = platform.events("verdict")[-1]
        assert (event["answered"], event["verdict"]) == (10 * hour, verdict.verdict)
        said.setdefault(event["verdict"], event["answered"])
    assert list(said) == ["not_enough_data", "no_drift"]
    assert verdict.min_n <= said["no_drift"] < verdict.min_n + 10
    # The rows of the last hour alone, once a window is full, are no more than they are.
    assert platform.events("verdict")[-1]["answered"] > platform.events("verdict")[-1]["n"] - 10


def test_the_end_of_an_alert_and_the_beginning_of_the_next_both_wait_for_a_retrainer_that_is_away(platform: Platform):
    for _ in range(20):
        platform.turn(OTHER)
    (first,) = {body["alerts"][0]["startsAt"] for body in platform.alerts()}
    platform.posted.clear()
    platform.reachable = False
    platform.watch._end()
    platform.watch._begin(platform.watch.check(), "1")
    platform.reachable = True
    platform.outbox.deliver()
    told = [(body["alerts"][0]["status"], body["alerts"][0]["startsAt"] == first) for body in platform.alerts()]
    assert ("resolved", True) in told
    assert ("firing", False) in told


def test_a_verdict_without_requests_carries_no_figures(platform: Platform):
    platform.turn()
    (event,) = platform.events("verdict")
    assert (event["verdict"], event["n"]) == ("not_enough_data", 0)
    assert not {"psi_max", "psi_plain_max", "worst", "score"} & set(event)


def test_an_alert_ends_when_the_traffic_is_healthy_again_but_old(platform: Platform):
    old = [
        dataclasses.replace(
            t, prediction=t.prediction[-30:], settings=t.settings[-30:], newest=t.newest[-30:], regime=t.regime[-30:]
        )
        for t in HEALTHY
    ]
    platform.turn(OTHER, 200)
    for _ in range(10):
        platform.turn(old, 250)
    assert len(platform.events("alert_resolved")) == 1


def test_another_fleet_raises_one_alert_with_the_time_of_the_first_check(platform: Platform):
    for _ in range(6):
        platform.turn(HEALTHY)
    before = durable.now()
    for _ in range(3):
        platform.turn(OTHER)
    (fired,) = platform.events("alert_firing")
    assert before <= fired["starts_at"] <= durable.now()
    assert (fired["cause"], fired["model_version"], fired["drift"]) == ("fleet_change:1", "1", "fleet_change")
    (sent,) = platform.alerts()
    (alert,) = sent["alerts"]
    assert (sent["version"], sent["status"], alert["status"]) == ("4", "firing", "firing")
    assert alert["startsAt"] == fired["starts_at"]
    assert alert["labels"]["alertname"] == "DriftloopDrift"
    assert alert["labels"]["kind"] == "fleet_change"
    assert alert["labels"]["features"].split(",") == fired["features"]
    assert float(alert["annotations"]["score"]) > 1


def test_an_alert_is_sent_again_while_it_fires_under_the_same_labels(platform: Platform):
    for _ in range(12):
        platform.turn(OTHER)
    sent = platform.alerts()
    assert len(sent) == 3
    assert len({str(body["alerts"][0]["labels"]) for body in sent}) == 1
    assert len({body["alerts"][0]["startsAt"] for body in sent}) == 1


def test_an_alert_ends_when_the_traffic_is_healthy_again(platform: Platform):
    platform.turn(OTHER, 200)
    for _ in range(10):
        assert platform.watch.alert is not None, "2,000 requests must be in order"
        platform.turn(HEALTHY, 200)
    last = platform.alerts()[-1]
    assert last["status"] == last["alerts"][0]["status"] == "resolved"
    (resolved,) = platform.events("alert_resolved")
    assert last["alerts"][0]["endsAt"] == resolved["ends_at"] > resolved["starts_at"]
    assert platform.watch.alert is None


def test_a_biased_sensor_raises_another_kind_of_alert_when_three_checks_have_said_so(platform: Platform):
    said = 0
    for _ in range(8):
        said += platform.turn(BIASED).kind == "sensor_fault"
        assert len(platform.events("alert_firing")) == (said >= 3)
    (fired,) = platform.events("alert_firing")
    assert (fired["cause"], fired["features"]) == ("sensor_fault:1", ["sensor_2"])


def test_a_sensor_fault_that_turns_out_to_be_a_fleet_becomes_one(platform: Platform):
    for _ in range(8):
        platform.turn(BIASED)
    for _ in range(4):
        platform.turn(OTHER)
    assert [e["drift"] for e in platform.events("alert_firing")] == ["sensor_fault", "fleet_change"]
    assert len(platform.events("alert_resolved")) == 1


def test_a_restarted_watch_goes_on_with_its_alert(platform: Platform):
    platform.turn(OTHER, 200)
    starts_at = platform.watch.alert.starts_at
    platform.start()
    platform.turn(OTHER, 200)
    assert {body["alerts"][0]["startsAt"] for body in platform.alerts()} == {starts_at}
    # Announced again, in case the crash came before the first left; the id lets the log drop the second.
    assert len({event["id"] for event in platform.events("alert_firing")}) == 1


def test_the_end_of_an_alert_is_told_again_for_ten_minutes_under_one_id(platform: Platform):
    end(platform)
    for _ in range(12):
        platform.turn(seconds=60)
    told = platform.events("alert_resolved")
    assert len(told) == 10
    assert len({(event["id"], event["starts_at"], event["ends_at"]) for event in told}) == 1


def test_an_end_that_died_with_the_watch_is_told_by_the_next_one(platform: Platform):
    platform.reachable = False
    end(platform)
    platform.reachable = True
    platform.posted.clear()
    platform.start()
    platform.turn()
    (told,) = platform.events("alert_resolved")
    assert (told["cause"], told["model_version"]) == ("fleet_change:1", "1")
    assert platform.watch.alert is None


def test_on_a_full_disk_alerts_are_told_and_kept_as_soon_as_there_is_room(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_json", full)
    for _ in range(6):
        platform.turn(OTHER)
    (fired,) = platform.events("alert_firing")
    assert len(platform.alerts()) >= 1
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.undo()
    platform.turn(OTHER)
    platform.start()
    assert platform.watch.alert.starts_at == fired["starts_at"]


def end(platform: Platform) -> None:
    """An alert fires, and ends."""
    for _ in range(4):
        platform.turn(OTHER)
    assert platform.watch.alert is not None
    platform.registry.version = "2"
    platform.turn(seconds=60)
    assert platform.watch.alert is None


def test_a_damaged_state_file_does_not_stop_the_watch(platform: Platform):
    (platform.folder / "state.json").write_text('{"alarm": {"model_')
    platform.start()
    assert platform.watch.alert is None


def test_a_new_version_ends_the_alert_and_begins_an_empty_window(platform: Platform):
    for _ in range(6):
        platform.turn(OTHER)
    platform.registry.version = "2"
    verdict = platform.turn(OTHER)  # the server still answers with version 1
    assert (verdict.verdict, verdict.n) == ("not_enough_data", 0)
    assert platform.alerts()[-1]["status"] == "resolved"
    for _ in range(4):
        verdict = platform.turn(HEALTHY, version="2")
    assert (verdict.verdict, verdict.n) == ("no_drift", 400)
    assert platform.events("verdict")[-1]["model_version"] == "2"


def test_the_registry_down_leaves_the_watch_watching(platform: Platform):
    for _ in range(4):
        platform.turn(HEALTHY)
    platform.registry.up = False
    calls = platform.registry.calls
    for _ in range(6):
        assert platform.turn(HEALTHY).verdict == "no_drift"
    # Asked again every two seconds, not at every look.
    assert platform.registry.calls - calls <= 4
    platform.registry.up, platform.registry.version = True, "2"
    platform.clock.now += 5
    platform.turn()
    assert platform.events("verdict")[-1]["model_version"] == "2"


def test_a_watch_that_starts_without_the_registry_uses_what_it_knew(platform: Platform):
    platform.turn(HEALTHY, 400)
    platform.registry.up = False
    platform.start()
    assert platform.turn(HEALTHY).verdict == "no_drift"


def test_without_any_model_the_watch_waits_and_says_so(platform: Platform):
    platform.registry.version = None
    assert platform.turn() is None
    assert platform.events("verdict")[-1]["reason"] == "no model is in production"


def test_a_new_version_with_a_damaged_bundle_leaves_the_old_one_watched(platform: Platform):
    platform.turn(HEALTHY, 400)
    platform.registry.version, platform.registry.content = "2", b"{}"
    assert platform.turn(HEALTHY).verdict == "no_drift"
    assert platform.events("verdict")[-1]["model_version"] == "1"


def test_the_server_down_is_reported_and_survived(platform: Platform):
    platform.turn(HEALTHY, 400)
    platform.source.up = False
    assert platform.turn() is None
    assert "down" in platform.events("verdict")[-1]["reason"]
    assert platform.exporter.registry.get_sample_value("driftloop_drift_source_up") == 0
    platform.source.up = True
    assert platform.turn(HEALTHY).verdict == "no_drift"


def test_what_the_retrainer_misses_it_gets_later_in_order(platform: Platform):
    platform.reachable = False
    for _ in range(8):
        platform.turn(OTHER)
    assert not platform.posted
    platform.reachable = True
    assert platform.outbox.deliver()
    kinds = [body["kind"] for url, body in platform.posted if url.endswith("/events")]
    assert kinds == ["alert_firing", "verdict", "verdict"]
    # Of the alert only the newest form waits.
    assert len(platform.alerts()) == 1


def test_alerts_go_through_alertmanager_where_there_is_one(tmp_path: Path, baseline: Baseline):
    platform = Platform(tmp_path, baseline, alertmanager_url="http://alertmanager:9093/")
    platform.turn(OTHER, 200)
    assert platform.alerts() == []
    ((alert,),) = [body for url, body in platform.posted if url == "http://alertmanager:9093/api/v2/alerts"]
    assert alert["startsAt"] < alert["endsAt"]
    assert alert["labels"]["alertname"] == "DriftloopDrift"


def test_the_watch_shows_its_own_metrics(platform: Platform):
    platform.turn(OTHER, 300)
    value = platform.exporter.registry.get_sample_value
    assert value("driftloop_drift_verdict", {"model_version": "1", "verdict": "drift"}) == 1
    assert value("driftloop_drift_verdict", {"model_version": "1", "verdict": "no_drift"}) == 0
    assert value("driftloop_drift_score", {"model_version": "1"}) > 1
    assert value("driftloop_drift_requests", {"model_version": "1"}) == 300
    assert value("driftloop_drift_psi", {"model_version": "1", "feature": "setting_1"}) > 1
    assert value("driftloop_drift_alert_firing", {"kind": "fleet_change"}) == 1
    assert value("driftloop_drift_alerts_total", {"kind": "fleet_change"}) == 1
    assert value("driftloop_drift_last_check_timestamp_seconds") > 0


def test_the_loop_ends_when_it_is_told(platform: Platform):
    stopping = threading.Event()
    checks = []

    def check() -> None:
        checks.append(1)
        if len(checks) == 3:
            stopping.set()

    platform.watch.check = check
    platform.watch._settings = platform.settings.model_copy(update={"watch_interval_s": 1e-6})
    platform.watch.run(stopping)
    assert len(checks) == 3


def test_one_check_ends_as_soon_as_its_window_is_full(baseline: Baseline, tmp_path: Path):
    source, clock, rng = FakeSource(baseline), Clock(), np.random.default_rng(1)
    engines = lives(baseline, HEALTHY)

    def wait(seconds: float) -> None:
        clock.now += seconds
        source.send(stream(engines, 200, rng))

    verdict = check_once(
        WatchedModel("1", baseline, tmp_path), source, size=500, seconds=60, interval_s=1, clock=clock, wait=wait
    )
    assert (verdict.verdict, verdict.n, clock.now) == ("no_drift", 600, 3)


def test_one_check_ends_when_its_time_is_over(baseline: Baseline, tmp_path: Path):
    clock = Clock()

    def wait(seconds: float) -> None:
        clock.now += seconds

    model = WatchedModel("1", baseline, tmp_path)
    verdict = check_once(model, FakeSource(baseline), size=500, seconds=2.5, interval_s=1, clock=clock, wait=wait)
    assert (verdict.verdict, clock.now) == ("not_enough_data", 2.5)


def test_only_the_newest_bundle_is_kept(platform: Platform):
    platform.turn()
    platform.registry.version = "2"
    platform.turn()
    assert [path.name for path in (platform.folder / "bundles").iterdir() if path.is_dir()] == ["2"]


def test_a_bundle_that_was_damaged_on_disk_is_no_model(platform: Platform):
    platform.turn()
    (platform.folder / "bundles" / "1" / BASELINE).write_bytes(b"{")
    platform.registry.up = False
    platform.start()
    assert platform.turn() is None


def test_a_version_of_another_fleet_leaves_the_old_one_watched(platform: Platform):
    platform.turn(HEALTHY, 400)
    other = Schema(name="other", sensors=(Channel(name="flow"),), use_settings="none")
    platform.registry.metadata = structs.replace(METADATA, fleet=other)
    platform.registry.version = "2"
    assert platform.turn(HEALTHY).verdict == "no_drift"
    assert platform.events("verdict")[-1]["model_version"] == "1"
    assert platform.production.refused.kind == OTHER_FLEET


def with_errors(baseline: Baseline, rmse: float) -> Baseline:
    """The baseline with the same error in each bin of the answer."""
    bins, regimes = int(baseline.binner.sizes[0]), int(baseline.binner.sizes[-1]) - 1
    known = ErrorTable(10, [rmse**2] * bins, [0.9] * bins, [[rmse**2] * bins])
    return structs.replace(baseline, errors=LiveErrors(known, regimes))


def test_the_error_is_estimated_while_traffic_is_as_ever(tmp_path: Path, baseline: Baseline):
    platform = Platform(tmp_path, with_errors(baseline, 12.0))
    platform.turn(HEALTHY, n=20)
    assert platform.watch.estimate is not None
    assert platform.watch.estimate.why == "not enough data: 20 answers, 100 are needed"
    for _ in range(8):
        platform.turn(HEALTHY)
    assert (platform.watch.estimate.known, platform.watch.estimate.rmse) == (True, 12.0)
    text = exposition.render(platform.exporter.registry, "cmapss").decode()
    assert 'driftloop_drift_estimated_rmse{bound="rmse",fleet="cmapss",model_version="1"} 12.0' in text
    for _ in range(12):
        platform.turn(OTHER)
    assert platform.watch.estimate.rmse is None
    assert platform.watch.estimate.why is not None
    assert "driftloop_drift_estimated_rmse{" not in exposition.render(platform.exporter.registry, "cmapss").decode()
    verdicts = [body for url, body in platform.posted if url.endswith("/events") and body.get("kind") == "verdict"]
    assert {body["estimate"]["known"] for body in verdicts} == {True, False}


def test_an_idle_watch_asks_the_registry_rarely_and_follows_a_server_that_moves_on_at_once(platform: Platform) -> None:
    platform.source.served = "1"
    platform.turn()
    before = platform.registry.calls
    for _ in range(60):
        platform.turn(seconds=1.0)
    assert platform.registry.calls - before <= 6
    platform.registry.version = platform.source.served = "2"
    platform.turn()
    assert platform.production.version == "2"
    # What no server says, it finds by itself.
    platform.registry.version = "3"
    for _ in range(10):
        platform.turn(seconds=1.0)
    assert platform.production.version == "3"


@pytest.mark.parametrize("served", [None, "7"])
def test_a_watch_that_does_not_know_what_is_served_or_another_version_asks_every_time(
    platform: Platform, served: str | None
) -> None:
    platform.source.served = served
    before = platform.registry.calls
    for _ in range(5):
        platform.turn()
    assert platform.registry.calls - before == 5
