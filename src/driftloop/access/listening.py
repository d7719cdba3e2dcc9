"""Sockets that processes listen on, with words for people where one is taken."""

import errno
import socket

from driftloop.errors import DriftloopError


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
