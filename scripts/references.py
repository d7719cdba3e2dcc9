"""Write docs/reference from the code; a test compares what is committed with what this writes.

python scripts/references.py [FOLDER]
"""

import inspect
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import typer.core
import typer.main
from metric_names import metrics as metrics_in

import driftloop
from driftloop import cli
from driftloop import client as programs
from driftloop.api import app as console
from driftloop.errors import ExitCode
from driftloop.fleet.fleet_file import KEYS
from driftloop.loop.api import service as retrainer
from driftloop.protocol import event_fields
from driftloop.protocol.client import Question
from driftloop.serving import app as server
from driftloop.serving import routes
from driftloop.settings import Settings, variable
from driftloop.units import app as units
from driftloop_bench.experiment.fields import FIELDS

SOURCE = Path(driftloop.__file__).parent
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE = "Made from the code by `make references`.\n"

_SETTING = ("variable", "kind", "default", "meaning")

Rows = Iterable[Sequence[str]]


def table(headings: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# The pages.


def settings() -> str:
    """Every setting, in the groups of the code."""
    text = (
        "# Settings\n\nEvery setting is an environment variable, read in `src/driftloop/settings.py` alone; an empty "
        "one counts as unset. "
    ) + MADE
    rows: list[Sequence[str]] = []
    groups = _groups()
    for name, field in Settings.model_fields.items():
        if name in groups:
            text += (table(_SETTING, rows) if rows else "") + f"\n## {groups[name]}\n\n"
            rows = []
        default = "unset" if field.default is None else f"`{field.default}`" if str(field.default) else "empty"
        rows.append((f"`{variable(name)}`", _kind(field.annotation), default, field.description or ""))
    return text + table(_SETTING, rows)


def _groups() -> dict[str, str]:
    """The comment above a group, by the first setting of the group."""
    found, waiting = {}, ""
    for line in (SOURCE / "settings.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("    # "):
            waiting = line.removeprefix("    # ").rstrip(".")
        elif waiting and line.startswith("    ") and ": " in line:
            found[line.split(":")[0].strip()] = waiting
            waiting = ""
    return found


def _kind(annotation: Any) -> str:
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if parts:
        return " or ".join(_kind(part) for part in parts)
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    return words[annotation.__name__]


def metrics() -> str:
    """Every metric of every process."""
    text = "# Metrics\n\nEvery process shows its metrics at `/metrics`; every series carries the label `fleet`. " + MADE
    titles = {
        "serving": "The prediction server", "drift": "The drift watch and its report", "loop": "The retrainer",
        "units": "The fleet in service",
    }  # fmt: skip
    found = metrics_in(SOURCE)
    for room, title in titles.items():
        made = [metric for path, of_file in found.items() if path.split("/")[0] == room for metric in of_file]
        rows = [
            (f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.help.rstrip("."))
            for one in sorted(made)
        ]
        text += f"\n## {title}\n\n" + table(("metric", "type", "labels", "meaning"), rows)
    if lost := {path for path in found if path.split("/")[0] not in titles}:
        raise ValueError(f"metrics of a room that this page has no title for: {lost}")
    return text


def events() -> str:
    """Every kind of event with its fields, and what the fields hold."""
    text = (
        "# Events\n\nWhat the retrainer's log holds: `driftloop events`, `GET /events` of the retrainer, and the "
        "console's `GET /api/v1/fleets/{fleet}/events`, where `kind` is called `event`. Each has `seq`, `time` and "
        "`kind`, an `id` where somebody else reported it, and the fields of its kind; those with a `?` where they "
        "apply. Others may report kinds of their own (`POST /events`): of `fleet_changed`, told by whoever knows when "
        "the fleet did, the console reads T0. "
    ) + MADE
    kinds = [
        (f"`{kind}`", about.meaning, " ".join(f"`{name}`" for name in about.fields.split()))
        for kind, about in event_fields.ABOUT.items()
    ]
    text += "\n" + table(("kind", "what has happened", "fields"), kinds)
    rows = []
    for key, field in {**event_fields.ALWAYS, **event_fields.MAYBE, **event_fields.FIELDS}.items():
        of, _, name = key.rpartition(".")
        rows.append((f"`{name}`" + (f" of `{of}`" if of else ""), field.kind, field.meaning))
    return text + "\n## Fields\n\n" + table(("field", "type", "meaning"), rows)


def api() -> str:
    """Every request of every process, and the role that it needs."""
    text = (
        "# API\n\nEach process describes its requests with examples at `/docs`, the console at `/api/docs`. The "
        "console's is the public one: what the others answer may change. `nobody` means that nobody is asked who they "
        "are. "
    ) + MADE
    needs: dict[str, tuple[str, Callable[[Settings], Any], Callable[[str, str], str | None]]] = {
        "console": ("The console (8400): pages, public API", console.create_app, console.needs),
        "server": ("The prediction server (8500)", server.create_app, routes.needs(False)),
        "retrainer": ("The retrainer (8600)", retrainer.create_app, retrainer.needs),
        "units": ("The service that keeps rows (8700)", units.create_app, units.needs),
    }
    for title, create, role in needs.values():
        with tempfile.TemporaryDirectory() as folder:
            document = create(Settings(state_dir=Path(folder), mlflow_url="http://127.0.0.1:9")).openapi()
        rows = [
            (f"`{method.upper()} {path}`", role(method.upper(), path) or "nobody", about.get("summary", ""))
            for path, methods in document["paths"].items()
            for method, about in methods.items()
        ]
        text += f"\n## {title}\n\n" + table(("request", "role", "what"), rows)
    return text


def fleet_file() -> str:
    """Every key of a fleet file."""
    text = "# Keys of the fleet file\n\nWhat they are for: [the fleet file](../fleet-file.md). " + MADE
    titles = {
        "": "The whole fleet", "settings": "Columns: entries of `settings` and `sensors`", "time": "`[time]`",
        "end": "`[end]`", "censored": "`[censored]`", "least": "`[least]`",
    }  # fmt: skip
    for section, title in titles.items():
        rows = [
            (f"`{key.rpartition('.')[2]}`", said) for key, said in KEYS.items() if key.rpartition(".")[0] == section
        ]
        text += f"\n## {title}\n\n" + table(("key", "meaning"), rows)
    return text


def commands() -> str:
    """Every command with its arguments and options."""
    text = (
        "# Commands\n\n`driftloop --install-completion` lets the shell complete commands, options, and names of "
        "fleets, units and versions. `--fleet NAME` may stand anywhere, where several fleets share a platform. Codes "
        "with which commands end: [exit codes](exit-codes.md). "
    ) + MADE
    for name in cli.COMMANDS:
        found = typer.main.get_command(cli.build([name])).commands[name]  # type: ignore[attr-defined]
        if isinstance(found, typer.core.TyperGroup):
            text += f"\n## {name}\n\n{_about(found)}\n"
            for below, command in found.commands.items():
                text += f"\n### {name} {below}\n\n{_about(command)}\n{_parameters(command)}"
        else:
            text += f"\n## {name}\n\n{_about(found)}\n{_parameters(found)}"
    return text


def _about(command: Any) -> str:
    return "\n".join(line.strip() for line in (command.help or "").strip().splitlines())


def _parameters(command: Any) -> str:
    rows = []
    for one in command.params:
        if one.name == "help":
            continue
        is_option = one.param_type_name == "option"
        shown = ", ".join([*one.opts, *one.secondary_opts]) if is_option else (one.metavar or str(one.name).upper())
        default = one.default
        nothing = default is None or default is False or default in ("", ()) or callable(default)
        said = "" if nothing else f"`{default}`"
        choices = ", ".join(f"`{choice}`" for choice in _choices(one.type_descriptor.annotation))
        meaning = f"{one.help or ''} One of {choices}." if choices else one.help or ""
        rows.append((f"`{shown}`", said or ("needed" if one.required else ""), meaning.strip()))
    return "\n" + table(("parameter", "default", "meaning"), rows) if rows else ""


def _choices(annotation: Any) -> tuple[Any, ...]:
    """What a parameter may be, where that is a list."""
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def exit_codes() -> str:
    """The table of exit codes."""
    rows = [(str(int(code)), code.meaning) for code in ExitCode]
    return (
        "# Exit codes\n\nEvery command keeps to these, so that scripts need not read words. " + MADE + "\n"
        + table(("code", "meaning"), rows)
        + "\nA command that a signal ends has 128 and the signal's number. `driftloop drift check` ends with 0 for "
        "`no_drift` and `fleet_age`, 1 for `drift`, 3 for too little data; `driftloop doctor` with 1 for a problem.\n"
    )  # fmt: skip


def recovery_metrics() -> str:
    """The fields of an experiment's figures."""
    return (
        "# recovery_metrics.json\n\nWhat `driftloop demo` and `driftloop experiment` measure. A figure that could not "
        "be measured is null. " + MADE + "\n"
        + table(("field", "meaning"), ((f"`{key}`", said) for key, said in FIELDS.items()))
    )  # fmt: skip


def client() -> str:
    """What programs may ask by driftloop.client, and what comes back."""
    text = (
        "# driftloop.client\n\nThe methods of `Platform`, `Predictor` and `Gateway`; `AsyncPlatform`, `AsyncPredictor` "
        "and `AsyncGateway` have the same, to be awaited. [How they are used](../programs.md). " + MADE
    )  # fmt: skip
    for owner in (programs.Platform, programs.Predictor, programs.Gateway):
        names = [name for kind in owner.__mro__ for name, one in vars(kind).items() if isinstance(one, programs.Asked)]
        names += ["follow"] if owner is programs.Platform else []
        rows = [(f"`{name}{_signature(getattr(owner, name))}`", _first(getattr(owner, name))) for name in names]
        text += f"\n## {owner.__name__}\n\n{inspect.getdoc(owner)}\n\n" + table(("method", "what"), rows)
    text += "\n## What comes back\n\n"
    kinds = [getattr(programs, name) for name in programs.__all__]
    structs = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    rows = [
        (f"`{kind.__name__}`", _first(kind), ", ".join(f"`{one}`" for one in kind.__struct_fields__))
        for kind in structs
    ]
    return text + table(("type", "what", "fields"), rows)


def _signature(method: Any) -> str:
    """The parameters of a method and what it gives, as a person writes them."""
    found = inspect.signature(method)
    parts = []
    for name, one in found.parameters.items():
        if one.kind is one.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        if name != "self":
            default = "" if one.default is one.empty else f" = {one.default!r}"
            parts.append(f"{name}: {_type(one.annotation)}{default}")
    gives = found.return_annotation
    gives = typing.get_args(gives)[0] if typing.get_origin(gives) is Question else gives
    return f"({', '.join(parts)}) -> {_type(gives)}"


def _type(annotation: Any) -> str:
    """The same of every Python."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (None, types.NoneType):
        return "None"
    if origin is typing.Literal:
        return " | ".join(map(repr, inside))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type, inside))
    name = str((origin or annotation).__name__)
    return f"{name}[{', '.join(map(_type, inside))}]" if inside else name


def _first(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings, "metrics.md": metrics, "events.md": events, "api.md": api, "fleet-file.md": fleet_file,
    "commands.md": commands, "exit-codes.md": exit_codes, "recovery-metrics.md": recovery_metrics, "client.md": client,
}  # fmt: skip


def main(folder: Path) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
