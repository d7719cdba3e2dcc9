"""What a scrape says, to the byte, and over several processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from driftloop.drift.bins import FeatureBins
from driftloop.drift.few_units import UNNAMED, bucket
from driftloop.drift.source import UNITS
from driftloop.serving.engine import OnnxEngine, StubEngine, load
from driftloop.serving.metrics import Metrics, forget_dead_workers
from serving_bundles import BINS, CMAPSS, PUMPS, row, write

EMPTY = """\
# HELP driftloop_requests_total Requests answered.
# TYPE driftloop_requests_total counter
# HELP driftloop_request_seconds Time from a request's head to the end of its answer.
# TYPE driftloop_request_seconds histogram
# HELP driftloop_predictions_total Windows predicted.
# TYPE driftloop_predictions_total counter
driftloop_predictions_total{fleet="cmapss",model_version="stub"} 0.0
# HELP driftloop_feature_bin_total Predicted windows whose newest row falls into this bin of the model's baseline.
# TYPE driftloop_feature_bin_total counter
# HELP driftloop_unit_bucket_total Predicted windows by a hash of the unit that they are of, to count \
units by; the last bucket names none.
# TYPE driftloop_unit_bucket_total counter
# HELP driftloop_unseen_regime_total Predicted windows in an operating regime that training has not seen.
# TYPE driftloop_unseen_regime_total counter
driftloop_unseen_regime_total{fleet="cmapss",model_version="stub"} 0.0
# HELP driftloop_model_info 1 for the model version that is serving, 0 for one that was.
# TYPE driftloop_model_info gauge
driftloop_model_info{digest="",fleet="cmapss",model_version="stub"} 1.0
# HELP driftloop_model_swaps_total Attempts to serve another version.
# TYPE driftloop_model_swaps_total counter
driftloop_model_swaps_total{fleet="cmapss",result="ok"} 0.0
driftloop_model_swaps_total{fleet="cmapss",result="refused"} 0.0
# HELP driftloop_sensor_quality_total Values of newest rows by quality; an episode that begins counts again.
# TYPE driftloop_sensor_quality_total counter
# HELP driftloop_bundle_refused 1 while the production version cannot be served and an older one is.
# TYPE driftloop_bundle_refused gauge
driftloop_bundle_refused{fleet="cmapss",reason="unusable"} 0.0
driftloop_bundle_refused{fleet="cmapss",reason="other_fleet"} 0.0
# HELP driftloop_registry_up 1 while the model registry answers.
# TYPE driftloop_registry_up gauge
driftloop_registry_up{fleet="cmapss"} 0.0
# HELP driftloop_inference_log_dropped_total Records for which the inference log had no room.
# TYPE driftloop_inference_log_dropped_total counter
driftloop_inference_log_dropped_total{fleet="cmapss"} 0.0
# HELP driftloop_inference_log_errors_total Records that could not be written to the inference log.
# TYPE driftloop_inference_log_errors_total counter
driftloop_inference_log_errors_total{fleet="cmapss"} 0.0
"""


BUCKETS = ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0", "2.0", "5.0", "+Inf"]


@pytest.fixture
def engine(tmp_path: Path) -> OnnxEngine:
    return load(write(tmp_path / "1", 1), "1")


def lines_of(text: bytes, name: str) -> list[str]:
    lines = text.decode().replace('fleet="cmapss",', "").splitlines()
    return [line for line in lines if line.startswith(name) and not line.startswith("#")]


def values(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(label for label in sample.labels.items() if label[0] != "fleet"))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_server_without_a_model_says_exactly_this() -> None:
    metrics = Metrics(CMAPSS, CollectorRegistry())
    metrics.serving(StubEngine(CMAPSS))
    assert metrics.render().decode() == EMPTY


def test_requests_and_latency_are_counted_exactly() -> None:
    metrics = Metrics(CMAPSS)
    for seconds, status in ((0.0005, 200), (0.25, 200), (0.25, 422)):
        metrics.requested("1", "/predict", status, seconds)
    text = metrics.render()
    assert lines_of(text, "driftloop_requests") == [
        'driftloop_requests_total{endpoint="/predict",model_version="1",status="200"} 2.0',
        'driftloop_requests_total{endpoint="/predict",model_version="1",status="422"} 1.0',
    ]
    counts = [1.0] * 8 + [3.0] * 5
    assert lines_of(text, "driftloop_request_seconds") == [
        *(
            f'driftloop_request_seconds_bucket{{endpoint="/predict",le="{le}",model_version="1"}} {count}'
            for le, count in zip(BUCKETS, counts, strict=True)
        ),
        'driftloop_request_seconds_count{endpoint="/predict",model_version="1"} 3.0',
        'driftloop_request_seconds_sum{endpoint="/predict",model_version="1"} 0.5005',
    ]


def test_each_window_is_one_observation_of_each_feature_by_its_newest_row(engine: OnnxEngine) -> None:
    metrics = Metrics(CMAPSS)
    metrics.serving(engine)
    metrics.predicted(
        engine, engine.predict([[row(15.0), row(-1.0)], [row(-1.0), row(10.0)], [row(15.0)]]), ["a", "b", "a"]
    )
    metrics.predicted(engine, engine.predict([[row(1e30, setting_1=1e30)]]), [None])
    expected: dict[str, list[int]] = {f.name: [0, 4, 0, 0] for f in BINS}
    # rul is 1000 + sensor_1 clipped to 0..900; edges are 1500, 2500, ...
    expected["prediction"] = [3, 1, 0, 0, 0, 0]
    # Edges are 0, 10, 20, and a value on an edge is below it.
    expected["sensor_1"] = [1, 1, 1, 1]
    expected["setting_1"] = [3, 0, 0, 1]
    expected["regime"] = [3, 1]
    text = metrics.render()
    assert lines_of(text, "driftloop_feature_bin_total") == [
        f'driftloop_feature_bin_total{{bin="{index}",feature="{feature.name}",model_version="1"}} {float(count)}'
        for feature in BINS
        for index, count in enumerate(expected[feature.name])
    ]
    assert lines_of(text, "driftloop_predictions_total") == ['driftloop_predictions_total{model_version="1"} 4.0']
    assert lines_of(text, "driftloop_unseen_regime_total") == ['driftloop_unseen_regime_total{model_version="1"} 1.0']


def test_windows_are_counted_by_unit_and_who_names_none_by_itself(engine: OnnxEngine) -> None:
    metrics = Metrics(CMAPSS)
    metrics.serving(engine)
    assert lines_of(metrics.render(), UNITS) == [], "there are as many series as units"
    metrics.predicted(engine, engine.predict([[row()]] * 4), ["pump 7", "pump 8", "pump 7", None])
    found = {dict(pairs)["bucket"]: value for (name, pairs), value in values(metrics.render()).items() if name == UNITS}
    assert found == {str(bucket("pump 7")): 2, str(bucket("pump 8")): 1, str(UNNAMED): 1}
    metrics.predicted(StubEngine(CMAPSS), StubEngine(CMAPSS).predict([[row()]]), ["pump 7"])
    assert len(lines_of(metrics.render(), UNITS)) == 3, "nothing is judged of a stub"


def test_only_the_serving_version_has_the_info_1(tmp_path: Path, engine: OnnxEngine) -> None:
    metrics = Metrics(CMAPSS)
    other = load(write(tmp_path / "2", 2), "2")
    for one in (StubEngine(CMAPSS), engine, other, engine):
        metrics.serving(one)
    assert lines_of(metrics.render(), "driftloop_model_info") == [
        'driftloop_model_info{digest="",model_version="stub"} 0.0',
        f'driftloop_model_info{{digest="{engine.digest}",model_version="1"}} 1.0',
        f'driftloop_model_info{{digest="{other.digest}",model_version="2"}} 0.0',
    ]


def test_series_of_versions_long_gone_are_let_go(tmp_path: Path) -> None:
    metrics = Metrics(CMAPSS)
    for number in range(1, 6):
        engine = load(write(tmp_path / str(number), number), str(number))
        metrics.serving(engine)
        metrics.predicted(engine, engine.predict([[row()]]), ["a"])
        metrics.flush()
    text = metrics.render()
    assert len(lines_of(text, UNITS)) == 3
    kept = {line.partition('model_version="')[2][0] for line in lines_of(text, "driftloop_feature_bin_total")}
    assert kept == {"3", "4", "5"}


def test_a_number_that_means_another_bundle_begins_anew(tmp_path: Path, engine: OnnxEngine) -> None:
    metrics = Metrics(CMAPSS)
    metrics.serving(engine)
    metrics.predicted(engine, engine.predict([[row()]]), ["a"])
    metrics.flush()
    bins = [*BINS[:-1], FeatureBins("regime", "category", [], 3)]
    metrics.serving(load(write(tmp_path / "other" / "1", 1, bins=bins), "1"))
    assert lines_of(metrics.render(), "driftloop_feature_bin_total")[-3:] == [
        f'driftloop_feature_bin_total{{bin="{index}",feature="regime",model_version="1"}} 0.0' for index in range(3)
    ]


def test_missing_and_implausible_values_are_counted_by_sensor(tmp_path: Path) -> None:
    engine = load(write(tmp_path / "1", 1, schema=PUMPS), "1")
    metrics = Metrics(PUMPS)
    metrics.serving(engine)
    quality = "driftloop_sensor_quality_total"
    assert len(lines_of(metrics.render(), quality)) == 4 * 6, "there before the first request"
    assert 'fleet="pumps"' in lines_of(metrics.render(), quality)[0]
    metrics.predicted(
        engine,
        engine.predict([[[1, 20, 3, 4], [1, 151, None, None]], [[1, -20.5, 3, 4]], [[1, 150, 3, None]]]),
        ["a", "b", "c"],
    )
    found = {
        (labels["feature"], labels["quality"]): value
        for (name, pairs), value in values(metrics.render()).items()
        if name == quality and (labels := dict(pairs)) and value
    }
    assert found == {
        ("speed", "ok"): 3, ("temperature_c", "ok"): 1, ("temperature_c", "out_of_range"): 2,
        ("flow", "ok"): 2, ("flow", "missing"): 1, ("vibration", "ok"): 1, ("vibration", "missing"): 2,
        ("temperature_c", "out_of_range_begins"): 1, ("flow", "missing_begins"): 1, ("vibration", "missing_begins"): 1,
    }  # fmt: skip


def test_a_queue_that_nobody_empties_stays_bounded(engine: OnnxEngine) -> None:
    metrics = Metrics(CMAPSS)
    outputs = engine.predict([[row()]])
    for _ in range(10_000):
        metrics.predicted(engine, outputs, ["a"])
        metrics.requested("1", "/predict", 200, 0.001)
    assert len(metrics._waiting_outputs) < 5000
    assert len(metrics._waiting_requests) < 5000
    assert values(metrics.render())["driftloop_predictions_total", (("model_version", "1"),)] == 10_000


WORKER = """
import sys
from pathlib import Path
from driftloop import fleets
from driftloop.drift.bins import FeatureBins
from driftloop.serving.engine import load
from driftloop.serving.metrics import Metrics
metrics = Metrics(fleets.load("cmapss"), multiprocess_dir=sys.argv[1])
row = [0.0, 1.0, 1.0, 5.0] + [1.0] * 20
for line in sys.stdin:
    what, value = line.split()
    if what == "serve":
        engine = load(Path(value), Path(value).name)
        metrics.serving(engine)
        metrics.registry_answers(True)
    elif what == "predict":
        metrics.predicted(engine, engine.predict([[row]] * int(value)), ["a"] * int(value))
        metrics.flush()
    elif what == "stop":
        metrics.start()
        metrics.stop()
    print("done", flush=True)
