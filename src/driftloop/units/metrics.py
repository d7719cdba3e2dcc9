"""What the service shows to Prometheus, read from its state at each scrape."""

import math
import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from driftloop import exposition
from driftloop.units.service import Service
from driftloop.units.telemetry import RESULTS


class Metrics(Collector):
    """Makes the metrics of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return exposition.render(self._registry, self._service.settings.schema.name)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing ahead of time: the names are known only from `collect`."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The metrics as they are now."""
        service, memory = self._service, self._service.memory
        rows = CounterMetricFamily("driftloop_units_rows", "Rows that came, by what became of them.", labels=["result"])
        for result in RESULTS:
            rows.add_metric([result], service.rows[result])
        yield rows
        yield CounterMetricFamily(
            "driftloop_units_predictions", "Steps that were answered.", value=service.predictor.kept
        )
        yield CounterMetricFamily("driftloop_units_commits", "Transactions.", value=service.committer.commits)
        yield CounterMetricFamily("driftloop_units_writes", "Pieces of work in them.", value=service.committer.pieces)
        with memory.lock:
            states = Counter(unit.life.state for unit in memory.units.values() if unit.lives)
            waiting = service.predictor.waiting
            # Lives of which the store alone has more are due at 0, which is no time.
            oldest = min((life.due for life in memory.lives.values() if life.due > 0.0), default=math.inf)
        units = GaugeMetricFamily("driftloop_units", "Units, by the state of their newest life.", labels=["state"])
        for state, count in sorted(states.items()):
            units.add_metric([state], count)
        yield units
        yield GaugeMetricFamily("driftloop_units_steps_waiting", "Steps that wait for their answer.", value=waiting)
        late = max(0.0, time.time() - oldest)
        yield GaugeMetricFamily("driftloop_units_overdue_seconds", "How long the oldest of them is due.", value=late)
        yield GaugeMetricFamily(
            "driftloop_units_predicting", "1: steps are predicted.", value=float(service.predictor.problem is None)
        )
        yield GaugeMetricFamily(
            "driftloop_units_archiving", "1: ended lives are archived.", value=float(service.archiver.problem is None)
        )
