"""Units that fail, are repaired and live on under one name: a life for each failure."""

from pathlib import Path

import numpy as np
import pytest

from driftloop.errors import FleetError
from driftloop.fleet import fleet_file, guess, tables
from driftloop.fleet.schema import Schema
from driftloop.fleet.tables import Unit

FLEET = """
name = "pumps"
unit = "pump"
unit_column = "pump"
sensors = ["heat"]
[time]
column = "{time}"
{kind}
[end]
column = "failure"
{after}
"""
NEW = 'after = "new_life"'


def fleet(time: str = "hour", kind: str = "", after: str = NEW) -> Schema:
    return fleet_file.parse(FLEET.format(time=time, kind=kind, after=after).encode(), "fleet.toml")


def read(folder: Path, lines: list[str], header: str = "pump,hour,heat,failure", **keys: str) -> list[Unit]:
    (folder / "runs.csv").write_text("\n".join([header, *lines]) + "\n")
    return tables.read([folder / "runs.csv"], fleet(**keys)).units


def rows_of(units: list[Unit]) -> list[list[float]]:
    return [unit.run.rows[:, 0].tolist() for unit in units]


def test_each_failure_ends_a_life_and_the_last_one_goes_on(tmp_path: Path) -> None:
    units = read(tmp_path, ["a,1,10,0", "a,2,11,1", "a,3,12,0", "a,4,13,0", "a,5,14,1", "a,6,15,0"])
    assert rows_of(units) == [[10, 11], [12, 13, 14], [15]]
    assert [unit.run.run_id for unit in units] == ["a", "a.life2", "a.life3"]
    assert [(unit.name, unit.life) for unit in units] == [("a", 1), ("a, life 2", 2), ("a, life 3", 3)]
    assert [unit.run.censored for unit in units] == [False, False, True]
    assert [unit.first_index for unit in units] == [1, 3, 6]
    assert [unit.where.rpartition(":")[2] for unit in units] == ["2", "4", "7"]


def test_a_unit_that_stands_still_after_it_failed_has_no_life_then(tmp_path: Path) -> None:
    units = read(tmp_path, ["a,1,10,0", "a,2,11,1", "a,3,0,1", "a,4,0,1", "a,5,12,0", "a,6,13,1", "a,7,0,1"])
    assert rows_of(units) == [[10, 11], [12, 13]]
    assert [(unit.after_end, unit.read) for unit in units] == [(2, 4), (1, 3)]


def test_by_default_what_comes_after_the_end_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("pump,hour,heat,failure\na,1,10,0\na,2,11,1\na,3,12,0\nb,1,9,1\nb,2,9,0\n")
    reading = tables.examine([tmp_path / "runs.csv"], fleet(after=""))
    assert rows_of(reading.units) == [[10, 11], [9]]
    (said,) = [str(finding) for finding in reading.findings if finding.level == "note"]
    assert "1 rows of pump a come after its end, and are left out; 1 more like this" in said
    assert 'write after = "new_life" below [end]' in said


def test_a_counter_may_start_again_with_each_life_and_only_there(tmp_path: Path) -> None:
    units = read(tmp_path, ["a,1,10,0", "a,2,11,1", "a,1,12,0", "a,2,13,1", "b,1,20,0"])
    assert rows_of(units) == [[10, 11], [12, 13], [20]]
    reading = tables.examine([tmp_path / "runs.csv"], fleet(after=""))
    assert [finding.what for finding in reading.findings.problems] == ["pump a has step 1 again with other readings"]
    (tmp_path / "runs.csv").write_text(
        "pump,hour,heat,failure\n"
        + "".join(f"a,{hour},{at},{int(hour == 90)}\n" for at, hour in enumerate([*range(1, 99), *range(1, 99)]))
    )
    problems = tables.examine([tmp_path / "runs.csv"], fleet()).findings.problems
    assert problems
    assert "runs backwards" in problems[0].what


def test_times_out_of_order_are_sorted_before_lives_are_told_apart(tmp_path: Path) -> None:
    stamps = [f"2026-03-0{day}" for day in range(1, 7)]
    lines = [f"a,{stamp},{at},{int(at in (2, 5))}" for at, stamp in enumerate(stamps)]
    keys = {"header": "pump,day,heat,failure", "time": "day", "kind": 'kind = "timestamp"\nevery = "1d"'}
    assert rows_of(read(tmp_path, lines[::-1], **keys)) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("listed", ["[censored]\nunits = ['a']", "[censored]\ncolumn = 'out'"])
def test_what_is_said_of_a_unit_counts_for_the_life_it_is_said_of(tmp_path: Path, listed: str) -> None:
    text = FLEET.format(time="hour", kind="", after=NEW) + listed
    (tmp_path / "runs.csv").write_text("pump,hour,heat,failure,out\na,1,10,0,0\na,2,11,1,0\na,3,12,0,0\na,4,13,1,1\n")
    units = tables.read([tmp_path / "runs.csv"], fleet_file.parse(text.encode(), "fleet.toml")).units
    assert [unit.run.censored for unit in units] == [False, True]


def test_a_threshold_may_end_lives_too(tmp_path: Path) -> None:
    text = FLEET.format(time="hour", kind="", after='holds = "2 of 2 rows"\n' + NEW)
    text = text.replace('column = "failure"', 'sensor = "heat"\nabove = 50')
    (tmp_path / "runs.csv").write_text("pump,hour,heat\n" + "".join(
        f"a,{hour},{heat}\n" for hour, heat in enumerate([10, 60, 20, 55, 60, 70, 10, 30, 51, 52, 9], 1)
    ))  # fmt: skip
    units = tables.read([tmp_path / "runs.csv"], fleet_file.parse(text.encode(), "fleet.toml")).units
    assert rows_of(units) == [[10, 60, 20, 55], [10, 30, 51], [9]]
    assert [unit.run.censored for unit in units] == [False, False, True]


def test_new_lives_need_a_rule_by_which_the_old_ones_end() -> None:
    with pytest.raises(FleetError, match="every life ends with its last row"):
        fleet_file.parse(b'name = "a"\nsensors = ["heat"]\n[end]\nafter = "new_life"\n', "fleet.toml")


@pytest.mark.parametrize("words", [("0", "1"), ("", "bearing"), ("none", "seal")])
def test_a_guess_finds_failures_in_the_middle(tmp_path: Path, words: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    lines = ["pump,time,heat,failure"]
    for pump in "abcdef":
        ends = np.cumsum(rng.integers(30, 60, 3))
        for hour in range(ends[-1] + 1):
            stamp = np.datetime64("2026-01-01T00") + np.timedelta64(hour, "h")
            lines.append(f"{pump},{stamp}:00,{rng.normal():.3f},{words[hour in ends]}")
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    guessed = guess.guess([tmp_path / "runs.csv"])
    assert (guessed.schema.end.column, guessed.schema.end.after) == ("failure", "new_life")
    assert len(guessed.reading.units) == 18
    assert not any(unit.run.censored for unit in guessed.reading.units)


def test_a_table_of_failures_beside_the_readings_is_named(tmp_path: Path) -> None:
    (tmp_path / "failures.csv").write_text("pump,hour,part\na,2,seal\n")
    (tmp_path / "runs.csv").write_text("pump,hour,heat,failure\na,1,10,0\na,2,11,1\n")
    (said,) = [str(found) for found in tables.examine([tmp_path], fleet()).findings if found.level == "warning"]
    assert "failures.csv: is left alone: it has pump and hour, but no reading of pumps" in said
    assert 'if its rows are failures, write file = "failures.csv" below [end]' in said
