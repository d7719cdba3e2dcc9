"""Following the alias: swaps, refusals, and a registry that is down, slow, or another one than before."""

import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from driftloop.model import follower
from driftloop.model.registry import Registry
from driftloop.serving.engine import Slot, StubEngine
from driftloop.serving.follow import Follower
from driftloop.serving.metrics import Metrics
from driftloop.settings import Settings
from mlflow_double import mlflow
from serving_bundles import CMAPSS, PUMPS, FakeRegistry, write


class Server:
    """A follower with what it works on; `follower.step()` is one look at the alias."""

    def __init__(self, registry: FakeRegistry, folder: Path) -> None:
        self.registry, self.folder = registry, folder
        self.slot, self.metrics = Slot(StubEngine(CMAPSS)), Metrics(CMAPSS)
        self.follower = Follower(registry, self.slot, self.metrics, folder, 0.005, CMAPSS)

    @property
    def version(self) -> str:
        return self.slot.engine.version

    def metric(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics.render().decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def figures(self) -> tuple[float, float, float, float]:
        """Swaps that went well, refused ones, whether one is refused now, whether the registry answers."""
        return (
            self.metric("driftloop_model_swaps_total", result="ok"),
            self.metric("driftloop_model_swaps_total", result="refused"),
            self.metric("driftloop_bundle_refused"),
            self.metric("driftloop_registry_up"),
        )


@pytest.fixture
def server(registry: FakeRegistry, tmp_path: Path) -> Server:
    return Server(registry, tmp_path / "bundles")


def test_nothing_registered_leaves_the_stub(server: Server) -> None:
    server.follower.step()
    assert (server.version, server.figures) == ("stub", (0, 0, 0, 1))


def test_the_alias_is_followed_forward_and_back(server: Server) -> None:
    for version, constant in (("1", 1), ("2", 2), ("1", 1)):
        server.registry.publish(version, constant)
        server.follower.step()
        assert server.version == version
        assert server.slot.engine.predict([[[0.0] * 24]]).rul.tolist() == [1000.0 * constant]
    assert server.figures == (3, 0, 0, 1)


def test_a_version_that_serves_is_not_fetched_again(server: Server) -> None:
    server.registry.publish("1", 1)
    for _ in range(5):
        server.follower.step()
    assert (server.registry.alias_calls, server.registry.fetch_calls) == (5, 1)


def test_a_bad_bundle_leaves_the_old_one_serving_and_is_not_tried_in_a_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(server.follower.production, "_clock", lambda: now)
    server.registry.publish("1", 1)
    server.follower.step()
    server.registry.publish("2", 2, nan=True)
    for _ in range(5):
        server.follower.step()
    assert (server.version, server.figures, server.registry.fetch_calls) == ("1", (1, 1, 1, 1), 2)
    tries = []
    for _ in range(2000):
        now += 1.0
        before = server.registry.fetch_calls
        server.follower.step()
        if server.registry.fetch_calls > before:
            tries.append(now - 1000.0)
    assert tries[:6] == [5, 15, 35, 75, 155, 315]
    assert {late - early for early, late in pairwise(tries[6:])} == {300.0}
    # Put right under the same number, it is served at the next try.
    server.registry.publish("2", 2)
    now += 300.0
    server.follower.step()
    assert (server.version, server.figures[2:]) == ("2", (0, 1))


def test_after_a_bad_bundle_another_version_is_tried_at_once(server: Server) -> None:
    server.registry.publish("1", 1, drop="upper")
    server.follower.step()
    assert (server.version, server.figures) == ("stub", (0, 1, 1, 1))
    server.registry.publish("2", 2)
    server.follower.step()
    assert (server.version, server.figures) == ("2", (1, 1, 0, 1))


def test_a_rollback_to_what_serves_ends_the_refusal(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    server.registry.publish("2", 2, nan=True)
    server.follower.step()
    server.registry.production = "1"
    server.follower.step()
    assert (server.version, server.figures) == ("1", (1, 1, 0, 1))


def test_an_alias_on_a_version_without_files_is_refused(server: Server) -> None:
    server.registry.production = "9"
    server.follower.step()
    assert (server.version, server.figures) == ("stub", (0, 1, 1, 1))


def test_while_the_registry_is_down_everything_stays_and_then_recovers(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    server.registry.down = True
    server.registry.publish("2", 2)
    server.follower.step()
    assert (server.version, server.figures) == ("1", (1, 0, 0, 0))
    server.registry.down = False
    server.follower.step()
    assert (server.version, server.figures) == ("2", (2, 0, 0, 1))


def test_a_registry_that_goes_down_during_the_download_is_asked_again_next_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.registry.publish("1", 1)
    real = server.registry.alias

    def alias(name: str) -> str | None:
        answer = real(name)
        server.registry.down = True
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(server.registry, "alias", alias)
        server.follower.step()
    assert (server.version, server.figures) == ("stub", (0, 0, 0, 0))
    server.registry.down = False
    server.follower.step()
    assert server.version == "1"


def test_with_the_registry_down_at_start_the_last_good_version_serves(server: Server) -> None:
    for version, constant in (("1", 1), ("2", 2)):
        server.registry.publish(version, constant)
        server.follower.step()
    server.registry.down = True
    restarted = Server(server.registry, server.folder)
    restarted.follower.start(10)
    assert (restarted.version, restarted.figures) == ("2", (0, 0, 0, 0))
    server.registry.down = False
    restarted.follower.stop()
    restarted.follower.step()
    assert (restarted.version, restarted.figures) == ("2", (0, 0, 0, 1))


def test_a_refused_version_is_not_what_a_restart_serves(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    server.registry.publish("2", 2, nan=True)
    server.follower.step()
    server.registry.down = True
    restarted = Server(server.registry, server.folder)
    restarted.follower.restore()
    assert restarted.version == "1"


@pytest.mark.parametrize("damage", ["last.json", "1/model.onnx", "1/metadata.json"])
def test_a_kept_bundle_that_was_damaged_is_not_served(server: Server, damage: str) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    path = server.folder / damage
    path.write_bytes(path.read_bytes().replace(b"1", b"7"))
    restarted = Server(server.registry, server.folder)
    restarted.follower.restore()
    assert restarted.version == "stub"
    restarted.follower.step()
    assert restarted.version == "1", "fetched anew"


def test_a_kept_bundle_of_another_registry_gives_way(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    emptied = Server(FakeRegistry(server.registry.folder.with_name("new")), server.folder)
    emptied.follower.restore()
    assert emptied.version == "1"
    emptied.follower.step()
    assert emptied.version == "stub", "the registry has no production version"
    emptied.registry.publish("1", 5)
    emptied.follower.step()
    assert emptied.slot.engine.predict([[[0.0] * 24]]).rul.tolist() == [5000.0]


def test_a_number_that_now_means_another_bundle_is_noticed_at_start(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    write(server.registry.folder / "1", 6)
    restarted = Server(server.registry, server.folder)
    restarted.follower.restore()
    restarted.follower.step()
    assert restarted.slot.engine.predict([[[0.0] * 24]]).rul.tolist() == [6000.0]


def test_an_alias_that_is_taken_away_leaves_what_serves(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    server.registry.production = None
    server.follower.step()
    assert server.version == "1"


def test_three_bundles_are_kept(server: Server) -> None:
    for number in range(1, 7):
        server.registry.publish(str(number), number)
        server.follower.step()
    assert sorted(path.name for path in server.folder.iterdir() if path.is_dir()) == ["4", "5", "6"]


def test_what_a_killed_download_left_goes_after_an_hour(server: Server) -> None:
    for name, hours in ((".1.killed", 2), (".1.goes-on", 0)):
        (server.folder / name).mkdir(parents=True)
        then = time.time() - hours * 3600.0
        os.utime(server.folder / name, (then, then))
    server.registry.publish("1", 1)
    server.follower.step()
    assert {path.name for path in server.folder.iterdir() if path.is_dir()} == {".1.goes-on", "1"}


def test_a_slow_registry_holds_up_neither_the_start_nor_the_end(server: Server) -> None:
    server.registry.publish("1", 1)
    server.registry.gate.clear()
    server.follower.start(patience_s=0.05)
    assert server.version == "stub"
    server.follower.stop()
    assert server.follower._thread.is_alive(), "left behind, it holds nothing"
    server.registry.gate.set()
    server.follower._thread.join(10)
    assert not server.follower._thread.is_alive()


def test_an_unforeseen_error_does_not_end_the_following(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def alias(_: str) -> str:
        failed.set()
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(server.registry, "alias", alias)
        server.follower.start(10)
        assert failed.wait(10)
    server.registry.publish("1", 1)
    swapped = threading.Event()
    monkeypatch.setattr(server.metrics, "swapped", lambda **_: swapped.set())
    assert swapped.wait(10)
    server.follower.stop()
    assert server.version == "1"


# Versions of another fleet, and what readiness may say.


def test_a_version_of_another_fleet_is_refused_and_the_one_before_serves_on(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    server.registry.publish("2", 2, schema=PUMPS)
    server.follower.step()
    assert server.version == "1"
    assert server.metric("driftloop_bundle_refused", reason="other_fleet") == 1
    assert server.metric("driftloop_bundle_refused", reason="unusable") == 0
    refused = server.follower.production.refused
    assert refused is not None
    assert (refused.version, refused.kind) == ("2", follower.OTHER_FLEET)
    assert "of the fleet pumps" in refused.reason
    assert "it has the setting speed; " in refused.reason
    assert "it has the sensors temperature_c, flow, vibration" in refused.reason
    assert "driftloop fleet migrate OLD NEW" in refused.reason
    assert server.follower.production.problem is None, "version 1 serves"
    server.registry.publish("3", 3)
    server.follower.step()
    assert (server.version, server.metric("driftloop_bundle_refused")) == ("3", 0)


def test_a_kept_bundle_of_another_fleet_is_not_served_after_a_restart(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    other = follower.Follower(server.registry, server.folder, lambda *_: "loaded", PUMPS)
    other.restore()
    assert (other.current, "of the fleet cmapss" in str(other.problem)) == (None, True)


def test_nothing_in_production_is_no_problem(server: Server) -> None:
    server.follower.step()
    assert server.follower.production.problem is None


def test_a_production_version_that_cannot_be_used_is_a_problem_where_nothing_else_is_there(server: Server) -> None:
    server.registry.publish("1", 1, drop="upper")
    server.follower.step()
    assert "production version 1 cannot be used" in str(server.follower.production.problem)
    server.registry.publish("2", 2)
    server.follower.step()
    assert server.follower.production.problem is None


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{", b"[]", b'{"version": 1}'])
def test_a_damaged_record_of_what_was_good_is_said_while_the_registry_is_away(server: Server, damage: bytes) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    (server.folder / "last.json").write_bytes(damage)
    server.registry.down = True
    restarted = Server(server.registry, server.folder)
    restarted.follower.restore()
    restarted.follower.step()
    assert restarted.version == "stub"
    assert "the version that was good last cannot be used" in str(restarted.follower.production.problem)
    server.registry.down = False
    restarted.follower.step()
    assert (restarted.version, restarted.follower.production.problem) == ("1", None)


def test_the_last_good_version_outlives_any_number_of_refused_ones(server: Server) -> None:
    server.registry.publish("1", 1)
    server.follower.step()
    for number in range(2, 7):
        server.registry.publish(str(number), number, nan=True)
        server.follower.step()
    server.registry.down = True
    restarted = Server(server.registry, server.folder)
    restarted.follower.restore()
    assert restarted.version == "1"


@pytest.mark.parametrize(("prefix", "end"), [("", "/"), ("/mlflow", ""), ("/mlflow", "/"), ("/a/b", "//")])
def test_a_registry_below_a_path_or_with_a_slash_behind_is_followed(tmp_path: Path, prefix: str, end: str) -> None:
    write(tmp_path / "registry" / "1", 1)
    with mlflow(tmp_path / "registry") as double:
        double.prefix, double.production = prefix, "1"
        with Registry(double.url + prefix + end, "rul-lstm") as registry:
            production = follower.Follower(registry, tmp_path / "bundles", lambda _, version: version)
            assert production.look() == "1", production.problem


def test_a_server_that_is_asked_what_it_serves_looks_at_once(registry: FakeRegistry, server: Server) -> None:
    switched = threading.Event()
    follower = Follower(registry, server.slot, server.metrics, server.folder, 3600.0, CMAPSS)
    follower.start(60.0)
    try:
        for number in (1, 2):
            switched.clear()
            server.metrics.serving = lambda _: switched.set()  # type: ignore[method-assign]
            registry.publish(str(number), number)
            follower.hurry()
            assert switched.wait(60)
    finally:
        follower.stop()
    assert server.version == "2"


class Minute(threading.Event):
    """Sixty seconds that pass as fast as somebody waits for them."""

    left = 60.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.left -= timeout
        return self.left <= 0

    def is_set(self) -> bool:
        return self.left <= 0


def test_an_idle_server_asks_the_registry_eighty_times_a_minute_at_most_and_every_second_at_least(
    registry: FakeRegistry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    interval_s = Settings().follow_interval_s
    asked = 0
    alias = registry.alias

    def ask(name: str) -> str | None:
        nonlocal asked
        asked += 1
        return alias(name)

    monkeypatch.setattr(registry, "alias", ask)
    follower = Follower(registry, server.slot, server.metrics, server.folder, interval_s, CMAPSS)
    minute = Minute()
    monkeypatch.setattr(follower, "_stopping", minute)
    monkeypatch.setattr(follower, "_due", minute)
    follower._work()
    assert 60 <= asked <= 80
