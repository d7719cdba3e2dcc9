"""`driftloop schedules`, `mute`, `unmute`: what the running retrainer does by the clock, and whom it tells of what."""

import re
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from driftloop import completion
from driftloop.errors import DriftloopError
from driftloop.loop.api.terminal import AsJson, asking, show
from driftloop.terminal import fitted, screen
from driftloop.training.modes import Mode

app = typer.Typer(no_args_is_help=True, help="What is done by the clock: periodic retrainings and watches.")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")


def seconds(text: str) -> float:
    """A length such as `90`, `15m` or `7d`, in seconds; raises DriftloopError."""
    found = _LENGTH.fullmatch(text.strip())
    if found is None:
        raise DriftloopError(f"{text!r} is no length of time", remedy="such as 90 (seconds), 15m, 6h, 7d or 2w")
    return float(found[1]) * _UNITS[found[2] or "s"]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show every schedule and watch, and when it is due next."""
    with asking() as retrainer:
        status = retrainer.status()
    entries = status["schedules"]
    if as_json:
        show({"schedules": entries, "muted": status["muted"]}, "", True)
        return
    table = Table(box=None)
    for heading in ("name", "what", "when", "next", "last", ""):
        table.add_column(heading, no_wrap=heading in ("name", "next", "last"))
    for entry in entries:
        when = entry["cron"] or f"every {entry['every_s']:g} s"
        table.add_row(
            entry["name"], _what(entry), when, *map(_time, (entry["next"], entry["last"])), "FIRING" * entry["firing"]
        )
    console = screen()
    console.print(fitted(table, console) if entries else "nothing is done by the clock")
    for muted in status["muted"]:
        show(muted, f"{muted['cause']} is muted until {muted['until']} by {muted['who']}: {muted['reason']}", False)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Its name; one of that name is replaced.")],
    act: Annotated[
        Literal["retrain", "overdue", "error"],
        typer.Argument(help="Retrain; watch for the last training being too old; watch for the RMSE being too high."),
    ],
    every: Annotated[str, typer.Option(help="How often, such as 7d; a watch looks every minute by default.")] = "",
    cron: Annotated[str, typer.Option(help="Or at these times (UTC), such as '0 3 * * 1'.")] = "",
    mode: Annotated[Mode, typer.Option(help="Of a retraining.")] = "warm_start",
    days: Annotated[float | None, typer.Option(help="For `overdue`: days without a successful training.")] = None,
    above: Annotated[float | None, typer.Option(help="For `error`: the RMSE that is too high.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a schedule or a watch."""
    entry: dict[str, Any] = {"name": name, "act": act, "mode": mode, "days": days, "above": above}
    entry |= {"every_s": seconds(every) if every else None, "cron": cron or None}
    with asking() as retrainer:
        made = retrainer.add_schedule({key: value for key, value in entry.items() if value is not None})
    show(made, f"{made['name']}: {_what(made)}, next at {made['next']}", as_json)


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(help="Its name.", autocompletion=completion.schedules)], as_json: AsJson = False
) -> None:
    """Take a schedule or a watch away."""
    with asking() as retrainer:
        gone = retrainer.cancel(name)
    show(gone, f"{gone['name']} is cancelled", as_json)


def mute(
    cause: Annotated[str, typer.Argument(help="A cause, such as fleet_change:3, or a kind of causes.")],
    length: Annotated[str, typer.Option("--for", help="For how long, such as 6h.")] = "1d",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell nobody of a cause for a while. What the loop does about it stays the same."""
    with asking() as retrainer:
        muted = retrainer.mute(cause, seconds(length), reason)
    show(muted, f"{muted['cause']} is muted until {muted['until']}", as_json)


def unmute(
    cause: Annotated[str, typer.Argument(help="As it was muted.", autocompletion=completion.muted)],
    as_json: AsJson = False,
) -> None:
    """Tell of a cause again."""
    with asking() as retrainer:
        gone = retrainer.unmute(cause)
    show(gone, f"{gone['cause']} is told of again", as_json)


def _time(text: str | None) -> str:
    """A time to the second, UTC."""
    return f"{text[:19]}Z" if text else "-"


def _what(entry: dict[str, Any]) -> str:
    if entry["act"] == "retrain":
        return f"retrain ({entry['mode']})"
    if entry["act"] == "overdue":
        return f"watch: nothing trained for {entry['days']:g} days"
    return f"watch: RMSE above {entry['above']:g}"
