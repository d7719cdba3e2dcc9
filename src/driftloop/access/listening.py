"""Processes that listen: not without credentials for others than this machine, with TLS where their address says so.

A certificate is read again when its file has changed: the next connection gets the new one, and those that are open
keep theirs.
"""

import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driftloop import logs
from driftloop.access.connections import Connection
from driftloop.access.doors import check_start
from driftloop.access.files import Stamp, stamp
from driftloop.errors import DriftloopError
from driftloop.settings import Settings

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""The files of a certificate are looked at no more often."""


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; raises DriftloopError naming the port where it is taken or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Bound is not enough: two processes can bind the same port until one of them listens.
        listening.listen(2048)
    except OSError as error:
        listening.close()
        remedies = {
            errno.EADDRINUSE: "stop the process that listens there, or choose another with --port",
            errno.EACCES: "choose a port from 1024 up with --port",
            errno.EADDRNOTAVAIL: "choose an address of this machine with --host",
        }
        what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
        raise DriftloopError(
            f"port {port} {what}", where=f"{host}:{port}", remedy=remedies.get(error.errno or 0, "check --host")
        ) from error
    listening.set_inheritable(True)
    return listening


def options(settings: Settings, url: str, host: str) -> dict[str, Any]:
    """What uvicorn is given for a process whose own address is `url`; raises DriftloopError where it may not listen on
    `host`, or has an address with https and no certificate that can be used."""
    check_start(settings, host)
    # Whoever is in front is known by the doors, which trust the proxies that the settings name.
    common: dict[str, Any] = {"proxy_headers": False, "server_header": False, "ws": "none", "http": Connection}
    if not url.startswith("https://"):
        return common
    if settings.tls_cert is None or settings.tls_key is None:
        raise DriftloopError(
            "an address with https needs a certificate and its key",
            where=url,
            remedy="set DRIFTLOOP_TLS_CERT and DRIFTLOOP_TLS_KEY to PEM files, or write the address with http",
        )
    renewed = Renewed(settings.tls_cert, settings.tls_key)
    return {
        **common,
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        "ssl_context_factory": renewed,
    }


def serve(
    settings: Settings, name: str, url: str, host: str, port: int, make: Callable[[Settings], Any], **more: Any
) -> None:
    """Run the application that `make` makes as the process `name` whose own address is `url`, until it is told to end;
    `more` goes to uvicorn. Raises DriftloopError where it may not or cannot listen."""
    import uvicorn

    how = options(settings, url, host)
    # Only to say it in time and for people: uvicorn tells of a taken port after everything else has started.
    listen(host, port).close()
    app = make(settings)
    if logs.begin(settings, name):
        app, how = logs.Requests(app), {**how, "log_config": logs.config(settings, name)}
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, **how, **more)


class Renewed:
    """Makes the context of a server that takes a renewed certificate with the next connection; may be pickled."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._stamp: tuple[Stamp, Stamp] = (None, None)
        self._looked = 0.0
        self._now: ssl.SSLContext | None = None
        self._load()

    def __getstate__(self) -> tuple[Path, Path]:
        return self._cert, self._key

    def __setstate__(self, state: tuple[Path, Path]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __call__(self, *_: Any) -> ssl.SSLContext:
        """The context that a server listens with; every connection is handed to the newest one."""
        outer = self._load()
        outer.sni_callback = self._choose
        return outer

    def _choose(self, connection: Any, _: str | None, __: ssl.SSLContext) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            if self._stamps() != self._stamp:
                try:
                    self._now = self._load()
                    log.info("the certificate %s was read again", self._cert)
                except DriftloopError as error:
                    # Half of it may be there yet; the one before is used until it fits.
                    log.warning("the renewed certificate cannot be used yet: %s", error)
        if self._now is not None:
            connection.context = self._now

    def _load(self) -> ssl.SSLContext:
        stamps = self._stamps()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise DriftloopError(
                f"the certificate cannot be used: {error}",
                where=f"{self._cert}, {self._key}",
                remedy="write chain and key as PEM, readable by this process",
            ) from error
        self._stamp = stamps
        return context

    def _stamps(self) -> tuple[Stamp, Stamp]:
        return stamp(self._cert), stamp(self._key)
