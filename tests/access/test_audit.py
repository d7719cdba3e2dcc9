"""The audit log in pieces: bounded, numbered through, and never without its newest entries."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.access import audit
from driftloop.access.audit import FILE, Audit, pieces, read


def write(log: Audit, count: int, begin: int = 1) -> None:
    for number in range(begin, begin + count):
        log.write(who="anna", role="operate", how="session", address="local", act=f"act {number}", outcome="done")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of some five entries."""
    monkeypatch.setattr(audit, "PIECE_BYTES", 800)
    monkeypatch.setattr(audit, "PIECES", 1000)


@pytest.mark.usefixtures("small")
def test_entries_are_numbered_through_all_pieces(tmp_path: Path) -> None:
    log = Audit(tmp_path, "console")
    write(log, 33)
    assert len(pieces(log.path)) > 3
    everything = read(log.path, limit=1000)
    assert [entry["seq"] for entry in everything] == list(range(1, 34))
    assert [entry["act"] for entry in everything] == [f"act {number}" for number in range(1, 34)]
    assert read(log.path, limit=4) == everything[-4:]
    assert [entry["seq"] for entry in read(log.path, after=10, limit=12)] == list(range(11, 23))
    assert read(log.path, after=33) == []
    assert all(path.stat().st_mode & 0o077 == 0 for _, path in pieces(log.path))
    assert all(path.stat().st_size < 800 + 300 for _, path in pieces(log.path))


def test_the_oldest_pieces_go_and_numbers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PIECE_BYTES", 800)
    monkeypatch.setattr(audit, "PIECES", 2)
    log = Audit(tmp_path, "console")
    write(log, 60)
    assert len(pieces(log.path)) == 3
    left = read(log.path, limit=1000)
    assert left[-1]["act"] == "act 60"
    assert left[-1]["seq"] == 60
    assert left[0]["seq"] > 30
    assert read(log.path, after=1, limit=1000) == left


@pytest.mark.usefixtures("small")
def test_a_line_that_a_crash_cut_short_changes_no_other_entrys_number(tmp_path: Path) -> None:
    log = Audit(tmp_path, "console")
    write(log, 3)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"time": "20')
    write(log, 20, begin=4)
    assert [(entry["seq"], entry["act"]) for entry in read(log.path, limit=50)] == [
        (number, f"act {number}") for number in range(1, 24)
    ]


@pytest.mark.usefixtures("small")
def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=write, args=(Audit(tmp_path, f"p{k}"), 25)) for k in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = read(tmp_path / FILE, limit=1000)
    assert [entry["seq"] for entry in found] == list(range(1, 101))
    for k in range(4):
        mine = [entry["act"] for entry in found if entry["service"] == f"p{k}"]
        assert mine == [f"act {number}" for number in range(1, 26)]


@given(count=st.integers(0, 40), after=st.integers(0, 45), limit=st.integers(1, 50))
def test_a_page_is_what_a_whole_log_would_give(
    tmp_path_factory: pytest.TempPathFactory, count: int, after: int, limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "PIECE_BYTES", 500)
        patch.setattr(audit.durable.os, "fsync", lambda _: None)
        log = Audit(tmp_path_factory.mktemp("audit"), "console")
        write(log, count)
        numbers = list(range(1, count + 1))
        wanted = [number for number in numbers if number > after][:limit] if after else numbers[-limit:]
        assert [entry["seq"] for entry in read(log.path, after=after, limit=limit)] == wanted
