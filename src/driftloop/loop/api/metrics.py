"""What the retrainer shows to Prometheus, read from its state at each scrape."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from driftloop import exposition
from driftloop.errors import DriftloopError
from driftloop.fleet.archive import Archive
from driftloop.fleet.roles import ROLES
from driftloop.loop.judge.concept import VERDICTS, ConceptWatch
from driftloop.loop.state import PHASES
from driftloop.loop.status import status, totals
from driftloop.loop.worker import Worker
from driftloop.protocol.events import KINDS, Event

FIGURES = {
    "rmse": "RMSE of completed engines, cycles.",
    "bias": "Mean of predicted minus true RUL of completed engines, cycles.",
    "coverage": "Share of the true RULs of completed engines inside their prediction interval.",
}
"""What the concept watch judges (driftloop.drift.outcomes)."""


class Metrics(Collector):
    """Makes the metrics of one retrainer."""

    def __init__(self, worker: Worker, archive: Archive, concept: ConceptWatch) -> None:
        self._worker, self._archive, self._concept = worker, archive, concept
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return exposition.render(self._registry, self._worker.settings.schema.name)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing ahead of time: the names are known only from `collect`."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | SummaryMetricFamily]:
        """The metrics as they are now."""
        now = status(self._worker)
        phase = GaugeMetricFamily("driftloop_loop_state", "1 for the state the loop is in", labels=["state"])
        for name in PHASES:
            phase.add_metric([name], float(now["state"] == name))
        yield phase
        yield GaugeMetricFamily(
            "driftloop_loop_blocked", "1 while the loop cannot go on", value=float(now["blocked"] is not None)
        )
        yield GaugeMetricFamily(
            "driftloop_retraining_enabled", "0 where alerts are only recorded", value=float(now["enable_retraining"])
        )
        yield GaugeMetricFamily("driftloop_alerts_firing", "drift alerts firing", value=len(now["firing"]))
        retrainings = SummaryMetricFamily(
            "driftloop_retraining_seconds", "retrainings and their duration, by decision", labels=["decision"]
        )
        for decision, total in totals(self._worker).items():
            retrainings.add_metric([decision], total.count, total.seconds)
        yield retrainings
        events = CounterMetricFamily("driftloop_loop_events", "events logged since the start", labels=["kind"])
        # Every series begins at 0, so that its first event is not lost on a rate.
        counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        for kind, count in self._worker.store.counts.copy().items():
            counts[kind if kind in KINDS else "other"] += count
        for kind, count in sorted(counts.items()):
            events.add_metric([kind], count)
        yield events
        yield from self._truth()
        store = self._worker.store
        started = store.newest("pipeline_started")
        if started is not None and isinstance(started.get("seconds"), int | float):
            yield GaugeMetricFamily(
                "driftloop_pipeline_start_seconds",
                "from the start of the last retraining to its pipeline's first step",
                value=started["seconds"],
            )
        decided = store.newest("gate_decided")
        if decided is not None:
            yield from _gate(decided)
        try:
            roles = Counter(self._archive.roles_of(self._archive.run_ids()).values())
        except DriftloopError:
            return
        runs = GaugeMetricFamily("driftloop_archive_runs", "completed runs in the archive, by role", labels=["role"])
        for role in ROLES:
            runs.add_metric([role], roles[role])
        yield runs

    def _truth(self) -> Iterator[GaugeMetricFamily]:
        """What completed engines say of the model in production; nothing before the first look at it."""
        report = self._concept.report
        version, judgement = report.model_version, report.judgement
        if version is None:
            return
        verdict = GaugeMetricFamily(
            "driftloop_concept_verdict", "1 for the last verdict.", labels=["model_version", "verdict"]
        )
        for name in VERDICTS:
            verdict.add_metric([version, name], float(name == report.verdict))
        yield verdict
        if judgement is None:
            return
        engines = GaugeMetricFamily(
            "driftloop_live_engines", "Completed engines that the figures are of.", labels=["model_version"]
        )
        engines.add_metric([version], judgement.window)
        yield engines
        limits = GaugeMetricFamily(
            "driftloop_live_limit", "Control limits of the figures.", labels=["model_version", "figure", "side"]
        )
        for name, about in FIGURES.items():
            family = GaugeMetricFamily(f"driftloop_live_{name}", about, labels=["model_version"])
            figure = judgement.figures.get(name)
            if figure is None:
                continue
            family.add_metric([version], figure.value)
            yield family
            for side, limit in (("lower", figure.lower), ("upper", figure.upper)):
                if limit is not None:
                    limits.add_metric([version, name, side], limit)
        if limits.samples:
            yield limits


def _gate(decided: Event) -> Iterator[GaugeMetricFamily]:
    """What the gate measured at its last decision, in cycles; an event that somebody made up shows nothing."""
    errors = GaugeMetricFamily(
        "driftloop_gate_rmse_cycles", "RMSE on gate engines at the last decision", labels=["model", "engines"]
    )
    difference = GaugeMetricFamily(
        "driftloop_gate_difference_cycles",
        "RMSE of the challenger minus the champion's at the last decision, and its 95 % bounds",
        labels=["engines", "bound"],
    )
    groups = decided.get("figures")
    for engines, figures in groups.items() if isinstance(groups, dict) else ():
        try:
            for model in ("champion", "challenger"):
                errors.add_metric([model, engines], float(figures[f"rmse_{model}"]))
            for bound in ("difference", "lower", "upper"):
                difference.add_metric([engines, bound], float(figures[bound]))
        except (KeyError, TypeError, ValueError):
            continue
    yield errors
    yield difference
