"""`driftloop up`, `driftloop status`, `driftloop demo`: parse, call, print."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from driftloop import settings
from driftloop.errors import DriftloopError
from driftloop.local import status as statuses
from driftloop.local.components import components
from driftloop.local.supervisor import Supervisor, check_packages, check_space, make_token

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


def demo(
    kind: Annotated[str, typer.Option(help="What changes at T0: fleet, bias, stuck or none.")] = "fleet",
    subset: Annotated[str, typer.Option(help="Where the changed engines come from (kind fleet).")] = "FD002",
    share: Annotated[float, typer.Option(min=0.05, max=1, help="Share of requests from changed engines.")] = 1.0,
    sensor: Annotated[int, typer.Option(min=1, max=21, help="The faulty sensor (kinds bias and stuck).")] = 11,
    sigmas: Annotated[float, typer.Option(help="Bias in standard deviations within an operating regime.")] = 2.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 100.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest time after T0, in seconds.")] = 180.0,
    results: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("data/drift"),
    state: Annotated[
        Path | None, typer.Option(help="State folder; by default `demo` in the usual one, made new.")
    ] = None,
    champion_state: Annotated[
        Path | None,
        typer.Option(help="Start from a copy of this stopped platform with a trained champion; made where missing."),
    ] = None,
    reference: Annotated[bool, typer.Option(help="Train the reference model that T5 needs.")] = True,
    report: Annotated[bool, typer.Option(help="Make the Evidently report.")] = True,
    fast: Annotated[bool, typer.Option("--fast", help="Shorter phases and no Evidently report.")] = False,
    simulated: Annotated[bool, typer.Option("--simulated", help="Use the fleet simulator, with small fleets.")] = False,
) -> None:
    """Train a champion, change the fleet under it, and watch the platform recover; then everything stops.

    Exit code 0: recovered (or, for a sensor fault, detected and not trained on); 1: not.
    """
    from driftloop.experiment.run import Plan
    from driftloop.experiment.traffic import Change
    from driftloop.local.demo import run_demo

    if kind not in ("fleet", "bias", "stuck", "none"):
        raise DriftloopError(f"unknown kind {kind}", where="--kind", remedy="choose fleet, bias, stuck or none")
    plan = Plan(
        Change(kind, subset, share, sensor, sigmas),  # type: ignore[arg-type]
        rate=rate,
        seed=seed,
        healthy_s=10.0 if fast else 20.0,
        timeout_s=timeout_s,
        answers=1000 if fast else 3000,
    )
    succeeded = run_demo(
        plan, results, state=state, champion_state=champion_state, with_reference=reference,
        with_report=report and not fast, simulated=simulated,
    )  # fmt: skip
    raise typer.Exit(0 if succeeded else 1)


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
