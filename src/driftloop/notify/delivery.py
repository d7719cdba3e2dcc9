"""Delivers a message to the addresses of a file, by Apprise: e-mail, Slack, Teams, webhooks and many more.

Addresses hold secrets. They stand in a file, one a line, are read anew for each message, and are never logged or told:
an address is named by its number and its kind.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

from driftloop.errors import DriftloopError

MOST = 50
"""Addresses in a file."""


class Address(NamedTuple):
    """One address, ready to be sent to."""

    name: str
    """Such as `2 (mailto)`: what may be told of it."""
    mark: str
    """A digest, which says whether it has a message already."""
    target: Any
    """Of Apprise."""


def addresses(path: Path) -> list[Address]:
    """The addresses in a file; empty lines and comments (#) are passed over. Raises DriftloopError, with no secret."""
    try:
        import apprise
    except ImportError as error:
        raise DriftloopError(
            "telling people needs the package apprise", remedy="pip install 'driftloop[notify]'"
        ) from error
    # Apprise logs addresses, passwords included, where one is wrong.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DriftloopError(
            f"the file of addresses cannot be read: {why}",
            where=str(path),
            remedy="set DRIFTLOOP_NOTIFY_FILE to a file with an address a line",
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        kind = text.partition(":")[0][:20] if ":" in text else "?"
        target = apprise.Apprise.instantiate(text, suppress_exceptions=True)
        if target is None:
            raise DriftloopError(
                f"line {number} is no address that is known (it begins with {kind!r})",
                where=str(path),
                remedy="such as mailto://user:password@host?to=a@example.com; see docs/notifications.md",
            )
        found.append(Address(f"{number} ({kind})", hashlib.sha256(text.encode()).hexdigest()[:16], target))
    if not found:
        raise DriftloopError("the file of addresses has none", where=str(path), remedy="write an address a line")
    return found[:MOST]


def send(address: Address, title: str, body: str) -> bool:
    """Deliver to one address; whether it was taken. Takes as long as the other side does, within Apprise's limits."""
    try:
        return bool(address.target.notify(title=title, body=body))
    except Exception:
        # A plugin that breaks is an address that did not take it; its words may hold the address.
        return False
