"""A date in one column and the time of day in another."""

from pathlib import Path

import numpy as np
import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file, fleet_writer, schema, tables
from driftloop.fleet.columns import on_the_day
from driftloop.units.rows import BadRow, Reader, Row
from made_up_pumps import guessed, lives, said, write

FILE = """
name = "pumps"
unit_column = "pump"
sensors = ["vibration"]
[time]
column = "date"
of_day = "clock"
kind = "timestamp"
every = "1h"
"""


def parsed(content: str = FILE) -> schema.Schema:
    return fleet_file.parse(content.encode(), "fleet.toml")


def clock(step: int) -> tuple[str, str]:
    return f"2024-01-{1 + step // 24:02d}", f"{step % 24:02d}:00:00"


def test_a_date_and_a_time_of_day_are_a_time(tmp_path: Path) -> None:
    rows = [(u, *clock(s), v, h) for u, s, _, v, h in lives()]
    write(tmp_path / "log.csv", "pump,date,clock,vibration,heat", rows)
    write(tmp_path / "failures.csv", "pump,date,clock", [("P1", *clock(20)), ("P2", *clock(25))])
    found = guessed(tmp_path)
    time = schema.Time(column="date", of_day="clock", kind="timestamp", every="1h")
    assert (found.schema.time, found.schema.step, found.schema.unit_column) == (time, "hour", "pump")
    assert all("all roles together need" in text for text in said(found))
    ended = {unit.run.run_id: len(unit.run.rows) for unit in found.reading.units if not unit.run.censored}
    assert ended == {"P1": 20, "P2": 25}
    again = parsed(fleet_writer.toml_text(found.schema, found.comments))
    assert again == found.schema == schema.from_json(schema.to_json(found.schema), "here")
    assert [unit.why for unit in tables.examine([tmp_path], again).units].count("failures.csv says so") == 2


def test_a_row_without_a_time_of_day_has_no_time(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "pump,date,clock,vibration", [("a", "2024-01-01", "", 1), ("a", "", "01:00", 2)])
    found = [str(one) for one in tables.examine([path], parsed()).findings.problems]
    assert any("log.csv:2: date is missing; 1 more like this" in text for text in found)
    assert on_the_day(np.array([86400.0, np.nan]), ["01:00", "02:00"]) == ["1970-01-02 01:00", ""]


def test_rows_in_service_have_both_or_a_whole_time() -> None:
    read = Reader(parsed())
    for given in ({"date": "2024-01-01", "clock": "05:00"}, {"time": "2024-01-01T05:00:00Z"}):
        row = read.row({"pump": "a", "vibration": 1, **given})
        assert isinstance(row, Row)
        assert row.time == 1704085200
    assert isinstance(read.row({"pump": "a", "vibration": 1, "clock": "05:00"}), BadRow)


@pytest.mark.parametrize(
    "change",
    [
        ('column = "date"\nof_day = "clock"\nkind = "timestamp"\nevery = "1h"', 'of_day = "clock"'),
        ('kind = "timestamp"', 'kind = "seconds"'),
        ('of_day = "clock"', 'of_day = "date"'),
        ('sensors = ["vibration"]', 'sensors = ["clock"]'),
    ],
)
def test_a_time_of_day_without_a_date_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(DriftloopError, match="of_day"):
        parsed(FILE.replace(*change))
