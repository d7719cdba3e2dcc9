"""What the commands that ask the running retrainer share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from driftloop import settings
from driftloop.protocol.client import ACTOR, Client
from driftloop.terminal import screen, user

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the event and in the version's tags.")]
_OUT = screen(highlight=False)


@contextmanager
def asking() -> Iterator[Client]:
    """The running retrainer of the settings, told who asks."""
    config = settings.load()
    with Client(config.retrainer_url, config.token, headers={ACTOR: user().encode()}) as retrainer:
        yield retrainer


def show(value: Any, text: str, as_json: bool) -> None:
    """Print an answer, as JSON or in words."""
    if as_json:
        typer.echo(json.dumps(value))
    else:
        _OUT.print(text, markup=False, soft_wrap=True)
