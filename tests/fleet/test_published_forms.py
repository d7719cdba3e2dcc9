"""Run-to-failure data in the forms in which they are published: what is guessed for them, or what is said."""

import json
from pathlib import Path

import numpy as np
import pytest

from driftloop import cli, fleets
from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file, tables, waveforms
from driftloop.fleet.schema import Censored, End, Schema, Time
from made_up_pumps import guessed, lives, said, write

# Failures in a table of their own


def telemetry(folder: Path) -> Path:
    """One pump that fails after hours 3 and 6, one that never does; hours are times, at full hours."""
    rows = [(f"2024-01-01 {hour:02d}:00", unit, hour) for unit in "ab" for hour in range(1, 9)]
    return write(folder / "telemetry.csv", "datetime,machineID,volt", rows)


BY_TABLE = """
name = "pumps"
unit = "pump"
unit_column = "machineID"
sensors = ["volt"]
time = {{ column = "datetime", kind = "timestamp", every = "1h" }}
[end]
file = "failures.csv"
{more}
"""


def by_table(more: str = 'after = "new_life"') -> Schema:
    return fleet_file.parse(BY_TABLE.format(more=more).encode(), "fleet.toml")


def rows_of(reading: tables.Reading) -> dict[str, tuple[list[float], bool]]:
    assert reading.findings.problems == []
    return {unit.run.run_id: (unit.run.rows[:, 0].tolist(), unit.run.censored) for unit in reading.units}


def test_lives_end_at_the_last_row_before_a_failure(tmp_path: Path) -> None:
    telemetry(tmp_path)
    failures = [("2024-01-01 06:00", "a", "seal"), ("2024-01-01 03:20", "a", "bearing")]
    write(tmp_path / "failures.csv", "datetime,machineID,part", failures)
    assert rows_of(tables.examine([tmp_path], by_table())) == {
        "a": ([1, 2, 3], False),
        "a.life2": ([4, 5, 6], False),
        "a.life3": ([7, 8], True),
        "b": ([1, 2, 3, 4, 5, 6, 7, 8], True),
    }
    assert rows_of(tables.examine([tmp_path / "telemetry.csv"], by_table("")))["a"] == ([1, 2, 3], False)
    chosen = by_table('column = "part"\nvalue = "seal"')
    assert rows_of(tables.examine([tmp_path], chosen))["a"] == ([1, 2, 3, 4, 5, 6], False)


def test_failures_without_rows_are_told(tmp_path: Path) -> None:
    telemetry(tmp_path)
    failures = [("2023-01-01 00:00", "a"), ("2024-01-01 09:30", "b"), ("2024-05-01 00:00", "a"), ("2024-01-01", "c")]
    write(tmp_path / "failures.csv", "datetime,machineID", failures)
    reading = tables.examine([tmp_path], by_table())
    assert rows_of(reading) == {"a": ([*range(1, 9)], True), "b": ([*range(1, 9)], False)}
    assert any(
        "2 failures of pump a came before its first row, or long after its last one" in text for text in said(reading)
    )
    assert any("pump c failed, and is not in the data" in text for text in said(reading))


