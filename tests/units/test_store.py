"""The store: its schema, who may open it, and PostgreSQL beside SQLite."""

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from driftloop.errors import DriftloopError
from driftloop.protocol.problems import refusal
from driftloop.settings import Settings
from driftloop.units import tables
from driftloop.units.committing import Committer, StoreUnavailable
from driftloop.units.store import Store

from .conftest import COUNTED, Make, row, until
from .postgresql import Postgres


def emptied(postgres: Postgres) -> dict[str, Any]:
    """Settings for a database of its own in it."""
    return {"units_database": postgres.new(), "units_password_file": postgres.password}


def settings(folder: Path, **more: object) -> Settings:
    (folder / "fleet.toml").write_text(COUNTED)
    return Settings(fleet=str(folder / "fleet.toml"), state_dir=folder, **more)  # type: ignore[arg-type]


def test_migrations_make_what_the_tables_say(tmp_path: Path) -> None:
    store = Store(settings(tmp_path))
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    store.close()


def test_a_commit_is_synced_and_readers_are_not_in_its_way(tmp_path: Path) -> None:
    store = Store(settings(tmp_path))
    with store.writes.connect() as connection:
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
    store.close()


def test_a_store_is_held_by_one_process_and_belongs_to_one_fleet(tmp_path: Path) -> None:
    store = Store(settings(tmp_path))
    with pytest.raises(DriftloopError, match="another `driftloop units serve`"):
        Store(settings(tmp_path))
    store.close()
    (tmp_path / "fleet.toml").write_text(COUNTED.replace("pumps", "filters"))
    with pytest.raises(DriftloopError, match="holds the pumps of pumps, not of filters"):
        Store(Settings(fleet=str(tmp_path / "fleet.toml"), state_dir=tmp_path))


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    store = Store(settings(tmp_path))
    with store.writes.connect() as connection, connection.begin():
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(DriftloopError, match="was written by another version of driftloop"):
        Store(settings(tmp_path))


def test_units_of_an_earlier_version_go_on_under_the_name_that_is_kept(tmp_path: Path, make: Make) -> None:
    store = Store(settings(tmp_path))
    before = ["Gro\u0308\u00dfe 7", "b  1", "b 1", "c"]
    with store.writes.connect() as connection, connection.begin():
        for number, name in enumerate(before, 1):
            connection.execute(sa.insert(tables.units).values(id=number, name=name, created=0.0))
            life = {"id": number, "unit": number, "number": 1, "state": "running", "youth": "unknown"}
            connection.execute(sa.insert(tables.lives).values(life))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    store.close()
    fleet = make()
    # Two under what is one name today keep theirs, and each is found.
    assert {one["unit"] for one in fleet.http.get("/units").json()["units"]} == {"Größe 7", "b  1", "b 1", "c"}
    assert (fleet.unit("b  1")["unit"], fleet.unit("b 1")["unit"]) == ("b  1", "b 1")
    fleet.send(row("Gro\u0308\u00dfe 7", 1), row("b  1", 1))
    with fleet.app.state.service.store.read() as connection:
        assert connection.execute(sa.select(tables.rows.c.life).order_by(tables.rows.c.life)).scalars().all() == [1, 3]


@pytest.mark.parametrize(
    ("database", "said"),
    [("nothing", "is no database URL"), ("postgresql+psycopg2://units:secret@127.0.0.1:9/x", "cannot be opened")],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path: Path, database: str, said: str) -> None:
    with pytest.raises(DriftloopError, match=said) as caught:
        Store(settings(tmp_path, units_database=database))
    assert "secret" not in str(caught.value)


def test_work_that_waits_shares_a_transaction_and_a_refusal_takes_no_other_with_it(tmp_path: Path) -> None:
    store = Store(settings(tmp_path))
    committer = Committer(store.writes, lambda: None)

    def keep(name: str) -> "Future[None]":
        def work(connection: Connection) -> None:
            if name == "bad":
                raise refusal(422, "name", "is bad")
            connection.execute(sa.insert(tables.units).values(name=name, created=0.0))

        return committer.submit(work)

    asked = [keep(name) for name in ("a", "bad", "b")]
    committer.start()
    assert [one.exception() is None for one in asked] == [True, False, True]
    assert (committer.commits, committer.pieces) == (1, 3)
    # One that fails at the database is tried alone, and the others are kept.
    asked = [keep(name) for name in ("c", "a", "d")]
    said = [one.exception() for one in asked]
    assert [type(one) for one in said] == [type(None), StoreUnavailable, type(None)]
    with store.read() as connection:
        names = connection.execute(sa.select(tables.units.c.name).order_by(tables.units.c.name)).scalars().all()
    assert names == ["a", "b", "c", "d"]
    committer.stop()
    store.close()


