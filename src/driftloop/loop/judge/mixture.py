"""Which operating domains today's traffic comes from, read off the champion's counters while a challenger trains."""

import logging
from pathlib import Path

import msgspec

from driftloop.drift.baseline import Baseline, fit_mixture, read_baseline
from driftloop.drift.baseline_build import REFERENCE_ROLES, domain_of
from driftloop.drift.source import PrometheusSource, ScrapeSource, Source, Window
from driftloop.errors import DriftloopError
from driftloop.loop.judge.plan import Plan
from driftloop.model import answers
from driftloop.settings import Settings

LEAST_REQUESTS = 100
"""With fewer, what traffic there was says too little."""
ENGINES = 12
"""New engines whose lives the champion is asked about; a distribution needs no more."""

log = logging.getLogger(__name__)


class TrafficMixture:
    """Counts the champion's traffic from now on; `weights` ends it.

    The alert's own window mixes traffic from before and after the change, so only newer requests are looked at.
    """

    def __init__(self, champion: Path, version: str, settings: Settings) -> None:
        self._champion, self._version = champion, version
        self._source: Source = (
            PrometheusSource(settings.prometheus_url, settings.schema.name)
            if settings.prometheus_url
            else ScrapeSource([settings.server_url], settings.schema.name)
        )
        # A window of one request holds what came between the last two readings.
        self._baseline = read_baseline(champion)
        self._window = Window(self._baseline.binner, 1)
        self._read()

    def weights(self, plan: Plan) -> list[float] | None:
        """The share of each domain of the plan's manifest, in the order of their numbers.

        None where there was too little traffic, or it could not be read.
        """
        requests = self._read()
        self._source.close()
        if requests < LEAST_REQUESTS:
            return None
        baseline = with_new_domain(self._baseline, self._champion, plan)
        return fit_mixture(baseline.binner.split(self._window.newest().bins), baseline)

    def _read(self) -> int:
        try:
            return self._window.add(self._source.read(self._version))
        except DriftloopError as error:
            log.warning("traffic cannot be read: %s", error)
            return 0


def with_new_domain(baseline: Baseline, champion: Path, plan: Plan) -> Baseline:
    """The champion's baseline with the plan's new runs as one more domain, as the champion sees them.

    A domain that no run belongs to is left out: it is provisional, of units that these runs may be of.
    """
    new = {run.run_id for run in plan.new}
    entries = [entry for entry in plan.manifest if entry.run_id in new and entry.role in REFERENCE_ROLES][:ENGINES]
    chosen = {entry.run_id for entry in entries}
    model = answers.open_model(champion)
    traces = answers.traces(model, [run for run in plan.new if run.run_id in chosen], entries)
    domain = domain_of(traces, entries[0].domain, baseline.binner, baseline.ages)
    known = {entry.domain for entry in plan.manifest if entry.run_id not in new}
    domains = [*(each for each in baseline.domains if each.domain in known), domain]
    return msgspec.structs.replace(baseline, domains=domains, weights=[1.0 / len(domains)] * len(domains))
