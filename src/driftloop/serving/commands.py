"""`driftloop serve`: the prediction server as a process, with one worker or several."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftloop.errors import DriftloopError, ExitCode

if TYPE_CHECKING:
    import socket

    import uvicorn

    from driftloop.settings import Settings

_GRACE_S = 10
_IDLE_S = 75
"""How long an idle connection is kept. A sender that was held up must not find its connection closed: a request on
its way at that moment would be lost."""
_LOGGER = {"handlers": ["default"], "level": "INFO", "propagate": False}


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8500,
    workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
) -> None:
    """Serve predictions over HTTP, following the model registry."""
    from driftloop import settings
    from driftloop.access.listening import listen, options

    config = settings.load()
    state_dir, how = config.state_dir, options(config, config.server_url, host)
    listening = listen(host, port)
    port = listening.getsockname()[1]
    folder = (state_dir / "serving" / f"prometheus-{port}").absolute()
    if workers > 1:
        # Before prometheus_client is imported, here or in a worker: it looks at the variable then.
        _empty(folder)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    try:
        _run(_config(config, host, port, workers, how), listening)
    finally:
        listening.close()
        if workers > 1:
            shutil.rmtree(folder, ignore_errors=True)


def _config(config: Settings, host: str, port: int, workers: int, how: dict[str, Any]) -> uvicorn.Config:
    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    from driftloop import logs

    log_config: dict[str, Any] = {
        **LOGGING_CONFIG,
        "loggers": {**LOGGING_CONFIG["loggers"], "driftloop": _LOGGER},
    }
    if logs.begin(config, "server"):
        log_config = logs.config(config, "server")
    return uvicorn.Config(
        "driftloop.serving.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        access_log=False,
        log_config=log_config,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_IDLE_S,
        **how,
    )


def _run(config: uvicorn.Config, listening: socket.socket) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    if config.workers > 1:
        Multiprocess(config, sockets=[listening]).run()
        return
    server = uvicorn.Server(config)
    # After its orderly end uvicorn raises the signal again, which by default kills the process it has just ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    if not server.started:
        raise typer.Exit(ExitCode.ERROR)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise DriftloopError(
            f"cannot be made: {error.strerror}",
            where=str(folder),
            remedy="set DRIFTLOOP_STATE_DIR to a writable folder",
        ) from error
