"""Files of any fleet: units are what the content says, whatever the file is called."""

import json
from pathlib import Path

import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleet.archive import open_archive
from driftloop.fleet.fleet_file import parse
from driftloop.fleet.intake import read_files

PUMPS = parse(
    b"""
name = "pumps"
unit = "pump"
step = "hour"
unit_column = "pump"
sensors = ["vibration", "pressure"]
time = { column = "hour" }
end = { sensor = "pressure", below = 1.0 }
""",
    "fleet.toml",
)


def table(path: Path, *pumps: tuple[str, float]) -> Path:
    """A table of pumps of four hours, each with its last pressure."""
    rows = [f"{name},{hour},{hour / 10},{last + 3 - hour}" for name, last in pumps for hour in range(4)]
    path.write_text("pump,hour,vibration,pressure\n" + "\n".join(rows) + "\n")
    return path


def test_units_have_the_names_that_the_content_gives_them(tmp_path: Path) -> None:
    first = read_files([table(tmp_path / "a.csv", ("P1", 0.5), ("P2", 0.7))], PUMPS)
    again = read_files([table(tmp_path / "a copy (1).csv", ("P1", 0.5), ("P2", 0.7))], PUMPS)
    assert [run.run_id for run in first.runs] == [run.run_id for run in again.runs] == ["P1", "P2"]


def test_a_prefix_tells_units_of_the_same_name_apart(tmp_path: Path) -> None:
    taken = read_files([table(tmp_path / "a.csv", ("P1", 0.5))], PUMPS, prefix="north")
    assert [run.run_id for run in taken.runs] == ["north-P1"]
    assert taken.told == {"north-P1"}


def test_the_end_rule_says_who_failed_and_who_was_taken_out(tmp_path: Path) -> None:
    taken = read_files([table(tmp_path / "a.csv", ("P1", 0.5), ("P2", 4.0))], PUMPS)
    assert {run.run_id: run.censored for run in taken.runs} == {"P1": False, "P2": True}
    assert taken.told == {"P1"}


def test_json_may_have_missing_values_and_censored_units(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"runs": [{"run_id": "a", "rows": [[1, None], [2, 3]], "censored": True}]}))
    (run,) = read_files([path], PUMPS).runs
    assert np.array_equal(run.rows, [[1, np.nan], [2, 3]], equal_nan=True)
    assert run.censored


def test_objects_of_an_archive_bring_their_fleet(tmp_path: Path) -> None:
    runs = read_files([table(tmp_path / "a.csv", ("P1", 0.5))], PUMPS).runs
    open_archive(tmp_path / "archive", PUMPS).add_all(runs)
    path = tmp_path / "archive" / "P1.npy"
    assert read_files([path], PUMPS).runs[0].sha256 == runs[0].sha256
    other = parse(b'name = "other"\nsensors = ["x", "y"]\nsettings = []\n', "fleet.toml")
    with pytest.raises(DataError, match="another fleet"):
        read_files([path], other)


def test_nothing_sends_people_with_files_of_their_own_to_nasa(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("pump,hour\n1,2\n")
    for path in (bad, tmp_path / "not-there.csv"):
        with pytest.raises(DataError) as caught:
            read_files([path], PUMPS)
        assert str(path) in str(caught.value)
        assert "pull" not in str(caught.value)
