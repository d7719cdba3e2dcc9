"""Tables of failures, whatever their headers are: which rows are failures, of whom, and when."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file, fleet_writer, inventory, schema, tables
from driftloop.fleet.schema import Censored, End
from made_up_pumps import guessed, lives, said, write


def readings(folder: Path, header: str = "stamp,asset_id,vibration,heat") -> None:
    """Twelve pumps with a row for each day from 2024-01-01 on."""
    write(folder / "readings.csv", header, [(day(s), u, v, h) for u, s, _, v, h in lives()])


def day(number: int) -> str:
    return f"2024-{1 + (number - 1) // 28:02d}-{1 + (number - 1) % 28:02d} 00:00:00"


def failed(found: object) -> dict[str, int]:
    """The steps of each life that ended in failure."""
    units = found.reading.units  # type: ignore[attr-defined]
    return {unit.run.run_id: len(unit.run.rows) for unit in units if not unit.run.censored}


@pytest.mark.parametrize(
    ("name", "header", "rows", "end"),
    [
        (
            "failures.csv", "asset,failure_date,part", [("P1", day(20), "seal"), ("P2", day(25), "rotor")],
            {"unit_column": "asset", "time_column": "failure_date"},
        ),
        (
            "work_orders.csv", "order,equipment,reported_at,closed_at,type",
            [(1, "P1", day(20), day(22), "breakdown"), (2, "P2", day(25), day(26), "breakdown"),
             (3, "P3", day(5), day(5), "inspection"), (4, "P2", day(9), day(9), "inspection")],
            {"unit_column": "equipment", "time_column": "reported_at", "column": "type", "value": "breakdown"},
        ),
        (
            "events.csv", "asset_id,stamp,failure", [("P1", day(20), 1), ("P3", day(5), 0), ("P2", day(25), 1)],
            {"column": "failure"},
        ),
        (
            "outages.csv", "Asset_ID;end_time;start_time".replace(";", ","),
            [("P1", day(24), day(20)), ("P2", day(30), day(25))],
            {"time_column": "start_time"},
        ),
        (
            "pumps.csv", "pump,installed,failed_on", [("P1", "2020-05-05", day(20)), ("P2", "2020-05-05", day(25)),
             ("P3", "2020-05-05", "")],
            {"unit_column": "pump", "time_column": "failed_on"},
        ),
    ],
)  # fmt: skip
def test_a_table_of_failures_is_found_whatever_its_headers(
    name: str, header: str, rows: Sequence[Sequence[object]], end: dict[str, str], tmp_path: Path
) -> None:
    readings(tmp_path)
    write(tmp_path / name, header, rows)
    found = guessed(tmp_path)
    assert found.schema.end == End(rule="table", file=name, after="new_life", **end)
    assert failed(found) == {"P1": 20, "P2": 25}
    again = fleet_file.parse(fleet_writer.toml_text(found.schema, found.comments).encode(), "fleet.toml")
    assert again == found.schema == schema.from_json(schema.to_json(found.schema), "here")
    reading = tables.examine([tmp_path], again)
    assert reading.findings.problems == []
    assert sum(not unit.run.censored for unit in reading.units) == 2


def test_repairs_and_errors_alone_are_no_failures(tmp_path: Path) -> None:
    readings(tmp_path)
    write(tmp_path / "maintenance.csv", "stamp,asset_id,comp", [(day(20), "P1", "comp1"), (day(21), "P2", "comp1")])
    found = guessed(tmp_path)
    assert found.schema.end == End()
    told = [text for text in said(found) if "maintenance.csv" in text]
    assert len(told) == 1
    assert 'if it tells when units failed, write file = "maintenance.csv" below [end]' in told[0]


def test_numbers_that_are_not_the_units_name_none(tmp_path: Path) -> None:
    rows = [(day(s), u[1:], v, h) for u, s, _, v, h in lives()]
    write(tmp_path / "readings.csv", "stamp,asset_id,vibration,heat", rows)
    write(tmp_path / "failures.csv", "severity,failure_date", [(at % 5, day(20)) for at in range(12)])
    assert guessed(tmp_path).schema.end == End()
    write(tmp_path / "failures.csv", "asset,severity,failure_date", [(1, 3, day(20)), (7, 2, day(25))])
    found = guessed(tmp_path)
    assert found.schema.end == End(
        rule="table", file="failures.csv", after="new_life", unit_column="asset", time_column="failure_date"
    )
    assert failed(found) == {"1": 20, "7": 25}


def test_failures_by_a_counter(tmp_path: Path) -> None:
    write(tmp_path / "runs.csv", "pump,cycle,vibration,heat", [(u, s, v, h) for u, s, _, v, h in lives()])
    write(tmp_path / "faults.csv", "unit,failed_at_cycle,age", [("P1", 20, 4), ("P2", 25, 5)])
    found = guessed(tmp_path)
    assert (found.schema.end.time_column, found.schema.end.unit_column) == ("failed_at_cycle", "unit")
    assert failed(found) == {"P1": 20, "P2": 25}


def test_the_only_unit_and_a_second_table(tmp_path: Path) -> None:
    rows = [(day(s), v, h) for u, s, _, v, h in lives(1)]
    write(tmp_path / "press.csv", "stamp,vibration,heat", rows)
    write(tmp_path / "failures.csv", "nr,start_time,end_time,failure", [(1, day(20), day(21), "air leak")])
    write(tmp_path / "faults_b.csv", "start_time,fault", [(day(30), "oil leak")])
    found = guessed(tmp_path)
    assert failed(found) == {"press": 20}
    assert any("faults_b.csv: tells of failures too, and failures.csv alone is read" in text for text in said(found))


def test_days_without_a_time_of_day_and_rows_without_a_time_are_told(tmp_path: Path) -> None:
    rows = [(f"2024-01-{1 + s // 24:02d} {s % 24:02d}:00", u, v, h) for u, s, _, v, h in lives()]
    write(tmp_path / "readings.csv", "stamp,pump,vibration,heat", rows)
    write(tmp_path / "failures.csv", "pump,failed_on", [("P1", "2024-01-02"), ("P2", "2024-01-02"), ("P3", "")])
    found = guessed(tmp_path)
    assert failed(found) == {"P1": 24, "P2": 24}
    texts = said(found)
    assert any("failed_on tells days and no time of day" in text for text in texts)
    assert any("1 row has no failed_on: no failure is told" in text for text in texts)
    write(tmp_path / "failures.csv", "pump,failed_on", [("P1", "soon")])
    with pytest.raises(DriftloopError, match=r"failures.csv:2: failed_on is no time"):
        tables.read([tmp_path / "readings.csv"], found.schema)


def test_units_that_were_taken_out_are_found_under_another_header(tmp_path: Path) -> None:
    readings(tmp_path)
    write(tmp_path / "fleet.csv", "equipment,censored", [(f"P{at}", int(at < 3)) for at in range(12)])
    found = guessed(tmp_path)
    assert found.schema.censored == Censored(column="censored", file="fleet.csv", unit_column="equipment")
    assert sum(unit.run.censored for unit in found.reading.units) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[end]\ncolumn = "x"\ntime_column = "when"', "time_column is given, but no file"),
        ('[end]\ncolumn = "x"\nunit_column = "pump"', "unit_column is given, but no file"),
        ('[censored]\ncolumn = "x"\nunit_column = "pump"', "unit_column is given, but no file"),
    ],
)
def test_headers_of_a_table_that_is_not_named_are_refused(more: str, message: str) -> None:
    content = f'name = "pumps"\nsensors = ["volt"]\ntime = "hour"\n{more}\n'
    with pytest.raises(DriftloopError, match=message):
        fleet_file.parse(content.encode(), "fleet.toml")


def test_files_that_are_each_a_day_are_no_units(tmp_path: Path) -> None:
    by_day: dict[int, list[Sequence[object]]] = {}
    for unit, step, _, vibration, heat in lives():
        by_day.setdefault(step, []).append((unit[1:], f"202401{step:02d}", vibration, heat))
    for step, rows in by_day.items():
        if step <= 31:
            write(tmp_path / f"202401{step:02d}.csv", "disk_id,ds,smart_1,smart_2", rows)
    write(
        tmp_path / "tags.csv", "model,failure_time,disk_id", [("MA1", "2024-01-20 13:00", 1), ("MA1", "2024-01-25", 2)]
    )
    found = guessed(tmp_path)
    assert (found.schema.unit, found.schema.unit_column, found.schema.time.column) == ("disk", "disk_id", "ds")
    assert failed(found) == {"1": 20, "2": 25}
    for path in tmp_path.glob("2024*.csv"):
        path.write_text(path.read_text().replace("disk_id", "zzz"))
    with pytest.raises(DriftloopError, match="each one ds, and no column says whose row it is"):
        guessed(tmp_path)


def test_of_large_files_that_are_each_a_day_some_rows_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "MOST_ROWS", 60)
    monkeypatch.setattr(inventory, "_LEAST_OF_EACH", 6)
    for step in range(1, 25):
        there = [at for at in range(80) if at != 7 or step <= 20]
        rows = [(day(step)[:10], f"Z{at:03d}", int(at == 7 and step == 20), at + step * 0.1) for at in there]
        write(tmp_path / f"{day(step)[:10]}.csv", "date,serial_number,failure,smart_1", rows)
    found = guessed(tmp_path)
    assert (found.schema.unit_column, found.schema.time.column) == ("serial_number", "date")
    assert len(found.reading.units) == 80
    assert found.schema.end == End(rule="column", column="failure", after="new_life")
    assert failed(found) == {"Z007": 20}


def test_rows_of_another_unit_each_are_told(tmp_path: Path) -> None:
    rows = [(at + 1, f"L{at + 100}", at % 7 + 0.5, int(at % 40 == 39)) for at in range(400)]
    found = guessed(write(tmp_path / "products.csv", "UDI,Product ID,Torque,Machine failure", rows))
    assert any("Product ID is another in nearly every row" in text for text in said(found))


def test_a_folder_without_tables_says_what_is_there(tmp_path: Path) -> None:
    for at in range(12):
        write(tmp_path / "ims" / "1st_test" / f"2003.10.22.12.{at:02d}.24", f"{at}\t{at + 1}", [(at, 2)], sep="\t")
    with pytest.raises(DriftloopError, match=r"11 others do not end as one .*driftloop fleet summarise"):
        guessed(tmp_path / "ims")
    (tmp_path / "h5").mkdir()
    (tmp_path / "h5" / "DS02.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DriftloopError, match=r"has no tables: DS02\.h5 is an HDF5 file .*h5py"):
        guessed(tmp_path / "h5")


def test_failures_that_nobody_named_are_found_in_the_same_folder(tmp_path: Path) -> None:
    readings(tmp_path)
    write(tmp_path / "failures.csv", "asset,failure_date", [("P1", day(20)), ("P2", day(25))])
    write(tmp_path / "prices.csv", "article,price", [("screw", 1), ("nut", 2)])
    (tmp_path / "damaged.csv").write_bytes(b"\x00\x01\x02" * 50)
    (tmp_path / "ragged.csv").write_text("a,b\n" + "1,2\n" * 40 + "1,2,3\n")
    found = guessed(tmp_path / "readings.csv")
    assert failed(found) == {"P1": 20, "P2": 25}
    assert not any("prices" in text or "damaged" in text for text in said(found))
    (tmp_path / "failures.csv").rename(tmp_path / "visits.csv")
    write(tmp_path / "visits.csv", "asset,seen", [("P1", day(20)), ("P2", day(25))])
    found = guessed(tmp_path / "readings.csv")
    assert found.schema.end == End()
    assert any("visits.csv: was not looked at" in text and "below [end]" in text for text in said(found))


def test_failures_of_units_that_are_spelt_otherwise_are_no_silence(tmp_path: Path) -> None:
    readings(tmp_path)
    write(tmp_path / "failures.csv", "asset,failure_date", [("pump no. 1", day(20)), ("pump no. 2", day(25))])
    found = guessed(tmp_path)
    assert found.schema.end == End()
    warned = [finding for finding in found.reading.findings if finding.level == "warning"]
    assert any("failures.csv" in finding.where and "below [end]" in str(finding.remedy) for finding in warned)
