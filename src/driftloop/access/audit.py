"""The audit log: every act that needs `operate` or `admin`, one JSON line each, appended and never changed.

It holds who, what, from where and the outcome; no bodies, no queries, no secrets. Every process appends to the same
file, and its own log has each line too, for who collects those.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftloop import durable
from driftloop.errors import DriftloopError

log = logging.getLogger(__name__)

FILE = "audit.jsonl"


class Audit:
    """The log in a folder, written by `service`."""

    def __init__(self, folder: Path, service: str) -> None:
        self.path, self._service = folder / FILE, service

    def check(self) -> None:
        """Raise DriftloopError where it cannot be written: what cannot be told must not be done."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
        except OSError as error:
            raise DriftloopError(
                f"the audit log cannot be written: {error.strerror}",
                where=str(self.path),
                remedy="make room, or set DRIFTLOOP_ACCESS_DIR to a folder that can be written",
            ) from error

    def write(
        self, *, who: str | None, role: str | None, how: str | None, address: str, act: str, outcome: str, **more: Any
    ) -> None:
        """Append one act; where that fails now, the process's log has it alone."""
        entry = {
            "time": durable.now(),
            "service": self._service,
            "who": who,
            "role": role,
            "how": how,
            "address": address,
            "act": act[:500],
            "outcome": outcome,
            **{name: value for name, value in more.items() if value is not None},
        }
        log.info("audit %s", json.dumps(entry))
        try:
            self.check()
            with _alone(self.path):
                durable.append_json_line(self.path, entry)
        except (OSError, DriftloopError) as error:
            log.error("%s; not written: %s", error, json.dumps(entry))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer at a time, of all processes: what a full disk took a part of is cut off again."""
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read(path: Path, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """The first `limit` entries behind number `after`, or where that is 0 the newest; each with its number `seq`."""
    newest: deque[dict[str, Any]] = deque(maxlen=limit)
    for seq, entry in enumerate(durable.read_json_lines(path), 1):
        if after and seq > after + limit:
            break
        if seq > after:
            newest.append({"seq": seq, **entry})
    return list(newest)
