"""Rows into tables by the shortest way that the database has: on PostgreSQL many by a COPY in its binary format, and
few, of all tables, by one text; on SQLite by prepared statements.

On a busy machine a question to PostgreSQL waits for milliseconds, however small it is, until both processes had their
turn: a COPY waits twice. So what is added on an engine that gathers is written with everything else of the transaction,
before it is committed or says anything else: whoever reads finds it there.

A row that is there already fails the transaction: whoever adds has looked before.
"""

import io
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

_NUMBERS = {sa.SmallInteger: "h", sa.Integer: "i", sa.BigInteger: "q", sa.Double: "d"}
_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_NULL, _END = struct.pack("!i", -1), struct.pack("!h", -1)
_length = struct.Struct("!i").pack
_GATHERED = "driftloop rows to be written"
FEW = 64
"""Rows that PostgreSQL reads as text in less time than it takes to begin a COPY."""


def gather(engine: Engine) -> None:
    """Let rows that are added in a transaction of this engine be written together."""

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.info[_GATHERED] = {}

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: Connection, *_: Any) -> None:
        _write(connection)

    @event.listens_for(engine, "commit")
    def _(connection: Connection) -> None:
        _write(connection)

    @event.listens_for(engine, "rollback")
    def _(connection: Connection) -> None:
        connection.info.pop(_GATHERED, None)


def add(connection: Connection, table: sa.Table, values: Sequence[dict[str, Any]]) -> None:
    """Add rows, each with a value for every column of `table`."""
    if not values:
        return
    names = table.columns.keys()
    rows = [tuple(one[name] for name in names) for one in values]
    gathered: dict[sa.Table, list[tuple[Any, ...]]] | None = connection.info.get(_GATHERED)
    if gathered is None:
        _add(connection, table, rows)
    else:
        gathered.setdefault(table, []).extend(rows)


def _write(connection: Connection) -> None:
    """Write what was gathered; what is written meanwhile gathers nothing."""
    gathered = connection.info.get(_GATHERED)
    if not gathered:
        return
    connection.info[_GATHERED] = {}
    if connection.dialect.name == "postgresql" and sum(map(len, gathered.values())) <= FEW:
        _say(connection, gathered)
    else:
        for table, rows in gathered.items():
            _add(connection, table, rows)


def _add(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    if connection.dialect.name == "postgresql":
        statement, content = f"COPY {_named(table)} FROM STDIN (FORMAT binary)", io.BytesIO(_binary(table, rows))
        _by_driver(connection, statement, lambda cursor: cursor.copy_expert(statement, content))
    else:
        places = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(f"INSERT INTO {_named(table)} VALUES ({places})", rows)


def _say(connection: Connection, gathered: dict[sa.Table, list[tuple[Any, ...]]]) -> None:
    """Add few rows, of all tables, in one text."""

    def say(cursor: Any) -> None:
        said = []
        for table, rows in gathered.items():
            places = f"({', '.join(['%s'] * len(table.columns))})"
            values = b", ".join(cursor.mogrify(places, row) for row in rows)
            said.append(f"INSERT INTO {_named(table)} VALUES ".encode() + values)
        cursor.execute(b"; ".join(said))

    _by_driver(connection, f"INSERT INTO {', '.join(table.name for table in gathered)}", say)


def _named(table: sa.Table) -> str:
    return f"{table.name} ({', '.join(table.columns.keys())})"


def _by_driver(connection: Connection, statement: str, do: Callable[[Any], None]) -> None:
    """What only the driver itself can do; its errors become SQLAlchemy's."""
    driver: Any = connection.dialect.dbapi
    cursor: Any = connection.connection.cursor()
    try:
        do(cursor)
    except driver.Error as error:
        lost = connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, cursor)
        raise DBAPIError.instance(
            statement, None, error, driver.Error, connection_invalidated=lost, dialect=connection.dialect
        ) from error
    finally:
        cursor.close()


def _binary(table: sa.Table, rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows in PostgreSQL's binary format for COPY: each value behind its length in bytes."""
    encoders, count = _encoders(table), struct.pack("!h", len(table.columns))
    parts = [_HEAD]
    for row in rows:
        parts.append(count)
        parts += [_NULL if value is None else encode(value) for encode, value in zip(encoders, row, strict=True)]
    parts.append(_END)
    return b"".join(parts)


@cache
def _encoders(table: sa.Table) -> list[Callable[[Any], bytes]]:
    return [_encoder(column.type) for column in table.columns]


def _encoder(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], bytes]:
    code = _NUMBERS.get(type(kind))
    if code is not None:
        pack, length = struct.Struct(f"!i{code}").pack, struct.calcsize(f"!{code}")
        return lambda value: pack(length, value)
    if isinstance(kind, sa.LargeBinary):
        return lambda value: _length(len(value)) + value
    return _text


def _text(value: str) -> bytes:
    content = value.encode()
    return _length(len(content)) + content
