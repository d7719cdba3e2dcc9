"""Many rows into a table at once, by the shortest way that the database has: on PostgreSQL a COPY in its binary format,
on SQLite one prepared statement.

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
    for table, rows in gathered.items():
        _add(connection, table, rows)


def _add(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    names = table.columns.keys()
    listed = ", ".join(names)
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table.name} ({listed}) FROM STDIN (FORMAT binary)", _binary(table, rows))
    else:
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({listed}) VALUES ({', '.join('?' * len(names))})", rows)


def _copy(connection: Connection, statement: str, content: bytes) -> None:
    driver: Any = connection.dialect.dbapi
    cursor: Any = connection.connection.cursor()
    try:
        cursor.copy_expert(statement, io.BytesIO(content))
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
