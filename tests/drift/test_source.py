import json

import numpy as np
import pytest

from driftloop.drift import source as sources
from driftloop.drift.baseline import Baseline
from driftloop.drift.sensors import COUNTED
from driftloop.drift.source import QUALITY, PrometheusSource, ScrapeSource, SourceUnavailable, Window, parse_metrics
from driftloop.errors import BundleError

from .conftest import Loopback
from .engines import metrics_text, trace


def requests(baseline: Baseline, n: int, start: int = 0) -> dict[str, np.ndarray]:
    """Counts of n successive requests from one long life."""
    lives = [trace(i) for i in range(12)]
    rows = np.concatenate([baseline.binner.indices(t.prediction, t.settings, t.newest, t.regime) for t in lives])
    flat = (rows[start : start + n] + baseline.binner.offsets).ravel()
    return baseline.binner.split(np.bincount(flat, minlength=baseline.binner.total))


def reading(counts: dict[str, np.ndarray]) -> dict[tuple[str, int], int]:
    return {(name, i): int(c) for name, part in counts.items() for i, c in enumerate(part)}


def newest(window: Window, baseline: Baseline) -> int:
    return int(baseline.binner.split(window.newest().bins)["regime"].sum())


def test_counts_are_read_from_the_text_format(baseline: Baseline):
    counts = requests(baseline, 100)
    text = "# HELP x y\n# TYPE driftloop_feature_bin_total counter\n" + metrics_text("3", counts) + "other 1\n"
    assert parse_metrics(text, "3", "cmapss") == reading(counts)


def test_counts_of_other_versions_are_not_read(baseline: Baseline):
    assert parse_metrics(metrics_text("2", requests(baseline, 10)), "3", "cmapss") == {}


def test_counts_of_other_fleets_are_not_read_though_their_versions_have_the_same_number(baseline: Baseline):
    assert parse_metrics(metrics_text("3", requests(baseline, 10)), "3", "pumps") == {}


@pytest.mark.parametrize("labels", ["", 'model_version="1"', 'model_version="1",feature="regime",bin="x"'])
def test_damaged_metrics_are_refused(labels: str):
    with pytest.raises(SourceUnavailable, match="Prometheus"):
        parse_metrics(f"driftloop_feature_bin_total{{{labels}}} 1", "1", "cmapss", "http://server")


def test_another_page_has_no_counts():
    assert parse_metrics("<html>not metrics</html>", "1", "cmapss") == {}


def test_a_window_holds_the_newest_requests(baseline: Baseline):
    window = Window(baseline.binner, 100)
    for n in range(40, 1001, 40):
        window.add({"a": reading(requests(baseline, n))})
    # Snapshots are 40 requests apart: the smallest window with at least 100 has 120.
    assert newest(window, baseline) == 120
    expected = baseline.binner.join(requests(baseline, 120, 880))
    assert (window.newest().bins == expected).all()


def test_a_window_may_hold_more_than_it_looks_at(baseline: Baseline):
    window = Window(baseline.binner, 100, longest=300)
    window.add({"a": reading(requests(baseline, 80))})
    assert (window.newest().bins == window.held().bins).all()
    for n in range(120, 1001, 40):
        window.add({"a": reading(requests(baseline, n))})
    assert (window.newest().bins == baseline.binner.join(requests(baseline, 120, 880))).all()
    assert (window.held().bins == baseline.binner.join(requests(baseline, 320, 680))).all()


def test_fewer_of_the_newest_requests_can_be_looked_at(baseline: Baseline):
    window = Window(baseline.binner, 300)
    for n in range(40, 1001, 40):
        window.add({"a": reading(requests(baseline, n))})
    assert (window.newest(100).bins == baseline.binner.join(requests(baseline, 120, 880))).all()
    assert (window.newest(1000).bins == window.held().bins).all()


def test_a_short_past_counts_and_a_long_one_does_not(baseline: Baseline):
    short, long = Window(baseline.binner, 100), Window(baseline.binner, 100)
    assert short.add({"a": reading(requests(baseline, 100))}) == 100
    assert long.add({"a": reading(requests(baseline, 101))}) == 0
    assert long.add({"a": reading(requests(baseline, 111))}) == 10


