"""`driftloop tokens`, `driftloop people` and `driftloop audit`: who may do what here, and who has done what."""

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from driftloop import settings
from driftloop.access import audit as audit_log
from driftloop.access.audit import Audit
from driftloop.access.people import LONGEST, People
from driftloop.access.tokens import RATE, Tokens
from driftloop.errors import DriftloopError
from driftloop.protocol.roles import Role
from driftloop.terminal import fitted, screen, user

tokens_app = typer.Typer(no_args_is_help=True, help="Named tokens of programs: make, list, rotate, take back.")
people_app = typer.Typer(no_args_is_help=True, help="People who log in to the console by name and password.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_NAME = "Its name: letters, digits and . _ @ -, at most 64 of them."
Name = Annotated[str, typer.Argument(help=_NAME)]
KnownToken = Annotated[str, typer.Argument(help=_NAME, autocompletion=lambda incomplete: _named(_tokens, incomplete))]
KnownPerson = Annotated[str, typer.Argument(help=_NAME, autocompletion=lambda incomplete: _named(_people, incomplete))]
WithRole = Annotated[
    Role, typer.Option("--role", help="view: look; predict: and ask for predictions; operate: look and change; admin.")
]
Days = Annotated[float, typer.Option(min=0, help="Days after which it ends; 0: never.")]
_OUT = screen(highlight=False)


@tokens_app.command("add")
def add_token(
    name: Name,
    role: WithRole,
    days: Days = 90.0,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests in a second.")] = RATE,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once, on standard output."""
    made = _told(f"tokens add {name} --role {role}", lambda: _tokens().add(name, role, days=days or None, rate=rate))
    _print_once(name, made, as_json)


@tokens_app.command("rotate")
def rotate_token(
    name: KnownToken,
    days: Days = 90.0,
    overlap_s: Annotated[float, typer.Option(min=0, help="Seconds for which the one before still counts.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Give a token another secret and print it, this once, on standard output."""
    made = _told(f"tokens rotate {name}", lambda: _tokens().rotate(name, days=days or None, overlap_s=overlap_s))
    _print_once(name, made, as_json)


@tokens_app.command("revoke")
def revoke_token(name: KnownToken) -> None:
    """Take a token back; it is refused with its next request."""
    _told(f"tokens revoke {name}", lambda: _tokens().revoke(name))
    _OUT.print(f"token {name} is taken back", markup=False)


@tokens_app.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """Show every token with its role and its end."""
    _table(_tokens().list(), ("name", "role", "created", "expires", "rate"), as_json, "no tokens; see tokens add")


@people_app.command("add")
def add_person(name: Name, role: WithRole) -> None:
    """Let a person log in; the password is asked for, or is the first line of standard input."""
    password = _password()
    _told(f"people add {name} --role {role}", lambda: _people().add(name, role, password))
    _OUT.print(f"{name} may log in", markup=False)


@people_app.command("passwd")
def set_password(name: KnownPerson) -> None:
    """Give a person another password, asked for like the first; all sessions end."""
    password = _password()
    _told(f"people passwd {name}", lambda: _people().set_password(name, password))
    _OUT.print(f"{name} has another password; every session has ended", markup=False)


@people_app.command("remove")
def remove_person(name: KnownPerson) -> None:
    """Let a person log in no more; all sessions end."""
    _told(f"people remove {name}", lambda: _people().remove(name))
    _OUT.print(f"{name} may not log in any more; every session has ended", markup=False)


@people_app.command("list")
def list_people(as_json: AsJson = False) -> None:
    """Show everybody with their role."""
    _table(_people().list(), ("name", "role", "created"), as_json, "nobody; see people add")


def audit(
    after: Annotated[int, typer.Option(min=0, help="Only acts with a higher number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many; by default the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show who has done what, from where, and with which outcome."""
    path = settings.from_environment().access_folder / audit_log.FILE
    found = audit_log.read(path, after=after, limit=limit)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        _OUT.print("nothing stands in the audit log" + (f" behind number {after}" if after else ""))
    for entry in found:
        who = entry.get("who") or "nobody"
        acting = f" for {entry['actor']}" if entry.get("actor") else ""
        _OUT.print(
            f"{entry['seq']:>6}  {entry.get('time')}  {who}{acting} ({entry.get('how')}, {entry.get('address')})  "
            f"{entry.get('act')}  {entry.get('outcome')}",
            markup=False,
            soft_wrap=True,
        )


def _tokens() -> Tokens:
    return Tokens(settings.from_environment().access_folder)


def _people() -> People:
    return People(settings.from_environment().access_folder)


def _named(kept: Callable[[], Tokens | People], typed: str) -> list[str]:
    """The names that begin with what is typed, for completion: none where they cannot be read."""
    try:
        return [name for one in kept().list() if (name := str(one["name"])).startswith(typed)]
    except DriftloopError:
        return []


def _told(act: str, do: Any) -> Any:
    """Do it and tell the audit log, with what became of it."""
    log = Audit(settings.from_environment().access_folder, "command")
    log.check()
    outcome = "failed"
    try:
        found = do()
        outcome = "done"
        return found
    except DriftloopError:
        outcome = "refused"
        raise
    finally:
        log.write(who=user(), role="admin", how="command", address="local", act=act, outcome=outcome)


def _password() -> str:
    """A password from the terminal, or from a pipe; never from arguments, which everybody on the machine can read."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline(LONGEST + 2).rstrip("\r\n")


def _print_once(name: str, token: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "token": token}))
        return
    typer.echo(token)
    screen(stderr=True).print("It is shown this once. Keep it where only its program can read it.", style="dim")


def _table(rows: list[dict[str, object]], columns: tuple[str, ...], as_json: bool, nothing: str) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        _OUT.print(nothing)
        return
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        said = {**row, "expires": f"{row['expires']} (over)" if row.get("expired") else row.get("expires") or "never"}
        table.add_row(*(str(said[name]) for name in columns))
    _OUT.print(fitted(table, _OUT))
