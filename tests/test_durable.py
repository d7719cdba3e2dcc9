import contextlib
import json
import logging
import os
import stat
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop import durable
from driftloop.errors import JsonError


class Point(msgspec.Struct):
    name: str
    at: Annotated[list[float], msgspec.Meta(max_length=3)] = []


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


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(JsonError, match=r"cannot be read \(Is a directory\)") as caught:
        list(durable.read_json_lines(tmp_path))
    assert caught.value.where == str(tmp_path)


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none())))
def test_any_records_come_back_in_order(tmp_path_factory, records):
    log = tmp_path_factory.mktemp("log") / "log.jsonl"
    for record in records:
        durable.append_json_line(log, record)
    assert list(durable.read_json_lines(log)) == records


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": "caf\xe9"}',  # Latin-1
        b'{"na\xffme": "x"}',
        b"\xff\xfe{\x00}\x00",  # UTF-16
        b'\xef\xbb\xbf{"name": "x"}',  # a byte order mark
        b'{"name": "\\ud800"}',
        b'{"name": "x"',
        b"",
        b"\0" * 40,  # what some file systems leave after a power cut
        b'{"name": NaN}',
        b'{"name": "x", "at": [1e999]}',
        b"[" * 100_000,
        b'{"other": ' + b"[" * 100_000,
        b'{"name": ' + b"1" * 5000 + b"}",
        b"[]",
        b'{"name": 1}',
        b'{"at": [1, 2]}',
        b'{"name": "x", "at": [1, 2, 3, 4]}',
    ],
)
def test_json_that_cannot_be_read_is_one_error_that_says_where_and_what_to_do(tmp_path, content):
    (tmp_path / "point.json").write_bytes(content)
    with pytest.raises(JsonError) as caught:
        durable.read_json(tmp_path / "point.json", Point, remedy="move it away")
    assert str(tmp_path / "point.json") in str(caught.value)
    assert "move it away" in str(caught.value)


def test_the_field_is_named_where_the_shape_is_wrong():
    with pytest.raises(JsonError, match=r"^point: Expected `float`, got `str`, at at\[1\]$") as caught:
        durable.decode_json(b'{"name": "x", "at": [1, "2"]}', Point, where="point")
    assert (caught.value.field, caught.value.malformed) == ("at[1]", False)
    with pytest.raises(JsonError, match="not UTF-8") as caught:
        durable.decode_json(b'"\xe9"')
    assert (caught.value.field, caught.value.malformed) == ("", True)


def test_a_file_that_is_not_there_is_told_from_one_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        durable.read_json(tmp_path / "none")
    with pytest.raises(JsonError, match="cannot be read"):
        durable.read_json(tmp_path)
    durable.write_json(tmp_path / "point", {"name": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"})
    assert durable.read_json(tmp_path / "point", Point) == Point("caf\N{LATIN SMALL LETTER E WITH ACUTE}")


@given(st.binary())
def test_whatever_the_bytes_are_nothing_but_the_one_error_comes_out(content):
    for kind in (Point, dict, list[int], str, object):
        with contextlib.suppress(JsonError):
            durable.decode_json(content, kind)


@given(st.binary(max_size=200), st.integers(0, 2))
def test_damaged_lines_lose_only_themselves_and_it_is_said(tmp_path_factory, damage, place):
    log = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = [b'{"n": 1}', b'{"n": 2}']
    lines.insert(place, damage.replace(b"\n", b"") + b"\xff")
    log.write_bytes(b"\n".join(lines) + b"\n")
    assert [record["n"] for record in durable.read_json_lines(log)] == [1, 2]


def test_how_many_lines_were_passed_over_is_logged(tmp_path, caplog):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"name": "a"}\n{"name": "\xe9"}\n{"name": 3}\n' + b"[" * 100_000 + b'\n{"name": "b"}\n')
    with caplog.at_level(logging.WARNING):
        assert list(durable.read_json_lines(log, Point)) == [Point("a"), Point("b")]
    assert "3 lines cannot be read and are passed over (line 2" in caplog.text