def test_the_same_fleet_on_postgresql(postgres: Postgres, make: Make) -> None:
    fleet = make(**emptied(postgres))
    said = fleet.send(row("a", 1), row("a", 1), row("a", 1, flow=9.0), {"unit": "a", "time": 2}, row("b", 1))
    assert said["results"] == ["stored", "known", "refused", "stored", "stored"]
    fleet.send(*(row("a", hour, pressure=float(hour)) for hour in range(3, 9)))
    fleet.until(lambda: fleet.steps("a") == list(range(1, 9)))
    assert "password" not in fleet.http.get("/status").text.replace("units_password", "")
    with pytest.raises(DriftloopError, match="another `driftloop units serve`"):
        Store(fleet.settings)
    number = fleet.tell("a", kind="failed")["id"]
    fleet.until(lambda: fleet.unit("a")["lives"][0]["archive"] == "archived")
    assert [one["true_rul"] for one in fleet.unit("a")["predictions"]] == [float(8 - step) for step in range(1, 9)]
    fleet.again()
    assert fleet.send(row("a", 3, pressure=3.0))["results"] == ["known"]
    assert fleet.http.delete(f"/units/a/events/{number}").status_code == 200
    fleet.send(row("a", 9))
    fleet.until(lambda: fleet.steps("a")[-1] == 9)
    with fleet.app.state.service.store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_store_waits_for_the_one_before_to_let_its_database_go(postgres_url: str, tmp_path: Path) -> None:
    configured = settings(tmp_path, units_database=postgres_url)
    before, after = Store(configured), []
    opening = threading.Thread(target=lambda: after.append(Store(configured)))
    opening.start()
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    def is_waited_for() -> bool:
        with before.read() as connection:
            return connection.execute(waits).scalar() == 1

    until(is_waited_for)
    before.close()
    opening.join()
    [store] = after
    with pytest.raises(DriftloopError, match="another `driftloop units serve`"):
        Store(configured)
    store.close()


def test_a_postgresql_that_may_acknowledge_before_it_syncs_syncs_for_rows(postgres_url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    name = engine.url.database
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    engine.dispose()
    store = Store(settings(tmp_path, units_database=postgres_url))
    asked = sa.text("SHOW synchronous_commit")
    with store.writes.connect() as writes, store.read() as reads:
        assert (writes.execute(asked).scalar(), reads.execute(asked).scalar()) == ("on", "off")
    store.close()


def test_a_postgresql_that_is_cut_off_loses_nothing_and_stays_this_processs(postgres: Postgres, make: Make) -> None:
    fleet = make(**emptied(postgres))
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    postgres.stop()
    refused = fleet.http.post("/telemetry", json=[row("a", 2)])
    assert (refused.status_code, refused.json()["field"]) == (503, "store")
    assert "password" not in refused.text
    for path in ("/units", "/units/a", "/predictions"):
        assert fleet.http.get(path).status_code == 503, path
    assert fleet.http.get("/healthz").status_code == 200
    postgres.start()
    fleet.until(lambda: fleet.http.post("/telemetry", json=[row("a", 2)]).status_code == 200)
    fleet.send(row("a", 3))
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3])
    # It holds the database again, so that no second one can work on it.
    with pytest.raises(DriftloopError, match="another `driftloop units serve`"):
        Store(fleet.settings)
    fleet.tell("a", kind="failed")
    fleet.until(lambda: fleet.unit("a")["lives"][0]["archive"] == "archived")


def test_a_postgresql_that_was_restarted_meanwhile_costs_nobody_an_answer(postgres: Postgres, make: Make) -> None:
    fleet = make(**emptied(postgres))
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    postgres.stop()
    postgres.start()
    # The connection that was lost is made anew before anybody is refused.
    assert fleet.send(row("a", 2))["results"] == ["stored"]
    fleet.until(lambda: fleet.steps("a") == [1, 2])


def test_rows_that_come_while_postgresql_restarts_are_acknowledged_or_not_there(postgres: Postgres, make: Make) -> None:
    fleet = make(**emptied(postgres))
    acknowledged: list[int] = []
    stopping = threading.Event()

    def send() -> None:
        hour = 1
        while not stopping.is_set():
            if fleet.http.post("/telemetry", json=[row("a", hour)]).status_code == 200:
                acknowledged.append(hour)
                hour += 1

    sending = threading.Thread(target=send)
    sending.start()
    for _ in range(3):
        before = len(acknowledged)
        fleet.until(lambda before=before: len(acknowledged) > before + 5)
        postgres.stop()
        postgres.start()
    before = len(acknowledged)
    fleet.until(lambda: len(acknowledged) > before + 5)
    stopping.set()
    sending.join()
    fleet.until(lambda: fleet.steps("a") == acknowledged)
    assert fleet.unit("a")["quality"]["rows"] == len(acknowledged)
    answered = fleet.asked()
    assert {step for _, step in answered} == set(acknowledged)
