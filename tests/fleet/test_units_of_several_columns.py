"""Units that several columns name together: an asset and its component, a machine and its bearing."""

from pathlib import Path

import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file, fleet_writer, schema, tables
from driftloop.units import sending
from driftloop.units.rows import BadRow, Reader, Row
from made_up_pumps import guessed, lives, said, write

FILE = """
name = "assets"
unit = "component"
unit_column = ["asset", "component"]
time = "cycle"
sensors = ["vibration", "heat"]
"""


def parsed(more: str = "") -> schema.Schema:
    return fleet_file.parse((FILE + more).encode(), "fleet.toml")


def assets(path: Path) -> Path:
    """Six assets with a motor and a gearbox, which fail at times of their own, in the order of time."""
    rows = [(f"A{int(u[1:]) // 2}", ("motor", "gearbox")[int(u[1:]) % 2], s, v, h) for u, s, _, v, h in lives()]
    return write(path, "asset,component,cycle,vibration,heat", sorted(rows, key=lambda row: (row[0], row[2])))


def test_parts_with_lives_of_their_own_are_units(tmp_path: Path) -> None:
    found = guessed(assets(tmp_path / "runs.csv"))
    assert (found.schema.unit, found.schema.unit_column) == ("component", ("asset", "component"))
    assert {unit.run.run_id: len(unit.run.rows) for unit in found.reading.units} == {
        f"A{int(unit[1:]) // 2}-{('motor', 'gearbox')[int(unit[1:]) % 2]}": life for unit, _, life, _, _ in lives()
    }
    assert any("told apart by component: each pair is taken as a unit of its own" in text for text in said(found))
    again = fleet_file.parse(fleet_writer.toml_text(found.schema, found.comments).encode(), "fleet.toml")
    assert again == found.schema == schema.from_json(schema.to_json(found.schema), "here")
    assert tables.read([tmp_path / "runs.csv"], again).runs[0].run_id == "A0-motor"


def test_parts_that_end_together_are_asked_about(tmp_path: Path) -> None:
    rows = [(u, side, s, v, h) for u, s, _, v, h in lives() for side in ("left", "right")]
    found = guessed(write(tmp_path / "runs.csv", "pump,side,hour,vibration,heat", rows))
    assert found.schema.unit_column == "pump"
    assert any('write unit_column = ["pump", "side"]' in text for text in said(found))


def test_tables_beside_name_all_columns_of_a_unit(tmp_path: Path) -> None:
    assets(tmp_path / "runs.csv")
    write(tmp_path / "failures.csv", "asset,component,cycle", [("A0", "motor", 20), ("A2", "gearbox", 25)])
    write(tmp_path / "out.csv", "machine,part,out", [("A0", "motor", 0), ("A0", "gearbox", 1)])
    reading = tables.examine([tmp_path / "runs.csv"], parsed('[end]\nfile = "failures.csv"\n'))
    assert reading.findings.problems == []
    assert {u.run.run_id: len(u.run.rows) for u in reading.units if not u.run.censored} == {
        "A0-motor": 20,
        "A2-gearbox": 25,
    }
    more = '[censored]\nfile = "out.csv"\ncolumn = "out"\nunit_column = ["machine", "part"]\n'
    reading = tables.examine([tmp_path / "runs.csv"], parsed(more))
    out = {unit.run.run_id: unit.run.censored for unit in reading.units}
    assert out["A0-gearbox"]
    assert not out["A0-motor"]
    write(tmp_path / "failures.csv", "asset,cycle", [("A0", 20)])
    with pytest.raises(DriftloopError, match="has no column 'component'"):
        tables.read([tmp_path / "runs.csv"], parsed('[end]\nfile = "failures.csv"\n'))


def test_two_units_never_become_one(tmp_path: Path) -> None:
    rows = [("a-b", "c", 1, 1, 1), ("a", "b-c", 1, 2, 2), ("", "d", 1, 3, 3)]
    write(tmp_path / "runs.csv", "asset,component,cycle,vibration,heat", rows)
    found = [str(one) for one in tables.examine([tmp_path / "runs.csv"], parsed()).findings.problems]
    assert any("runs.csv:3: 'a-b' and 'c' would be called a-b-c, as 'a' and 'b-c' is" in text for text in found)
    assert any("runs.csv:4: asset is empty: nobody knows whose row this is" in text for text in found)


def test_a_row_in_service_names_its_unit_by_all_columns(tmp_path: Path) -> None:
    read = Reader(parsed())
    row = read.row({"asset": "A1", "component": "motor", "cycle": 1, "vibration": 2, "heat": 3})
    assert isinstance(row, Row)
    assert row.unit == "A1-motor"
    row = read.row({"unit": "A1-motor", "cycle": 1, "vibration": 2})
    assert isinstance(row, Row)
    bad = read.row({"asset": "A1", "cycle": 1, "vibration": 2})
    assert bad == BadRow("unit", "is missing: nobody knows whose row this is")
    table = next(sending.rows_of(assets(tmp_path / "runs.csv"), parsed()))
    assert table["rows"][0][0] == "A0-motor"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('["asset", "asset"]', "unit_column names 'asset' twice"),
        ("[]", "unit_column names no column"),
        ('["asset", "cycle"]', "'cycle' is unit_column too"),
        ('["asset", "heat"]', "'heat' is unit_column already"),
    ],
)
def test_columns_that_name_no_unit_are_refused(written: str, message: str) -> None:
    content = FILE.replace('["asset", "component"]', written)
    with pytest.raises(DriftloopError, match=message):
        fleet_file.parse(content.encode(), "fleet.toml")
