"""Tables in the form in which people have them: read the same however they are written, or refused with a remedy."""

import gzip
import math
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftloop import fleets
from driftloop.errors import DataError
from driftloop.fleet import folders, names
from driftloop.fleet.fleet_file import parse
from driftloop.fleet.schema import Schema
from driftloop.fleet.tables import Reading, examine, read

FLEETS_DIR = Path(os.environ["FLEETS_DIR"]) if os.environ.get("FLEETS_DIR") else None
EXAMPLES = Path(__file__).parents[2] / "examples"
needs_fleets = pytest.mark.skipif(FLEETS_DIR is None, reason="FLEETS_DIR is not set: no real fleets to read")

Write = Callable[..., Path]

PUMPS = """
name = "pumps"
unit = "pump"
step = "hour"
unit_column = "pump"
settings = ["load"]
sensors = ["vibration", { name = "temperature", source = "Temp. (°C)" }]
time = { column = "hour" }
"""


def schema(text: str = PUMPS, **changes: str) -> Schema:
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse(text.encode(), "fleet.toml")


TWO = "pump,hour,load,vibration,Temp. (°C)\na,1,1,0.5,20\na,2,1,0.6,21\nb,1,2,0.25,30\nb,2,2,,31\nb,3,2,0.75,1234.5\n"
A = [[1, 0.5, 20], [1, 0.6, 21]]
B = [[2, 0.25, 30], [2, math.nan, 31], [2, 0.75, 1234.5]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: str | bytes, name: str = "pumps.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return path

    return written


def rows(reading: Reading) -> dict[str, list[list[float]]]:
    return {unit.name: unit.run.rows.tolist() for unit in reading.units}


def same(found: Reading, **wanted: list[list[float]]) -> None:
    assert [unit.name for unit in found.units] == list(wanted)
    for unit in found.units:
        np.testing.assert_array_equal(unit.run.rows, np.array(wanted[unit.name], dtype=np.float64))


def notes(reading: Reading) -> list[str]:
    return [finding.what for finding in reading.findings if finding.level == "note"]


# Forms


def test_a_plain_table_gives_a_run_for_each_unit(write: Write) -> None:
    found = read([write(TWO)], schema())

    same(found, a=A, b=B)
    assert [unit.run.run_id for unit in found.units] == ["a", "b"]
    assert [(unit.first_index, unit.read, unit.run.censored, unit.run.remaining) for unit in found.units] == [
        (1, 2, False, 0),
        (1, 3, False, 0),
    ]
    assert found.units[1].where.endswith("pumps.csv:4")
    assert not list(found.findings)


GERMAN = TWO.replace(",", ";").replace(".5", ",5").replace("0.", "0,").replace("1234,5", "1.234,5")


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (TWO.replace("\n", "\r\n"), "utf-8"),
        (TWO.replace("\n", "\r"), "utf-8"),
        (TWO, "utf-8-sig"),
        (TWO, "utf-16"),
        (TWO, "utf-16-le"),
        (TWO, "latin-1"),
        (TWO, "cp1252"),
        (GERMAN, "utf-8"),
        (GERMAN.replace("1.234,5", "1 234,5"), "utf-8"),
        (GERMAN.replace("\n", "\r\n"), "cp1252"),
        ("sep=;\n" + GERMAN, "utf-8-sig"),
        (TWO.replace(",", "\t"), "utf-8"),
        (TWO.replace(",", "|"), "utf-8"),
        (TWO.replace(",", ", "), "utf-8"),
        (TWO.replace("Temp. (°C)", "temperature").replace(",,", ",-,").replace(",", "   "), "utf-8"),
        (TWO.replace("1234.5", '"1,234.5"'), "utf-8"),
        ('"' + TWO.replace(",", '","').replace("\n", '"\n"')[:-1], "utf-8"),
        (TWO.replace("\na,2", '\n\n\n# a remark, with "a quote\n// another\na,2'), "utf-8"),
        ("Logger 7\nstarted 2024-01-01\n\n" + TWO, "utf-8"),
        (TWO.replace("b,1,", "pump,hour,load,vibration,Temp. (°C)\nb,1,"), "utf-8"),
        (TWO.replace("\na,1", "\n-,[h],[%],[mm/s],[°C]\na,1"), "utf-8"),
        (TWO.replace("\n", ",\n"), "utf-8"),
        (TWO.replace("\n", ",\n").replace("(°C),", "(°C)"), "utf-8"),
        (TWO.replace("(°C)", "(°C),"), "utf-8"),
        (TWO.replace("pump,", "#pump,"), "utf-8"),
        (TWO[:-1], "utf-8"),
        *((TWO.replace("2,,31", f"2,{word},31"), "utf-8") for word in ("NA", "NaN", "null", "-", "n/a", "inf", "#N/A")),
        (TWO.replace("pump", "Pump").replace("load", " LOAD "), "utf-8"),
    ],
)
def test_a_table_is_read_the_same_in_every_form(write: Write, content: str, encoding: str) -> None:
    same(read([write(content, encoding=encoding)], schema()), a=A, b=B)


