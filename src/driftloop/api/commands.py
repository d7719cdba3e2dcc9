"""`driftloop console`: the public API and the pages as a process."""

from typing import Annotated

import typer

from driftloop import settings


def console(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8400,
) -> None:
    """Serve the console: its pages and the public API, for all fleets of the platform."""
    config = settings.from_environment()
    from driftloop.access.listening import serve
    from driftloop.api.app import create_app

    # Streams never end by themselves.
    serve(config, "console", config.console_url, host, port, create_app, timeout_graceful_shutdown=2)
