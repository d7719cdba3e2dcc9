import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop import durable


def test_times_are_rfc3339_in_utc_and_come_back_unchanged():
    moment = durable.parse_time("2026-01-31T13:00:00.250+01:00")
    assert durable.format_time(moment) == "2026-01-31T12:00:00.250Z"
    assert durable.parse_time("2026-01-31T12:00:00.250Z") == moment


def test_a_time_without_zone_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no time zone"):
        durable.parse_time("2026-01-31T12:00:00")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    durable.write_json(path, {"a": 1})

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="No space"):
        durable.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_equal_values_give_equal_bytes_and_the_mode_asked_for(tmp_path):
    durable.write_json(tmp_path / "a", {"x": 1, "y": [1.5]}, mode=0o600)
    durable.write_json(tmp_path / "b", {"y": [1.5], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        durable.write_json(tmp_path / "a", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_line_cut_by_a_crash_loses_only_itself(tmp_path):
    log = tmp_path / "events.jsonl"
    durable.append_json_line(log, {"n": 1})
    with log.open("ab") as file:
        file.write(b'{"n": 2, "kind": "cut he')
    durable.append_json_line(log, {"n": 3})
    assert [record["n"] for record in durable.read_json_lines(log)] == [1, 3]


def test_a_disk_that_takes_only_a_part_of_a_line_gets_the_rest(tmp_path, monkeypatch):
    log, write = tmp_path / "events.jsonl", os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, bytes(content[:5])))
    durable.append_json_line(log, {"n": 1, "kind": "long enough"})
    assert list(durable.read_json_lines(log)) == [{"n": 1, "kind": "long enough"}]


def test_a_line_that_a_full_disk_cuts_is_taken_back(tmp_path, monkeypatch):
    log, write = tmp_path / "events.jsonl", os.write
    durable.append_json_line(log, {"n": 1})

    def fills_up(handle, content):
        if len(content) < 10:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(content[:5]))

    with monkeypatch.context() as full:
        full.setattr(os, "write", fills_up)
        with pytest.raises(OSError, match="No space"):
            durable.append_json_line(log, {"n": 2})
    assert log.read_bytes() == b'{"n": 1}\n'
    durable.append_json_line(log, {"n": 3})
    assert [record["n"] for record in durable.read_json_lines(log)] == [1, 3]


def test_a_log_that_does_not_exist_is_empty(tmp_path):
    assert list(durable.read_json_lines(tmp_path / "none")) == []


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none())))
def test_any_records_come_back_in_order(tmp_path_factory, records):
    log = tmp_path_factory.mktemp("log") / "log.jsonl"
    for record in records:
        durable.append_json_line(log, record)
    assert list(durable.read_json_lines(log)) == records
