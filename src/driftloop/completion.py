"""Completion in a shell: what is typed so far, and names that only this platform knows.

`driftloop --install-completion` puts it into the shell's own file; nothing is fetched. Whoever presses the key must
never read an error: what cannot be known now is not offered.
"""

import os
import shlex
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from driftloop.protocol.client import Question

T = TypeVar("T")

VARIABLE = "_DRIFTLOOP_COMPLETE"
"""Set where a shell asks."""
_FLEET = "--fleet"
_MOST = 100

Names = Callable[[str], list[str]]


def typed() -> tuple[list[str], str | None] | None:
    """The words behind `driftloop` with the one that is being typed, and the fleet that `--fleet` names among them;
    None where no shell asks.

    That option, which may stand anywhere, is moved to the front, for whoever reads the shell's variables next.
    """
    if VARIABLE not in os.environ:
        return None
    try:
        if "COMP_WORDS" in os.environ:
            words = _split(os.environ["COMP_WORDS"])
            at = int(os.environ.get("COMP_CWORD", len(words) - 1))
            words = [*words[:at], words[at] if at < len(words) else ""]
        else:
            text = os.environ.get("_TYPER_COMPLETE_ARGS", "")
            words = _split(text) + ([""] if text.endswith(" ") else [])
    except ValueError:
        words = []
    found = _fleet_first(words[1:])
    os.environ["COMP_WORDS"] = shlex.join(["driftloop", *found])
    os.environ["COMP_CWORD"] = str(len(found))
    # Of zsh and fish: a word that is not begun is a space at the end.
    last = shlex.quote(found[-1]) if found and found[-1] else ""
    os.environ["_TYPER_COMPLETE_ARGS"] = f"{shlex.join(['driftloop', *found[:-1]])} {last}"
    if found[:1] == [_FLEET] and len(found) > 2:
        return found[2:], found[1]
    return found, None


def _split(text: str) -> list[str]:
    """Words as a shell splits them; the last may have a quote that is not closed yet."""
    for end in ("", "'", '"'):
        try:
            return shlex.split(text + end)
        except ValueError:
            continue
    return text.split()


def _fleet_first(words: list[str]) -> list[str]:
    """The words with `--fleet NAME` before all others, unless the command has an option of that name for itself."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command in ("up", "fleet") or _FLEET not in words:
        return words
    at = words.index(_FLEET)
    if at == len(words) - 1:
        return words
    if at == len(words) - 2:  # the name is being typed
        return words[at:]
    return words[at : at + 2] + words[:at] + words[at + 2 :]


def _quietly(find: Callable[[], Iterable[str]]) -> Names:
    """The names that begin with what is typed; none where they cannot be found now."""

    @wraps(find)
    def names(incomplete: str) -> list[str]:
        try:
            return [name for name in find() if name.startswith(incomplete)][:_MOST]
        except Exception:  # whatever it is, a shell is no place for it
            return []

    # Typer reads the parameters of what it calls.
    del names.__wrapped__
    return names


@_quietly
def fleets() -> Iterable[str]:
    """The fleets of this platform, and the built-in ones."""
    from driftloop import places, settings
    from driftloop.fleets import BUILTIN

    known = places.read(settings.from_environment().state_dir)
    return dict.fromkeys([*(known.fleets if known is not None else ()), *BUILTIN])


@_quietly
def versions() -> Iterable[str]:
    """The versions of the fleet's model, the newest first."""
    from driftloop.protocol import platform

    return [model.version for model in _ask(lambda fleet: platform.models(fleet, _MOST))]


def units(incomplete: str) -> list[str]:
    """The units in service that have what is typed in their name."""
    from driftloop.protocol import platform

    @_quietly
    def find() -> Iterable[str]:
        page = _ask(lambda fleet: platform.units(fleet, sort="unit", q=incomplete, limit=_MOST))
        return [unit.unit for unit in page.units]

    return find(incomplete)


@_quietly
def schedules() -> Iterable[str]:
    """The names of schedules and watches."""
    return [str(entry["name"]) for entry in _status()["schedules"]]


@_quietly
def questions() -> Iterable[str]:
    """What waits for a person."""
    waiting = _status().get("approval")
    return [str(waiting["id"])] if waiting else []


@_quietly
def muted() -> Iterable[str]:
    """Causes of which nobody is told."""
    return [str(entry["cause"]) for entry in _status()["muted"]]


def _status() -> dict[str, Any]:
    from driftloop import settings
    from driftloop.protocol.client import Question

    config = settings.load()
    return _put(config.retrainer_url, config.token, Question("GET", "/status", dict[str, Any]))


def _ask(question: "Callable[[str], Question[T]]") -> T:
    """What the console answers to a question about the fleet that is meant."""
    from driftloop import settings

    config = settings.load()
    return _put(config.console_url, config.token, question(config.schema.name))


def _put(url: str, token: str, question: "Question[T]") -> T:
    from driftloop.protocol.client import put
    from driftloop.protocol.http import GLANCE, client

    with client(url, token, GLANCE) as http:
        return put(http, question._replace(patience=GLANCE))
