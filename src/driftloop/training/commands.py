"""`driftloop train` and `driftloop baseline`: parse, call, print."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from driftloop import durable, fleets, settings
from driftloop.errors import DataError, DriftloopError, JsonError
from driftloop.fleet import roles
from driftloop.fleet.archive import Archive, open_archive
from driftloop.fleet.schema import Schema
from driftloop.model import bundle
from driftloop.model.bundle import BASELINE, CHECKPOINT, METADATA, SERVING_FILES, ManifestEntry
from driftloop.model.follower import check_fleet
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.settings import Settings
from driftloop.terminal import screen
from driftloop.training import bars
from driftloop.training.modes import Mode
from driftloop.training.tune import tune

if TYPE_CHECKING:
    from driftloop.fleet.runs import Run
    from driftloop.training.train import Progress, TrainConfig, Trained

__all__ = ["baseline_app", "refresh", "train", "tune"]

baseline_app = typer.Typer(no_args_is_help=True, help="The baseline of the production model.")

_OUT, _ERR = screen(highlight=False), screen(stderr=True, highlight=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@baseline_app.callback()
def _baseline() -> None:
    """The baseline of the production model."""


def train(
    mode: Annotated[Mode, typer.Option(help="From nothing, or from the production model's weights.")] = "full",
    runs_dir: Annotated[str, typer.Option(help="Archive to learn from; by default the platform's.")] = "",
    manifest: Annotated[Path | None, typer.Option(help="JSON list of the runs to learn from; by default all.")] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="JSON with hyper-parameters, as `driftloop tune` writes it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn: the same seed gives the same.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Keep the bundle in this folder.")] = None,
    no_register: Annotated[bool, typer.Option("--no-register", help="Leave MLflow alone; needs --output.")] = False,
    promote: Annotated[bool, typer.Option("--promote", help="Put the model into production, without a gate.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on completed runs, build its bundle and register it."""
    _check(mode, output, no_register, promote)
    configured = settings.load()

    with tempfile.TemporaryDirectory(prefix="driftloop-") as temporary:
        champion = None if no_register else _production(configured, Path(temporary) / "champion")
        runs, entries = _learn_from(runs_dir or configured.archive_location, manifest, champion, configured)
        if mode == "warm_start" and champion is None:
            raise DriftloopError("there is no production model to start from", remedy="train with --mode full")
        config = replace(
            _config(config_file, champion, mode, configured.schema), seed=seed, old_tolerance=configured.old_tolerance
        )
        folder, trained = _train(runs, entries, champion, mode, config, configured, Path(temporary) / "bundle")
        version = None if no_register else _register(folder, configured, promote)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, output, dirs_exist_ok=True)
        digest = bundle.digest(folder)
    result = {
        "version": version,
        "digest": digest,
        "training": trained.training,
        "note": trained.note,
        "engines": len(entries),
        "optimiser_s": round(trained.optimiser_s, 3),
        "metrics": {name: round(value, 4) for name, value in trained.metrics.items()},
        "output": str(output) if output else None,
        "promoted": promote,
    }
    if as_json:
        typer.echo(json.dumps(result))
        return
    where = f"version {version}" if version else str(output)
    state = ", in production" if promote else ""
    # A unit that was taken out before it failed has no label to learn.
    learnt = sum(not entry.superseded for entry in entries)
    units = f"{learnt} {configured.schema.units}"
    _OUT.print(f"{where}{state}: trained on {units} ({trained.training}), {_figures(trained)}", soft_wrap=True)


