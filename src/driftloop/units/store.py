"""The store: SQLite in the state folder, or a database of its own on PostgreSQL; opened, migrated, and held alone.

SQLite runs with a write-ahead log and `synchronous=FULL`: a commit returns when the log is on disk.
"""

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from driftloop.errors import DriftloopError
from driftloop.settings import Settings
from driftloop.units import bulk, tables
from driftloop.units.passwords import password

NAME = "units.db"
_BUSY_S = 30.0
_TAKEN_S = 2.0
"""How long another process that holds a PostgreSQL database is given to let it go."""
_LOCK_NOT_AVAILABLE = "55P03"
_SYNCED = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
_REMEDY = "set DRIFTLOOP_UNITS_DATABASE, or DRIFTLOOP_STATE_DIR to a folder that can be written"


class Store:
    """An open store: `writes` for the one thread that writes, `reads` for everybody; and what its rows are."""

    def __init__(self, settings: Settings) -> None:
        self.schema = settings.schema
        self.url = address(settings)
        self._lock: int | None = None
        if self.url.get_backend_name() == "sqlite" and self.url.database:
            path = Path(self.url.database)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path.with_name(f"{path.name}.lock"))
        self.writes = _engine(self.url, writes=True, fleet=self.schema.name)
        bulk.gather(self.writes)
        self.reads = _engine(self.url, writes=False)
        try:
            self._migrate()
            self.layout = self._layout()
        except SQLAlchemyError as error:
            self.close()
            said = str(getattr(error, "orig", None) or error).strip()
            raise DriftloopError(f"cannot be opened: {said}", where=self.where, remedy=_REMEDY) from error
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """The store for people, without its password."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close every connection, and let another process have the store."""
        self.writes.dispose()
        self.reads.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the store."""
        with self.reads.connect() as connection, connection.begin():
            yield connection

    def columns(self) -> dict[int, list[str]]:
        """The columns of every layout that rows were ever kept in."""
        with self.read() as connection:
            found = connection.execute(sa.select(tables.layouts.c.id, tables.layouts.c.columns)).all()
        return {row.id: json.loads(row.columns) for row in found}

    def _migrate(self) -> None:
        config = _migrations()
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with self.writes.connect() as connection, connection.begin():
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                what = f"was written by another version of driftloop: {error}"
                raise DriftloopError(what, where=self.where, remedy="go back to that version, or newer") from error

    def _layout(self) -> int:
        """The layout of rows that are kept from now on; raises DriftloopError where the store is another fleet's."""
        layouts, schema = tables.layouts, self.schema
        time = json.dumps([schema.time.column, schema.time.kind, schema.time.width, schema.time.between])
        columns = json.dumps(schema.columns)
        with self.writes.connect() as connection, connection.begin():
            known = connection.execute(sa.select(layouts).order_by(layouts.c.id)).all()
            for one in known:
                if one.fleet != schema.name:
                    raise DriftloopError(
                        f"holds the {schema.units} of {one.fleet}, not of {schema.name}",
                        where=self.where,
                        remedy="set DRIFTLOOP_UNITS_DATABASE to a database of this fleet's own",
                    )
                if one.time != time:
                    raise DriftloopError(
                        f"counts steps as {_said(one.time)}, and the fleet file now as {_said(time)}: steps that were "
                        "answered would be others",
                        where=self.where,
                        remedy="put [time] back in the fleet file, or set DRIFTLOOP_UNITS_DATABASE to a new database "
                        "and send the rows again",
                    )
            same = [one.id for one in known if one.columns == columns]
            if same:
                return int(same[-1])
            values = {"fleet": schema.name, "columns": columns, "time": time, "digest": schema.digest}
            made = connection.execute(sa.insert(layouts).values(values)).inserted_primary_key
            assert made is not None
            return int(made[0])


def address(settings: Settings) -> sa.URL:
    """The database's URL, with the password from its file; raises DriftloopError where there is none to be used."""
    if not settings.units_database:
        return sa.URL.create("sqlite", database=str((settings.state_dir / "units" / NAME).resolve()))
    try:
        url = sa.make_url(settings.units_database)
    except sa.exc.ArgumentError as error:
        remedy = "write it as postgresql+psycopg2://user@host:5432/units"
        raise DriftloopError("is no database URL", where="DRIFTLOOP_UNITS_DATABASE", remedy=remedy) from error
    if settings.units_password_file is not None:
        url = url.set(password=password(settings.units_password_file, "DRIFTLOOP_UNITS_PASSWORD_FILE"))
    return url


def newest_migration() -> str:
    """The migration that a store of this version has."""
    return ScriptDirectory.from_config(_migrations()).get_current_head() or ""


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("driftloop.units").joinpath("migrations")))
    return config


def insert(connection: Connection, table: sa.Table) -> Any:
    """An INSERT that can say ON CONFLICT, in the dialect of the connection."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def keep_cursor(connection: Connection, name: str, place: int) -> None:
    """Write down how far something has come."""
    kept = insert(connection, tables.cursors).values(name=name, place=place)
    connection.execute(kept.on_conflict_do_update(index_elements=["name"], set_={"place": place}))


def cursor(connection: Connection, name: str) -> int | None:
    """How far something had come; None where nothing is known of it."""
    found = connection.execute(sa.select(tables.cursors.c.place).where(tables.cursors.c.name == name)).scalar()
    return None if found is None else int(found)


def _engine(url: sa.URL, *, writes: bool, fleet: str = "") -> Engine:
    if url.get_backend_name() != "sqlite":
        if not writes:
            return sa.create_engine(url, pool_pre_ping=True)
        # One thread writes, by one connection, which holds the database for this process for as long as it lives. It is
        # not asked before each transaction whether it is there: the committer begins anew where it was lost.
        engine = sa.create_engine(url, pool_size=1, max_overflow=0)
        key = zlib.crc32(f"driftloop units {fleet}".encode())

        @event.listens_for(engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            with connection.cursor() as asked:
                # The server ends a connection that was closed a moment ago when it comes to it, and its lock with it.
                asked.execute(f"SET LOCAL lock_timeout = '{_TAKEN_S:.0f}s'")
                try:
                    asked.execute("SELECT pg_advisory_lock(%s)", (key,))
                except connection.OperationalError as error:
                    if error.pgcode != _LOCK_NOT_AVAILABLE:
                        raise
                    raise _taken(engine.url.render_as_string(hide_password=True)) from error
                # Acknowledged means on disk, whatever the server thinks enough for others.
                asked.execute(_SYNCED)
            connection.commit()

        return engine
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        # Transactions begin where SQLAlchemy says so, not where the driver guesses.
        connection.isolation_level = None
        # What is deleted is written over: a unit that was erased is not to be found in the file.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _said(time: str) -> str:
    column, kind, width, between = json.loads(time)
    return f"{column or 'the order of rows'} ({kind}, {width:g} a step, {between})"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a store of SQLite for this process; raises DriftloopError where another one works on it."""
    handle = _lock(path.with_name(f"{path.name}.lock"))
    try:
        yield
    finally:
        os.close(handle)


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise _taken(str(path)) from error
    return handle


def _taken(where: str) -> DriftloopError:
    what = "another `driftloop units serve` works on this store"
    return DriftloopError(what, where=where, remedy="stop it, or set DRIFTLOOP_STATE_DIR")
