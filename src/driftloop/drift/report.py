"""The drift report: Evidently's HTML and JSON on the rows that were served lately and the rows of training.

It is for people; the verdict and the alerts do not come from it. Importing Evidently costs six seconds and
300 MiB, so it is imported here alone, when a report is made, in a process that ends afterwards.
"""

import json
import os
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from driftloop.durable import NOT_JSON, now, write_atomically, write_json
from driftloop.environment import reach_directly
from driftloop.errors import DriftloopError, ExitCode
from driftloop.fleet.archive import Archive
from driftloop.model.bundle import ManifestEntry

ROWS = 5000
"""Rows of each side that are compared, at most."""
LEAST = 300
"""Served rows below which there is no report: of 100 rows a PSI in ten bins exceeds 0.1 by chance in 2 of 5 columns."""
JOB = "driftloop_drift_report"

Rows = NDArray[np.float64]


class _Line(msgspec.Struct):
    model_version: str
    row: list[float | None]


def served_rows(folder: Path, version: str, columns: int, most: int = ROWS, *, least: int = LEAST) -> Rows:
    """The newest rows `[n, columns]` that a model version was asked about, from the inference log in `folder`.

    Of each server's log the newest are taken. Raises DriftloopError where there are fewer than `least`.
    """
    decoder = msgspec.json.Decoder(_Line)
    rows: list[list[float | None]] = []
    for path in sorted(folder.glob("*.jsonl")):
        newest: deque[list[float | None]] = deque(maxlen=most)
        with path.open("rb") as file:
            for line in file:
                try:
                    record = decoder.decode(line)
                except NOT_JSON:
                    continue  # cut short by a crash, or damaged
                if record.model_version == version and len(record.row) == columns:
                    newest.append(record.row)
        rows += newest
    if len(rows) < least:
        raise DriftloopError(
            f"the inference log holds {len(rows) or 'no'} requests to model version {version}; "
            f"below {least}, chance alone makes columns differ",
            where=str(folder),
            remedy="send more traffic to the server first",
            exit_code=ExitCode.UNDECIDED,
        )
    return _sample(np.asarray(rows, dtype=np.float64), most)


def training_rows(
    archive: Archive, manifest: Sequence[ManifestEntry], weights: Mapping[int, float], most: int = ROWS
) -> Rows:
    """A fixed sample `[n <= most, columns]` of the rows that a model was trained on.

    Each operating domain has its share `weights[domain]` of the sample, as it has in the baseline: against all
    training rows alike, a fleet that the model knows well would look like drift.
    """
    parts = []
    for domain, weight in weights.items():
        chosen = [entry.run_id for entry in manifest if entry.role == "train" and entry.domain == domain]
        rows = round(most * weight / sum(weights.values()))
        if chosen and rows:
            parts.append(_sample(np.concatenate([run.rows for run in archive.read_all(chosen)]), rows))
    return np.concatenate(parts)


def make_report(
    current: Rows, reference: Rows, columns: Sequence[str], folder: Path, *, version: str, threshold: float
) -> dict[str, Any]:
    """Compare `current` with `reference`, both `[n, columns]`; writes report.html and report.json into `folder`.

    Returns {"model_version", "rows", "reference_rows", "threshold", "psi": {column: value}, "drifted": [columns]}.
    """
    pandas, evidently = _import()
    from evidently.presets import DataDriftPreset

    definition = evidently.DataDefinition(numerical_columns=list(columns))

    def dataset(rows: Rows) -> Any:
        return evidently.Dataset.from_pandas(pandas.DataFrame(rows, columns=list(columns)), data_definition=definition)

    # Method and threshold are set: the automatic choice changes with the number of rows.
    preset = DataDriftPreset(columns=list(columns), num_method="psi", num_threshold=threshold)
    with warnings.catch_warnings():
        # Constant columns have no correlation, which is no news.
        warnings.simplefilter("ignore", RuntimeWarning)
        snapshot = evidently.Report([preset]).run(dataset(current), dataset(reference))
        html, figures = snapshot.get_html_str(as_iframe=False), json.loads(snapshot.json())
    by_column = {metric["config"].get("column"): metric["value"] for metric in figures["metrics"]}
    psi = {column: round(float(by_column[column]), 5) for column in columns}
    result = {
        "time": now(),
        "model_version": version,
        "rows": len(current),
        "reference_rows": len(reference),
        "method": "psi",
        "threshold": threshold,
        "psi": psi,
        "drifted": [column for column, value in psi.items() if value >= threshold],
    }
    write_atomically(folder / "report.html", html.encode())
    write_json(folder / "report.json", {**result, "evidently": _finite(figures)})
    return result


def push(result: dict[str, Any], url: str) -> None:
    """Push a report's figures to a Pushgateway; raises DriftloopError where it cannot be reached."""
    # Proxies named in the environment are for the world outside.
    reach_directly(os.environ, url)
    registry = CollectorRegistry()
    version = result["model_version"]
    gauge = Gauge("driftloop_report_psi", "PSI of raw columns.", ["model_version", "feature"], registry=registry)
    for column, value in result["psi"].items():
        gauge.labels(version, column).set(value)
    drifted = Gauge("driftloop_report_drifted_columns", "Drifted columns.", ["model_version"], registry=registry)
    drifted.labels(version).set(len(result["drifted"]))
    rows = Gauge("driftloop_report_rows", "Rows that were compared.", ["model_version"], registry=registry)
    rows.labels(version).set(result["rows"])
    Gauge("driftloop_report_timestamp_seconds", "Time of the report.", registry=registry).set(time.time())
    try:
        push_to_gateway(url, job=JOB, registry=registry, timeout=10)
    except OSError as error:
        raise DriftloopError(
            f"the report's figures could not be pushed: {error}",
            where=url,
            remedy="start the Pushgateway, or unset DRIFTLOOP_PUSHGATEWAY_URL",
        ) from error


def _import() -> tuple[Any, Any]:
    try:
        import evidently
        import pandas
    except ImportError as error:
        raise DriftloopError(
            f"the report needs a package that is missing ({error})",
            where="driftloop drift report",
            remedy="pip install 'driftloop[report]'",
        ) from error
    return pandas, evidently


def _sample(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]


def _finite(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
