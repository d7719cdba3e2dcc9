"""`driftloop up` and `driftloop status`: parse, call, print."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from driftloop import completion, places, settings
from driftloop.embedded import fleets
from driftloop.embedded import status as statuses
from driftloop.embedded.components import components
from driftloop.embedded.supervisor import Supervisor, check_packages, check_space, lock, make_token
from driftloop.errors import ExitCode
from driftloop.terminal import fitted, screen

SCREEN_S = 2.0


def up(
    fleet: Annotated[
        list[str] | None,
        typer.Option(
            help="A built-in fleet or a fleet.toml; may be given again. By default DRIFTLOOP_FLEET.",
            autocompletion=completion.fleets,
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option(help="Print lines instead of a screen, as where there is no terminal.")
    ] = False,
) -> None:
    """Start the console, MLflow and, for each fleet, server, retrainer, drift watch and units; Ctrl-C stops them all.

    State is kept in DRIFTLOOP_STATE_DIR; the next `up` continues where this one stopped, each fleet on its ports.
    """
    console = screen(highlight=False)
    base = settings.from_environment()
    for name, meant in settings.misspelt(os.environ).items():
        typer.echo(f"warning: {name} is no setting and changes nothing; is {meant} meant?", err=True)
    check_packages()
    check_space(base.state_dir)
    lock(base.state_dir).close()
    if base.token_file is None:
        make_token(base.state_dir)
    found = fleets.assign(base, fleet or [base.fleet], places.read(base.state_dir))
    running = fleets.running(base, found)
    supervisor = Supervisor(base.state_dir, components(running, base.state_dir))
    with supervisor:
        places.write(base.state_dir, found)
        token = next(iter(running.values())).token_file
        said = [f"console: {base.console_url}"]
        said += [f"driftloop is starting; state in {supervisor.folder}, token in {token}"]
        if len(running) > 1:
            said += [
                f"{name}: server {one.server_url}, retrainer {one.retrainer_url}, model {one.model}, "
                f"state in {one.state_dir.resolve()}"
                for name, one in running.items()
            ]
        console.print("\n".join(said), markup=False, soft_wrap=True)
        if plain or not console.is_terminal:
            supervisor.run(_Lines(console))
        else:
            with Live(console=console, auto_refresh=False, screen=False) as live:
                supervisor.run(_Screen(base.state_dir, running, live))
        console.print("stopping")
    console.print("stopped; nothing is left running")


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each component, the model that is served, the loop and the last verdict. Exit code 1: not up."""
    base = settings.from_environment()
    known = places.read(base.state_dir)
    if known is None:
        running = {base.schema.name: base}
    elif "fleet" in base.model_fields_set:
        name = places.choose(known, base.fleet)
        running = {name: settings.of_fleet(base, known, name)}
    else:
        running = fleets.running(base, known)
    found = statuses.collect(base.state_dir, running)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console = screen(highlight=False)
        if not found["up"]:
            said = f"The embedded platform is not up (state in {found['state_dir']}); start it: driftloop up"
            console.print(said, markup=False, soft_wrap=True)
        shown = statuses.table(found)
        console.print(fitted(shown, console) if found["components"] else statuses.caption(found))
    raise typer.Exit(ExitCode.DONE if found["up"] else ExitCode.NO)


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

    def __init__(self, state_dir: Path, running: Mapping[str, settings.Settings], live: Live) -> None:
        self._state_dir, self._running, self._live = state_dir, running, live
        self._next = 0.0

    def __call__(self, _: Supervisor) -> None:
        if time.monotonic() < self._next:
            return
        shown = statuses.table(statuses.collect(self._state_dir, self._running))
        self._live.update(fitted(shown, self._live.console), refresh=True)
        self._next = time.monotonic() + SCREEN_S
