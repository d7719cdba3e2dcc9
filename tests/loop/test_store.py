"""The store: a change and its events are kept together or not at all, whatever ends the process."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop import migration
from driftloop.loop.feedback import FeedbackLog
from driftloop.loop.judge import concept
from driftloop.loop.state import Attempt, State
from driftloop.loop.store import NAME, SCHEMA, Store, StoreUnavailable, read_events

SINCE = "2026-01-31T12:00:00.000Z"


def open_one(folder: Path, keep: int = 100) -> Store:
    return Store(folder / NAME, keep)


def test_a_change_and_its_events_are_kept_together(tmp_path: Path):
    store = open_one(tmp_path)
    with store.change() as change:
        change.state.queue.append(Attempt("concept:1", "1", SINCE))
        change.tell("retraining_refused", cause="concept:1", reason="no", model_version=None)
    assert [event["seq"] for event in change.logged] == [1]
    assert "model_version" not in change.logged[0]
    store.close()
    again = open_one(tmp_path)
    assert [attempt.cause for attempt in again.state.queue] == ["concept:1"]
    assert again.read() == change.logged
    again.close()


def test_a_change_that_raises_is_none(tmp_path: Path):
    store = open_one(tmp_path)

    def change_and_raise() -> None:
        with store.change() as change:
            change.state.phase = "cooling_down"
            change.tell("verdict")
            raise RuntimeError("a mistake in a move")

    with pytest.raises(RuntimeError):
        change_and_raise()
    assert store.state == State()
    assert (store.read(), store.last, sum(store.counts.values())) == ([], 0, 0)
    store.append("promoted")
    assert [event["kind"] for event in store.read()] == ["promoted"]
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from driftloop.loop import store as module
store = module.Store(Path(sys.argv[1]), 100)
whole, real = int(sys.argv[2]), module.Store._insert
inserted = 0

def insert(self, event):
    global inserted
    found = real(self, event)
    inserted += 1
    if inserted == whole:
        os.kill(os.getpid(), signal.SIGKILL)  # the state and some events are written, and nothing is committed
    return found

module.Store._insert = insert
for number in range(1, 1000):
    with store.change() as change:
        change.state.fires("fleet_change:1", f"2026-01-31T12:00:00.{number:03d}Z")
        change.tell("alert_firing", n=number)
        change.tell("verdict", n=number)
"""


@pytest.mark.parametrize("killed_after", [1, 2, 7, 8])
def test_a_kill_in_the_middle_of_a_transaction_leaves_all_of_the_one_before(tmp_path: Path, killed_after: int):
    path = tmp_path / NAME
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(killed_after)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(path, 100)
    whole = (killed_after - 1) // 2
    assert [event["n"] for event in store.read()] == [n for n in range(1, whole + 1) for _ in range(2)]
    firing = [f"2026-01-31T12:00:00.{n:03d}Z" for n in range(1, whole + 1)]
    assert store.state.firing == ({"fleet_change:1": firing} if firing else {})
    assert store.append("promoted")["seq"] == 2 * whole + 1
    store.close()


def test_a_disk_that_is_full_keeps_the_change_out_and_the_store_usable(tmp_path: Path):
    store = open_one(tmp_path)
    store.append("verdict")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="is there space on the disk"):
        store.append("verdict", text="x" * 100_000)
    known = store.read()
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.append("promoted")["seq"] == known[-1]["seq"] + 1
    store.close()


