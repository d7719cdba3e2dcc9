"""The server's metrics: requests, latency, predictions, and traffic counted on the baseline's bins.

Every series about predictions carries `model_version`, so that a drift window never mixes versions. The request
path only appends to a queue; a thread counts what arrived about every 100 ms, and a scrape before it reads.
With PROMETHEUS_MULTIPROC_DIR set, prometheus_client keeps the values in files that all workers add up.
"""

import glob
import os
import threading
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from driftloop.drift.few_units import counts_of
from driftloop.exposition import render
from driftloop.fleet.quality import BEGINS, QUALITIES
from driftloop.fleet.schema import Schema
from driftloop.model.follower import OTHER_FLEET, UNUSABLE
from driftloop.model.signature import UNSEEN_REGIME
from driftloop.serving.engine import Engine, Outputs

_FLUSH_S = 0.1
_MOST_WAITING = 4096
"""Batches; beyond this, the one that adds counts them itself, so that memory stays bounded."""
_VERSIONS = 3
"""Model versions whose series one process keeps; older ones would only make each scrape longer."""
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

# Creation times double the number of series and nothing reads them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


Names = Sequence[str | None]
"""Of the unit of each window."""


class _Request(NamedTuple):
    version: str
    endpoint: str
    status: int
    seconds: float