def test_columns_may_stand_in_any_order_among_others(write: Write) -> None:
    lines = [line.split(",") for line in TWO.splitlines()]
    content = "\n".join(
        ",".join([row[4], "x" if at else "remark", row[1], row[3], row[0], row[2]]) for at, row in enumerate(lines)
    )
    found = read([write(content)], schema())
    same(found, a=A, b=B)
    assert found.left_out == ("remark",)


def test_a_packed_table_is_unpacked(write: Write) -> None:
    same(read([write(gzip.compress(TWO.encode()), "pumps.csv.gz")], schema()), a=A, b=B)
    damaged = gzip.compress(TWO.encode() * 100)[:-30]
    with pytest.raises(DataError, match=r"is damaged: .*copy or pack it again"):
        read([write(damaged, "pumps.csv.gz")], schema())


def test_parquet_is_read_like_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "pumps.parquet"
    table = pa.table({
        "Temp. (°C)": pa.array([20, 21, 30, 31, 1234.5], pa.float32()),
        "pump": pa.array(["a", "a", "b", "b", "b"]).dictionary_encode(),
        "hour": [1, 2, 1, 2, 3],
        "load": pa.array([1, 1, 2, 2, 2], pa.int8()),
        "vibration": [0.5, 0.6, 0.25, None, 0.75],
    })  # fmt: skip
    parquet.write_table(table, path, row_group_size=2)
    found = read([path], schema())
    same(found, a=A, b=B)
    assert found.units[1].where == f"{path}: row 3"

    parquet.write_table(table.set_column(1, "pump", pa.array([7, 7, 2**53 + 1, 2**53 + 1, 2**53 + 1])), path)
    assert [unit.name for unit in read([path], schema()).units] == ["7", str(2**53 + 1)]

    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is damaged"):
        read([path], schema())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "pumps.csv: is empty"),
        (b"\n\n", "pumps.csv: is empty"),
        (b"PK\x03\x04xxxx", "is damaged: File is not a zip file (copy or pack it again)"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (bytes(range(256)) * 20, "is no text (write its table as CSV or Parquet)"),
        (TWO.encode("utf-32"), "is UTF-32 text (save it as UTF-8)"),
        (TWO.partition("\n")[2].replace("\n", ",7\n"), "pumps.csv:1: has no header: the first of its 6 columns is 'a'"),
        (TWO.replace("load,", "lode,"), "has no column 'load' (is it 'lode'?); there are pump, hour, lode"),
        (TWO.replace("load,", "hour,"), "pumps.csv:1: has 2 columns called 'hour' (give each"),
        (TWO.replace("b,2,2,,31", "b,2,2,,31,7"), "pumps.csv:5: has 6 cells instead of 5 (correct or remove this"),
        (TWO.replace("b,3,2,0.75,1234.5", "b,3,2,0.7"), "pumps.csv:6: has 4 cells instead of 5; Temp. (°C) is missing"),
        (TWO.replace("0.6", "o.6"), "pumps.csv:3: vibration is 'o.6', not a number (write a number, or nothing"),
        (TWO.replace("0.6", "1e99"), "pumps.csv:3: vibration is '1e99', too large a number"),
        (TWO.replace("a,2", ",2"), "pumps.csv:3: pump is empty: nobody knows whose row this is"),
        (TWO.replace("a,2", "a,"), "pumps.csv:3: hour is missing (write it, or remove the line)"),
        (TWO.replace("a,2", "a,two"), "pumps.csv:3: hour is 'two', not a number"),
        (TWO.replace("a,2", "a,1.5"), "pumps.csv:3: hour of pump a is 1.5, no whole number"),
        (TWO.replace("a,1,1", '"a,1,1'), "pumps.csv:2: has"),
        (TWO.replace("0.25", '"0,25"'), "pumps.csv: has both '1234.5' and '0,25': one decimal point, one comma (write"),
        ("pump;hour;load;vibration;Temp. (°C)\na;1;1;0,5;1.5\na;2;1;0,5;2\n", "pumps.csv: has both '1.5' and '0,5'"),
        ("pump\thour\tload\tvibration\tTemp. (°C)\na\t1\t1\t1,234\t1\n", "'1,234' can be 1.234 or 1234"),
        ("a b\nc\nd e f\ng h i j\n", "is no table: its lines have different numbers of cells"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_remedy(write: Write, content: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read([write(content)], schema())
    assert says in str(caught.value)


def test_every_problem_of_a_file_is_told_once_and_counted(write: Write) -> None:
    content = TWO.replace("0.6", "bad").replace("0.25", "worse").replace("a,2", "a,two")
    found = examine([write(content)], schema())
    assert [str(finding).partition("pumps.csv")[2] for finding in found.findings.problems] == [
        ":3: hour is 'two', not a number (write a number, or nothing where it is missing)",
        ":3: vibration is 'bad', not a number; 1 more like this (write a number, or nothing where it is missing; "
        "a word for missing belongs into missing_values)",
    ]
    with pytest.raises(DataError, match="1 other problem, see `driftloop fleet check`"):
        read([write(content)], schema())


def test_what_does_not_fit_into_memory_is_refused_with_its_size(write: Write) -> None:
    content = TWO.splitlines()[0] + "\n" + "".join(f"a,{at},1,2,3\n" for at in range(20_001))
    with pytest.raises(
        DataError, match=r"the rows up to here take 0.00 GiB as numbers, and 0.00 GiB may be used \(split"
    ):
        read([write(content)], schema(), limit_bytes=1_000_000)


def test_columns_without_a_header_are_taken_in_the_order_of_the_fleet_file(write: Write) -> None:
    found = read([write(TWO.partition("\n")[2])], schema())
    same(found, a=A, b=B)
    assert notes(found) == ["there is no header: the 5 columns are taken in the order of the fleet file"]
    assert found.units[0].where.endswith("pumps.csv:1")


def test_what_else_lies_in_a_folder_is_left_alone(write: Write) -> None:
    folder = write(TWO).parent
    write("a b\nc\nd e f\ng h i j\n", "README.txt")
    write("site,country\nnorth,1\n", "sites.csv")
    found = read([folder], schema())
    same(found, a=A, b=B)
    assert [str(finding).rpartition("/")[2] for finding in found.findings] == [
        "README.txt: is left alone: it is no table: its lines have different numbers of cells",
        "sites.csv: is left alone: it has none of the columns of pumps",
    ]
    with pytest.raises(DataError, match=r"sites.csv: has no column 'pump', 'hour'"):
        read([folder / "pumps.csv", folder / "sites.csv"], schema())


# Units and files


def test_a_unit_may_go_on_in_another_file(write: Write) -> None:
    header, *lines = TWO.splitlines()
    second = write("\n".join([header, *lines[3:]]), "2.csv")
    first = write("\n".join([header, *lines[:3]]), "1.csv")
    same(read([second, first], schema()), b=B, a=A)
    same(read([first.parent], schema()), a=A, b=B)


def test_numbers_that_start_again_in_every_file_are_noticed(write: Write) -> None:
    first, second = write(TWO, "north.csv"), write(TWO.replace("0.", "3."), "south.csv")
    told = r"south.csv:2: pump a has hour 1 again in another file with other readings \(north.csv, south.csv\); 1 mo"
    with pytest.raises(DataError, match=told):
        read([first, second], schema())
    found = read([first, second], schema(), per_file=True)
    assert [unit.run.run_id[:7] for unit in found.units] == ["north-a", "north-b", "south-a", "south-b"]


def test_without_a_time_column_a_unit_that_comes_again_is_refused(write: Write) -> None:
    timeless = schema(**{'time = { column = "hour" }': ""})
    same(read([write(TWO)], timeless), a=A, b=B)
    with pytest.raises(DataError, match=r"pumps.csv:7: pump a comes again after others, and no column tells the time"):
        read([write(TWO + "a,3,1,1,1\n")], timeless)
    with pytest.raises(DataError, match=r"2.csv:2: pump a comes again in another file, .*--per-file"):
        read([write(TWO, "1.csv"), write(TWO, "2.csv")], timeless)


def test_the_same_file_twice_is_read_once(write: Write) -> None:
    found = read([write(TWO, "1.csv"), write(TWO, "2.csv")], schema())
    same(found, a=A, b=B)
    assert [unit.repeated for unit in found.units] == [2, 3]


def test_each_file_may_be_one_unit(write: Write) -> None:
    alone = schema(**{'unit_column = "pump"\n': ""})
    header = TWO.splitlines()[0]
    one = write(f"{header}\na,1,1,0.5,20\na,2,1,0.6,21\n", "pump-7.csv")
    other = write(gzip.compress(f"{header}\nb,1,2,0.25,30\n".encode()), "pump 8.csv.gz")
    found = read([one, other], alone)
    assert [unit.name for unit in found.units] == ["pump-7", "pump 8"]
    assert found.units[1].run.run_id.startswith("pump-8-")
    (one.parent / "b").mkdir()
    twin = write(one.read_bytes(), "b/pump-7.csv")
    with pytest.raises(DataError, match="there is a file of the name 'pump-7' already"):
        read([one, twin], alone)


def test_whole_numbers_are_one_unit_however_they_are_written(write: Write) -> None:
    content = TWO.replace("a,1,", "7,1,").replace("a,2,", "7.0,2,").replace("b,", "07,")
    assert [unit.name for unit in read([write(content)], schema()).units] == ["7", "07"]


def test_unsafe_names_of_units_get_safe_ids(write: Write) -> None:
    content = TWO.replace("\na,", "\n../../etc,").replace("\nb,", "\n🚀\0,")
    found = read([write(content)], schema())
    assert [unit.name for unit in found.units] == ["../../etc", "🚀\0"]
    assert [unit.run.run_id for unit in found.units] == ["etc-74ccf3c5", found.units[1].run.run_id]
    assert found.units[1].run.run_id.startswith("unit-")


# Time


def timed(*times: object) -> str:
    return TWO.splitlines()[0] + "\n" + "".join(f"a,{time},1,{at},{at}\n" for at, time in enumerate(times))


def vibration(reading: Reading) -> list[float]:
    return reading.units[0].run.rows[:, 1].tolist()


def test_a_late_first_row_is_a_valid_life(write: Write) -> None:
    found = read([write(timed(5000, 5001, 5002))], schema())
    assert (found.units[0].first_index, found.units[0].run.rul.tolist()) == (5000, [2, 1, 0])


def test_a_unit_may_fail_at_its_first_row(write: Write) -> None:
    assert len(read([write(timed(1))], schema()).units[0].run.rows) == 1


def test_a_step_without_a_row_is_missing(write: Write) -> None:
    found = read([write(timed(1, 2, 5))], schema())
    np.testing.assert_array_equal(vibration(found), [0, 1, math.nan, math.nan, 2])
    assert found.units[0].empty == 2
    with pytest.raises(
        DataError, match=r"pumps.csv:4: pump a has no load at hour 3; 1 more .*write missing = \"hold\""
    ):
        read([write(timed(1, 2, 5))], schema(**{'name = "pumps"': 'name = "pumps"\nmissing = "refuse"'}))


def test_steps_that_are_mostly_empty_are_told_and_too_many_refused(write: Write) -> None:
    found = examine([write(timed(10, 20, 30, 40))], schema())
    assert "has rows in 4 of 31 steps" in str(next(iter(found.findings)))
    with pytest.raises(DataError, match=r"has rows in 4 of 301 steps; .* such as every = \"100\""):
        read([write(timed(100, 200, 300, 400))], schema())
    every = schema(**{'"hour" }': '"hour", every = "100" }'})
    assert vibration(read([write(timed(100, 200, 300, 400))], every)) == [0, 1, 2, 3]


def test_rows_that_are_there_twice_count_once_and_contradictions_are_refused(write: Write) -> None:
    content = timed(1, 2, 3)
    found = read([write(content + content.splitlines()[2] + "\n")], schema())
    assert (vibration(found), found.units[0].repeated) == ([0, 1, 2], 1)
    with pytest.raises(
        DataError, match=r"pumps.csv:5: pump a has hour 2 again with other readings \(a counter that st"
    ):
        read([write(content + "a,2,1,9,9\n")], schema())


def test_rows_out_of_order_are_sorted_and_a_counter_that_starts_again_is_refused(write: Write) -> None:
    assert vibration(read([write(timed(3, 2, 1))], schema())) == [2, 1, 0]
    late = examine([write(timed(*range(1, 20), 21, 20, *range(22, 40)))], schema())
    assert vibration(late)[18:22] == [18, 20, 19, 21]
    assert "run backwards in time; they are sorted by hour" in str(next(iter(late.findings)))
    with pytest.raises(DataError, match=r"pumps.csv:42: hour of pump a runs backwards, from 540 to 1 \(a counter that"):
        read([write(timed(*range(501, 541), *range(1, 41)))], schema())


STAMPED = {'"hour" }': '"hour", kind = "timestamp", every = "10s" }'}
START = datetime(2024, 2, 1, 13, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d-%b-%Y %H:%M:%S",
     "%Y-%m-%d %H:%M:%S.%f", "%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S UTC"],
)  # fmt: skip
def test_timestamps_in_many_forms_are_steps(write: Write, form: str) -> None:
    times = [(START + timedelta(seconds=s)).strftime(form) for s in (0, 10, 21, 40)]
    np.testing.assert_array_equal(vibration(read([write(timed(*times))], schema(**STAMPED))), [0, 1, 2, math.nan, 3])


@pytest.mark.parametrize("scale", [1, 1000, 1_000_000, 1_000_000_000])
def test_seconds_since_1970_are_known_by_their_size(write: Write, scale: int) -> None:
    times = [int(START.timestamp() + s) * scale for s in (0, 10, 20)]
    assert vibration(read([write(timed(*times))], schema(**STAMPED))) == [0, 1, 2]


def test_whether_the_day_comes_first_is_asked_unless_a_row_can_tell(write: Write) -> None:
    with pytest.raises(DataError, match=r"pumps.csv:2: hour may have the day or the month first, and no row can tell"):
        read([write(timed("01/02/2024 10:00:00", "01/02/2024 10:00:10"))], schema(**STAMPED))
    daily = schema(**{'"hour" }': '"hour", kind = "timestamp", every = "1d" }'})
    assert vibration(read([write(timed("31/01/2024", "01/02/2024", "02/02/2024"))], daily)) == [0, 1, 2]
    assert vibration(read([write(timed("1/30/2024", "1/31/2024", "2/1/2024"))], daily)) == [0, 1, 2]
    with pytest.raises(DataError, match=r"has the day first here, and the month first at .*pumps.csv:3"):
        read([write(timed("31/01/2024", "01/31/2024"))], daily)


def test_zones_are_respected_and_never_mixed(write: Write) -> None:
    times = ["2024-02-01T13:45:00+01:00", "2024-02-01T12:45:10Z"]
    assert vibration(read([write(timed(*times))], schema(**STAMPED))) == [0, 1]
    with pytest.raises(DataError, match=r"pumps.csv:3: hour names a zone in some rows and none in others"):
        read([write(timed(times[0], "2024-02-01T12:45:10"))], schema(**STAMPED))
    with pytest.raises(DataError, match=r"pumps.csv:3: hour is 'noon', no time \(write times as ISO 8601"):
        read([write(timed(times[0], "noon"))], schema(**STAMPED))


def test_rows_between_two_steps_become_the_last_reading_or_the_mean(write: Write) -> None:
    content = timed(0.5, 2, 9, 12, 13, 20).replace("a,13,1,4,4", "a,13,1,,4")
    seconds = {'"hour" }': '"hour", kind = "seconds", every = "10s" }'}
    assert vibration(read([write(content)], schema(**seconds))) == [1, 3, 5]
    mean = {'"hour" }': '"hour", kind = "seconds", every = "10s", between = "mean" }'}
    assert vibration(read([write(content)], schema(**mean))) == [0.5, 2.5, 5]


# Ends


def ending(end: str) -> Schema:
    return schema(PUMPS + end)


def test_rows_after_the_end_are_left_out(write: Write) -> None:
    content = timed(1, 2, 3, 4, 5)
    found = read([write(content)], ending('[end]\nsensor = "vibration"\nabove = 1.5\n'))
    assert (vibration(found), found.units[0].after_end, found.units[0].run.censored) == ([0, 1, 2], 2, False)
    assert found.units[0].why == "vibration above 1.5"


def test_a_unit_that_never_reaches_its_end_was_taken_out(write: Write) -> None:
    found = read([write(timed(1, 2, 3))], ending('[end]\nsensor = "vibration"\nabove = 2\n'))
    assert found.units[0].run.censored
    assert found.units[0].why == "never reaches its end"


def test_one_low_reading_is_no_end_where_two_of_three_are_asked_for(write: Write) -> None:
    header = TWO.splitlines()[0]
    readings = [9, 1, 9, 9, 1, 9, 1, 1]
    content = header + "\n" + "".join(f"a,{at},1,{value},0\n" for at, value in enumerate(readings, 1))
    for holds, steps in (("1 of 1 rows", 2), ("2 of 3 rows", 5), ("2 of 2 rows", 7), ("3 of 4 rows", 5)):
        found = read([write(content)], ending(f'[end]\nsensor = "vibration"\nbelow = 2\nholds = "{holds}"\n'))
        assert len(found.units[0].run.rows) == steps


def test_an_end_may_be_said_by_a_column(write: Write) -> None:
    for cells, end in (
        ("0 0 1 1", ""),
        ("no no yes yes", ""),
        ("ok ok failed off", 'value = "failed"\n'),
        ("0 1 2.0 3", "value = 2\n"),
    ):
        lines = timed(1, 2, 3, 4).splitlines()
        content = "\n".join(
            [lines[0] + ",state", *(f"{line},{cell}" for line, cell in zip(lines[1:], cells.split(), strict=True))]
        )
        found = read([write(content)], ending(f'[end]\ncolumn = "state"\n{end}'))
        assert (len(vibration(found)), found.units[0].run.censored) == (3, False)


def test_the_threshold_may_be_on_a_column_that_is_no_sensor(write: Write) -> None:
    content = "pump,hour,load,vibration,Temp. (°C),Wear\na,1,1,0,0,1\na,2,1,0,0,2\na,3,1,0,0,3\n"
    assert len(read([write(content)], ending('[end]\nsensor = "Wear"\nabove = 1\n')).units[0].run.rows) == 2


def test_units_that_were_taken_out_are_told_by_a_list_a_column_or_a_table_beside_the_data(write: Write) -> None:
    listed = read([write(TWO)], ending('[censored]\nunits = ["b"]\n'))
    lines = TWO.splitlines()
    flagged = "\n".join([lines[0] + ",out", *(f"{line},{int(line == lines[-1])}" for line in lines[1:])])
    column = read([write(flagged)], ending('[censored]\ncolumn = "out"\n'))
    write("pump;out\na;no\nb;yes\n", "units.csv")
    beside = ending('[censored]\nfile = "units.csv"\ncolumn = "out"\n')
    file = read([write(TWO)], beside)
    folder = read([write(TWO).parent], beside)
    for found in (listed, column, file, folder):
        assert [(unit.run.censored, unit.why) for unit in found.units] == [
            (False, "its last row is its failure"),
            (True, "taken out before it failed"),
        ]


def test_a_table_of_units_must_be_there_and_know_every_unit(write: Write) -> None:
    beside = ending('[censored]\nfile = "units.csv"\ncolumn = "out"\n')
    with pytest.raises(DataError, match=r"units.csv: is not there, and the fleet file says that it tells which pumps"):
        read([write(TWO)], beside)
    write("pump,out\na,0\nc,1\n", "units.csv")
    with pytest.raises(DataError, match=r"pumps.csv:4: pump b is not in units.csv, so nobody knows whether it failed"):
        read([write(TWO)], beside)
    write("pump,gone\na,0\n", "units.csv")
    with pytest.raises(DataError, match=r"units.csv: has no column 'out'"):
        read([write(TWO)], beside)


def test_two_units_with_the_same_rows_are_told(write: Write) -> None:
    content = timed(*range(1, 21))
    found = examine([write(content + content.partition("\n")[2].replace("a,", "b,"))], schema())
    assert "pump b has the same rows as pump a" in str(next(iter(found.findings)))


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read([tmp_path / "none.csv"], schema())
    with pytest.raises(DataError, match="has no tables"):
        read([tmp_path], schema())


# Any table, in any form

_READINGS = st.none() | st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 4))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(
        st.text("abcäXYZ 019-_.", max_size=5).map(lambda text: names.unit(f"u{text}")),
        st.lists(st.tuples(_READINGS, _READINGS, _READINGS), min_size=1, max_size=8),
        min_size=1, max_size=4,
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    comma=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    missing=st.sampled_from(["", "NA", "nan", "-", "NULL"]),
    quoted=st.booleans(),
    order=st.permutations(range(6)),
    packed=st.booleans(),
)  # fmt: skip
def test_any_table_comes_back_whatever_form_it_is_written_in(
    tmp_path: Path, data, delimiter, comma, end, encoding, missing, quoted, order, packed
) -> None:
    told = {name: lives for name, lives in data.items() if any(v is not None for row in lives for v in row)}
    header = ["pump", "hour", "load", "vibration", "Temp. (°C)", "remark"]
    lines = [header]
    for name, lives in data.items():
        for at, values in enumerate(lives, 1):
            cells = [missing if value is None else repr(value) for value in values]
            cells = [cell.replace(".", ",") if comma and "e" not in cell else cell for cell in cells]
            lines.append([name, str(at), *cells, "x y"])
    quote = quoted or (comma and delimiter == ",")
    text = end.join(delimiter.join(f'"{row[i]}"' if quote else row[i] for i in order) for row in lines) + end
    path = tmp_path / ("any.csv.gz" if packed else "any.csv")
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)

    found = examine([path], schema())

    assert [unit.name for unit in found.units] == list(told), [str(finding) for finding in found.findings]
    for unit in found.units:
        wanted = np.array([[math.nan if v is None else v for v in row] for row in told[unit.name]])
        first = int(np.flatnonzero(np.isfinite(wanted).any(axis=1))[0])
        np.testing.assert_array_equal(unit.run.rows, wanted[first:])
        assert unit.first_index == 1 + first


