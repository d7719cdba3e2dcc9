"""Columns of words, such as the mode a pump runs in: numbers in rows, words in files and requests."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file, fleet_writer, migrate, schema, tables
from driftloop.fleet.difference import difference
from driftloop.protocol.problems import RequestRefused
from driftloop.serving import problems, requests, routes
from driftloop.serving.reader import Reader
from driftloop.serving.requests import Limits
from driftloop.units import rows, sending
from made_up_pumps import guessed, lives, said, write

FILE = """
name = "pumps"
unit = "pump"
unit_column = "pump"
settings = [{ name = "mode", values = ["idle", "run", "boost"] }]
sensors = ["vibration", { name = "valve", source = "Valve state", values = ["open", "closed"] }]
"""
HOURS = '[time]\ncolumn = "hour"\n'
LIMITS = Limits(max_batch=10, max_cycles=100, max_body_bytes=10_000)
MODES = ("run", "idle", "Boost ")


def parsed(more: str = HOURS, file: str = FILE) -> schema.Schema:
    return fleet_file.parse((file + more).encode(), "fleet.toml")


def table(path: Path) -> Path:
    made = [(u, s, MODES[s % 3], v + 5 * (s % 3), ("open", "closed")[s % 2]) for u, s, _, v, _ in lives()]
    return write(path, "pump,hour,mode,vibration,Valve state", made)


def test_words_are_numbers_in_rows(tmp_path: Path) -> None:
    reading = tables.examine([table(tmp_path / "runs.csv")], parsed())
    assert reading.findings.problems == []
    assert reading.units[0].run.rows[:3, [0, 2]].tolist() == [[0, 1], [2, 0], [1, 1]]
    made = [("x", 1, "", 1, "OPEN"), ("x", 2, "IDLE", 1, "n/a")]
    write(tmp_path / "more.csv", "pump,hour,mode,vibration,Valve state", made)
    more = tables.read([tmp_path / "more.csv"], parsed()).runs[0].rows
    np.testing.assert_array_equal(more, [[np.nan, 1, 0], [0, 1, np.nan]])
    write(tmp_path / "more.csv", "pump,hour,mode,vibration,Valve state", [("x", 1, "turbo", 1, "open")])
    with pytest.raises(DriftloopError) as error:
        tables.read([tmp_path / "more.csv"], parsed())
    assert "more.csv:2: mode is 'turbo', none of its values in the fleet file (idle, run, boost)" in str(error.value)
    assert "add it to the column's values, or to missing_values" in str(error.value)


def test_what_words_mean_belongs_to_the_fleet() -> None:
    one = parsed()
    assert fleet_file.parse(fleet_writer.toml_text(one).encode(), "fleet.toml") == one
    assert schema.from_json(schema.to_json(one), "here") == one
    swapped = parsed(file=FILE.replace('"idle", "run"', '"run", "idle"'))
    assert swapped.digest != one.digest
    assert difference(one, swapped) == "its mode has the values idle, run, boost, not the values run, idle, boost"
    named = msgspec.structs.replace(swapped, name="pumps-2")
    with pytest.raises(DriftloopError, match="mode has other values than before"):
        migrate.change(one, named)
    longer = parsed(file=FILE.replace('"boost"', '"boost", "turbo"').replace('"pumps"', '"pumps-2"'))
    assert migrate.change(one, longer).order == (0, 1, 2)


def test_between_two_words_there_is_nothing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "runs.csv", "pump,hour,mode,vibration,Valve state",
        [("a", 1, "idle", 1, "open"), ("a", 1, "boost", 3, "closed"), ("a", 2, "run", 4, "open")],
    )  # fmt: skip
    run = tables.read([path], parsed(f'{HOURS}every = "1"\nbetween = "mean"\n')).runs[0]
    assert run.rows.tolist() == [[2, 2, 1], [1, 4, 0]]


def test_a_setting_of_words_is_guessed_and_others_are_shown_how(tmp_path: Path) -> None:
    found = guessed(table(tmp_path / "runs.csv"))
    assert [channel.words for channel in found.schema.settings] == [("Boost", "idle", "run")]
    assert found.schema.use_settings == "regimes"
    assert said(found) == []
    hint = '{ name = "Valve_state", source = "Valve state", values = ["closed", "open"] }'
    assert found.left_out["Valve state"].endswith(hint)
    text = fleet_writer.toml_text(found.schema, found.comments).replace('"vibration",', f'"vibration", {hint},')
    again = fleet_file.parse(text.encode(), "fleet.toml")
    assert tables.examine([tmp_path], again).findings.problems == []


def test_requests_may_have_words_or_numbers() -> None:
    reader = Reader(parsed())
    for row in ('["Run", 1.5, "closed"]', "[1, 1.5, 1]", '{"mode": "run", "vibration": 1.5, "valve": "closed"}'):
        windows, many = reader.decode(f'{{"rows": [{row}]}}'.encode(), LIMITS)
        assert ([list(row) for row in windows[0].rows], many) == ([[1, 1.5, 1]], False)
    windows, many = reader.decode(b'{"windows": [{"rows": [["idle", NaN, null]]}]}', LIMITS)
    assert many
    assert [list(row) for row in windows[0].rows] == [[0, None, None]]
    with pytest.raises(RequestRefused) as error:
        reader.decode(b'{"rows": [["turbo", 1, 1], ["run", "open", 1]]}', LIMITS)
    assert [(one.field, one.message) for one in error.value.problems] == [
        ("rows[0][0]", "mode is the string 'turbo'; one of idle, run, boost is needed"),
        ("rows[1][1]", "vibration is the string 'open'; a number or null is needed"),
    ]
    for body in (
        b'{"rows": "x"}',
        b'{"rows": [1, "x", {}]}',
        b'{"windows": [1]}',
        b"[]",
        b'{"windows": 1}',
        b'{"rows": [["run"]]}',
    ):
        with pytest.raises(RequestRefused):
            reader.decode(body, LIMITS)


def test_a_body_with_words_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow look is for bodies with NaN, and for those that are refused."""
    reader = Reader(parsed())
    monkeypatch.setattr(problems, "parse", lambda _: pytest.fail("decoded again"))
    windows, _ = reader.decode(b'{"rows": [["run", 1.5, "closed"], {"mode": "idle"}]}', LIMITS)
    assert [list(row) for row in windows[0].rows] == [[1, 1.5, 1], [0, None, None]]