def test_a_server_that_starts_again_loses_and_invents_nothing(baseline: Baseline):
    window = Window(baseline.binner, 1000)
    window.add({"a": reading(requests(baseline, 300)), "b": reading(requests(baseline, 200))})
    window.add({"a": reading(requests(baseline, 20, 300)), "b": reading(requests(baseline, 210))})
    assert newest(window, baseline) == 300 + 20 + 210


def test_a_server_that_is_missing_for_a_while_is_counted_when_it_is_back(baseline: Baseline):
    window = Window(baseline.binner, 1000)
    window.add({"a": reading(requests(baseline, 30)), "b": reading(requests(baseline, 30))})
    window.add({"a": reading(requests(baseline, 40))})
    window.add({"a": reading(requests(baseline, 40)), "b": reading(requests(baseline, 50))})
    assert newest(window, baseline) == 90


def test_the_same_reading_twice_changes_nothing(baseline: Baseline):
    window = Window(baseline.binner, 50)
    for _ in range(3):
        window.add({"a": reading(requests(baseline, 50))})
    assert newest(window, baseline) == 50


def test_two_servers_that_swap_at_different_moments_never_mix_versions(baseline: Baseline, loopback: Loopback):
    """Both count the old version to the end; the window of the new one holds its own requests alone."""
    other = Loopback()
    source = ScrapeSource([loopback.url, other.url], "cmapss")
    old, new = Window(baseline.binner, 1000), Window(baseline.binner, 1000)
    try:
        # (old, new) requests that each of the two has counted at each scrape: the first swaps two scrapes earlier.
        for first, second in [
            ((100, 0), (90, 0)),
            ((130, 20), (140, 0)),
            ((130, 70), (180, 0)),
            ((130, 110), (180, 40)),
        ]:
            for server, (before, after) in ((loopback, first), (other, second)):
                server.answers["/metrics"] = metrics_text("1", requests(baseline, before)) + metrics_text(
                    "2", requests(baseline, after, 1000)
                )
            old.add(source.read("1"))
            new.add(source.read("2"))
        assert newest(old, baseline) == 130 + 180
        assert newest(new, baseline) == 110 + 40
        parts = (requests(baseline, 110, 1000), requests(baseline, 40, 1000))
        assert (new.newest().bins == sum(baseline.binner.join(part) for part in parts)).all()
    finally:
        source.close()
        other.close()


def test_bins_that_the_baseline_has_not_are_refused(baseline: Baseline):
    window = Window(baseline.binner, 10)
    with pytest.raises(BundleError, match="bin 99 of regime"):
        window.add({"a": {("regime", 99): 1}})
    with pytest.raises(BundleError, match="sensor_99"):
        window.add({"a": {("sensor_99", 0): 1}})


def test_one_of_two_servers_down_leaves_the_other(baseline: Baseline, loopback: Loopback):
    loopback.answers["/metrics"] = metrics_text("1", requests(baseline, 5))
    source = ScrapeSource(["http://127.0.0.1:1", loopback.url], "cmapss")
    assert list(source.read("1")) == [loopback.url]
    source.close()


def test_no_server_at_all_is_said(loopback: Loopback):
    loopback.status = 500
    for url in ("http://127.0.0.1:1", loopback.url):
        source = ScrapeSource([url], "cmapss")
        with pytest.raises(SourceUnavailable, match=url):
            source.read("1")
        source.close()


def vector(instances: dict[str, dict[str, np.ndarray]], version: str) -> str:
    """An answer of Prometheus' instant query."""
    result = [
        {
            "metric": {
                "__name__": "driftloop_feature_bin_total", "instance": instance, "job": "server",
                "model_version": version, "feature": name, "bin": str(i),
            },
            "value": [1435781451.781, str(int(count))],
        }
        for instance, counts in instances.items() for name, part in counts.items() for i, count in enumerate(part)
    ]  # fmt: skip
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def test_prometheus_gives_the_counters_of_each_replica(baseline: Baseline, loopback: Loopback):
    replicas = {"10.0.0.1:8500": requests(baseline, 80), "10.0.0.2:8500": requests(baseline, 20)}
    loopback.answers["/api/v1/query"] = vector(replicas, "3")
    source = PrometheusSource(loopback.url, "cmapss")
    got = source.read("3")
    assert sorted(got) == ["instance=10.0.0.1:8500,job=server", "instance=10.0.0.2:8500,job=server"]
    assert got["instance=10.0.0.2:8500,job=server"] == reading(replicas["10.0.0.2:8500"])
    assert "fleet%3D%22cmapss%22%2Cmodel_version%3D%223%22" in loopback.received[0][0]
    source.close()


