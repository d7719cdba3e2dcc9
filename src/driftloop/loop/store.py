"""The loop's one store: its state and the log of everything it saw and decided, in one SQLite database.

A change of the state and the events that tell of it are one transaction, on disk (`synchronous=FULL`) when it
returns. One process opens it, the retrainer, which holds a lock on the folder; pods and steps never do. Everybody else
asks that process (driftloop.protocol.client), and a tool beside a stopped one reads events with `read_events`.

Events are JSON objects with `seq` (1, 2, 3, ...; none is ever given twice), `time` (RFC 3339, UTC), `kind`, and where
they apply `model_version` and `cause`. The oldest go when there are more than `keep`. An `id` is logged once, however
often it is reported.
"""

import contextlib
import copy
import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop.state import Change, State
from driftloop.protocol.events import Event, EventKind

NAME = "loop.db"
APPLICATION = 0x64726674
PAGE = 1000
"""Events in one answer."""
BUSY_S = 10.0
"""How long a write waits while somebody who should not have it open reads it."""

_TABLES = (
    """
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT UNIQUE, body TEXT NOT NULL);
CREATE INDEX events_by_kind ON events (kind, seq);
CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
""",
    """
CREATE TABLE engines (
    place INTEGER PRIMARY KEY AUTOINCREMENT, engine_id TEXT NOT NULL UNIQUE, archived INTEGER NOT NULL
);
CREATE TABLE outcomes (
    engine_id TEXT NOT NULL, key TEXT NOT NULL, model_version TEXT NOT NULL, rul REAL NOT NULL, lower REAL NOT NULL,
    upper REAL NOT NULL, true_rul REAL NOT NULL, PRIMARY KEY (engine_id, model_version, key)
) WITHOUT ROWID
""",
    # No table: the state may hold questions, schedules and mutes, which an earlier driftloop would forget.
    "",
)
"""What each version of the store adds to the one before."""
SCHEMA = len(_TABLES)
"""Version of the tables; an earlier one is brought up to it, and an earlier driftloop refuses it."""
_LOOP = "loop"
_AFTER = "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?"


log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)


class StoreUnavailable(DriftloopError):
    """The store cannot be written or read now; what was to be written has not happened."""