# Real fleets


@needs_fleets
def test_the_cells_of_tongji_are_read_as_their_readme_says() -> None:
    assert FLEETS_DIR is not None
    found = read([FLEETS_DIR / "tongji-18650" / "runs.csv"], fleets.load(EXAMPLES / "tongji-18650"))
    assert (len(found.units), sum(unit.run.censored for unit in found.units)) == (130, 30)
    assert sum(len(unit.run.rows) for unit in found.units) == 34_509
    assert all(np.isfinite(unit.run.rows).all() for unit in found.units)
    assert not found.left_out
    assert not list(found.findings)


@needs_fleets
def test_the_cells_of_lfp_fail_where_their_capacity_says_so() -> None:
    assert FLEETS_DIR is not None
    found = read([FLEETS_DIR / "lfp-fastcharge" / "runs.csv"], fleets.load(EXAMPLES / "lfp-fastcharge"))
    lives = [len(unit.run.rows) for unit in found.units]
    assert (len(lives), sum(lives), min(lives), max(lives)) == (42, 19_635, 148, 561)
    assert not any(unit.run.censored or unit.after_end for unit in found.units)


def test_what_a_file_is_called_names_its_unit() -> None:
    names = [folders.file_unit(Path(name)) for name in ("a.csv", "a.CSV.GZ", "x/a.b.parquet", "a", ".csv")]
    assert names == ["a", "a", "a.b", "a", ".csv"]


def test_notes_that_are_alike_are_said_once_and_counted(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_bytes(b"hour;vibration\n1;0,5\n2;0,25\n")
    notes = [
        str(finding)
        for finding in examine(
            [tmp_path], parse(b'name = "pumps"\ntime = "hour"\nsensors = ["vibration"]\n', "fleet.toml")
        ).findings
        if finding.level == "note"
    ]
    assert notes == [f"{tmp_path / 'a.csv'}: numbers have a decimal comma; 2 more like this"]
