"""A copy of the store, taken while rows come in, and put back: nothing is lost that was acknowledged before it."""

import os
import shutil
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from driftloop.errors import DataError, DriftloopError
from driftloop.units import copying

from .conftest import COUNTED, Fleet, Make, row
from .postgresql import Postgres

sys.path.insert(0, str(Path(__file__).parents[2] / "files" / "images" / "backup"))
from platform_backup import parts

UNITS = [f"p{at}" for at in range(6)]


class Gateway:
    """Sends one row of every unit after the other until it is stopped."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.hour = fleet, 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.fleet.send(*(row(unit, self.hour + 1) for unit in UNITS))
            self.hour += 1

    def __enter__(self) -> "Gateway":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


def story(fleet: Fleet) -> None:
    """Some of everything: lives that ended and were archived, an event withdrawn, a row that contradicts."""
    fleet.send(*(row(unit, hour) for unit in ("old", "new") for hour in range(1, 6)))
    fleet.until(lambda: fleet.steps("old") == [1, 2, 3, 4, 5])
    fleet.tell("old", kind="failed", id="ticket-1")
    wrong = fleet.tell("new", kind="failed")
    fleet.http.delete(f"/units/new/events/{wrong['id']}")
    fleet.send(row("new", 5, pressure=9.0), status=409)
    fleet.until(lambda: fleet.unit("old")["lives"][0]["archive"] == "archived")


def check(fleet: Fleet, before: dict[str, Any], hour: int) -> None:
    """Whether a service on a copy has what was acknowledged by `hour`, and goes on."""
    assert {name: fleet.unit(name) for name in before} == before
    assert fleet.send(*(row(unit, at) for unit in UNITS for at in range(1, hour + 1)))["known"] == len(UNITS) * hour
    # What came behind the copy comes again from whoever sends, and each step is answered once.
    fleet.send(*(row(unit, at) for unit in UNITS for at in range(hour + 1, hour + 40)))
    fleet.until(lambda: all(fleet.steps(unit, steps=5000)[-1] == hour + 39 for unit in UNITS))
    for unit in UNITS:
        assert fleet.steps(unit, steps=5000) == list(range(1, hour + 40))
    assert fleet.tell("old", kind="failed", id="ticket-1")["withdrawn"] is None
    fleet.tell(UNITS[0], kind="failed")
    fleet.until(lambda: UNITS[0] in fleet.retrainer.runs)


def test_a_copy_that_is_taken_while_rows_come_in_holds_what_was_acknowledged(fleet: Fleet, tmp_path: Path) -> None:
    story(fleet)
    before = {name: fleet.unit(name) for name in ("old", "new")}
    copy = tmp_path / "copy.db"
    with Gateway(fleet) as gateway:
        fleet.until(lambda: gateway.hour > 20)
        acknowledged = gateway.hour
        kept = copying.back_up(fleet.settings, copy)
        at_most = gateway.hour + 1
        fleet.until(lambda: gateway.hour > at_most + 20)
    assert kept.units == len(UNITS) + 2
    assert len(UNITS) * acknowledged <= kept.rows - 10 <= len(UNITS) * at_most
    fleet.stop()
    put = copying.restore(fleet.settings, copy)
    assert (put.rows, put.predictions) == (kept.rows, kept.predictions)
    fleet.start()
    check(fleet, before, acknowledged)
    # The store that was there is kept whole.
    with sqlite3.connect(f"{put.path}{copying.BEFORE}") as aside:
        [(rows,)] = aside.execute("SELECT count(*) FROM rows")
    assert rows == 10 + len(UNITS) * gateway.hour


def test_what_was_told_is_not_told_under_other_numbers_in_silence(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    copying.back_up(fleet.settings, tmp_path / "copy.db")
    fleet.send(row("a", 2), row("a", 3))
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3])
    place = fleet.http.get("/predictions").json()["next"]
    assert fleet.http.get("/predictions", params={"after": place}).json() == {"predictions": [], "next": place}
    fleet.stop()
    copying.restore(fleet.settings, tmp_path / "copy.db")
    fleet.start()
    answer = fleet.http.get("/predictions", params={"after": place})
    assert (answer.status_code, answer.json()["field"]) == (409, "after")
    assert "the newest answer (1)" in answer.json()["detail"]


def test_what_cannot_be_put_back_is_refused_and_the_store_stays(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(row("a", 1))
    copy = tmp_path / "copy.db"
    copying.back_up(fleet.settings, copy)
    with pytest.raises(DriftloopError, match="another `driftloop units serve`"):
        copying.restore(fleet.settings, copy)
    fleet.stop()
    damaged, foreign, other = tmp_path / "damaged.db", tmp_path / "foreign.db", tmp_path / "other.db"
    content = bytearray(copy.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    damaged.write_bytes(content)
    foreign.write_bytes(b"no database")
    shutil.copy(copy, other)
    with sqlite3.connect(other) as connection:
        connection.execute("UPDATE layouts SET fleet = 'engines'")
    connection.close()
    for file, said in (
        (damaged, "damaged|malformed|no store"),
        (foreign, "no store"),
        (other, "engines, not of pumps"),
    ):
        with pytest.raises(DataError, match=said):
            copying.restore(fleet.settings, file)
    assert sorted(path.name for path in (tmp_path / "units").iterdir() if path.name.startswith(".")) == []
    fleet.start()
    assert fleet.send(row("a", 1))["results"] == ["known"]


def test_a_damaged_store_gives_way_to_its_copy(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(row("a", 1))
    copying.back_up(fleet.settings, tmp_path / "copy.db")
    fleet.stop()
    store = tmp_path / "units" / "units.db"
    store.write_bytes(b"SQLite format 3\0" + bytes(5000))
    store.with_name("units.db-wal").write_bytes(bytes(4152))
    copying.restore(fleet.settings, tmp_path / "copy.db")
    fleet.start()
    assert fleet.send(row("a", 1))["results"] == ["known"]


def test_the_platforms_way_holds_what_was_acknowledged(
    make: Make, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`pg_dump` and `pg_restore` as the playbooks run them, with the service at rest meanwhile."""
    address = postgres.new()
    name = address.rpartition("/")[2]
    secret = tmp_path / "pgpass"
    secret.write_text(f"127.0.0.1:*:*:*:{postgres.password.read_text().strip()}\n")
    secret.chmod(0o600)
    for variable, value in {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "units"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("PGPASSFILE", str(secret))
    monkeypatch.setenv("PATH", f"{postgres.binaries}:{os.environ['PATH']}")
    # Each database of the platform is owned by the user of its name.
    parts._psql(f'CREATE ROLE "{name}" SUPERUSER')
    fleet = make(COUNTED, units_database=address, units_password_file=postgres.password)
    story(fleet)
    with Gateway(fleet) as gateway:
        fleet.until(lambda: gateway.hour > 20)
    fleet.stop()
    dump = tmp_path / "units.dump"
    with dump.open("wb") as to:
        parts.dump(name)(to)
    fleet.start()
    before = {one: fleet.unit(one) for one in ("old", "new")}
    fleet.send(*(row(unit, gateway.hour + 1) for unit in UNITS))
    fleet.stop()
    with dump.open("rb") as content:
        parts.load(name, content)
    fleet.start()
    check(fleet, before, gateway.hour)
