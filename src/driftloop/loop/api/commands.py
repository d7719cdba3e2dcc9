"""`driftloop retrainer`, `retrain`, `promote`, `rollback`, `events`: ask the running retrainer, print its answer."""

import json
import time
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from driftloop import completion, settings
from driftloop.errors import DriftloopError, ExitCode
from driftloop.loop.api.terminal import AsJson, Reason, asking, show
from driftloop.protocol.events import KINDS
from driftloop.training.modes import Mode


def retrainer(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8600,
) -> None:
    """Serve the retrainer: alerts and completed runs in, better models out."""
    config = settings.load()
    from driftloop.access.listening import serve
    from driftloop.loop.api.service import create_app

    serve(config, "retrainer", config.retrainer_url, host, port, create_app)


def retrain(
    mode: Annotated[Mode, typer.Option(help="From the champion's weights, or from nothing.")] = "warm_start",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the decision.")] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain now on the completed runs that the production model does not know."""
    with asking() as retrainer:
        attempt = retrainer.retrain(mode)
        if not wait:
            show(attempt, f"retraining of version {attempt['champion']} started", as_json)
            return
        asked = False
        while True:
            status = retrainer.status()
            decided = [item for item in status["history"] if item["cause"] == attempt["cause"]]
            if decided:
                break
            waiting = status.get("approval")
            if waiting and waiting["cause"] == attempt["cause"] and not asked:
                asked = True
                said = f"version {waiting['version']} waits for a person: driftloop approve, or driftloop reject"
                typer.echo(said, err=True)
            time.sleep(0.5)
    about = f"version {decided[-1]['model_version']}" if decided[-1]["model_version"] else "the retraining"
    text = f"{about}: {decided[-1]['decision']} ({decided[-1]['reason']})"
    show(decided[-1], text, as_json)
    if decided[-1]["decision"] == "failed":
        raise typer.Exit(ExitCode.NO)


def promote(
    version: Annotated[str, typer.Argument(help="The version to serve.", autocompletion=completion.versions)],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Move the alias `production` to a version."""
    with asking() as retrainer:
        answer = retrainer.promote(version, reason)
    text = f"version {version} is in production{_already(answer)} (before: {answer['from_version'] or 'none'})"
    show(answer, text, as_json)


def rollback(
    version: Annotated[
        str,
        typer.Argument(
            help="The version to go back from, which is in production; asked again, nothing more happens.",
            autocompletion=completion.versions,
        ),
    ],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put the version before the one in production back."""
    with asking() as retrainer:
        answer = retrainer.rollback(version, reason)
    now = f"version {answer['model_version']} is in production{_already(answer) or ' again'}"
    show(answer, f"{now}, not {answer['from_version']}", as_json)


def _already(answer: dict[str, Any]) -> str:
    return " already" if answer["already"] else ""


def events(
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher number.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing new ones.")] = False,
    kind: Annotated[str, typer.Option(help="Only events of this kind.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print the log of what the loop saw and decided."""
    if kind and kind not in KINDS:
        near = get_close_matches(kind, KINDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise DriftloopError(f"there is no event {kind!r}", where="--kind", remedy=f"{meant}docs/reference/events.md")
    with asking() as retrainer:
        for event in retrainer.follow(after, forever=follow):
            if not kind or event["kind"] == kind:
                show(event, _line(event), as_json)


def _line(event: dict[str, Any]) -> str:
    shown = {k: v for k, v in event.items() if k not in ("seq", "time", "kind", "id")}
    details = " ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in shown.items())
    return f"{event['seq']:>6}  {event['time']}  {event['kind']:<22} {details}"
