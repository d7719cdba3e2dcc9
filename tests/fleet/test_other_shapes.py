"""Tables without a row for each unit and step, and files that are parts of units: what is said, and what is guessed."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet.schema import End
from made_up_pumps import guessed, lives, said, write

BEGIN = datetime(2024, 1, 3, 6)


def test_a_column_for_each_unit_is_refused_with_a_remedy(tmp_path: Path) -> None:
    by_pump: dict[str, list[float]] = {}
    for unit, _, _, vibration, _ in lives(6):
        by_pump.setdefault(unit, []).append(vibration)
    longest = max(map(len, by_pump.values()))
    rows = [(t, *(life[t] if t < len(life) else "" for life in by_pump.values())) for t in range(longest)]
    header = ",".join(["time", *(f"pump_{at}" for at in range(1, 7))])
    with pytest.raises(DriftloopError, match=r"has a column for each unit, such as pump_1 and pump_2.*rows\.melt"):
        guessed(write(tmp_path / "vibration.csv", header, rows))
    # Cells of one pack are sensors: they all end with it.
    whole = [row for row in rows if "" not in row]
    assert len(guessed(write(tmp_path / "pack.csv", header, whole)).schema.sensors) == 6


def test_a_time_that_is_divided_over_columns_is_refused_with_a_remedy(tmp_path: Path) -> None:
    def parts(step: int) -> tuple[int, ...]:
        return (BEGIN + timedelta(hours=step)).timetuple()[:4]

    rows = [(unit, *parts(step), vibration, heat) for unit, step, _, vibration, heat in lives()]
    header = "pump,Year,Month,Day,Hour,vibration,heat"
    with pytest.raises(DriftloopError, match=r"divided over columns: Year, Month, Day, Hour.*to_datetime"):
        guessed(write(tmp_path / "pumps.csv", header, rows))
    stamped = [(BEGIN + timedelta(hours=int(step)), *row) for row, (_, step, *_) in zip(rows, lives(), strict=True)]
    assert guessed(write(tmp_path / "pumps.csv", f"time,{header}", stamped)).schema.time.column == "time"


@pytest.mark.parametrize("form", ["P{unit}_%Y%m%d", "%Y-%m-%d P{unit}", "pump-{unit}.%Y-%m-%d_%H%M%S"])
def test_files_that_are_days_of_fewer_units_are_told(form: str, tmp_path: Path) -> None:
    for unit in range(3):
        for day in range(5):
            begin = BEGIN + timedelta(days=day)
            rows = [(begin + timedelta(hours=hour), hour, day * unit + hour / 7) for hour in range(8)]
            write(tmp_path / f"{begin.strftime(form.format(unit=unit))}.csv", "time,load,vibration", rows)
    assert any("15 files differ by the dates in their names alone" in text for text in said(guessed(tmp_path)))
    again = tmp_path / "again"
    for at, path in enumerate(sorted(tmp_path.glob("*.csv"))[:6]):
        write(
            again / f"{BEGIN.date()}_P{at}.csv",
            "time,load,vibration",
            [line.split(",") for line in path.read_text().splitlines()[1:]],
        )
    assert not any("dates in their names" in text for text in said(guessed(again))), "units of one day have their names"


def test_a_step_that_no_two_digits_tell_loses_no_row(tmp_path: Path) -> None:
    rows = [(unit, round(45294 + step / 24, 6), vibration, heat) for unit, step, _, vibration, heat in lives()]
    found = guessed(write(tmp_path / "pumps.csv", "pump,day_of_excel,vibration,heat", rows))
    lengths = {unit: life for unit, _, life, _, _ in lives()}
    assert {unit.run.run_id: len(unit.run.rows) for unit in found.reading.units} == lengths


def test_a_remark_beside_nothing_ends_a_life(tmp_path: Path) -> None:
    rows = [
        (
            step + 200 * (unit > "P5"),
            "AB"[int(unit[1:]) % 2],
            vibration,
            "replaced after failure" if step == life else "",
        )
        for unit, step, life, vibration, _ in lives(4)
    ]
    found = guessed(
        write(tmp_path / "x.csv", "hour,asset,vibration,event", [(at, *row[1:]) for at, row in enumerate(rows)])
    )
    assert found.schema.end == End(rule="column", column="event", value="replaced after failure", after="new_life")