def test_a_newer_store_is_refused(tmp_path: Path):
    open_one(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(DriftloopError, match=r"loop.db: was written by a newer driftloop .*run that version again"):
        open_one(tmp_path)


@pytest.mark.parametrize("content", ["another program's", "no database", "a state that contradicts itself"])
def test_what_is_no_store_of_ours_says_what_to_do(tmp_path: Path, content: str):
    path = tmp_path / NAME
    if content == "no database":
        path.write_bytes(b"no database at all, " * 100)
        match = "the retrainer's store is damaged.*restore it from a backup, or move it away"
    elif content == "another program's":
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE others (a)")
        match = "is not the store of a retrainer"
    else:
        open_one(tmp_path).close()
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("INSERT INTO kept VALUES ('loop', ?)", (json.dumps({"phase": "running"}),))
        match = "its state cannot be read: the state says running without an attempt.*the retrainer starts idle"
    with pytest.raises(DriftloopError, match=match):
        open_one(tmp_path)


# The log.


def test_a_store_of_an_earlier_version_is_brought_up_to_this_one(tmp_path: Path):
    store = open_one(tmp_path)
    store.append("verdict")
    store.close()
    with closing(sqlite3.connect(tmp_path / NAME)) as db, db:
        db.executescript("DROP TABLE engines; DROP TABLE outcomes; PRAGMA user_version = 1;")
    again = open_one(tmp_path)
    assert again.last == 1
    assert FeedbackLog(again).add_runs(["eng-1"]) == ["eng-1"]
    again.close()


def test_events_are_numbered_and_survive_a_restart(tmp_path: Path):
    store = open_one(tmp_path)
    for i in range(5):
        store.append("verdict", model_version="1", n=i)
    store.close()
    again = open_one(tmp_path)
    assert [event["seq"] for event in again.read()] == [1, 2, 3, 4, 5]
    assert again.append("promoted", model_version="2")["seq"] == 6
    assert [event["n"] for event in again.read(after=2) if "n" in event] == [2, 3, 4]
    assert [event["n"] for event in again.read(after=1, limit=2)] == [1, 2]
    assert [event["seq"] for event in again.tail(2)] == [5, 6]
    assert durable.parse_time(again.read()[0]["time"])
    assert read_events(tmp_path / NAME, after=4) == again.read(after=4)
    again.close()


def test_the_oldest_events_go_and_numbers_go_on(tmp_path: Path):
    store = open_one(tmp_path, keep=20)
    for i in range(101):
        store.append("verdict", n=i)
    kept = store.read()
    assert 20 <= len(kept) <= 24
    assert kept[-1]["seq"] == store.last == 101
    assert [event["seq"] for event in kept] == list(range(kept[0]["seq"], 102))
    store.close()


def test_a_report_that_is_sent_twice_is_logged_once(tmp_path: Path):
    store = open_one(tmp_path)
    first = store.append("promoted", id="a", model_version="2")
    for i in range(30):
        store.append("verdict", n=i)
    assert store.append("promoted", id="a", model_version="2") == first
    with store.change() as change:
        change.tell("promoted", id="a")
    assert change.logged == [first]
    assert (store.last, store.counts["promoted"]) == (31, 1)
    store.close()


def test_numbers_that_json_does_not_know_are_kept_as_text(tmp_path: Path):
    store = open_one(tmp_path)
    assert store.append("verdict", score=float("nan"))["score"] == "NaN"
    assert store.read()[0]["score"] == "NaN"
    store.close()


def test_a_folder_may_have_any_name(tmp_path: Path):
    folder = tmp_path / "a st\xe4te %41?#[x]"
    store = open_one(folder)
    logged = store.append("verdict")
    assert read_events(folder / NAME) == [logged]
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_newest_of_a_kind(tmp_path: Path):
    store = open_one(tmp_path)
    store.append("gate_decided", n=1)
    store.append("gate_decided", n=2)
    store.append("verdict")
    newest = store.newest("gate_decided")
    assert newest is not None
    assert newest["n"] == 2
    assert store.newest("promoted") is None
    store.close()


# What was kept before.


CHANGED = concept.Change("1", SINCE, "eng-1")


def leave_behind(folder: Path, count: int = 3) -> None:
    """The state and the events of a retrainer before the store."""
    attempt = {"cause": "fleet_change:1", "champion": "1", "requested_at": SINCE, "run": "r7", "started_at": SINCE}
    state = {"phase": "running", "attempt": attempt, "firing": {"fleet_change:1": SINCE}, "not_before": 1.7e9}
    durable.write_json(folder / "state.json", state)
    for seq in range(1, count + 1):
        event = {"seq": seq, "time": SINCE, "kind": "verdict", "id": f"v{seq}", "text": "\ud83d"}
        durable.append_json_line(folder / "events" / "events-000000000001.jsonl", event)
    durable.append_json_line(folder / "feedback" / "feedback.jsonl", {"time": SINCE, "runs": ["eng-2", "eng-1"]})
    durable.write_json(folder / "concept" / "alarm.json", {"alarm": msgspec.to_builtins(CHANGED)})


def test_what_an_earlier_retrainer_kept_is_taken_over_once(tmp_path: Path):
    leave_behind(tmp_path)
    store = migration.open_store(tmp_path, keep=100)
    assert store.state.attempt is not None
    assert (store.state.phase, store.state.attempt.run) == ("running", "r7")
    assert store.state.firing == {"fleet_change:1": [SINCE]}
    assert [event["seq"] for event in store.read()] == [1, 2, 3]
    assert store.append("verdict", id="v2")["seq"] == 2
    assert store.append("promoted")["seq"] == 4
    assert FeedbackLog(store).engines() == ["eng-2", "eng-1"]
    assert store.kept(concept.KEPT, concept.Change) == CHANGED
    store.close()
    again = migration.open_store(tmp_path, keep=100)
    assert [event["seq"] for event in again.read()] == [1, 2, 3, 4]
    again.close()
    assert {"state.json", "state.json.migrated", "events.migrated"} <= {path.name for path in tmp_path.iterdir()}
    assert [path.name for path in tmp_path.glob("*/*")].count("feedback.jsonl.migrated") == 1
    assert not (tmp_path / "events").exists()
    # An earlier driftloop takes this for no state, and its error shows why.
    assert "kept in loop.db by a newer driftloop" in durable.read_json(tmp_path / "state.json")["phase"]
    with pytest.raises(DriftloopError, match="by a newer driftloop"):
        migration.read_state(tmp_path / "state.json")


@pytest.mark.parametrize("call", ["replace", "rename"])
def test_a_crash_while_it_is_taken_over_loses_and_doubles_nothing(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
):
    leave_behind(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, call, killed)
    with pytest.raises(KeyboardInterrupt):
        migration.open_store(tmp_path, keep=100)
    monkeypatch.undo()
    store = migration.open_store(tmp_path, keep=100)
    assert (store.state.phase, store.last, len(store.read())) == ("running", 3, 3)
    store.close()
    assert not (tmp_path / "events").exists()


def test_a_state_that_is_none_is_refused_before_anything_is_moved(tmp_path: Path):
    leave_behind(tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DriftloopError, match=r"the retrainer's state cannot be read.*move the file away"):
        migration.open_store(tmp_path, keep=100)
    assert (tmp_path / "events").is_dir()
    assert not (tmp_path / NAME).exists()
    os.unlink(tmp_path / "state.json")
    store = migration.open_store(tmp_path, keep=100)
    assert (store.state, store.last) == (State(), 3)
    store.close()