class Store:
    """The store at `path`, made where there is none; any number of threads may use it."""

    def __init__(self, path: Path, keep: int) -> None:
        """Raises DriftloopError for a file that is damaged, another program's, or of a newer driftloop."""
        self.path, self._most = path, keep
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _told(path):
            self._db = connect(path)
        self.counts: Counter[str] = Counter()
        """Events of each kind since this process started."""
        self.state = _read_state(self._db, path)
        """The loop's state as it is on disk; nobody changes it but through `change`."""

    def close(self) -> None:
        """Close the file; nothing can be written any more."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[Change]:
        """A change of the state, kept with its events when the block ends, and not at all where it raises."""
        with self._lock:
            change = Change(copy.deepcopy(self.state))
            yield change
            with self._transaction():
                if change.state != self.state:
                    self._keep(_LOOP, change.state)
                for name, value in change.kept.items():
                    self._keep(name, value)
                for statement, rows in change.writes:
                    self._db.executemany(statement, rows)
                logged = [self._insert(event) for event in change.events]
            self.state = change.state
            change.logged = [event for event, _ in logged]
            new = [event for event, is_new in logged if is_new]
            self.counts.update(event["kind"] for event in new)
        _say(new)

    def log(self, event: Event) -> Event:
        """Add an event that changes no state; returns it as it is kept, also where its `id` was reported before."""
        with self._lock:
            with self._transaction():
                logged, is_new = self._insert(event)
            self.counts[logged["kind"]] += is_new
        _say([logged] if is_new else [])
        return logged

    def append(self, kind: EventKind, /, **detail: Any) -> Event:
        """The same of a kind and its details; a `detail` of None is left out."""
        return self.log({"kind": kind, **detail})

    @property
    def last(self) -> int:
        """Number of the newest event; 0 before the first."""
        rows = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(rows[0][0]) if rows else 0

    def read(self, after: int = 0, limit: int = PAGE) -> list[Event]:
        """At most `limit` events with a number above `after`, oldest first."""
        return _events(self.rows(_AFTER, after, limit))

    def tail(self, limit: int) -> list[Event]:
        """The newest events, oldest first."""
        rows = self.rows("SELECT seq, body FROM events ORDER BY seq DESC LIMIT ?", limit)
        return _events(rows)[::-1]

    def find(
        self, *, after: int = 0, before: int = 0, kinds: Sequence[str] = (), text: str = "", limit: int = PAGE
    ) -> list[Event]:
        """The newest events, newest first, with a number above `after` and, unless it is 0, below `before`: of these
        kinds (of all but those behind a `-`), and with `text` in them, in upper or lower case."""
        wanted = [kind for kind in kinds if not kind.startswith("-")]
        passed_over = [kind[1:] for kind in kinds if kind.startswith("-")]
        where: list[str] = ["seq > ?"]
        values: list[Any] = [after]
        if before:
            where.append("seq < ?")
            values.append(before)
        for verb, named in (("IN", wanted), ("NOT IN", passed_over)):
            if named:
                where.append(f"kind {verb} ({', '.join('?' * len(named))})")
                values += named
        if text:
            # As it stands in JSON, and `%` and `_` for themselves.
            quoted = json.dumps(text)[1:-1].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            where.append("body LIKE ? ESCAPE '\\'")
            values.append(f"%{quoted}%")
        query = f"SELECT seq, body FROM events WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"
        return _events(self.rows(query, *values, limit))

    def newest(self, kind: EventKind) -> Event | None:
        """The newest event of a kind; None where there is none."""
        rows = self.rows("SELECT seq, body FROM events WHERE kind = ? ORDER BY seq DESC LIMIT 1", kind)
        return next(iter(_events(rows)), None)

    def kept(self, name: str, kind: type[T]) -> T | None:
        """What is kept under a name; None where nothing is, or where it cannot be used, which is logged."""
        rows = self.rows("SELECT value FROM kept WHERE name = ?", name)
        try:
            return msgspec.json.decode(rows[0][0], type=kind | None) if rows else None
        except (*durable.NOT_JSON, ValueError) as error:
            log.warning("%s: what is kept as %s cannot be used (%s) and begins anew", self.path, name, error)
            return None

    def _insert(self, event: Event) -> tuple[Event, bool]:
        """The event as it is kept, and whether it is new."""
        known = {"time": durable.now(), **{key: value for key, value in event.items() if value is not None}}
        identity = known.get("id")
        if identity is not None:
            for row in self._db.execute("SELECT seq, body FROM events WHERE id = ?", (identity,)):
                return next(iter(_events([row])), {"seq": row[0], **event}), False
        kind = known.pop("kind")
        # A number that JSON does not know must not stop the log; it is kept as text.
        body = json.loads(
            json.dumps({"time": known.pop("time"), "kind": kind, **known}, default=str), parse_constant=str
        )
        text = json.dumps(body)
        row = self._db.execute("INSERT INTO events (kind, id, body) VALUES (?, ?, ?)", (kind, identity, text))
        assert row.lastrowid is not None
        self._forget(row.lastrowid)
        return {"seq": row.lastrowid, **body}, True

    def _forget(self, newest: int) -> None:
        # In portions, so that not every event deletes one.
        if newest % max(1, self._most // 10) == 0:
            self._db.execute("DELETE FROM events WHERE seq <= ?", (newest - self._most,))

    def _keep(self, name: str, value: msgspec.Struct | None) -> None:
        text = msgspec.json.encode(value).decode()
        self._db.execute(
            "INSERT INTO kept VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, text)
        )

    def rows(self, query: str, *values: Any) -> list[Any]:
        """The rows that a query finds."""
        with self._lock, _told(self.path):
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(self.path), transaction(self._db):
            yield


def read_events(path: Path, after: int = 0) -> list[Event]:
    """All events of the store at `path` with a number above `after`, for who looks at one whose retrainer is away."""
    if not path.exists():
        return []
    with _told(path), contextlib.closing(sqlite3.connect(_read_only(path), uri=True, timeout=BUSY_S)) as db:
        return _events(db.execute(_AFTER, (after, -1)).fetchall())


def _read_only(path: Path) -> str:
    # As a URI, in which a folder's name may have any character.
    return f"{path.resolve().as_uri()}?mode=ro"


# The file.


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, with its tables; raises DriftloopError for one that is damaged or not for this driftloop."""
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    db.text_factory = _text
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        _check(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    [application], [version] = (db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if application != APPLICATION and not (empty and version == 0):
        raise DriftloopError("is not the store of a retrainer", where=str(path), remedy="set DRIFTLOOP_STATE_DIR")
    if version > SCHEMA:
        raise DriftloopError(
            f"was written by a newer driftloop (schema {version}, this one knows {SCHEMA})",
            where=str(path),
            remedy="run that version again, or restore the folder's backup from before it",
        )
    [sound] = db.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise damaged(sound, path)
    if version < SCHEMA:
        with transaction(db):
            for statement in ";".join(_TABLES[version:]).split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Everything inside, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def damaged(what: str, path: Path) -> DriftloopError:
    """What is told of a store that cannot be read."""
    return DriftloopError(
        f"the retrainer's store is damaged: {what}",
        where=str(path),
        remedy="restore it from a backup, or move it away with its -wal and -shm: the retrainer starts idle, with an "
        "empty log, and finds what is in production in the registry",
    )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # No room, no right, a disk that fails: nothing was written.
        raise StoreUnavailable(
            f"the retrainer's store cannot be used: {error}",
            where=str(path),
            remedy="is there space on the disk, and may this user write there?",
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # SQLite's own words may hold a damaged name.
        raise damaged(str(error), path) from error


def _read_state(db: sqlite3.Connection, path: Path) -> State:
    with _told(path):
        row = db.execute("SELECT value FROM kept WHERE name = ?", (_LOOP,)).fetchone()
    if row is None:
        return State()
    try:
        state = msgspec.json.decode(row[0], type=State)
        state.check()
    except (*durable.NOT_JSON, DriftloopError, ValueError, TypeError) as error:
        raise damaged(f"its state cannot be read: {error}", path) from error
    return state


def _say(events: Sequence[Event]) -> None:
    for event in events:
        known = {name: event.get(name) for name in ("seq", "cause", "model_version", "reason", "who")}
        log.info("event %s", event["kind"], extra={"event": event["kind"], **known})


def _events(rows: Sequence[tuple[int, str]]) -> list[Event]:
    """The events of rows; one with a damaged byte is passed over, which is logged."""
    found = []
    for seq, body in rows:
        try:
            found.append({**json.loads(body), "seq": seq})
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("event %d is damaged and is passed over (%s)", seq, error)
    return [{"seq": event.pop("seq"), **event} for event in found]


def _text(content: bytes) -> str:
    """A damaged byte is no reason to read nothing."""
    return content.decode(errors="replace")
