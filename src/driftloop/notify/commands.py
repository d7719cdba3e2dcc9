"""`driftloop notify`: whether people would be told."""

import json
from typing import Annotated

import typer

from driftloop import settings
from driftloop.errors import ExitCode
from driftloop.notify import teller

app = typer.Typer(no_args_is_help=True, help="Being told by e-mail or chat.")


@app.callback()
def _options() -> None:
    """Being told by e-mail or chat."""


@app.command("test")
def try_out(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Send a test message to every address of DRIFTLOOP_NOTIFY_FILE; exit code 1 where one does not take it."""
    config = settings.load()
    found = teller.send_test(config.notify_file, config.schema.name)
    if as_json:
        typer.echo(json.dumps({"addresses": found}))
    else:
        for each in found:
            typer.echo(f"address {each['address']}: {'sent' if each['taken'] else 'NOT taken'}")
    if not all(each["taken"] for each in found):
        raise typer.Exit(ExitCode.NO)
