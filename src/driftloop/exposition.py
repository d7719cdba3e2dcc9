"""Metrics of one fleet: every series of a process carries the label `fleet`, put on where they are shown."""

from collections.abc import Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Metric

FLEET = "fleet"
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class OfFleet(CollectorRegistry):
    """What `registry` has, with `fleet` on every series."""

    def __init__(self, registry: CollectorRegistry, fleet: str) -> None:
        super().__init__()
        self._shown, self._fleet = registry, fleet

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        for metric in self._shown.collect():
            labelled = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            labelled.samples = [
                sample._replace(labels={**sample.labels, FLEET: self._fleet}) for sample in metric.samples
            ]
            yield labelled


def render(registry: CollectorRegistry, fleet: str) -> bytes:
    """Prometheus' text format of what `registry` has, with `fleet` on every series."""
    return prometheus_client.generate_latest(OfFleet(registry, fleet))
