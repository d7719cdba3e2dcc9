"""`driftloop units ...`: run the service, and ask it."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.table import Table

from driftloop import completion, settings
from driftloop.errors import ExitCode
from driftloop.terminal import fitted, screen, user

app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UnitName = Annotated[str, typer.Argument(help="The unit's name.", autocompletion=completion.units)]
Reason = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]
Jump = Annotated[bool, typer.Option("--jump", help="Times that are far off are right.")]
Method = Literal["GET", "POST", "DELETE"]
_OUT = screen(highlight=False)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8700,
) -> None:
    """Run the service of one fleet: rows and life events in, predictions and completed runs out."""
    config = settings.load()
    from driftloop.access import listening
    from driftloop.units.app import create_app

    listening.serve(config, "units", config.units_url, host, port, create_app)


@app.command("list")
def list_(
    sort: Annotated[str, typer.Option(help="low, rul, unit or last_seen.")] = "low",
    order: Annotated[str, typer.Option(help="asc or desc.")] = "asc",
    state: Annotated[str, typer.Option(help="running, failed, removed, overhauled or all.")] = "running",
    q: Annotated[str, typer.Option(help="Part of a name.")] = "",
    flag: Annotated[str, typer.Option(help="Only units with this flag.")] = "",
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many of the first.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List units, by default those in service whose prediction ends soonest first."""
    asked = {"sort": sort, "order": order, "state": state, "q": q, "flag": flag, "offset": offset, "limit": limit}
    page = _ask("GET", "/units", asked)
    if as_json:
        typer.echo(json.dumps(page))
        return
    table = Table(caption=f"{len(page['units'])} of {page['total']}", caption_justify="left")
    for heading in ("unit", "state", "step", "rul", "low", "high", "last seen", "version", "flags"):
        table.add_column(heading, justify="right" if heading in ("step", "rul", "low", "high") else "left")
    for one in page["units"]:
        figures = [_figure(one[name]) for name in ("step", "rul", "low", "high")]
        table.add_row(
            one["unit"], one["state"], *figures, one["last_seen"] or "-", one["version"] or "-", ", ".join(one["flags"])
        )
    _OUT.print(fitted(table, _OUT))


