"""The watch's own metrics, for dashboards and for noticing that the watch itself is stuck."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from driftloop.drift.live_error import Estimate
from driftloop.drift.verdict import DRIFT, FLEET_AGE, NO_DRIFT, NOT_ENOUGH_DATA, Verdict
from driftloop.exposition import OfFleet
from driftloop.protocol.alerts import Alert

_VERDICTS = (DRIFT, NO_DRIFT, FLEET_AGE, NOT_ENOUGH_DATA)


class Exporter:
    """Gauges of the last check in `registry`; `serve` opens them to a scrape."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._last = Gauge("driftloop_drift_last_check_timestamp_seconds", "Time of the last check.", registry=own)
        self._verdict = Gauge(
            "driftloop_drift_verdict", "1 for the last verdict.", ["model_version", "verdict"], registry=own
        )
        self._score = Gauge(
            "driftloop_drift_score", "Largest statistic over its threshold.", ["model_version"], registry=own
        )
        self._n = Gauge("driftloop_drift_requests", "Requests in the window.", ["model_version"], registry=own)
        features = ["model_version", "feature"]
        self._psi = Gauge("driftloop_drift_psi", "PSI.", features, registry=own)
        self._psi_threshold = Gauge("driftloop_drift_psi_threshold", "PSI where drift begins.", features, registry=own)
        self._ks = Gauge("driftloop_drift_ks", "Binned KS distance.", features, registry=own)
        self._ks_threshold = Gauge("driftloop_drift_ks_threshold", "KS where drift begins.", features, registry=own)
        self._shift = Gauge(
            "driftloop_drift_shift",
            "Location (or spread) against what the other features let expect, in standard deviations.",
            [*features, "of"],
            registry=own,
        )
        self._shift_threshold = Gauge(
            "driftloop_drift_shift_threshold", "Shift where drift begins.", [*features, "of"], registry=own
        )
        self._mixture = Gauge(
            "driftloop_drift_mixture", "Share of each known domain.", ["model_version", "domain"], registry=own
        )
        self._age = Gauge(
            "driftloop_drift_age_shift",
            "Shift of the fleet's mean age over its threshold; above 0 younger.",
            ["model_version"],
            registry=own,
        )
        self._estimate = Gauge(
            "driftloop_drift_estimated_rmse",
            "RMSE that answers alone let expect, and its 95 % range; not there where nothing can be said.",
            ["model_version", "bound"],
            registry=own,
        )
        self._coverage = Gauge(
            "driftloop_drift_estimated_coverage", "The same for the coverage.", ["model_version"], registry=own
        )
        self._firing = Gauge("driftloop_drift_alert_firing", "1 while the alert fires.", ["kind"], registry=own)
        self._alarms = Counter("driftloop_drift_alerts", "Alerts raised.", ["kind"], registry=own)
        self._source_up = Gauge("driftloop_drift_source_up", "1 while traffic can be read.", registry=own)
        self._registry_up = Gauge("driftloop_drift_registry_up", "1 while the registry answers.", registry=own)
        self._dropped = Gauge("driftloop_drift_messages_dropped", "Alerts and events given up.", registry=own)

    def serve(self, port: int, fleet: str, host: str = "127.0.0.1") -> None:
        """Answer scrapes from a thread; every series carries the fleet's name."""
        start_http_server(port, addr=host, registry=OfFleet(self.registry, fleet))

    def alarmed(self, alert: Alert) -> None:
        """An alert was raised."""
        self._alarms.labels(alert.drift).inc()

    def show(
        self,
        version: str,
        verdict: Verdict | None,
        alert: Alert | None,
        *,
        source_up: bool,
        registry_up: bool,
        dropped: int,
        estimate: Estimate | None = None,
    ) -> None:
        """Show one check; series of other versions go."""
        gauges = (
            self._verdict, self._score, self._n, self._psi, self._psi_threshold, self._ks, self._ks_threshold,
            self._shift, self._shift_threshold, self._mixture, self._age, self._firing,
            self._estimate, self._coverage,
        )  # fmt: skip
        for gauge in gauges:
            gauge.clear()
        self._last.set(time.time())
        self._source_up.set(source_up)
        self._registry_up.set(registry_up)
        self._dropped.set(dropped)
        if alert is not None:
            self._firing.labels(alert.drift).set(1)
        said = verdict.verdict if verdict else NOT_ENOUGH_DATA
        for name in _VERDICTS:
            self._verdict.labels(version, name).set(name == said)
        if estimate is not None and estimate.rmse is not None:
            for bound, value in (("rmse", estimate.rmse), ("low", estimate.low), ("high", estimate.high)):
                self._estimate.labels(version, bound).set(value or 0.0)
            self._coverage.labels(version).set(estimate.coverage or 0.0)
        if verdict is None:
            return
        self._score.labels(version).set(verdict.score)
        self._n.labels(version).set(verdict.n)
        self._age.labels(version).set(verdict.age_shift)
        for domain, share in verdict.mixture.items():
            self._mixture.labels(version, domain).set(share)
        for feature in verdict.features:
            self._psi.labels(version, feature.feature).set(feature.psi)
            self._psi_threshold.labels(version, feature.feature).set(feature.threshold_psi)
            self._ks.labels(version, feature.feature).set(feature.ks)
            self._ks_threshold.labels(version, feature.feature).set(feature.threshold_ks)
            for of, value, limit in (
                ("location", feature.shift, feature.threshold_shift),
                ("spread", feature.spread, feature.threshold_spread),
            ):
                self._shift.labels(version, feature.feature, of).set(value)
                self._shift_threshold.labels(version, feature.feature, of).set(limit)