@baseline_app.command()
def refresh(
    runs_dir: Annotated[str, typer.Option(help="Archive with the model's runs; by default the platform's.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write the baseline to this file and change nothing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild the baseline from the production model and the runs of its manifest.

    Where the bytes come out as they are in production, nothing changes. Where they do not, since the code that
    makes them has changed, the same model with the new baseline becomes the next version, and is put into
    production: a bundle never changes under its version.
    """
    from driftloop.training import build

    configured = settings.load()
    with tempfile.TemporaryDirectory(prefix="driftloop-") as temporary:
        champion = _production(configured, Path(temporary) / "bundle")
        if champion is None:
            raise DriftloopError("nothing is in production", remedy="driftloop train --promote")
        content = build.rebuild_baseline(
            champion.folder, open_archive(runs_dir or configured.archive_location, configured.schema)
        )
        same, version = content == (champion.folder / BASELINE).read_bytes(), champion.version
        if output is not None:
            durable.write_atomically(output, content)
        elif not same:
            durable.write_atomically(champion.folder / BASELINE, content)
            metadata = msgspec.structs.replace(
                bundle.read_metadata(champion.folder),
                parent_version=champion.version,
                cause="baseline refresh",
                created=durable.now(),
            )
            bundle.write_metadata(champion.folder, metadata)
            version = _register(champion.folder, configured, promote=True)
    if as_json:
        typer.echo(json.dumps({"version": version, "changed": not same, "output": str(output) if output else None}))
        return
    if output is not None:
        _OUT.print(
            f"{output}: the baseline of version {version}, {'as' if same else 'other than'} in production",
            soft_wrap=True,
        )
    elif same:
        _OUT.print(f"version {version}: the baseline comes out as it is; nothing changed", soft_wrap=True)
    else:
        _OUT.print(
            f"version {version}, in production: the model of version {champion.version} with a new baseline",
            soft_wrap=True,
        )


@dataclass(frozen=True)
class _Champion:
    version: str
    folder: Path


def _config(path: Path | None, champion: _Champion | None, mode: Mode, schema: Schema) -> "TrainConfig":
    """The file's configuration; without one the fleet's own, for a warm start the champion's."""
    from driftloop.training import configuration

    start = configuration.default(schema)
    if path is not None:
        return configuration.read(path, start)
    if mode == "warm_start" and champion is not None:
        return configuration.of_model(bundle.read_metadata(champion.folder).parameters)
    return start


def _check(mode: Mode, output: Path | None, no_register: bool, promote: bool) -> None:
    if no_register and promote:
        raise DriftloopError("a model that is not registered cannot be promoted", where="--no-register --promote")
    if no_register and output is None:
        raise DriftloopError("the model would be lost", where="--no-register", remedy="say where with --output FOLDER")
    if no_register and mode == "warm_start":
        raise DriftloopError("a warm start needs the registry's production model", where="--no-register --mode")


def _production(configured: Settings, folder: Path) -> _Champion | None:
    with Registry(configured.mlflow_url, configured.model) as registry:
        version = registry.alias(PRODUCTION)
        if version is None:
            return None
        champion = _Champion(version, registry.fetch(version, folder, (*SERVING_FILES, CHECKPOINT)))
    check_fleet(champion.folder, configured.schema)
    return champion


def _learn_from(
    location: str, manifest: Path | None, champion: _Champion | None, configured: Settings
) -> "tuple[list[Run], list[ManifestEntry]]":
    """The runs of a manifest; without one, all of the archive, new ones being a domain next to the champion's.

    Where the new ones are too few for a hash, their roles are dealt, and written into the archive.
    """
    from driftloop.training import build

    archive = open_archive(location, configured.schema)
    if manifest is not None:
        entries = _read_manifest(manifest)
        runs = archive.read_all(entry.run_id for entry in entries)
        build.check_runs(runs, entries, location)
        return roles.assign(runs, {entry.run_id: entry.role for entry in entries}), entries
    runs = archive.read_all()
    if not runs:
        raise DataError(
            "holds no completed runs", where=location, remedy="driftloop archive add FILE, or POST /archive/runs"
        )
    known = _known(archive, champion, configured) if champion is not None else []
    new = {run.run_id for run in runs if not run.censored} - {entry.run_id for entry in known}
    holds = any(not entry.superseded for entry in known)
    least = configured.schema.least if holds else roles.from_nothing(configured.schema.least)
    runs = roles.assign(runs, archive.deal(sorted(new), least=least))
    return runs, build.extended_manifest(known, runs)


def _known(archive: Archive, champion: _Champion, configured: Settings) -> list[ManifestEntry]:
    """The champion's manifest without runs that are withdrawn or gone; labels that these had superseded hold again."""
    from driftloop.loop.judge import withdrawal

    metadata, ids = bundle.read_metadata(champion.folder), set(archive.run_ids())
    with Registry(configured.mlflow_url, configured.model) as registry:
        restored = withdrawal.restored(registry, metadata, archive.withdrawn())
    return [
        msgspec.structs.replace(entry, superseded=entry.superseded and entry.run_id not in restored)
        for entry in metadata.manifest
        if entry.run_id in ids
    ]


def _read_manifest(path: Path) -> list[ManifestEntry]:
    try:
        return durable.read_json(path, list[ManifestEntry])
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except JsonError as error:
        remedy = f"give a list of runs as in a bundle's {METADATA}"
        raise DataError(error.what, where=str(path), remedy=remedy) from error


def _train(
    runs: "list[Run]",
    entries: list[ManifestEntry],
    champion: _Champion | None,
    mode: Mode,
    config: "TrainConfig",
    configured: Settings,
    folder: Path,
) -> "tuple[Path, Trained]":
    from driftloop.training import build
    from driftloop.training import train as training

    start = champion.folder if champion is not None and mode == "warm_start" else None
    origin = fleets.origin(configured)
    with _progress(f"{configured.schema.steps}") as show:
        stale = {entry.run_id for entry in entries if entry.superseded}
        learnt = [run for run in runs if run.run_id not in stale]
        trained = training.train(learnt, configured.schema, config, warm_start=start, progress=show)
    if trained.note:
        _ERR.print(f"{trained.note}; trained in full instead", style="yellow")
    build.build_bundle(
        trained,
        runs,
        entries,
        folder,
        data_source=origin.data_source,
        parent_version=champion.version if champion is not None else None,
        dvc_revision=origin.dvc_revision,
    )
    return folder, trained


@contextmanager
def _progress(steps: str) -> "Iterator[Any]":
    with bars.counted(_ERR) as bar:
        task = bar.add_task("training", total=None, figures="")
        best = ""

        def show(now: "Progress") -> None:
            nonlocal best
            if now.early_stop_rmse is not None:
                best = f", early-stop RMSE {now.early_stop_rmse:.2f} {steps}"
            bar.update(task, completed=now.step, total=now.steps, figures=f"loss {now.loss:.4f}{best}")

        yield show


def _register(folder: Path, configured: Settings, promote: bool) -> str:
    from driftloop.training import record

    version = record.record(folder, configured)
    if promote:
        # The loop's own promotion: checks the bundle, moves the alias, writes tags, tells the event log.
        from driftloop.loop.judge import promotion
        from driftloop.protocol.client import Client

        with (
            Registry(configured.mlflow_url, configured.model) as registry,
            Client(configured.retrainer_url, configured.token) as retrainer,
        ):
            promotion.promote(
                registry,
                version,
                reason="by hand",
                cause=None,
                report=lambda event: retrainer.report(event, patiently=False),
            )
    return version


def _figures(trained: "Trained") -> str:
    found, steps = trained.metrics, f"{trained.schema.steps}"
    # A fleet may do without early-stop units.
    stop = f"early-stop RMSE {found['early_stop_rmse']:.2f} {steps}, " if "early_stop_rmse" in found else ""
    return (
        f"{stop}90 % interval {found['interval_width']:.1f} {steps} wide, {trained.optimiser_s:.1f} s in the optimiser"
    )
