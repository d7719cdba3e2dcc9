"""The log of what became of engines: durable, in order, each outcome once, and bounded."""

from pathlib import Path

import pytest

from driftloop.loop import feedback
from driftloop.loop.feedback import Conflict, FeedbackLog, Outcome
from driftloop.loop.store import NAME, Store, read_events


def open_log(folder: Path) -> FeedbackLog:
    """The log in the store of a folder, as after a start."""
    return FeedbackLog(Store(folder / NAME, keep=100))


def outcome(engine: str, key: str = "cycle 7", version: str = "1", true_rul: float = 40.0) -> Outcome:
    return Outcome(engine, key, version, 50.0, 40.0, 60.0, true_rul)


def test_what_was_taken_is_there_after_a_restart(tmp_path: Path):
    log = open_log(tmp_path)
    assert log.add_runs(["eng-b", "eng-a"]) == ["eng-b", "eng-a"]
    assert log.add([outcome("eng-c"), outcome("eng-a")]) == 2
    again = open_log(tmp_path)
    assert again.engines() == ["eng-b", "eng-a", "eng-c"]
    assert again.has_run("eng-a")
    assert not again.has_run("eng-c")
    assert again.outcomes("eng-c", "1") == [outcome("eng-c")]
    assert again.outcomes("eng-c", "2") == []


def test_nothing_counts_twice(tmp_path: Path):
    log = open_log(tmp_path)
    assert log.add([outcome("eng-a"), outcome("eng-a")]) == 1
    changes = log.changes
    assert log.add([outcome("eng-a")]) == 0
    assert log.add_runs(["eng-a", "eng-a"]) == ["eng-a"]
    assert log.add_runs(["eng-a"]) == []
    assert log.changes == changes + 1
    assert len(log.outcomes("eng-a", "1")) == 1


def test_other_figures_for_a_known_outcome_are_a_conflict_and_keep_the_whole_call_out(tmp_path: Path):
    log = open_log(tmp_path)
    log.add([outcome("eng-a")])
    with pytest.raises(Conflict, match="'cycle 7' of engine 'eng-a'"):
        log.add([outcome("eng-b"), outcome("eng-a", true_rul=41.0)])
    with pytest.raises(Conflict):
        log.add([outcome("eng-c"), outcome("eng-c", true_rul=41.0)])
    assert log.engines() == ["eng-a"]


def test_the_runs_since_an_engine_are_those_that_arrived_with_it_or_later(tmp_path: Path):
    log = open_log(tmp_path)
    log.add_runs(["eng-1", "eng-2"])
    log.add([outcome("eng-3")])
    log.add_runs(["eng-4"])
    assert log.runs_since("eng-2") == ["eng-2", "eng-4"]
    assert log.runs_since("eng-3") == ["eng-4"]
    assert log.runs_since("eng-unknown") == ["eng-1", "eng-2", "eng-4"]


def test_what_is_taken_and_what_tells_of_it_are_one(tmp_path: Path):
    log = open_log(tmp_path)
    log.add([outcome("eng-1"), outcome("eng-1", "cycle 8"), outcome("eng-2")])
    log.add([outcome("eng-1")])
    told = [(event["kind"], event["count"], event["engines"]) for event in read_events(tmp_path / NAME)]
    assert told == [("feedback_received", 3, 2)]


def test_old_outcomes_are_forgotten_and_no_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feedback, "ENGINES", 5)
    log = open_log(tmp_path)
    for i in range(40):
        log.add_runs([f"eng-run{i}"])
        log.add([outcome(f"eng-{i}")])
    kept = open_log(tmp_path)
    assert [engine for engine in kept.engines() if "run" in engine] == [f"eng-run{i}" for i in range(40)]
    assert [engine for engine in kept.engines() if "run" not in engine] == [f"eng-{i}" for i in range(35, 40)]
    assert kept.outcomes("eng-39", "1") == [outcome("eng-39")]
    assert kept.outcomes("eng-0", "1") == []


def test_one_engines_outcomes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feedback, "OUTCOMES", 3)
    log = open_log(tmp_path)
    log.add([outcome("eng-a", f"cycle {i}") for i in range(9)])
    assert [one.key for one in log.outcomes("eng-a", "1")] == ["cycle 0", "cycle 1", "cycle 2"]
    assert len(open_log(tmp_path).outcomes("eng-a", "1")) == 3