def test_failures_of_the_only_unit_need_no_name(tmp_path: Path) -> None:
    schema = fleet_file.parse(BY_TABLE.format(more="").replace('unit_column = "machineID"', "").encode(), "fleet.toml")
    write(tmp_path / "press.csv", "datetime,volt", [(f"2024-01-01 {hour:02d}:00", hour) for hour in range(1, 9)])
    write(tmp_path / "failures.csv", "datetime", [("2024-01-01 05:59",)])
    assert rows_of(tables.examine([tmp_path], schema)) == {"press": ([1, 2, 3, 4, 5], False)}
    write(tmp_path / "other.csv", "datetime,volt", [("2024-01-01 01:00", 1), ("2024-01-01 02:00", 2)])
    found = said(tables.examine([tmp_path], schema))
    assert any("failures.csv: names no pump, and the data are of 2" in text for text in found)
    write(tmp_path / "failures.csv", "datetime,unit", [("2024-01-01 05:59", "press")])
    assert rows_of(tables.examine([tmp_path], schema))["press"] == ([1, 2, 3, 4, 5], False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there, and the fleet file says that it tells when pumps failed"),
        ("datetime,machineID\n", "has no rows"),
        ("", "failures.csv: is empty"),
        ("when,machineID\n2024-01-01,a\n", "has no column 'datetime'"),
        ("datetime,machineID\nyesterday,a\n", "failures.csv:2: datetime is no time"),
    ],
)
def test_a_table_of_failures_that_says_nothing_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    telemetry(tmp_path)
    if content is not None:
        (tmp_path / "failures.csv").write_text(content)
    with pytest.raises(DriftloopError) as error:
        tables.read([tmp_path / "telemetry.csv"], by_table())
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('sensor = "volt"\nbelow = 1', "says nothing where rule = 'table'"),
        ('rule = "column"\ncolumn = "part"', "rule = 'column', and file is failures.csv"),
        ('value = "seal"', "value is given, but no column"),
    ],
)
def test_keys_that_contradict_a_table_of_failures_are_refused(more: str, message: str) -> None:
    with pytest.raises(DriftloopError, match=message):
        by_table(more)


def test_a_schema_with_a_table_of_failures_survives_writing() -> None:
    from driftloop.fleet import fleet_writer, schema

    one = by_table()
    assert fleet_file.parse(fleet_writer.toml_text(one).encode(), "fleet.toml") == one
    assert schema.from_json(schema.to_json(one), "here") == one
    assert b'"file"' not in schema.to_json(fleets.load("cmapss")).partition(b'"end"')[2].partition(b"}")[0]


def test_tables_of_failures_and_of_repairs_are_found(tmp_path: Path) -> None:
    rows = list(lives())
    write(tmp_path / "PdM_telemetry.csv", "hour,machineID,volt,heat", [(s, u, v, h) for u, s, _, v, h in rows])
    write(tmp_path / "PdM_machines.csv", "machineID,model", [(f"P{at}", "model3") for at in range(12)])
    write(tmp_path / "PdM_failures.csv", "hour,machineID,failure", [(20, "P1", "comp1"), (25, "P2", "comp2")])
    found = guessed(tmp_path)
    assert found.schema.end == End(rule="table", file="PdM_failures.csv", after="new_life")
    assert sum(not unit.run.censored for unit in found.reading.units) == 2
    (tmp_path / "PdM_failures.csv").unlink()
    write(tmp_path / "tte.csv", "machineID,in_study_repair", [(f"P{at}", int(at % 3 == 0)) for at in range(12)])
    found = guessed(tmp_path)
    assert found.schema.censored == Censored(column="in_study_repair", value=0, file="tte.csv")
    assert sum(not unit.run.censored for unit in found.reading.units) == 4


def test_a_word_for_broken_among_states_ends_a_life(tmp_path: Path) -> None:
    states = {30: "BROKEN", 31: "RECOVERING", 70: "BROKEN"}
    rows = [(hour, hour % 7 + 0.25, states.get(hour, "NORMAL")) for hour in range(1, 91)]
    found = guessed(write(tmp_path / "sensor.csv", "hour,vibration,machine_status", rows))
    assert found.schema.end == End(rule="column", column="machine_status", value="BROKEN", after="new_life")
    assert [len(unit.run.rows) for unit in found.reading.units] == [30, 40, 20]


# Rows, columns, cells


def test_many_rows_with_one_count_are_one_step(tmp_path: Path) -> None:
    rows = [(u, s, v + at, h) for u, s, _, v, h in lives() for at in (0.0, 1.0, 2.0)]
    found = guessed(write(tmp_path / "flights.csv", "unit,cycle,vibration,heat", rows))
    assert found.schema.time == Time(column="cycle", every="1", between="mean")
    first = next(iter(lives()))
    assert found.reading.units[0].run.rows[0] == pytest.approx([first[3] + 1, first[4]])


def test_of_a_plant_and_its_pumps_the_pumps_are_units(tmp_path: Path) -> None:
    rows = [(f"plant{int(u[1:]) % 2}", u, s, v, h) for u, s, _, v, h in lives()]
    found = guessed(write(tmp_path / "pumps.csv", "plant,pump,hour,vibration,heat", rows))
    assert found.schema.unit_column == "pump"
    assert len(found.reading.units) == 12


