"""Where traffic is read from: the servers' own metrics, or Prometheus; and the window of the newest requests.

Both sources give the same thing, a reading: the raw counters of each server for one model version. `Window` turns
readings into the newest n requests. It takes differences per server, so that the restart of one (its counters
begin at 0 again) neither loses nor invents requests, and it holds one model version only.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from driftloop.drift.bins import Binner
from driftloop.drift.few_units import BUCKETS, units_in
from driftloop.drift.sensors import COUNTED
from driftloop.durable import decode_json
from driftloop.errors import BundleError, DriftloopError, ExitCode, JsonError
from driftloop.exposition import FLEET
from driftloop.protocol.http import GLANCE, Patience, client, why

QUERYING = Patience(5.0, 5.0)
"""Prometheus takes longer for an answer than a server."""
COUNTER = "driftloop_feature_bin_total"
QUALITY = "driftloop_sensor_quality_total"
UNITS = "driftloop_unit_bucket_total"
INFO = "driftloop_model_info"
_READ = (COUNTER, QUALITY, UNITS)
_LINES = tuple(name + "{" for name in (*_READ, INFO))
_IDENTITY = frozenset({"__name__", FLEET, "model_version", "feature", "bin", "quality", "bucket"})

Bins = dict[tuple[str, int], int]
Reading = dict[str, Bins]
"""Counts by (feature, bin), by server; of the quality of a column by (QUALITY:column, place in sensors.COUNTED), and of
units by (UNITS, bucket)."""
Counts = NDArray[np.int64]


class Seen(NamedTuple):
    """Some of the newest requests, counted."""

    bins: Counts
    """Of all features side by side, `[total]`."""
    quality: Counts
    """Of each column, `[columns * COUNTED]`."""
    units: float | None
    """How many units they rest on; None where no server tells."""


class _Scrape(NamedTuple):
    """What a server said the last time, and what was read from it."""

    text: str
    version: str
    bins: Bins
    served: str | None


class SourceUnavailable(DriftloopError):
    """Traffic cannot be read now; it may come back."""

    exit_code = ExitCode.UNREACHABLE


class Source(Protocol):
    """Anything that can read the counters."""

    @property
    def served(self) -> str | None:
        """The version that all servers said that they serve when they were read last; None where that is not known."""

    def read(self, version: str) -> Reading:
        """The counters of every server for a model version; raises SourceUnavailable."""

    def close(self) -> None:
        """Close the connections."""


class ScrapeSource:
    """The /metrics of one or several servers of a fleet."""

    def __init__(self, urls: Sequence[str], fleet: str) -> None:
        self.urls, self._fleet = tuple(url.rstrip("/") for url in urls), fleet
        self._http = client(patience=GLANCE)
        self._last: dict[str, _Scrape] = {}
        self.served: str | None = None
        """As in `Source`."""

    def read(self, version: str) -> Reading:
        """The counters of every server that answers; raises SourceUnavailable where none does."""
        reading: Reading = {}
        error: SourceUnavailable | None = None
        self.served = None
        for url in self.urls:
            try:
                reading[url] = self._scrape(url, version).bins
            except SourceUnavailable as failed:
                error = failed
        if error is not None and not reading:
            raise error
        said = {self._last[url].served for url in reading}
        self.served = said.pop() if len(said) == 1 and len(reading) == len(self.urls) else None
        return reading

    def _scrape(self, url: str, version: str) -> "_Scrape":
        """What a server counts; parsed only where it has changed, since that is nearly all that a scrape costs here."""
        text, last = _relevant(_get(self._http, f"{url}/metrics").text), self._last.get(url)
        if last is None or (last.text, last.version) != (text, version):
            bins = parse_metrics(text, version, self._fleet, url)
            last = self._last[url] = _Scrape(text, version, bins, _served(text, self._fleet))
        return last

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class PrometheusSource:
    """Prometheus' HTTP API, one instant query per reading; several fleets may share it, and their version numbers.

    Asked are the raw counters of each server rather than increase(): that extrapolates to fractions of requests,
    and a sum over servers hides the restart of one. All bins of a server come from one scrape of it.
    Source of the format: https://prometheus.io/docs/prometheus/latest/querying/api/
    """

    def __init__(self, url: str, fleet: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url, self._fleet = url.rstrip("/"), fleet
        self._http = client(patience=QUERYING, transport=transport)
        self.served: str | None = None
        """Never known: asked is what one version has counted."""

    def read(self, version: str) -> Reading:
        """The counters of every server that Prometheus knows; raises SourceUnavailable."""
        names = "|".join(_READ)
        query = f'{{__name__=~"{names}",{FLEET}="{self._fleet}",model_version="{version}"}}'
        answer = _get(self._http, f"{self.url}/api/v1/query", {"query": query})
        try:
            body = decode_json(answer.content, dict[str, Any])
            if body["status"] != "success":
                raise SourceUnavailable(f"the query failed: {body.get('error')}", where=self.url)
            return _by_server(body["data"]["result"])
        except (JsonError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceUnavailable(
                f"answered with something that is not Prometheus' JSON ({error})",
                where=self.url,
                remedy="check DRIFTLOOP_PROMETHEUS_URL",
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class Window:
    """The newest requests of one model version, from successive readings."""

    def __init__(self, binner: Binner, size: int, longest: int = 0, columns: Sequence[str] = ()) -> None:
        """`size`: requests to look at; `longest`: requests to hold, where that is more; `columns` whose quality is
        counted."""
        self._binner, self._size, self._longest = binner, size, max(size, longest)
        # Where in the counts each feature's bins begin, then each column's quality, then the units.
        self._starts = {feature.name: int(at) for feature, at in zip(binner.features, binner.offsets, strict=True)}
        self._starts |= {f"{QUALITY}:{name}": binner.total + at * len(COUNTED) for at, name in enumerate(columns)}
        self._units = self._starts[UNITS] = binner.total + len(columns) * len(COUNTED)
        self._sizes = {feature.name: feature.bins for feature in binner.features}
        self._raw: dict[str, Counts] = {}
        self._total = np.zeros(self._units + BUCKETS + 1, dtype=np.int64)
        self._snapshots: deque[Counts] = deque([self._total])

    def add(self, reading: Reading) -> int:
        """Take in a reading; returns how many requests are new. Raises BundleError for bins that the model has not.

        A server that is seen for the first time counts as a whole where it has answered no more than the window
        looks at: these are its newest requests. Of one with a longer past, only what comes from now on counts.
        """
        before = self._total
        for server, bins in reading.items():
            counts, last = self._flat(bins), self._raw.get(server)
            if last is None:
                increase = counts if self._requests(counts) <= self._size else np.zeros_like(counts)
            else:
                increase = counts if (counts < last).any() else counts - last
            self._total = self._total + increase
            self._raw[server] = counts
        new = self._requests(self._total) - self._requests(before)
        if new:
            self._snapshots.append(self._total)
            # Keep one snapshot that is at least `longest` requests old, and all that are younger.
            while len(self._snapshots) > 1 and self._requests(self._total - self._snapshots[1]) >= self._longest:
                self._snapshots.popleft()
        return new

    @property
    def answered(self) -> int:
        """Requests that it has taken in since it began."""
        return self._requests(self._total)

    def newest(self, size: int | None = None) -> Seen:
        """The newest requests, at least `size` of them where there are as many, by default the window's."""
        least = self._size if size is None else size
        for snapshot in reversed(self._snapshots):
            counts = self._total - snapshot
            if self._requests(counts) >= least:
                return self._seen(counts)
        return self.held()

    def held(self) -> Seen:
        """The same of at least `longest` requests where there are as many."""
        return self._seen(self._total - self._snapshots[0])

    def _seen(self, counts: Counts) -> Seen:
        units = float(units_in(counts[self._units :]))
        bins, quality = counts[: self._binner.total], counts[self._binner.total : self._units]
        return Seen(bins, quality, None if np.isnan(units) else units)

    def _requests(self, counts: Counts) -> int:
        # Every request counts once in each feature, and a scrape may come while it is being counted.
        return int(np.add.reduceat(counts[: self._binner.total], self._binner.offsets).min())

    def _flat(self, bins: Bins) -> Counts:
        counts = np.zeros_like(self._total)
        for (name, index), count in bins.items():
            start = self._starts.get(name)
            if name in self._sizes and not 0 <= index < self._sizes[name]:
                start = None
            if start is not None:
                counts[start + index] += count
            elif not name.startswith(QUALITY):
                raise BundleError(
                    f"the server counts bin {index} of {name}, which the baseline of this version has not",
                    remedy="the server and the registry disagree about the version's bundle",
                )
        return counts


