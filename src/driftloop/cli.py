"""The command `driftloop`: finds the room that has a command, and shows errors to people.

A room is imported only when one of its commands is called, so that the help is quick and the prediction server
never loads what only training needs.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import typer

from driftloop import __version__, completion
from driftloop.environment import forget_others, trust_this_machine
from driftloop.errors import DriftloopError


class _Entry(NamedTuple):
    module: str
    attribute: str
    """A function, or a typer app with commands of its own, in that module."""
    help: str


_BENCH = "driftloop_bench"
_FLEET = "DRIFTLOOP_FLEET"

COMMANDS = {
    "demo": _Entry(
        f"{_BENCH}.commands", "demo", "Run the whole loop once on a platform of its own and show the recovery."
    ),
    "up": _Entry("driftloop.embedded.commands", "up", "Start the embedded platform and keep it running until Ctrl-C."),
    "status": _Entry(
        "driftloop.embedded.commands",
        "status",
        "Show the components of the embedded platform, the loop and the last verdict.",
    ),
    "doctor": _Entry(
        "driftloop.embedded.doctor.commands", "doctor", "Find what is wrong here, and say how to mend it."
    ),
    "console": _Entry("driftloop.api.commands", "console", "Run the console: its pages and the public API."),
    "serve": _Entry("driftloop.serving.commands", "serve", "Run the prediction server."),
    "drift": _Entry("driftloop.drift.commands", "app", "Watch, check and report drift."),
    "retrainer": _Entry(
        "driftloop.loop.api.commands", "retrainer", "Run the service that receives alerts and retrains."
    ),
    "retrain": _Entry("driftloop.loop.api.commands", "retrain", "Start a retraining by hand."),
    "promote": _Entry("driftloop.loop.api.commands", "promote", "Move the production alias to a version by hand."),
    "rollback": _Entry("driftloop.loop.api.commands", "rollback", "Go back to the version before."),
    "approve": _Entry("driftloop.loop.api.approvals", "approve", "Let the version that waits for a person go ahead."),
    "reject": _Entry("driftloop.loop.api.approvals", "reject", "Turn down the version that waits for a person."),
    "schedules": _Entry(
        "driftloop.loop.api.scheduling", "app", "What is done by the clock: periodic retrainings and watches."
    ),
    "notify": _Entry("driftloop.notify.commands", "app", "Being told by e-mail or chat: send a test message."),
    "mute": _Entry("driftloop.loop.api.scheduling", "mute", "Tell nobody of a cause for a while."),
    "unmute": _Entry("driftloop.loop.api.scheduling", "unmute", "Tell of a cause again."),
    "events": _Entry("driftloop.loop.api.commands", "events", "Print the log of what the loop saw and decided."),
    "tokens": _Entry("driftloop.access.commands", "tokens_app", "Make, list, rotate and take back tokens of programs."),
    "people": _Entry(
        "driftloop.access.commands", "people_app", "Say who may log in to the console, and with which role."
    ),
    "audit": _Entry("driftloop.access.commands", "audit", "Show who has done what, and from where."),
    "train": _Entry("driftloop.training.commands", "train", "Train a model on archived runs and register it."),
    "tune": _Entry(
        "driftloop.training.commands", "tune", "Search for better hyper-parameters, with several workers at once."
    ),
    "baseline": _Entry("driftloop.training.commands", "baseline_app", "Rebuild the baseline of the production model."),
    "fleet": _Entry(
        "driftloop.fleet.fleet_commands", "fleet_app", "Guess a fleet file from data, check data by it, show both."
    ),
    "plan": _Entry("driftloop.units.plan.commands", "plan", "Plan which unit to work on in which slot, and say why."),
    "why": _Entry("driftloop.units.plan.commands", "why", "Show what drives the prediction of one unit."),
    "archive": _Entry("driftloop.fleet.commands", "archive_app", "Add completed runs to the archive, or list them."),
    "units": _Entry(
        "driftloop.units.commands", "app", "The fleet in service: list and show units, tell of failures, send rows."
    ),
    "data": _Entry("driftloop.fleets.cmapss.commands", "data_app", "Fetch, check, show or simulate the C-MAPSS data."),
    "experiment": _Entry(
        f"{_BENCH}.experiment.commands", "experiment", "Change the fleet under a running platform, time its recovery."
    ),
    "benchmark": _Entry(f"{_BENCH}.commands", "app", "Measure the model and the drift detector by a fixed protocol."),
}


def build(arguments: Sequence[str]) -> typer.Typer:
    """The command line as far as `arguments` need it: the named command for real, the others by their help alone."""
    top = typer.Typer(
        name="driftloop",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    top.callback(help="A predictive-maintenance platform that heals itself when its fleet changes.")(_options)
    wanted = _command(arguments)
    for name, entry in COMMANDS.items():
        if name == wanted:
            _mount(top, name, entry)
        else:
            top.command(name, help=entry.help)(_placeholder)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (driftloop.errors.ExitCode)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        given, fleet = completion.typed() or _take_fleet(given)
        with _chosen(fleet):
            result = build(given)(args=given, prog_name="driftloop", standalone_mode=True)
    except DriftloopError as error:
        from driftloop.terminal import screen

        screen(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="bold red")
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return result if isinstance(result, int) else 0


def app() -> None:
    """The entry point of the installed command."""
    forget_others()
    trust_this_machine()
    print_whatever_there_is()
    sys.exit(main())


def print_whatever_there_is() -> None:
    """Let a terminal or a file that cannot show a character get `?` for it: no command ends because of a name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _command(arguments: Sequence[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _take_fleet(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without `--fleet NAME`, which may stand anywhere, and the name.

    `up` has an option of that name for itself, since it starts any number of fleets; so may `fleet`, which is about
    files. Raises DriftloopError for two names, or none.
    """
    left: list[str] = []
    names: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        option, given, value = argument.partition("=")
        if argument == "--":
            left += [argument, *waiting]
        elif option == "--fleet":
            names.append(value if given else next(waiting, ""))
        else:
            left.append(argument)
    if _command(left) in ("up", "fleet"):
        return list(arguments), None
    if len(names) > 1 or "" in names:
        raise DriftloopError("takes one fleet", where="--fleet", remedy="give the name of one, or the path of its file")
    return left, names[0] if names else None


@contextlib.contextmanager
def _chosen(fleet: str | None) -> Iterator[None]:
    """Let every reader of the settings, children included, see this fleet: the option is the variable, said nearer."""
    if fleet is None:
        yield
        return
    before = os.environ.get(_FLEET)
    os.environ[_FLEET] = fleet
    try:
        yield
    finally:
        os.environ.pop(_FLEET)
        if before is not None:
            os.environ[_FLEET] = before


def _mount(top: typer.Typer, name: str, entry: _Entry) -> None:
    try:
        command = getattr(importlib.import_module(entry.module), entry.attribute)
    except ModuleNotFoundError as error:
        if error.name == _BENCH:
            raise DriftloopError(
                "is part of what measures driftloop, which is not installed",
                where=f"driftloop {name}",
                remedy="run `make setup`, or pip install driftloop-bench",
            ) from error
        if error.name is None or error.name.startswith("driftloop"):
            raise
        raise DriftloopError(
            f"needs the package {error.name}",
            where=f"driftloop {name}",
            remedy="run `make setup`, or pip install driftloop[all]",
        ) from error
    if isinstance(command, typer.Typer):
        top.add_typer(command, name=name, help=entry.help)
    else:
        top.command(name)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"driftloop {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
    fleet: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The fleet that is meant, where several share a platform.",
            autocompletion=completion.fleets,
        ),
    ] = "",
) -> None:
    """Declares the options that stand before a command."""


def _placeholder() -> None:
    """Only listed; `build` mounts the command that is called."""


if __name__ == "__main__":
    app()
