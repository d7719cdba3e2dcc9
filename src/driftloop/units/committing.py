"""Group commit: what arrives while a transaction is being committed shares the next one.

One thread writes. A piece of work gets the connection, and refuses before it has written anything; whoever asked is
answered once the transaction that holds it is on disk. Where a transaction fails, what was held in memory is thrown
away (`forget`), and each piece of work is tried once more by itself, so that one does not take others with it; a piece
that was alone is tried again where the connection was lost, as by a restart of the database.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from driftloop.errors import DriftloopError
from driftloop.protocol.problems import RequestRefused

log = logging.getLogger(__name__)

MOST_TOGETHER = 256
"""Pieces of work in one transaction."""
MOST_WAITING = 4096

T = TypeVar("T")


class StoreUnavailable(DriftloopError):
    """The store cannot be written now; nothing of what was asked was done."""


class _Asked(NamedTuple):
    work: Callable[[Connection], Any]
    answer: "Future[Any]"


class Committer:
    """Runs pieces of work in shared transactions, in the order in which they are submitted."""

    def __init__(self, engine: Engine, forget: Callable[[], None]) -> None:
        self._engine, self._forget = engine, forget
        self._waiting: deque[_Asked] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._stale = False
        """What is held in memory is not what is on disk."""
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self.commits = self.pieces = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Do what waits, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        """Queue a piece of work; its result is there when it is on disk."""
        asked = _Asked(work, Future())
        with self._wake:
            if self._stopping or len(self._waiting) >= MOST_WAITING:
                asked.answer.set_exception(StoreUnavailable("has too much to write now", remedy="send it again"))
                return asked.answer
            self._waiting.append(asked)
            self._wake.notify()
        return asked.answer

    def do(self, work: Callable[[Connection], T]) -> T:
        """Submit a piece of work and wait until it is on disk."""
        return self.submit(work).result()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                if not self._waiting:
                    return
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            # Whoever has gone away meanwhile is not waited for.
            group = [asked for asked in taken if asked.answer.set_running_or_notify_cancel()]
            if group and not self._together(group):
                for asked in group:
                    self._together([asked], last=True)

    def _together(self, group: list[_Asked], *, last: bool = False) -> bool:
        """Do a group in one transaction and answer it; False where all of it is to be tried again."""
        try:
            if self._stale:
                self._forget()
                self._stale = False
            with self._engine.connect() as connection, connection.begin():
                done = [_tried(asked.work, connection) for asked in group]
        except Exception as error:
            self._throw_away()
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            if not last and (lost or len(group) > 1):
                return False
            if not isinstance(error, SQLAlchemyError):
                log.exception("a piece of work failed")
            said = str(getattr(error, "orig", None) or error)
            for asked in group:
                asked.answer.set_exception(StoreUnavailable(f"cannot be written: {said}", where="store"))
            return True
        self.commits += 1
        self.pieces += len(group)
        for asked, result in zip(group, done, strict=True):
            if isinstance(result, RequestRefused):
                asked.answer.set_exception(result)
            else:
                asked.answer.set_result(result)
        return True

    def _throw_away(self) -> None:
        """Read what is on disk; where the store is away, nothing is done before that was possible."""
        self._stale = True
        try:
            self._forget()
        except Exception as error:
            log.warning("the store cannot be read: %s", getattr(error, "orig", None) or error)
        else:
            self._stale = False


def _tried(work: Callable[[Connection], Any], connection: Connection) -> Any:
    try:
        return work(connection)
    except RequestRefused as refused:
        return refused
