"""Units in a historian's tags, several tables of failures, and what lies beside the data and is none of theirs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from driftloop.errors import DataError, FleetError
from driftloop.fleet import fleet_file, tables
from driftloop.fleet.fleet_writer import toml_text
from driftloop.fleet.suspicion import markers
from made_up_pumps import guessed, lives, said, write

TAGGED = [(unit, step, vibration, heat) for unit, step, _, vibration, heat in lives(8)]


@pytest.mark.parametrize("sign", [".", ":", "/", "_"])
def test_a_tag_that_names_unit_and_sensor_is_refused_with_a_remedy_that_works(sign: str, tmp_path: Path) -> None:
    rows = [(f"plant.{unit}{sign}{name}", step, value) for unit, step, *both in TAGGED for name, value in zip(
        ("VIB", "HEAT"), both, strict=True)]  # fmt: skip
    path = write(tmp_path / "historian.csv", "TagName,step,Value", rows)
    with pytest.raises(DataError, match=f"names the unit and the sensor together, as 'plant.P0{sign}VIB'") as caught:
        guessed(path)
    wide = by_pandas(caught.value.remedy, path)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    assert sorted(unit.name for unit in guessed(tmp_path / "wide.csv").reading.units) == [
        f"plant.P{at}" for at in range(8)
    ]


def test_a_tag_that_names_units_alone_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "tags.csv", "tag,step,value", [(f"P-{unit}", step, heat) for unit, step, _, heat in TAGGED])
    assert guessed(path).schema.unit_column == "tag"


def test_columns_for_each_units_sensors_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    table = pd.DataFrame(TAGGED, columns=["unit", "step", "VIB", "HEAT"]).pivot(index="step", columns="unit")
    table.columns = [f"{unit}.{name}" for name, unit in table.columns]
    path = tmp_path / "wide.csv"
    table.reset_index().to_csv(path, index=False)
    with pytest.raises(DataError, match=r"has columns for each unit, such as P0.VIB and P1.VIB") as caught:
        guessed(path)
    by_pandas(caught.value.remedy, path).dropna().to_csv(tmp_path / "long.csv", index=False)
    assert len(guessed(tmp_path / "long.csv").reading.units) == 8


def by_pandas(remedy: str | None, path: Path) -> pd.DataFrame:
    """What the last of a remedy's statements gives, of the rows of a file."""
    assert remedy is not None
    *statements, last = remedy.partition("by pandas: ")[2].split("; ")
    known = {"rows": pd.read_csv(path)}
    for statement in statements:
        exec(statement, known)
    found = eval(last, known)
    assert isinstance(found, pd.DataFrame)
    return found


def repaired(folder: Path, times: str = "2024-{month:02d}-{day:02d} {hour:02d}:00") -> None:
    """Readings of eight pumps, hourly, and when each failed, in a table for each half of them."""
    rows, failures = [], {0: [], 1: []}  # type: ignore[var-annotated]
    for at, (unit, step, life, vibration, heat) in enumerate(lives(8)):
        moment = times.format(month=3, day=10 + step // 24, hour=step % 24)
        rows.append((unit, moment, vibration, heat))
        if step in (life // 2, life):
            failures[at % 2].append((unit, moment))
    write(folder / "readings.csv", "pump,ts,vibration,heat", rows)
    for part, found in failures.items():
        write(folder / f"failures_{2022 + part}.csv", "pump,failed_at", found)


def test_failures_in_several_tables_are_all_read(tmp_path: Path) -> None:
    repaired(tmp_path)
    found = guessed(tmp_path)
    assert found.schema.end.files == ("failures_2022.csv", "failures_2023.csv")
    assert sum(not unit.run.censored for unit in found.reading.units) == 16
    assert "16 failures of 8 units" in found.comments["end"]
    assert fleet_file.parse(toml_text(found.schema).encode(), "fleet.toml") == found.schema
    one = fleet_file.parse(toml_text(found.schema).replace(', "failures_2023.csv"', "").encode(), "fleet.toml")
    assert one.digest == found.schema.digest
    assert sum(not unit.run.censored for unit in tables.read([tmp_path / "readings.csv"], one).units) < 16


@pytest.mark.parametrize(
    ("names", "message"),
    [('["a.csv", "a.csv"]', "file names 'a.csv' twice"), ("[]", "file names no table"), ('["../a.csv"]', "is not the")],
)
def test_names_of_tables_that_are_none_are_refused(names: str, message: str) -> None:
    text = f'name = "x"\ntime = "hour"\nsensors = ["vibration"]\n[end]\nfile = {names}\n'
    with pytest.raises(FleetError, match=message):
        fleet_file.parse(text.encode(), "fleet.toml")


def test_days_in_failures_are_read_as_in_the_data(tmp_path: Path) -> None:
    """Rows tell that the month comes first; no failure does, on the fourth of March."""
    rows = [(f"P{unit}", f"3/{day}/2024", day % 5, day % 7) for unit in range(8) for day in range(1, 31)]
    write(tmp_path / "readings.csv", "pump,ts,vibration,heat", rows)
    write(tmp_path / "failures.csv", "pump,ts", [(f"P{unit}", "3/4/2024") for unit in range(8)])
    text = 'name = "x"\nunit_column = "pump"\nsensors = ["vibration", "heat"]\n[end]\nfile = "failures.csv"\n'
    text += '[time]\ncolumn = "ts"\nkind = "timestamp"\nevery = "1d"\n'
    reading = tables.read([tmp_path / "readings.csv"], fleet_file.parse(text.encode(), "fleet.toml"))
    assert {len(unit.run.rows) for unit in reading.units} == {4}


def test_failures_that_cannot_be_read_are_one_problem_and_no_life_is_told(tmp_path: Path) -> None:
    repaired(tmp_path)
    schema = guessed(tmp_path).schema
    (tmp_path / "failures_2023.csv").write_text("pump,failed_at\nP1,soon\n")
    reading = tables.examine([tmp_path], schema)
    assert [finding.what for finding in reading.findings.problems] == ["failed_at is no time"]
    assert not reading.units


def test_what_lies_beside_the_data_does_not_stop_a_guess(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "pump,step,vibration,heat", TAGGED)
    write(
        tmp_path / "other_line.csv", "pump,step,vibration", [(f"Q{unit}", step, 1) for unit in "ab" for step in (1, 2)]
    )
    (tmp_path / "README.txt").write_text("This folder holds the export of plant 3.\nAsk Anna.\n")
    found = guessed(tmp_path)
    assert len(found.reading.units) == 8
    assert [path.name for path in found.paths] == ["train.csv"]
    assert any("other_line.csv: was not looked at" in text for text in said(found))
    (tmp_path / "other_line.csv").unlink()
    assert guessed(tmp_path).paths == (tmp_path,)


def test_a_current_of_few_steps_is_no_word_for_missing() -> None:
    steps = np.array([1.1, 0.0, -4.4] * 20)
    assert markers(steps) == []
    assert markers(np.where(steps < 0, -999.0, steps)) == [(-999.0, 20)]
