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
    import uvicorn

    from driftloop.access.listening import listen, options
    from driftloop.api.app import create_app

    how = options(config, config.console_url, host)
    # Only to say it in time and for people: uvicorn tells of a taken port after everything else has started.
    listen(host, port).close()
    uvicorn.run(
        create_app(config), host=host, port=port, workers=1, log_level="warning", access_log=False,
        # Streams never end by themselves.
        timeout_graceful_shutdown=2, **how,
    )  # fmt: skip