def test_rows_in_service_may_have_words_or_numbers(tmp_path: Path) -> None:
    read = rows.Reader(parsed())
    for mode in ("run", 1, 1.0, "1"):
        row = read.row({"pump": "a", "hour": 1, "mode": mode, "Valve state": "open"})
        assert isinstance(row, rows.Row)
        assert (row.values[0], row.values[2]) == (1, 0)
    for mode in ("turbo", 7, 0.5, True):
        bad = read.row({"pump": "a", "hour": 1, "mode": mode})
        assert isinstance(bad, rows.BadRow)
        assert "none of idle, run, boost" in bad.message
    assert isinstance(read.row({"pump": "a", "hour": 1, "mode": None}), rows.Row)
    sent = next(sending.rows_of(table(tmp_path / "runs.csv"), parsed()))
    assert all(isinstance(one, rows.Row) for one in read.read(msgspec.json.encode(sent), rows.JSON))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('["idle"]', "values of mode are not two words or more"),
        ('["idle", " "]', "values of mode are not two words or more"),
        ('["idle", "IDLE"]', "values of mode have 'idle' twice"),
        ('["idle", "run"], range = [0, 1]', "mode has values, which are words, and a range"),
    ],
)
def test_values_that_tell_no_words_apart_are_refused(written: str, message: str) -> None:
    with pytest.raises(DriftloopError, match=message):
        parsed(file=FILE.replace('["idle", "run", "boost"]', written))


def test_a_server_says_which_number_a_word_is() -> None:
    mode, valve = parsed().settings[0], parsed().sensors[1]
    assert requests.about(mode) == "idle is 0, run is 1, boost is 2"
    columns = routes.fleet_info(parsed()).columns
    assert [one.description for one in columns] == ["idle is 0, run is 1, boost is 2", "", requests.about(valve)]