class Metrics:
    """Counts in `registry` (its own one by default); `multiprocess_dir` is where several workers' values meet.

    Every series carries the name of the fleet `schema`.
    """

    def __init__(
        self, schema: Schema, registry: CollectorRegistry | None = None, multiprocess_dir: str | None = None
    ) -> None:
        self._schema, self._registry = schema, registry or CollectorRegistry()
        self._multiprocess_dir = multiprocess_dir
        own = self._registry
        self._requests = Counter(
            "driftloop_requests", "Requests answered.", ["model_version", "endpoint", "status"], registry=own
        )
        self._seconds = Histogram(
            "driftloop_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["model_version", "endpoint"],
            buckets=_BUCKETS,
            registry=own,
        )
        self._predictions = Counter("driftloop_predictions", "Windows predicted.", ["model_version"], registry=own)
        self._bins = Counter(
            "driftloop_feature_bin",
            "Predicted windows whose newest row falls into this bin of the model's baseline.",
            ["model_version", "feature", "bin"],
            registry=own,
        )
        self._units = Counter(
            "driftloop_unit_bucket",
            "Predicted windows by a hash of the unit that they are of, to count units by; the last bucket names none.",
            ["model_version", "bucket"],
            registry=own,
        )
        self._unseen = Counter(
            "driftloop_unseen_regime",
            "Predicted windows in an operating regime that training has not seen.",
            ["model_version"],
            registry=own,
        )
        self._info = Gauge(
            "driftloop_model_info",
            "1 for the model version that is serving, 0 for one that was.",
            ["model_version", "digest"],
            multiprocess_mode="livemax",
            registry=own,
        )
        self._swaps = Counter("driftloop_model_swaps", "Attempts to serve another version.", ["result"], registry=own)
        self._quality = Counter(
            "driftloop_sensor_quality",
            "Values of newest rows by quality; an episode that begins counts again.",
            ["model_version", "feature", "quality"],
            registry=own,
        )
        self._refused = Gauge(
            "driftloop_bundle_refused",
            "1 while the production version cannot be served and an older one is.",
            ["reason"],
            multiprocess_mode="livemax",
            registry=own,
        )
        self._registry_up = Gauge(
            "driftloop_registry_up",
            "1 while the model registry answers.",
            multiprocess_mode="livemin",
            registry=own,
        )
        self._dropped = Counter(
            "driftloop_inference_log_dropped", "Records for which the inference log had no room.", registry=own
        )
        self._failed = Counter(
            "driftloop_inference_log_errors", "Records that could not be written to the inference log.", registry=own
        )
        self._waiting_requests: deque[_Request] = deque()
        self._waiting_outputs: deque[tuple[Engine, Outputs, Names]] = deque()
        self._counting = threading.Lock()
        self._bin_series: dict[tuple[str, str], list[Counter]] = {}
        self._buckets: dict[str, set[str]] = {}
        """Those that have a series, by version."""
        self._served: list[Engine] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        for result in ("ok", "refused"):
            self._swaps.labels(result)
        self.bundle_refused(None)

    def start(self) -> None:
        """Start the thread that counts."""
        self._thread.start()

    def stop(self) -> None:
        """Count what waits, end the thread, and take this process out of the gauges that are about live ones."""
        self._stopping.set()
        self._thread.join()
        self.flush()
        if self._multiprocess_dir is not None:
            _forget_worker(os.getpid(), self._multiprocess_dir)

    # The request path: appending to a deque is atomic and takes no lock.

    def requested(self, version: str, endpoint: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._waiting_requests.append(_Request(version, endpoint, status, seconds))
        if len(self._waiting_requests) > _MOST_WAITING:
            self.flush()

    def predicted(self, engine: Engine, outputs: Outputs, units: Names) -> None:
        """`engine` has answered a batch; its newest rows are one observation each, of the units named."""
        self._waiting_outputs.append((engine, outputs, units))
        if len(self._waiting_outputs) > _MOST_WAITING:
            self.flush()

    # What happens rarely.

    def serving(self, engine: Engine) -> None:
        """`engine` serves from now on; its series begin at 0, so that the first increase is not lost on a rate."""
        with self._counting:
            for other in self._served:
                self._info.labels(other.version, other.digest).set(0)
            if self._multiprocess_dir is None:
                # A registry that was made anew gives an old number to other bins.
                for other in [o for o in self._served if o.version == engine.version and o.digest != engine.digest]:
                    self._forget(other)
            self._served = [*(other for other in self._served if other.version != engine.version), engine]
            self._predictions.labels(engine.version)
            self._unseen.labels(engine.version)
            self._series_of(engine)
            for labels in _quality_labels(engine):
                self._quality.labels(*labels)
            self._info.labels(engine.version, engine.digest).set(1)
            if self._multiprocess_dir is None:
                for other in self._served[:-_VERSIONS]:
                    self._forget(other)

    def swapped(self, *, ok: bool) -> None:
        """A swap has ended well or was refused."""
        self._swaps.labels("ok" if ok else "refused").inc()

    def bundle_refused(self, reason: str | None) -> None:
        """Why the production version cannot be served, UNUSABLE or OTHER_FLEET; None where it can."""
        for one in (UNUSABLE, OTHER_FLEET):
            self._refused.labels(one).set(1 if one == reason else 0)

    def registry_answers(self, up: bool) -> None:
        """Whether the registry answered the last time."""
        self._registry_up.set(1 if up else 0)

    def log_dropped(self, records: int) -> None:
        """The inference log had no room."""
        self._dropped.inc(records)

    def log_failed(self, records: int) -> None:
        """The inference log could not be written."""
        self._failed.inc(records)

    def render(self) -> bytes:
        """Prometheus' text format, with everything counted that was answered before."""
        if self._multiprocess_dir is None:
            with self._counting:
                # Under the lock, so that a scrape never sees a request in some features and not yet in others.
                self._count_requests()
                self._count_outputs()
                return render(self._registry, self._schema.name)
        self.flush()
        everybody = CollectorRegistry()
        everybody.register(_Workers(self._multiprocess_dir))
        return render(everybody, self._schema.name)

    def flush(self) -> None:
        """Count what waits."""
        with self._counting:
            self._count_requests()
            self._count_outputs()

    def _work(self) -> None:
        while not self._stopping.wait(_FLUSH_S):
            self.flush()

    def _count_requests(self) -> None:
        tally: Tally[tuple[str, str, int]] = Tally()
        for _ in range(len(self._waiting_requests)):
            version, endpoint, status, seconds = self._waiting_requests.popleft()
            tally[version, endpoint, status] += 1
            self._seconds.labels(version, endpoint).observe(seconds)
        for (version, endpoint, status), number in tally.items():
            self._requests.labels(version, endpoint, str(status)).inc(number)

    def _count_outputs(self) -> None:
        by_engine: dict[int, list[tuple[Engine, Outputs, Names]]] = {}
        for _ in range(len(self._waiting_outputs)):
            batch = self._waiting_outputs.popleft()
            by_engine.setdefault(id(batch[0]), []).append(batch)
        for batches in by_engine.values():
            engine = batches[0][0]
            outputs = Outputs(*map(np.concatenate, zip(*(outputs for _, outputs, _ in batches), strict=True)))
            self._count(engine, outputs, [name for _, _, names in batches for name in names])

    def _count(self, engine: Engine, outputs: Outputs, units: Names) -> None:
        self._predictions.labels(engine.version).inc(len(outputs.rul))
        self._count_units(engine, units)
        self._count_quality(engine, outputs)
        if engine.binner is None:
            return
        unseen = int((outputs.regime == UNSEEN_REGIME).sum())
        if unseen:
            self._unseen.labels(engine.version).inc(unseen)
        counts = engine.binner.counts(outputs.rul, outputs.settings, outputs.newest, outputs.regime)
        series = self._series_of(engine)
        for position in np.flatnonzero(counts):
            series[position].inc(int(counts[position]))

    def _count_units(self, engine: Engine, units: Names) -> None:
        if engine.binner is None:
            return
        counts = counts_of(units)
        for bucket in np.flatnonzero(counts):
            self._units.labels(engine.version, str(bucket)).inc(int(counts[bucket]))
            self._buckets.setdefault(engine.version, set()).add(str(bucket))

    def _count_quality(self, engine: Engine, outputs: Outputs) -> None:
        if not outputs.quality.shape[1]:
            return
        counts = {name: (outputs.quality == code).sum(axis=0) for code, name in enumerate(QUALITIES)}
        for code, name in BEGINS.items():
            counts[name] = (outputs.begins & (outputs.quality == code)).sum(axis=0)
        for quality, numbers in counts.items():
            for position in np.flatnonzero(numbers):
                labels = (engine.version, self._schema.columns[position], quality)
                self._quality.labels(*labels).inc(int(numbers[position]))

    def _series_of(self, engine: Engine) -> list[Counter]:
        """One counter per bin of all features, in the binner's flat order."""
        if engine.binner is None:
            return []
        name = (engine.version, engine.digest)
        if name not in self._bin_series:
            self._bin_series[name] = [self._bins.labels(*labels) for labels in _bin_labels(engine)]
        return self._bin_series[name]

    def _forget(self, engine: Engine) -> None:
        self._info.remove(engine.version, engine.digest)
        self._bin_series.pop((engine.version, engine.digest), None)
        for labels in _bin_labels(engine):
            self._bins.remove(*labels)
        for labels in _quality_labels(engine):
            self._quality.remove(*labels)
        for bucket in self._buckets.pop(engine.version, ()):
            self._units.remove(engine.version, bucket)
        self._served.remove(engine)


def _bin_labels(engine: Engine) -> list[tuple[str, str, str]]:
    if engine.binner is None:
        return []
    return [(engine.version, f.name, str(index)) for f in engine.binner.features for index in range(f.bins)]


def _quality_labels(engine: Engine) -> list[tuple[str, str, str]]:
    if engine.binner is None or not engine.judged:
        return []
    columns = engine.reader.form.schema.columns
    return [(engine.version, name, quality) for name in columns for quality in (*QUALITIES, *BEGINS.values())]


class _Workers:
    """What all workers have counted; MultiProcessCollector itself takes brackets in a path for a pattern."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def collect(self) -> Iterable[Metric]:
        """The values of all workers added up."""
        files = [str(path) for path in sorted(self._folder.glob("*.db"))]
        found: Iterable[Metric] = MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return found


def _forget_worker(pid: int, folder: str) -> None:
    mark_process_dead(pid, glob.escape(folder))  # type: ignore[no-untyped-call]


def multiprocess_dir() -> str | None:
    """The folder in which workers share their values; prometheus_client decides by the same variable on import."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


def forget_dead_workers(folder: str) -> None:
    """Remove the live gauges of workers that were killed, which could not do it themselves."""
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not _runs(int(pid)):
            _forget_worker(int(pid), folder)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