def test_rows_that_another_column_tells_apart_are_not_merged_without_a_word(tmp_path: Path) -> None:
    rows = [(u, side, s, v, h) for u, s, _, v, h in lives() for side in ("drive end", "other end")]
    found = guessed(write(tmp_path / "pumps.csv", "pump,bearing_side,hour,vibration,heat", rows))
    assert any("rows of one pump and hour are told apart by bearing_side" in text for text in said(found))
    once = guessed(write(tmp_path / "one.csv", "pump,bearing_side,hour,vibration,heat", rows[::2]))
    assert not any("told apart" in text for text in said(once))
    assert once.left_out["bearing_side"].startswith("holds words, such as 'drive end'")


def test_one_reading_in_each_row_is_refused_with_a_pivot(tmp_path: Path) -> None:
    rows = [(s, u, tag, value) for u, s, _, v, h in lives() for tag, value in (("vibration", v), ("heat", h))]
    with pytest.raises(DriftloopError) as error:
        guessed(write(tmp_path / "historian.csv", "hour,asset,tag,value", rows))
    pivot = "rows.pivot_table(index=['asset', 'hour'], columns='tag', values='value')"
    assert "tag says of which sensor, as 'vibration'" in str(error.value)
    assert pivot in str(error.value)
    several = [(s, u, "ab"[s % 2], v, h) for u, s, _, v, h in lives()]
    found = guessed(write(tmp_path / "pumps.csv", "hour,asset,channel,reading,heat", several))
    assert found.schema.sensor_names == ("reading", "heat")


