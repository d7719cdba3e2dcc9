"""`driftloop data`: parse, call, print."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import Progress
from rich.table import Table

from driftloop import settings
from driftloop.errors import DataError
from driftloop.fleets.cmapss import download, files, simulator, source
from driftloop.terminal import fitted, screen

data_app = typer.Typer(no_args_is_help=True, help="The C-MAPSS data: fetch, check, show, simulate.")

_out, _err = screen(), screen(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@data_app.command()
def pull(
    url: Annotated[str | None, typer.Option(help="Zip archive with NASA's files: a URL or a path.")] = None,
    to: Annotated[Path | None, typer.Option(help="Folder for the 13 files.")] = None,
) -> None:
    """Download NASA's archive and check the SHA-256 of every file."""
    configured = settings.from_environment()
    folder = to or configured.raw_dir
    chosen = url or configured.cmapss_url
    with Progress(console=_err, transient=True) as bar:
        task = bar.add_task("NASA's archive", total=None)
        address = download.pull(
            folder,
            (chosen,) if chosen else download.ADDRESSES,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if address is None:
        typer.echo(f"{folder} already holds NASA's 13 files; nothing was downloaded.")
    else:
        typer.echo(f"{folder} now holds NASA's 13 files, checked, from {address}")


@data_app.command()
def verify(
    folder: Annotated[Path | None, typer.Argument(help="Folder to check; by default the one in use.")] = None,
    as_json: Json = False,
) -> None:
    """Check NASA's 13 files byte for byte."""
    configured = settings.from_environment()
    found = folder or source.locate(configured)
    if found is None:
        remedy = "set CMAPSS_DIR, or run `driftloop data pull` or `dvc pull`"
        raise DataError("there are no C-MAPSS files to check", where=str(configured.raw_dir), remedy=remedy)
    files.verify(found)
    if as_json:
        typer.echo(json.dumps({"folder": str(found), "files": files.SHA256}))
    else:
        typer.echo(f"{found}: all {len(files.SHA256)} files are NASA's, byte for byte.")


@data_app.command()
def info(as_json: Json = False) -> None:
    """Show what each subset holds and where it comes from."""
    configured = settings.from_environment()
    shown: list[dict[str, Any]] = []
    for subset in files.SUBSETS:
        fleet = source.load_fleet(subset, configured)
        shown.append({"subset": subset, **_facts(fleet)})
    if as_json:
        typer.echo(json.dumps({"data_source": fleet.data_source, "origin": fleet.origin, "subsets": shown}))
        return
    if fleet.warning:
        _err.print(fleet.warning, style="bold yellow", markup=False)
    table = Table(title=f"C-MAPSS ({fleet.data_source}: {fleet.origin})")
    for heading in (
        "subset",
        "train engines",
        "test engines",
        "train cycles",
        "test cycles",
        "lives",
        "mean",
        "regimes",
    ):
        table.add_column(heading, justify="left" if heading == "subset" else "right", no_wrap=heading == "lives")
    for facts in shown:
        lives = "{min} to {max}".format(**facts["lives"])
        numbers = (str(facts[key]) for key in ("train_engines", "test_engines", "train_cycles", "test_cycles"))
        table.add_row(facts["subset"], *numbers, lives, str(facts["lives"]["mean"]), str(facts["regimes"]))
    _out.print(fitted(table, _out))


@data_app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn: the same seed gives the same.")] = 0,
    engines: Annotated[int | None, typer.Option(min=1, help="Engines in each split; by default as NASA's.")] = None,
) -> None:
    """Write a simulated fleet in NASA's file format."""
    if out.exists() and any(out.iterdir()):
        raise DataError("is not empty", where=str(out), remedy="name a new folder, so that no data is overwritten")
    written = simulator.write_files(out, seed=seed, engines=engines)
    typer.echo(f"Wrote {len(written)} files of a SIMULATED fleet (seed {seed}) to {out}. This is not NASA's data.")


def _facts(fleet: source.Fleet) -> dict[str, Any]:
    lives = [len(run.rows) for run in fleet.train]
    altitude_and_throttle = np.concatenate([run.rows[:, [0, 2]] for run in fleet.train])
    return {
        "train_engines": len(fleet.train),
        "test_engines": len(fleet.test),
        "train_cycles": sum(lives),
        "test_cycles": sum(len(run.rows) for run in fleet.test),
        "lives": {"min": min(lives), "mean": round(float(np.mean(lives))), "max": max(lives)},
        # A hint for people, from the settings in coarse steps; models find the regimes themselves.
        "regimes": len(np.unique(np.round(altitude_and_throttle) + 0.0, axis=0)),
    }
