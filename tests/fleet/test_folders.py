"""Folders of folders: a unit or a day in each, parts of a unit, what lies above them, and what is no table."""

from pathlib import Path

import pytest
from msgspec import UNSET

from driftloop.errors import DataError, FleetError
from driftloop.fleet import fleet_file, folders, tables
from driftloop.fleet.fleet_writer import toml_text
from driftloop.units.sending import rows_of
from made_up_pumps import guessed, lives, said, write

NAMES = ("Presse 1", "Ölpumpe 2 (neu)", "c", "d", "e", "f", "g", "h")


def parts(root: Path, *, hive: bool = False) -> None:
    """A folder for each unit, with its rows in two files."""
    for unit, step, _, vibration, pressure in lives(len(NAMES)):
        folder = root / (f"unit_id={NAMES[int(unit[1:])]}" if hive else NAMES[int(unit[1:])])
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"2024-0{1 + (step > 20)}.csv"
        if not file.exists():
            file.write_text("cycle,vibration,pressure\n")
        with file.open("a") as rows:
            rows.write(f"{step},{vibration},{pressure}\n")


@pytest.mark.parametrize("hive", [False, True])
def test_a_folder_for_each_unit_is_read_and_stays_so(hive: bool, tmp_path: Path) -> None:
    parts(tmp_path / "Werk", hive=hive)
    found = guessed(tmp_path / "Werk")
    assert found.schema.unit_from == "folder"
    assert found.schema.name == "werk"
    assert sorted(unit.name for unit in found.reading.units) == sorted(NAMES)
    again = fleet_file.parse(toml_text(found.schema).encode(), "fleet.toml")
    assert again == found.schema
    assert "of the 8 folders is one" in found.comments["unit_column"]
    first = next((tmp_path / "Werk").rglob("2024-01.csv"))
    bodies = list(rows_of(first, found.schema))
    assert {row[0] for body in bodies for row in body["rows"]} == {folders.folder_unit(first)}


def test_a_file_for_each_unit_in_folders_of_sites_names_units(tmp_path: Path) -> None:
    for unit, step, _, vibration, pressure in lives(8):
        file = tmp_path / ("north" if int(unit[1:]) % 2 else "south") / f"pump {'abcdefgh'[int(unit[1:])]}.csv"
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            file.write_text("cycle,vibration,pressure\n")
        with file.open("a") as rows:
            rows.write(f"{step},{vibration},{pressure}\n")
    found = guessed(tmp_path)
    assert found.schema.unit_from is UNSET
    assert sorted(unit.name for unit in found.reading.units) == [f"pump {letter}" for letter in "abcdefgh"]
    assert not found.reading.findings.problems


def test_files_of_one_name_in_two_folders_are_two_units_and_refused(tmp_path: Path) -> None:
    found = guessed_of_two(tmp_path, "north", "south")
    assert any("there is a file of the name 'pump' already, " in text for text in found)
    assert not any("of the name 'pump'" in text for text in guessed_of_two(tmp_path, "2024-05-01", "2024-05-02"))


def guessed_of_two(root: Path, *inner: str) -> list[str]:
    """What is said of a file `pump.csv` in each of two folders, one after the other in time."""
    schema = fleet_file.parse(b'name = "x"\nsensors = ["vibration"]\ntime = "cycle"\n', "fleet.toml")
    for at, name in enumerate(inner):
        (root / "-".join(inner) / name).mkdir(parents=True)
        rows = [(at * 30 + step, step / 10) for step in range(1, 31)]
        write(root / "-".join(inner) / name / "pump.csv", "cycle,vibration", rows)
    return said(tables.examine([root / "-".join(inner)], schema))


def test_a_folder_of_days_with_units_in_a_column(tmp_path: Path) -> None:
    for unit, step, _, vibration, pressure in lives(8):
        folder = tmp_path / f"2024-05-{1 + step // 8:02d}"
        folder.mkdir(exist_ok=True)
        file = folder / "shift.csv"
        if not file.exists():
            file.write_text("machine,hour,vibration,pressure\n")
        with file.open("a") as rows:
            rows.write(f"{unit},{step},{vibration},{pressure}\n")
    found = guessed(tmp_path)
    assert found.schema.unit_column == "machine"
    assert len(found.reading.units) == 8
    assert not found.reading.findings.problems


def test_a_table_of_failures_above_the_folders_of_units_is_found(tmp_path: Path) -> None:
    parts(tmp_path / "readings")
    write(tmp_path / "failures.csv", "unit,failed_at", [(name, 15) for name in NAMES])
    text = 'name = "x"\nunit_from = "folder"\ntime = "cycle"\nsensors = ["vibration", "pressure"]\n'
    text += '[end]\nfile = "failures.csv"\nunit_column = "unit"\ntime_column = "failed_at"\n'
    reading = tables.read([tmp_path / "readings"], fleet_file.parse(text.encode(), "fleet.toml"))
    assert {len(unit.run.rows) for unit in reading.units} == {15}


def test_folders_beside_tables_are_told_and_not_read(tmp_path: Path) -> None:
    schema = fleet_file.parse(b'name = "x"\nsensors = ["vibration"]\ntime = "cycle"\n', "fleet.toml")
    write(tmp_path / "pump.csv", "cycle,vibration", [(step, step / 10) for step in range(1, 31)])
    (tmp_path / "old").mkdir()
    write(tmp_path / "old" / "pump_2.csv", "cycle,vibration", [(1, 2)])
    told = said(tables.examine([tmp_path], schema))
    assert any(text.startswith(f"{tmp_path / 'old'}: is left alone, since the folder above it") for text in told)
    assert not any("is left alone, since" in text for text in said(tables.examine([tmp_path / "pump.csv"], schema)))


@pytest.mark.parametrize("header", ["", "horizontal,vertical\n"])
def test_recordings_of_waveforms_are_no_tables(header: str, tmp_path: Path) -> None:
    for bearing in ("Bearing1_1", "Bearing1_2"):
        for at in range(12):
            file = tmp_path / bearing / f"acc_{at:05d}.csv"
            file.parent.mkdir(exist_ok=True)
            file.write_text(header + "\n".join(f"{(-1) ** row * row / 7},{row % 5}" for row in range(50)))
    with pytest.raises(DataError, match=r"has 24 files in its folders .*fleet summarise"):
        folders.expand([tmp_path])


def test_a_column_and_a_folder_cannot_both_name_the_unit() -> None:
    text = b'name = "x"\nunit_column = "pump"\nunit_from = "folder"\nsensors = ["vibration"]\n'
    with pytest.raises(FleetError, match="unit_from and unit_column are both given"):
        fleet_file.parse(text, "fleet.toml")
