"""What stands above and below a table, and where it ends too early: told, and never taken for rows."""

import gzip
from pathlib import Path

import pytest

from driftloop.errors import DataError
from driftloop.fleet import fleet_file, guess
from driftloop.fleet.tables import read

PUMPS_BY_HOUR = fleet_file.parse(
    b'name = "x"\nunit_column = "unit"\ntime = "hour"\nsensors = ["vibration"]\n', "fleet.toml"
)
FOOTED = "unit,hour,vibration\n" + "".join(f"P{unit},{hour},{hour}.5\n" for unit in range(4) for hour in range(1, 9))


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_within_which_the_file_ends_is_left_out_and_told(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("log.csv.gz" if packed else "log.csv")
    content = (FOOTED + "P4,1").encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    reading = read([path], PUMPS_BY_HOUR)
    assert len(reading.units) == 4
    told = [str(finding) for finding in reading.findings]
    assert any(f"{path}:34: the file ends within this line, which is left out" in text for text in told)


def test_a_short_line_that_ends_is_refused_and_so_is_a_quote_that_takes_in_rows(tmp_path: Path) -> None:
    for name, content in (("short", FOOTED + "P4,1\n"), ("quote", FOOTED.replace("P2,3", '"P2,3'))):
        path = tmp_path / f"{name}.csv"
        path.write_text(content)
        with pytest.raises(DataError, match="instead of 3"):
            read([path], PUMPS_BY_HOUR)


def test_a_remark_of_one_cell_below_the_table_is_told_once_for_all_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(FOOTED.replace("P", name) + "End of file\n")
    reading = read([tmp_path], PUMPS_BY_HOUR)
    assert len(reading.units) == 12
    assert [str(f) for f in reading.findings if "is no row" in str(f)] == [
        f"{tmp_path / 'a.csv'}:34: is no row: a sum, or a remark; it is left out; 2 more like this"
    ]


GROUPS = ";;Drive end;;Non-drive end;\nunit;hour;vib;temp;vib;temp\n" + "".join(
    f"P{unit};{hour};{hour * 7 % 5};{hour * 11 % 7};{hour * 5 % 6};{hour * 3 % 7}\n"
    for unit in range(4)
    for hour in range(1, 9)
)


def test_columns_that_repeat_are_told_apart_by_their_groups(tmp_path: Path) -> None:
    (tmp_path / "report.csv").write_text(GROUPS)
    (tmp_path / "titled.csv").write_text(GROUPS.replace(";;Drive end;;Non-drive end;", "Report;;;;;"))
    grouped = guess.guess([tmp_path / "report.csv"])
    assert [channel.header for channel in grouped.schema.sensors] == [
        "Drive end vib", "Drive end temp", "Non-drive end vib", "Non-drive end temp",
    ]  # fmt: skip
    with pytest.raises(DataError, match="vib is there more than once"):
        guess.guess([tmp_path / "titled.csv"])
