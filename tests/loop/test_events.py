from pathlib import Path

from driftloop import durable
from driftloop.loop.events import EventLog


def test_events_are_numbered_and_survive_a_restart(tmp_path: Path):
    log = EventLog(tmp_path, keep=100)
    for i in range(5):
        log.append("verdict", model_version="1", n=i)
    again = EventLog(tmp_path, keep=100)
    assert [event["seq"] for event in again.read()] == [1, 2, 3, 4, 5]
    assert again.append("promoted", model_version="2")["seq"] == 6
    assert [event["n"] for event in again.read(after=2) if "n" in event] == [2, 3, 4]
    assert durable.parse_time(again.read()[0]["time"])


def test_the_oldest_events_go_and_numbers_go_on(tmp_path: Path):
    log = EventLog(tmp_path, keep=20)
    for i in range(100):
        log.append("verdict", n=i)
    kept = EventLog(tmp_path, keep=20).read()
    assert 20 <= len(kept) <= 24
    assert kept[-1]["seq"] == 100
    assert [event["seq"] for event in kept] == list(range(kept[0]["seq"], 101))


def test_events_that_are_no_longer_in_memory_are_read_from_disk(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("driftloop.loop.events._NEWEST", 10)
    log = EventLog(tmp_path, keep=1000)
    for i in range(150):
        log.append("verdict", n=i)
    assert [event["seq"] for event in log.read(after=3, limit=120)] == list(range(4, 124))
    assert [event["seq"] for event in log.read(after=148)] == [149, 150]
    assert log.read(after=150) == []


def test_half_a_line_from_a_crash_is_passed_over(tmp_path: Path):
    log = EventLog(tmp_path, keep=100)
    log.append("verdict")
    log.append("verdict")
    segment = next(tmp_path.glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes()[:-20])
    again = EventLog(tmp_path, keep=100)
    assert again.append("promoted")["seq"] == 2
    assert [event["kind"] for event in EventLog(tmp_path, keep=100).read()] == ["verdict", "promoted"]


def test_a_report_that_is_sent_twice_is_logged_once(tmp_path: Path):
    log = EventLog(tmp_path, keep=100)
    first = log.append("promoted", id="a", model_version="2")
    assert log.append("promoted", id="a", model_version="2") == first
    assert EventLog(tmp_path, keep=100).append("promoted", id="a") == first
    assert log.last == 1


def test_numbers_that_json_does_not_know_are_written_as_text(tmp_path: Path):
    event = EventLog(tmp_path, keep=100).append("verdict", score=float("nan"))
    assert event["score"] == "NaN"


def test_find_gives_the_newest_match(tmp_path: Path):
    log = EventLog(tmp_path, keep=100)
    log.append("verdict", model_version="1", verdict="drift")
    log.append("verdict", model_version="1", verdict="no_drift")
    log.append("verdict", model_version="2", verdict="drift")
    found = log.find("verdict", model_version="1")
    assert found is not None
    assert found["verdict"] == "no_drift"
    assert log.find("promoted") is None