def parse_metrics(text: str, version: str, fleet: str, where: str = "metrics") -> Bins:
    """The counts of a model version of a fleet in Prometheus' text format; raises SourceUnavailable for other text."""
    bins: Bins = {}
    try:
        for family in text_string_to_metric_families(_relevant(text)):
            for sample in family.samples:
                if sample.name == INFO:
                    continue
                if sample.labels["model_version"] == version and sample.labels.get(FLEET, fleet) == fleet:
                    key = _key(sample.labels)
                    bins[key] = bins.get(key, 0) + round(sample.value)
    except (ValueError, KeyError, IndexError) as error:
        raise SourceUnavailable(f"is not Prometheus' text format ({error})", where=where) from error
    return bins


def _relevant(text: str) -> str:
    """The lines of a scrape that are looked at: it has several times as many."""
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith(_LINES))


def _served(text: str, fleet: str) -> str | None:
    """The version that a server says that it serves."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == INFO and sample.value == 1 and sample.labels.get(FLEET, fleet) == fleet:
                return sample.labels.get("model_version")
    return None


def _key(labels: dict[str, str]) -> tuple[str, int]:
    """Where a series is counted; raises KeyError or ValueError for one that is no such."""
    if "quality" in labels:
        return f"{QUALITY}:{labels['feature']}", COUNTED.index(labels["quality"])
    if "bucket" in labels:
        bucket = int(labels["bucket"])
        if not 0 <= bucket <= BUCKETS:
            raise ValueError(f"there is no bucket {bucket}")
        return UNITS, bucket
    return labels["feature"], int(labels["bin"])


def _by_server(result: list[dict[str, Any]]) -> Reading:
    reading: Reading = {}
    for series in result:
        labels = series["metric"]
        server = ",".join(f"{name}={labels[name]}" for name in sorted(labels) if name not in _IDENTITY)
        key = _key(labels)
        bins = reading.setdefault(server, {})
        bins[key] = bins.get(key, 0) + round(float(series["value"][1]))
    return reading


def _get(http: httpx.Client, url: str, parameters: dict[str, str] | None = None) -> httpx.Response:
    try:
        answer = http.get(url, params=parameters)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnavailable(f"does not answer: {why(error)}", where=url) from error
    if not answer.is_success:
        raise SourceUnavailable(f"answered {answer.status_code}", where=url)
    return answer
