"""Where a notebook works: the folder with data and state, and the platform that it talks to."""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from driftloop import settings
from driftloop.embedded.supervisor import check_packages
from driftloop.errors import DriftloopError
from driftloop.settings import Settings
from driftloop_bench import own

FOLDER = "notebooks"
PORTS = {"server_url": 8500, "retrainer_url": 8600, "mlflow_url": 5000}
"""Of the platform's services on a cluster."""


def begin() -> Settings:
    """Work in the folder above the notebooks, where `data` and `state` are; returns the settings."""
    if Path.cwd().name == FOLDER:
        os.chdir("..")
    return settings.load()


def console() -> Console:
    """A console that prints plain lines into the notebook."""
    return Console(file=sys.stdout, force_terminal=False, force_jupyter=False, no_color=True, width=112)


@dataclass(frozen=True)
class Connected:
    """A running platform, and how to let go of it."""

    settings: Settings
    embedded: bool
    _held: contextlib.ExitStack

    def stop(self) -> None:
        """Stop the embedded platform; one that runs elsewhere is left alone."""
        self._held.close()


def connect(address: str, base: Settings, name: str) -> Connected:
    """The platform at `address`, a host name, or for an empty one a fresh embedded platform in `state/NAME`.

    A cluster's services answer on PORTS of that host; where they are not open to it, `kubectl port-forward` brings
    them to 127.0.0.1. Its token is in the file that DRIFTLOOP_TOKEN_FILE names. Raises DriftloopError where nobody
    answers.
    """
    held = contextlib.ExitStack()
    if not address:
        check_packages()
        folder = (base.state_dir / name).resolve()
        own.make_fresh(folder)
        configured = held.enter_context(own.running(own.own_settings(base, folder, {}), {}, console()))
        return Connected(configured, True, held)
    configured = settings.load(**{field: f"http://{address}:{port}" for field, port in PORTS.items()})
    try:
        httpx.get(f"{configured.server_url}/readyz", timeout=5.0, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise DriftloopError(
            f"no prediction server answers: {error}", where=configured.server_url, remedy="correct the address"
        ) from error
    print(f"connected to the platform at {address}")
    return Connected(configured, False, held)