@app.command()
def show(
    unit: UnitName,
    life: Annotated[int | None, typer.Option(min=1, help="An earlier life, by its number.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=5000, help="Newest steps.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show one unit: its newest steps, what was predicted, and its life events."""
    asked = {"steps": steps, **({"life": life} if life is not None else {})}
    found = _ask("GET", f"/units/{quote(unit, safe='')}", asked)
    if as_json:
        typer.echo(json.dumps(found))
        return
    quality = ", ".join(f"{count} {name}" for name, count in found["quality"].items() if count)
    since = found["history_from"] if found["history_from"] is not None else "an unknown age"
    lines = [f"{found['unit']}: {found['state']}, life {found['life']}, history from {since}; {quality or 'no rows'}"]
    lines += [
        f"  step {one['step']}: {_figure(one['rul'])} ({_figure(one['low'])} to {_figure(one['high'])}), "
        f"version {one['version']}"
        + (f", true {_figure(one['true_rul'])}" if one["true_rul"] is not None else "")
        + (f" [{', '.join(one['flags'])}]" if one["flags"] else "")
        for one in found["predictions"]
    ]
    for one in found["life_events"]:
        gone = f", withdrawn by {one['withdrawn']['who']}" if one["withdrawn"] else ""
        lines.append(f"  event {one['id']}: {one['kind']} at {one['time']}, says {one['who']} {one['note']}{gone}")
    for one in found["lives"]:
        if one["archive"]:
            lines.append(f"  life {one['life']}: run {one['run']} {one['archive']} {one['note'] or ''}".rstrip())
    _print(lines)


@app.command()
def event(
    unit: UnitName,
    kind: Annotated[str, typer.Argument(help="installed, failed, removed or overhauled.")] = "",
    time: Annotated[str, typer.Option(help="When, such as 2026-01-31T12:00:00Z; by default now.")] = "",
    step: Annotated[float | None, typer.Option(help="Where the counter stood at the last row.")] = None,
    age: Annotated[str, typer.Option(help="Of installed: steps that it had lived before, or unknown.")] = "",
    note: Annotated[str, typer.Option(help="Anything worth knowing.")] = "",
    who: Annotated[str, typer.Option(help="Who says so; by default who types here.")] = "",
    withdraw: Annotated[int | None, typer.Option(help="Take this event back, by its number.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Tell of a life event, or take a wrong one back with --withdraw NUMBER."""
    path = f"/units/{quote(unit, safe='')}/events"
    if withdraw is not None:
        done = _ask("DELETE", f"{path}/{withdraw}", {"reason": reason})
    else:
        said = {"kind": kind, "time": time, "step": step, "age": int(age) if age.isdigit() else age}
        said |= {"note": note, "who": who}
        done = _ask("POST", path, body={key: value for key, value in said.items() if value not in ("", None)})
    gone = done["withdrawn"]
    text = f"event {done['id']}: {unit} {done['kind']} at {done['time']}"
    if gone:
        learnt = json.dumps(gone["learnt_from"]) if gone["learnt_from"] else "not known yet"
        text += f" is withdrawn; run {gone['run']}, what learnt from it: {learnt}" if gone["run"] else " is withdrawn"
    _show(done, text, as_json)


@app.command()
def rename(unit: UnitName, name: Annotated[str, typer.Argument(help="The new name.")], as_json: AsJson = False) -> None:
    """Call a unit otherwise from now on."""
    done = _ask("POST", f"/units/{quote(unit, safe='')}/rename", body={"name": name})
    _show(done, f"{unit} is {done['unit']} now", as_json)


@app.command()
def split(
    unit: UnitName, name: Annotated[str, typer.Argument(help="Name of the other unit.")], as_json: AsJson = False
) -> None:
    """Make a unit of its own of the rows that contradicted this unit's: two went under one name."""
    done = _ask("POST", f"/units/{quote(unit, safe='')}/split", body={"name": name})
    _show(done, f"{done['rows']} rows of {unit} are {name}'s now; {done['left']} contradict still", as_json)


@app.command()
def erase(
    unit: UnitName,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a unit's rows, predictions and events; its archived runs are withdrawn."""
    if not yes:
        typer.confirm(f"Delete everything of {unit}?", abort=True)
    done = _ask("DELETE", f"/units/{quote(unit, safe='')}", {"reason": reason})
    runs = ", ".join(done["runs_withdrawn"]) or "none were archived"
    _show(done, f"{unit} is erased; runs withdrawn: {runs}", as_json)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show how the service stands."""
    found = _ask("GET", "/status")
    _show(found, "\n".join(f"{key}: {value}" for key, value in found.items()), as_json)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="File for the copy.", dir_okay=False)], as_json: AsJson = False
) -> None:
    """Copy the store on SQLite as it is at one moment, while rows come in."""
    from driftloop.units import copying

    kept = copying.back_up(settings.load(), file)
    _show(kept._asdict(), f"{kept.path}: {_held(kept._asdict())}", as_json)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A copy that `driftloop units backup` made.", exists=True)],
    as_json: AsJson = False,
) -> None:
    """Put a copy in the place of the store on SQLite, which is kept beside it; stop the service before."""
    from driftloop.units import copying

    kept = copying.restore(settings.load(), file)
    text = f"{kept.path} is put back: {_held(kept._asdict())}; what was there before: {kept.path}{copying.BEFORE}"
    _show(kept._asdict(), text, as_json)


@app.command()
def backfill(
    files: Annotated[list[Path], typer.Argument(help="Tables with rows of the past, in any form that a fleet has.")],
    jump: Jump = False,
    as_json: AsJson = False,
) -> None:
    """Send rows of the past at full speed: they are history and no traffic; of each unit the newest step is predicted.

    Send them before the units' own rows come. Units that ended in the past belong into `driftloop archive add`.
    """
    from driftloop.protocol.http import client
    from driftloop.units import sending

    config = settings.load()
    with client(config.units_url, config.token) as http:
        found = sending.backfill(http, files, config.schema, None if as_json else _OUT.print, jump=jump)
    _show(
        found,
        f"{found['stored']} rows stored, {found['known']} known, {found['late']} late, {found['refused']} refused in "
        f"{found['seconds']:.1f} s",
        as_json,
    )
    for problem in found["problems"] if not as_json else ():
        _OUT.print(f"  {problem['unit']}: {problem['field']} {problem['message']}", markup=False)
    raise typer.Exit(ExitCode.NO if found["refused"] else ExitCode.DONE)


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="Tables with rows, in any form that a fleet has.")],
    to: Annotated[
        str, typer.Option(help="http://, nats://, kafka:// or mqtt:// address; by default the service.")
    ] = "",
    rate: Annotated[float, typer.Option(min=0.01, help="Rows a second.")] = 10.0,
    password_file: Annotated[Path | None, typer.Option(help="File with the password of the address's user.")] = None,
    jump: Jump = False,
    as_json: AsJson = False,
) -> None:
    """Play files as a fleet in service: row by row, in the order of their times."""
    import asyncio

    from driftloop.units import sending
    from driftloop.units.passwords import password
    from driftloop.units.sinks import sink

    config = settings.load()
    secret = password(password_file, "--password-file")
    address = sink(to or config.units_url, config.schema.name, config.token, secret, jump=jump)
    tell = None if as_json else _OUT.print
    found = asyncio.run(sending.replay(files, config.schema, address, rate, tell))
    _show(
        found,
        f"{found['rows']} rows of {found['units']} units in {found['seconds']:.1f} s, {found['refused']} refused",
        as_json,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if value == int(value) else f"{value:.1f}"


def _held(kept: dict[str, Any]) -> str:
    return f"{kept['units']} units, {kept['rows']} rows, {kept['predictions']} predictions, {kept['bytes']} bytes"


def _print(lines: list[str]) -> None:
    _OUT.print("\n".join(lines), markup=False, soft_wrap=True)


def _show(value: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(value))
    else:
        _print([text])


def _ask(method: Method, path: str, query: dict[str, Any] | None = None, body: Any = None) -> dict[str, Any]:
    """What the running service of the settings answers to whoever types here, or says so (`who`)."""
    from driftloop.protocol import platform
    from driftloop.protocol.client import ACTOR, put
    from driftloop.protocol.http import client

    config = settings.load()
    who = (body or {}).get("who") or user()
    with client(config.units_url, config.token, headers={ACTOR: who.encode()}) as http:
        return put(http, platform.of_units(method, path, query=query, body=body), "units")
