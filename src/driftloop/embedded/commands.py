"""`driftloop up` and `driftloop status`: parse, call, print."""

import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from driftloop import settings
from driftloop.embedded import status as statuses
from driftloop.embedded.components import components
from driftloop.embedded.supervisor import Supervisor, check_packages, check_space, make_token

SCREEN_S = 2.0


def up(
    plain: Annotated[
        bool, typer.Option(help="Print lines instead of a screen, as where there is no terminal.")
    ] = False,
) -> None:
    """Start MLflow, prediction server, retrainer and drift watch; Ctrl-C stops them all.

    State is kept in DRIFTLOOP_STATE_DIR; the next `up` continues where this one stopped.
    """
    console = Console(highlight=False)
    configured = settings.load()
    check_packages()
    check_space(configured.state_dir)
    token_file = configured.token_file or make_token(configured.state_dir)
    supervisor = Supervisor(configured, components(configured, token_file))
    with supervisor:
        console.print(f"driftloop is starting; state in {supervisor.folder}, token in {token_file}")
        if plain or not console.is_terminal:
            supervisor.run(_Lines(console))
        else:
            with Live(console=console, auto_refresh=False, screen=False) as live:
                supervisor.run(_Screen(configured, live))
        console.print("stopping")
    console.print("stopped; nothing is left running")


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each component, the model that is served, the loop and the last verdict. Exit code 1: not up."""
    found = statuses.collect(settings.load())
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console = Console(highlight=False)
        if not found["up"]:
            console.print(f"The embedded platform is not up (state in {found['state_dir']}); start it: driftloop up")
        console.print(statuses.table(found) if found["components"] else statuses.caption(found))
    raise typer.Exit(0 if found["up"] else 1)


class _Lines:
    """Says in lines when a component changes its state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, str] = {}
        self._ready = False

    def __call__(self, supervisor: Supervisor) -> None:
        for slot in supervisor.slots:
            name, state = slot.component.name, slot.state
            if self._said.get(name) != state:
                self._said[name] = state
                ended = f" (exit code {slot.last_exit}, starts again)" if state == "down" else ""
                self._console.print(f"{name}: {state}{ended} {slot.component.url}".rstrip())
        if supervisor.ready and not self._ready:
            memory = sum(supervisor.memory().values()) / 2**20
            self._console.print(f"everything is ready, {memory:.0f} MiB resident")
        self._ready = supervisor.ready


class _Screen:
    """Redraws one status table every two seconds."""

    def __init__(self, configured: settings.Settings, live: Live) -> None:
        self._configured, self._live = configured, live
        self._next = 0.0

    def __call__(self, _: Supervisor) -> None:
        if time.monotonic() < self._next:
            return
        self._live.update(statuses.table(statuses.collect(self._configured)), refresh=True)
        self._next = time.monotonic() + SCREEN_S
