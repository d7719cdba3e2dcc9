"""`driftloop drift`: parse, call, print."""

import logging
import signal
import threading
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Column, Table

from driftloop import logs, settings
from driftloop.drift.baseline import read_baseline
from driftloop.drift.exporter import Exporter
from driftloop.drift.production import Production, WatchedModel, follow
from driftloop.drift.source import PrometheusSource, ScrapeSource, Source
from driftloop.drift.verdict import DRIFT, FLEET_AGE, NO_DRIFT, Verdict
from driftloop.drift.watch import Watch, check_once
from driftloop.errors import DriftloopError, ExitCode
from driftloop.model import follower
from driftloop.model.bundle import read_metadata
from driftloop.model.registry import Registry
from driftloop.protocol.outbox import Outbox
from driftloop.settings import Settings
from driftloop.terminal import fitted, screen

app = typer.Typer(no_args_is_help=True, help="Drift: watch the traffic, check it once, report on it.")

_out, _err = screen(), screen(stderr=True)
_CODES = {NO_DRIFT: ExitCode.DONE, FLEET_AGE: ExitCode.DONE, DRIFT: ExitCode.NO}

Servers = Annotated[
    list[str] | None,
    typer.Option("--server", help="Scrape this server; may be given again. By default Prometheus, or the one server."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def watch(
    metrics_port: Annotated[int, typer.Option(help="Port for the watch's own metrics; 0: none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address for the watch's own metrics.")] = "127.0.0.1",
    server: Servers = None,
) -> None:
    """Judge the newest requests every second; raise an alert on drift. Runs until SIGINT or SIGTERM."""
    configured = settings.load()
    if not logs.begin(configured, "watch"):
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    exporter = Exporter()
    if metrics_port:
        try:
            exporter.serve(metrics_port, configured.schema.name, metrics_host)
        except OSError as error:
            raise DriftloopError(
                f"port {metrics_port} cannot be opened: {error.strerror}", remedy="choose another --metrics-port"
            ) from error
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    outbox = Outbox(configured.token)
    folder = _folder(configured)
    source = _source(configured, server)
    turns = Watch(configured, _production(configured), source, outbox, folder=folder, exporter=exporter)
    outbox.start()
    try:
        turns.run(stopping)
    finally:
        outbox.stop()
        source.close()


@app.command()
def check(
    seconds: Annotated[float, typer.Option(min=0, help="Longest time to collect requests.")] = 10.0,
    window: Annotated[int | None, typer.Option(min=1, help="Requests to look at; by default the watch's.")] = None,
    server: Servers = None,
    as_json: Json = False,
) -> None:
    """Judge the traffic once. Exit code 0: no drift (of a fleet of whatever age), 1: drift, 3: too little data."""
    configured = settings.load()
    model = _in_production(configured)
    source = _source(configured, server)
    try:
        verdict = check_once(
            model,
            source,
            size=window or configured.watch_window,
            seconds=seconds,
            interval_s=configured.watch_interval_s,
        )
    finally:
        source.close()
    if as_json:
        _out.print_json(data={"model_version": model.version, **msgspec.to_builtins(verdict)})
    else:
        _show(model.version, verdict)
    raise typer.Exit(_CODES.get(verdict.verdict, ExitCode.UNDECIDED))


@app.command()
def report(
    to: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("data/drift"),
    version: Annotated[str | None, typer.Option(help="Version whose requests are compared.")] = None,
    rows: Annotated[int, typer.Option(min=300, help="Rows of each side, at most.")] = 5000,
    # Evidently's own default, 0.1, is exceeded by chance.
    threshold: Annotated[float, typer.Option(min=0, help="PSI from which a column counts as drifted.")] = 0.2,
    as_json: Json = False,
) -> None:
    """Make Evidently's report: served rows against the training rows of the model in production."""
    # Evidently costs seconds and hundreds of megabytes: only this command may import it.
    from driftloop.drift import report as made
    from driftloop.fleet.archive import open_archive

    configured = settings.load()
    model = _in_production(configured)
    baseline = read_baseline(model.folder)
    weights = dict(zip((domain.domain for domain in baseline.domains), baseline.weights, strict=True))
    schema = read_metadata(model.folder).schema
    inference = configured.state_dir / "inference"
    current = made.served_rows(inference, version or model.version, schema.n_columns, rows)
    reference = made.training_rows(
        open_archive(configured.archive_location, configured.schema),
        read_metadata(model.folder).manifest,
        weights,
        rows,
    )
    result = made.make_report(
        current, reference, schema.columns, to, version=version or model.version, threshold=threshold
    )
    if configured.pushgateway_url:
        made.push(result, configured.pushgateway_url)
    if as_json:
        _out.print_json(data=result)
        return
    _out.print(
        f"{len(result['drifted'])} of {len(result['psi'])} columns have a PSI of {threshold:g} or more, "
        f"{result['rows']} served rows against {result['reference_rows']} of training."
    )
    _out.print(f"{to / 'report.html'}", highlight=False)


def _show(version: str, verdict: Verdict) -> None:
    _out.print(f"model version {version}: {verdict.verdict}, score {verdict.score:g}, n {verdict.n}")
    if verdict.kind:
        _out.print(f"{verdict.kind}: {', '.join(verdict.blamed)}")
    for fault in verdict.faults:
        _out.print(f"{fault.words}, {fault.usual:.1%} in healthy lives")
    if verdict.verdict == FLEET_AGE:
        _out.print(f"the fleet is {'younger' if verdict.age_shift > 0 else 'older'} than healthy chance allows")
    if not verdict.n:
        _out.print("no request was answered while it looked: send traffic meanwhile, or look longer with --seconds")
        return
    # Names are folded and headings short: all is readable in 80 columns, whatever the fleet calls its columns.
    table = Table(Column("feature", overflow="fold", min_width=12))
    for heading in ("PSI", "at most", "KS", "at most", "shift", "at most", "score"):
        table.add_column(heading, justify="right", no_wrap=True)
    for feature in sorted(verdict.features, key=lambda feature: -feature.score)[:8]:
        table.add_row(
            feature.feature,
            f"{feature.psi:.3f}",
            f"{feature.threshold_psi:.3f}",
            f"{feature.ks:.3f}",
            f"{feature.threshold_ks:.3f}",
            f"{feature.shift:.2f}",
            f"{feature.threshold_shift:.2f}",
            f"{feature.score:.2f}",
        )
    _out.print(fitted(table, _out))
    shares = ", ".join(f"domain {name} {share:.0%}" for name, share in verdict.mixture.items())
    _out.print(f"mixture of known domains: {shares}")


def _production(configured: Settings) -> Production:
    return follow(_registry(configured), _folder(configured), configured.schema)


def _in_production(configured: Settings) -> WatchedModel:
    """The model in production; raises RegistryUnavailable where nobody can say, DriftloopError where there is none."""
    production = _production(configured)
    # What it would log is said here: once, and to whoever has called the command.
    logging.getLogger(follower.__name__).setLevel(logging.ERROR)
    found = production.look()
    if found is not None and not production.up:
        said = f"the registry does not answer: version {found.version} was in production when it was asked last"
        _err.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if found is None:
        with _registry(configured) as registry:
            registry.aliases()
        raise DriftloopError(
            "no model is in production",
            where=configured.mlflow_url,
            remedy="register one with `driftloop train`",
            exit_code=ExitCode.UNDECIDED,
        )
    return found


def _registry(configured: Settings) -> Registry:
    return Registry(configured.mlflow_url, configured.model, timeout_s=1.0)


def _source(configured: Settings, servers: list[str] | None) -> Source:
    if configured.prometheus_url and not servers:
        return PrometheusSource(configured.prometheus_url, configured.schema.name)
    return ScrapeSource(servers or [configured.server_url], configured.schema.name)


def _folder(configured: Settings) -> Path:
    return configured.state_dir / "watch"