def test_words_of_a_logger_and_two_markers_are_missing_values(tmp_path: Path) -> None:
    rows: list[list[object]] = [[u, s, v, h] for u, s, _, v, h in lives()]
    for at in range(0, len(rows), 11):
        rows[at][2] = ("Bad", "I/O Timeout", -999, 9999)[at // 11 % 4]
    found = guessed(write(tmp_path / "pumps.csv", "pump,hour,vibration,heat", rows))
    assert set(found.schema.missing_values) == {"Bad", "I/O Timeout", -999, 9999}
    assert said(found) == []
    vibration = np.concatenate([unit.run.rows[:, 0] for unit in found.reading.units])
    assert np.isnan(vibration).sum() == len(range(0, len(rows), 11))
    assert np.nanmax(vibration) < 4


def test_a_typing_error_is_no_word_for_missing(tmp_path: Path) -> None:
    rows: list[list[object]] = [[u, s, v, h] for u, s, _, v, h in lives()]
    rows[7][2] = "1.2.3"
    found = guessed(write(tmp_path / "pumps.csv", "pump,hour,vibration,heat", rows))
    assert found.schema.missing_values == ()
    assert any("pumps.csv:9: vibration is '1.2.3', not a number" in text for text in said(found))


def test_shares_and_truths_are_numbers(tmp_path: Path) -> None:
    rows = [(u, s, v, f"{s % 50} %", ("ja", "nein")[s % 2], str(s % 3 == 0)) for u, s, _, v, _ in lives()]
    found = guessed(write(tmp_path / "pumps.csv", "pump,hour,vibration,filling,running,valve", rows))
    assert found.schema.sensor_names == ("vibration", "filling", "running", "valve")
    assert found.reading.units[0].run.rows[:2, 1:].tolist() == [[1, 0, 0], [2, 1, 0]]


def test_what_lies_below_a_table_is_no_row_and_told(tmp_path: Path) -> None:
    head = ["Auswertung;;;;", "Stammdaten;;Messwerte;;", "Pumpe;Stunde;Druck;Wärme;", ";;bar;°C;"]
    body = [f"{u};{s};{1200 + v:,.2f};{h:.1f};".translate(str.maketrans(",.", ".,")) for u, s, _, v, h in lives()]
    foot = ["Summe;;1.234.567,89;;", "Erstellt von: A. Muster;;;;"]
    (tmp_path / "Auswertung.csv").write_bytes("\r\n".join([*head, *body, *foot]).encode("cp1252"))
    found = guessed(tmp_path)
    assert (found.schema.unit_column, found.schema.time.column) == ("Pumpe", "Stunde")
    assert [(channel.name, channel.unit) for channel in found.schema.sensors] == [("Druck", "bar"), ("Warme", "°C")]
    assert found.reading.findings.problems == []
    line = len(head) + len(body) + 1
    assert any(f"Auswertung.csv:{line}: is no row: a sum, or a remark; 2 such lines" in text for text in said(found))


def test_columns_of_one_name_are_left_out_and_the_others_used(tmp_path: Path) -> None:
    rows = [(u, s, v, h, 1, 2) for u, s, _, v, h in lives()]
    found = guessed(write(tmp_path / "pumps.csv", "pump,hour,vibration,heat,value,Value", rows))
    assert found.schema.sensor_names == ("vibration", "heat")
    assert found.left_out["value"] == "is there more than once: give each a name of its own"


def test_classes_of_the_label_are_no_sensors(tmp_path: Path) -> None:
    rows = [(u, s, v, int(n - s < 15) + int(n - s < 30), int(n - s < 30)) for u, s, n, v, _ in lives()]
    found = guessed(write(tmp_path / "pumps.csv", "pump,hour,vibration,class,soon", rows))
    assert found.schema.sensor_names == ("vibration",)
    assert found.left_out["class"].startswith("changes 30 and 15 steps before the end in all units")
    assert found.left_out["soon"].startswith("changes 30 steps before the end in all units")


def test_an_hour_that_is_there_twice_is_told(tmp_path: Path) -> None:
    hours = [*range(20, 24), *(24 + hour for hour in (0, 1, 2, 2, 3, 4, 5))]
    rows = [
        (u, f"2023-10-{28 + hour // 24} {hour % 24:02d}:00", at * 7 % 5) for u in "abc" for at, hour in enumerate(hours)
    ]
    found = guessed(write(tmp_path / "pumps.csv", "pump,time,heat", rows))
    assert [len(unit.run.rows) for unit in found.reading.units] == [10, 10, 10]
    assert any("1 rows of pump a are of the same hour as others: the last one counts" in text for text in said(found))
    assert any("an hour is there twice when summer ends" in text for text in said(found))


def test_an_hour_that_is_there_twice_is_no_reason_for_two_rows_in_a_week(tmp_path: Path) -> None:
    days = [day for week in range(40) for day in ([7 * week] if week % 8 else [7 * week, 7 * week + 1])]
    rows = [(u, f"{np.datetime64('2020-01-06') + day}", at * 7 % 5) for u in "abc" for at, day in enumerate(days)]
    told = said(guessed(write(tmp_path / "oil.csv", "truck,date,iron", rows)))
    assert any("are of the same" in text for text in told)
    assert not any("summer" in text for text in told)


def test_steps_without_rows_are_not_told_of_every_column(tmp_path: Path) -> None:
    rows = [(u, s * 3 if s < 20 else s * 3 + 300, v, h) for u, s, _, v, h in lives()]
    write(tmp_path / "pumps.csv", "pump,hour,vibration,heat", rows)
    schema = fleet_file.parse(
        b'name="p"\nunit="pump"\nunit_column="pump"\nsensors=["vibration","heat"]\ntime="hour"', "fleet.toml"
    )
    found = said(tables.examine([tmp_path], schema))
    assert any("the others count as missing" in text for text in found)
    assert not any("vibration is missing" in text for text in found)


# Files


def test_files_of_units_that_were_cut_off_are_named(tmp_path: Path) -> None:
    rows = list(lives())
    write(tmp_path / "Train_Data.csv", "Data_No,hour,vibration,heat", [(u, s, v, h) for u, s, _, v, h in rows])
    write(
        tmp_path / "Test_Data.csv", "Data_No,hour,vibration,heat,RUL",
        [(f"T{u}", s, v, h, n - s) for u, s, n, v, h in rows if s < n / 2],
    )  # fmt: skip
    found = guessed(tmp_path)
    assert len(found.reading.units) == 12
    assert any("Test_Data.csv: was not looked at" in text and "it has RUL" in text for text in said(found))
    reading = tables.examine([tmp_path], found.schema)
    assert any("Test_Data.csv: is called a test file: its units were perhaps cut off" in text for text in said(reading))
    assert not any("test file" in text for text in said(tables.examine([tmp_path / "Test_Data.csv"], found.schema)))


def test_lives_that_are_all_as_long_are_suspicious(tmp_path: Path) -> None:
    for unit in range(6):
        write(tmp_path / f"{unit + 1}.csv", "vibration,heat", [(at % 5 + unit, at * 0.5) for at in range(64)])
    found = guessed(tmp_path)
    assert any("all 6 lives are 64 steps long" in text and "driftloop fleet summarise" in text for text in said(found))


# Waveforms


def nobody(*_: int) -> None:
    """Tell nobody how far it is."""


def recordings(folder: Path, unit: str, count: int, header: str = "horizontal,vertical\n") -> None:
    for file in range(1, count + 1):
        rows = "".join(f"{file * (-1) ** at},{at}\n" for at in range(8))
        (folder / unit).mkdir(parents=True, exist_ok=True)
        (folder / unit / f"{file}.csv").write_text(header + rows)


def test_each_recording_becomes_a_row_in_the_order_of_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recordings(tmp_path / "data" / "35Hz", "Bearing1", 11)
    recordings(tmp_path / "data" / "40Hz", "Bearing1", 3)
    recordings(tmp_path / "data" / "40Hz", "Bearing2", 2)
    assert cli.main(["fleet", "summarise", "data", "--columns", "horizontal"]) == 0
    assert "runs.csv: 3 units, 16 rows, one for each recording." in capsys.readouterr().out
    lines = Path("runs.csv").read_text().splitlines()
    assert lines[0] == "unit,step," + ",".join(f"horizontal_{feature}" for feature in waveforms.FEATURES)
    assert lines[1] == "35Hz-Bearing1,1,0,1,1,1,1,1"
    assert lines[10] == "35Hz-Bearing1,10,0,10,10,10,1,1"
    assert [line.split(",")[0] for line in lines[12:]] == ["40Hz-Bearing1"] * 3 + ["Bearing2"] * 2
    assert cli.main(["fleet", "summarise", "data"]) == 2
    assert "runs.csv: is there already" in capsys.readouterr().err


def test_recordings_without_a_header_are_told_by_place(tmp_path: Path) -> None:
    recordings(tmp_path, "a", 2, header="")
    (tmp_path / "a" / "temp.csv").write_text("1;2\n3;4\n")
    to = tmp_path / "runs.csv"
    assert waveforms.summarise(tmp_path, "[0-9]*.csv", ["2"], to, nobody) == (1, 2)
    assert to.read_text().splitlines()[1].startswith("a,1,3.5,")
    with pytest.raises(DriftloopError, match="has no column '7'"):
        waveforms.summarise(tmp_path, "*.csv", ["7"], to, nobody)
    with pytest.raises(DriftloopError, match="has no folder with 2 recordings"):
        waveforms.summarise(tmp_path, "acc*", [], to, nobody)


def test_a_waveform_is_told_by_its_shape() -> None:
    values = np.array([3.0, -1.0, np.nan, -1.0, -1.0])
    mean, std, rms, peak, kurtosis, crest = waveforms.features(values)
    assert (mean, peak) == (0.0, 3.0)
    assert (std, rms, crest) == pytest.approx((3**0.5, 3**0.5, 3**0.5))
    assert kurtosis == pytest.approx((81 + 3) / 4 / 9)
    assert waveforms.features(np.ones(4)) == (1, 0, 1, 1, 0, 1)
    assert all(np.isnan(waveforms.features(np.full(3, np.nan))))


def test_check_says_that_nobody_named_a_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pumps.csv", "pump,hour,heat", [("a", 1, 2), ("a", 2, 3)])
    assert cli.main(["fleet", "check", "pumps.csv"]) == 2
    assert "No fleet.toml is here or beside the data, so they were read as cmapss: driftloop fleet init pumps.csv" in (
        capsys.readouterr().out
    )
    assert cli.main(["fleet", "check", "--json", "pumps.csv"]) == 2
    assert json.loads(capsys.readouterr().out)["usable"] is False
