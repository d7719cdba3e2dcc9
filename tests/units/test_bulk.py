"""Many rows at once: what goes in is what is there, on either database."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from driftloop.units import bulk

TABLE = sa.Table(
    "kept", sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True), sa.Column("small", sa.SmallInteger),
    sa.Column("large", sa.BigInteger), sa.Column("real", sa.Double), sa.Column("words", sa.Text),
    sa.Column("content", sa.LargeBinary),
)  # fmt: skip


def whole(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


# PostgreSQL's text has no NUL.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": whole(32),
            "small": st.none() | whole(16),
            "large": st.none() | whole(64),
            "real": st.none() | st.floats(allow_nan=False),
            "words": st.none() | WORDS,
            "content": st.none() | st.binary(),
        }
    ),
    unique_by=lambda one: one["number"],
)


def there(connection: sa.Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a table holds once rows were added to it."""
    connection.execute(sa.delete(TABLE))
    bulk.add(connection, TABLE, rows)
    return [dict(one) for one in connection.execute(sa.select(TABLE).order_by(TABLE.c.number)).mappings()]


@contextlib.contextmanager
def database(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    bulk.gather(engine)
    try:
        # What is done here is rolled back at the end, the table among it.
        with engine.connect() as connection:
            TABLE.create(connection)
            yield connection
    finally:
        engine.dispose()


def same(url: str) -> None:
    with database(url) as connection:

        @given(ROWS)
        def check(rows: list[dict[str, Any]]) -> None:
            assert there(connection, rows) == sorted(rows, key=lambda one: int(one["number"]))

        check()


def test_what_goes_in_is_what_is_there() -> None:
    same("sqlite://")


def test_it_is_on_postgresql_too(postgres_url: str) -> None:
    same(postgres_url)
    with database(postgres_url) as connection:
        row = {"number": 1, "small": None, "large": None, "real": math.nan, "words": "a", "content": b""}
        assert math.isnan(there(connection, [row])[0]["real"])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_row_that_is_there_fails_the_transaction(kind: str, request: pytest.FixtureRequest) -> None:
    url = "sqlite://" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    row = dict.fromkeys(("number", "small", "large", "real", "words", "content")) | {"number": 1}
    with pytest.raises(IntegrityError), database(url) as connection:
        there(connection, [row, {**row, "number": 2}, row])


def numbered(*numbers: int) -> list[dict[str, Any]]:
    nothing: dict[str, Any] = dict.fromkeys(("number", "small", "large", "real", "words", "content"))
    return [nothing | {"number": number} for number in numbers]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_are_gathered_until_somebody_reads_or_commits(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'kept'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    engine, written = sa.create_engine(url), list[int]()
    numbers = sa.select(TABLE.c.number).order_by(TABLE.c.number)
    with pytest.MonkeyPatch.context() as patch:
        real = bulk._write

        def counted(connection: sa.Connection) -> None:
            found = connection.info.get(bulk._GATHERED) or {}
            written.extend(len(rows) for rows in found.values())
            real(connection)

        patch.setattr(bulk, "_write", counted)
        bulk.gather(engine)
        with engine.begin() as connection:
            TABLE.create(connection)
            bulk.add(connection, TABLE, numbered(1))
            bulk.add(connection, TABLE, numbered(2, 3))
            assert written == []
            assert connection.execute(numbers).scalars().all() == [1, 2, 3]
            bulk.add(connection, TABLE, numbered(4))
            bulk.add(connection, TABLE, numbered(5))
        assert written == [3, 2]
        with contextlib.suppress(ZeroDivisionError), engine.begin() as connection:
            bulk.add(connection, TABLE, numbered(6))
            _ = 1 / 0
        with pytest.raises(IntegrityError), engine.begin() as connection:
            bulk.add(connection, TABLE, numbered(7, 1))
        # What was thrown away does not come back with the next transaction.
        with engine.begin() as connection:
            assert connection.execute(numbers).scalars().all() == [1, 2, 3, 4, 5]
    engine.dispose()