"""


class Worker:
    """A process that counts into the shared folder, and does one thing after the other."""

    def __init__(self, folder: Path) -> None:
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        )

    def do(self, what: str, value: Any) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{what} {value}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def collect(folder: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    everybody = CollectorRegistry()
    MultiProcessCollector(everybody, str(folder))  # type: ignore[no-untyped-call]
    return values(prometheus_client.generate_latest(everybody))


def test_two_workers_that_swap_at_different_moments_count_right_per_version(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", 1), write(tmp_path / "2", 2)
    shared = tmp_path / "shared"
    shared.mkdir()
    early, late = Worker(shared), Worker(shared)
    try:
        for worker in (early, late):
            worker.do("serve", one)
        early.do("predict", 3)
        late.do("predict", 4)
        early.do("serve", two)
        early.do("predict", 50)
        late.do("predict", 600)
        between = collect(shared)
        late.do("serve", two)
        late.do("predict", 7000)
        after = collect(shared)
        late.do("stop", 0)
        early.kill()
        forget_dead_workers(str(shared))
        gone = collect(shared)
    finally:
        early.kill()
        late.kill()

    def predictions(found: dict[Any, float], version: str) -> float:
        return found["driftloop_predictions_total", (("model_version", version),)]

    def bins(found: dict[Any, float], version: str, feature: str) -> list[float]:
        numbered = [
            (int(dict(labels)["bin"]), value)
            for (name, labels), value in found.items()
            if name == "driftloop_feature_bin_total"
            and dict(labels)["model_version"] == version
            and dict(labels)["feature"] == feature
        ]
        return [value for _, value in sorted(numbered)]

    def serving(found: dict[Any, float]) -> dict[str, float]:
        return {
            dict(labels)["model_version"]: v for (name, labels), v in found.items() if name == "driftloop_model_info"
        }

    assert (predictions(between, "1"), predictions(between, "2")) == (607, 50)
    assert serving(between) == {"1": 1, "2": 1}
    assert (predictions(after, "1"), predictions(after, "2")) == (607, 7050)
    assert serving(after) == {"1": 0, "2": 1}
    for feature in ("sensor_1", "setting_2", "sensor_21"):
        assert bins(after, "1", feature) == [0, 607, 0, 0]
        assert bins(after, "2", feature) == [0, 7050, 0, 0]
    # Predictions are 1005 and 2005, on each version's own edges.
    assert bins(after, "1", "prediction") == [607, 0, 0, 0, 0, 0]
    assert bins(after, "2", "prediction") == [0, 7050, 0, 0, 0, 0]
    assert bins(after, "2", "regime") == [7050, 0]
    assert predictions(gone, "2") == 7050, "what a worker counted outlives it"
    assert serving(gone) == {}