def test_a_replica_that_restarts_behind_prometheus_is_counted_on(baseline: Baseline, loopback: Loopback):
    source, window = PrometheusSource(loopback.url, "cmapss"), Window(baseline.binner, 1000)
    for a, b in ((80, 20), (100, 3), (100, 3)):
        loopback.answers["/api/v1/query"] = vector({"a": requests(baseline, a), "b": requests(baseline, b)}, "3")
        window.add(source.read("3"))
    assert newest(window, baseline) == 100 + 20 + 3
    source.close()


@pytest.mark.parametrize(
    "answer", ["", "[]", '{"status": "error", "error": "timeout"}', '{"status": "success", "data": {}}']
)
def test_what_prometheus_should_not_answer_is_said(answer: str, loopback: Loopback):
    loopback.answers["/api/v1/query"] = answer
    source = PrometheusSource(loopback.url, "cmapss")
    with pytest.raises(SourceUnavailable, match=loopback.url):
        source.read("1")
    source.close()


def test_quality_is_counted_beside_the_bins_of_the_same_requests(baseline: Baseline):
    window, kind = Window(baseline.binner, 100, columns=["sensor_1", "sensor_2"]), COUNTED.index("missing")
    for sent, gone in ((60, 0), (120, 60), (220, 60)):
        text = metrics_text("1", requests(baseline, sent)) + (
            f'{QUALITY}{{fleet="cmapss",model_version="1",feature="sensor_2",quality="missing"}} {gone}.0\n'
            f'{QUALITY}{{fleet="cmapss",model_version="1",feature="unknown",quality="missing"}} 9.0\n'
        )
        window.add({"a": parse_metrics(text, "1", "cmapss")})
        quality = window.newest().quality.reshape(2, len(COUNTED))
        assert quality[1, kind] == {60: 0, 120: 60, 220: 0}[sent]
        assert quality[0].sum() == 0
    assert Window(baseline.binner, 100).newest().quality.shape == (0,)


def test_a_quality_that_nobody_knows_is_no_metrics_text():
    text = f'{QUALITY}{{fleet="cmapss",model_version="1",feature="sensor_2",quality="odd"}} 1.0\n'
    with pytest.raises(SourceUnavailable):
        parse_metrics(text, "1", "cmapss")


def info(version: str, value: int = 1, fleet: str = "cmapss") -> str:
    return f'driftloop_model_info{{digest="d",fleet="{fleet}",model_version="{version}"}} {value}\n'


def test_what_servers_say_that_they_serve_is_known_where_all_say_the_same(baseline: Baseline, loopback: Loopback):
    other = Loopback()
    source = ScrapeSource([loopback.url, other.url], "cmapss")
    counts = metrics_text("1", requests(baseline, 5))
    try:
        for first, second, served in [
            (info("1"), info("1"), "1"),
            (info("1", 0) + info("2"), info("1"), None),
            (info("1", 0) + info("2"), info("9", fleet="pumps") + info("2"), "2"),
            (info("2"), "", None),
        ]:
            loopback.answers["/metrics"], other.answers["/metrics"] = counts + first, counts + second
            source.read("1")
            assert source.served == served
        loopback.answers["/metrics"] = other.answers["/metrics"] = counts + info("2")
        source.read("1")
        assert source.served == "2"
        other.close()
        source.read("1")
        assert source.served is None
    finally:
        source.close()


def test_a_scrape_that_has_not_changed_is_not_parsed_again(
    baseline: Baseline, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
):
    parsed = []
    monkeypatch.setattr(sources, "parse_metrics", lambda *given: parsed.append(given[1]) or parse_metrics(*given))
    source = ScrapeSource([loopback.url], "cmapss")
    counts = requests(baseline, 5)
    for seconds in (1.5, 2.5):
        loopback.answers["/metrics"] = metrics_text("1", counts) + info("1") + f"process_cpu_seconds_total {seconds}\n"
        assert source.read("1") == {loopback.url: reading(counts)}
    assert parsed == ["1"]
    assert source.read("2") == {loopback.url: {}}
    more = requests(baseline, 6)
    loopback.answers["/metrics"] = metrics_text("2", more)
    assert source.read("2") == {loopback.url: reading(more)}
    assert parsed == ["1", "2", "2"]
    source.close()
