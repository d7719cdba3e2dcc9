"""Files in the form in which people have them: read for what they say, or refused with file, line and remedy."""

import bz2
import gzip
import io
import lzma
import math
import re
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file, guess, suspicion, tables
from driftloop.fleet.cells import moment
from driftloop.fleet.tables import Reading

if TYPE_CHECKING:
    import pandas as pd

HEADER = ("unit", "hour", "pressure", "flow")
UNITS = ("a1", "b2", "c3")


def fleet(extra: str = "", time: str = 'column = "hour"') -> fleet_file.Schema:
    text = (
        f'name="p"\nunit="pump"\nstep="hour"\nunit_column="unit"\nsensors=["pressure","flow"]\n{extra}\n[time]\n{time}'
    )
    return fleet_file.parse(text.encode(), "fleet.toml")


SCHEMA = fleet()
WORDS = [
    "",
    " ",
    "No Data",
    "1e400",
    "inf",
    "-Infinity",
    "NaN",
    "nan",
    "-nan",
    "1.#QNAN",
    "#DIV/0!",
    "NA",
    "N/A",
    "#N/A",
]
WORDS += ["n.a.", "<NA>", "null", "nil", "None", "missing", "-", "--", "?", "."]
NAMES = ["..", ".", "a/b", "a\\b", "../../etc/passwd", "x" * 300, "a b", "a\0b", "a:b", "*", "$HOME", "~", "%2e%2e"]
NAMES += ["-", "NaN", "None", "=1+1", "ü", "日本", "\u202ex", "😀"]


def cells(units: Sequence[str] = UNITS) -> list[list[str]]:
    """Lives of 20, 21 and 22 hours, with readings above a thousand, as plain texts."""
    return [
        [unit, str(hour + 1), f"{1200 + 10 * at + 3.25 * (hour * 5 % 13):.2f}", f"{5 + 0.125 * (hour * 7 % 11):.3f}"]
        for at, unit in enumerate(units)
        for hour in range(20 + at)
    ]


def table(
    rows: Sequence[Sequence[str]] | None = None, *, header: Sequence[str] = HEADER, sep: str = ",", decimal: str = ".",
    thousands: str = "", quote: str = "", tail: str = "", end: str = "\n",
) -> str:  # fmt: skip
    """A table as a program would write it that has these habits."""

    def written(cell: str) -> str:
        if not re.fullmatch(r"[0-9]+\.[0-9]+", cell):
            return f"{quote}{cell}{quote}"
        plain = f"{float(cell):,.{len(cell.partition('.')[2])}f}"
        return quote + plain.replace(",", "T").replace(".", decimal).replace("T", thousands) + quote

    lines = [sep.join(header) + tail, *(sep.join(map(written, row)) + tail for row in rows or cells())]
    return end.join(lines) + end


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive of some files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def read(path: Path, content: str | bytes, name: str = "data.csv", schema: fleet_file.Schema = SCHEMA) -> Reading:
    file = path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tables.examine([file], schema)


def values(reading: Reading) -> dict[str, list[list[float]]]:
    assert reading.findings.problems == []
    return {unit.name: unit.run.rows.tolist() for unit in reading.units}


PLAIN = {unit: [[float(pressure), float(flow)] for one, _, pressure, flow in cells() if one == unit] for unit in UNITS}


FORMS: dict[str, str | bytes] = {
    "comma": table(),
    "semicolon": table(sep=";"),
    "tab": table(sep="\t"),
    "bar": table(sep="|"),
    "spaces": table(sep="   "),
    "decimal comma": table(sep=";", decimal=","),
    "decimal comma, tabs": table(sep="\t", decimal=","),
    "decimal comma, quoted": table(decimal=",", quote='"'),
    "thousands by comma": table(thousands=",", quote='"'),
    "thousands by point": table(sep=";", decimal=",", thousands="."),
    "thousands by space": table(sep=";", decimal=",", thousands=" "),
    "thousands by a hard space": table(sep=";", decimal=",", thousands="\u00a0"),
    "thousands by a thin space": table(sep=";", decimal=",", thousands="\u202f"),
    "thousands by an apostrophe": table(sep=";", thousands="'"),
    "quoted": table(quote='"'),
    "delimiters at the ends": table(tail=","),
    "CRLF": table(end="\r\n"),
    "CR": table(end="\r"),
    "BOM": b"\xef\xbb\xbf" + table().encode(),
    "UTF-16 with BOM": table().encode("utf-16"),
    "UTF-16 without BOM": table().encode("utf-16-le"),
    "UTF-16, big end first": b"\xfe\xff" + table().encode("utf-16-be"),
    "gzip": gzip.compress(table().encode()),
    "bzip2": bz2.compress(table().encode()),
    "xz": lzma.compress(table().encode()),
    "zip": zipped({"__MACOSX/data.csv": b"x", "data/data.csv": table().encode()}),
    "two lines of headers": "Press,,,\n" + table(),
    "a sum and a remark below": table() + "Total,,76543.21,\n,,,exported by hand\n",
    "sep=": "sep=;\n" + table(sep=";", decimal=","),
    "comments": "# exported\n# by hand\n" + table(),
    "lines above the header": "Machine: 7\nExported by: somebody\n\n" + table(),
    "a line of units": table().replace("\n", "\n,h,bar,l/min\n", 1),
    "blank lines": table().replace("\n", "\n\n"),
    "lines of delimiters": table().replace("\nb2,1,", "\n,,,\nb2,1,"),
    "capitals and spaces in the header": table(header=("Unit", "HOUR", " Pressure", "Flow ")),
    "another order": table([[*row[::-1]] for row in cells()], header=HEADER[::-1]),
    "further columns": table([[*row, "ok; fine"] for row in cells()], header=(*HEADER, "remark")),
    "header repeated": table() + ",".join(HEADER) + "\n",
    "rows shuffled": table([cells()[at] for at in np.random.default_rng(0).permutation(len(cells()))]),
    "newest first": table(cells()[::-1]),
    "rows twice": table([row for row in cells() for _ in range(2)]),
    "table pasted twice": table(cells() * 2),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_table_says_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    assert values(read(tmp_path, FORMS[form])) == {name: PLAIN[name] for name in sorted(PLAIN)} | PLAIN


@pytest.mark.parametrize("form", FORMS)
def test_a_guess_reads_every_form(form: str, tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    content = FORMS[form]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = guess.guess([file])
    assert found.schema.time.column is not None
    assert found.schema.time.column.strip().lower() == "hour"
    assert {unit.name: len(unit.run.rows) for unit in found.reading.units} == {"a1": 20, "b2": 21, "c3": 22}
    assert found.reading.findings.problems == []


@pytest.mark.parametrize(
    "word",
    WORDS,
)  # fmt: skip
def test_a_word_for_missing_is_missing(word: str, tmp_path: Path) -> None:
    rows = cells()
    rows[4][3] = word
    found = read(tmp_path, table(rows))
    assert found.findings.problems == []
    assert [bool(math.isnan(value)) for value in found.units[0].run.rows[:, 1]] == [at == 4 for at in range(20)]


@pytest.mark.parametrize(
    "unit",
    NAMES,
)  # fmt: skip
def test_any_name_of_a_unit_gets_an_id_that_is_safe(unit: str, tmp_path: Path) -> None:
    found = read(tmp_path, table(cells([unit, "b2", "c3"])))
    assert found.findings.problems == []
    ids = [one.run.run_id for one in found.units]
    assert found.units[0].name == unit
    assert len(set(ids)) == 3
    assert all(
        len(one) <= 128 and one.isascii() and not set(one) & set("/\\\0:*$~ ") and one[0].isalnum() for one in ids
    )


def test_numbers_with_leading_zeros_are_names_and_stay_apart(tmp_path: Path) -> None:
    assert [unit.name for unit in read(tmp_path, table(cells(["001", "01", "1"]))).units] == ["001", "01", "1"]


def lines(at: int, text: str) -> str:
    """The table with another text in place of a line, counted from 1."""
    found = table().splitlines()
    found[at - 1] = text
    return "\n".join(found) + "\n"


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "data.csv: is empty"),
    "blank": ("\n \n\n", "data.csv: is empty"),
    "header alone": (",".join(HEADER) + "\n", "data.csv: there are no rows"),
    "word": (lines(6, "a1,5,1203.25,bad"), "data.csv:6: flow is 'bad', not a number"),
    "too large": (lines(6, "a1,5,1203.25,1e39"), "data.csv:6: flow is '1e39', too large a number"),
    "too few cells": (lines(6, "a1,5"), "data.csv:6: has 2 cells instead of 4"),
    "too many cells": (lines(6, "a1,5,1,2,3,4"), "data.csv:6: has 6 cells instead of 4"),
    "an open quote": (lines(6, 'a1,5,"1203.25,5'), "data.csv:6: "),
    "no unit": (lines(6, ",5,1203.25,5"), "data.csv:6: unit is empty"),
    "no time": (lines(6, "a1,,1203.25,5"), "data.csv:6: hour is missing"),
    "a contradiction": (table() + "a1,5,1,1\n", "data.csv:65: "),
    "two columns of a name": (
        table(header=("unit", "hour", "flow", "flow")),
        "data.csv:1: has 2 columns called 'flow'",
    ),
    "no such column": (table(header=("unit", "hour", "pressure", "flaw")), "(is it 'flaw'?)"),
    "both decimals": (table().replace("1200.00", '"1200,5"').replace("5.000", "5,0"), "data.csv"),
    "UTF-32": (table().encode("utf-32"), "is UTF-32 text"),
    "a workbook": (zipped({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b""}), "is a workbook of Excel"),
    "two tables in an archive": (zipped({"a.csv": b"1", "b.csv": b"2"}), "is a zip archive of 2 files (a.csv, b.csv)"),
    "an archive cut off": (zipped({"a.csv": table().encode()})[:-30], "is damaged"),
    "bzip2 cut off": (bz2.compress(table().encode())[:-20], "is damaged"),
    "xz cut off": (lzma.compress(table().encode())[:-20], "is damaged"),
    "old Excel": (b"\xd0\xcf\x11\xe0" + b"\0" * 60, "is an old Excel workbook"),
    "PDF": (b"%PDF-1.4\n1 0 obj\n", "is a PDF"),
    "web page": ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is a web page"),
    "JSON": ('[{"unit": "a1", "hour": 1}]', "is JSON"),
    "JSON lines": ('{"unit": "a1", "hour": 1}\n{"unit": "a1", "hour": 2}\n', "is JSON"),
    "Git LFS": ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "is a pointer of Git LFS"),
    "Arrow": (b"ARROW1\0\0" + b"\0" * 60, "is an Arrow file"),
    "damaged Parquet": (b"PAR1" + b"x" * 60, "is damaged"),
    "bytes": (bytes(np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8)), "is no text"),
    "a line without end": ("unit,hour,pressure,flow\n" + "a" * 2_000_000, "data.csv:2: is longer than"),
    "gzip cut off": (gzip.compress(table().encode())[:-20], "is damaged"),
    "gzip with a wrong sum": (gzip.compress(table().encode())[:-8] + b"\0" * 8, "is damaged"),
    "gzip's head alone": (b"\x1f\x8b", "is damaged"),
    "gzip in gzip": (gzip.compress(gzip.compress(table().encode())), "is no text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_told_with_its_place(case: str, tmp_path: Path) -> None:
    content, said = REFUSED[case]
    problems = [str(finding) for finding in read(tmp_path, content).findings.problems]
    assert problems, case
    assert any(said in problem for problem in problems), problems
    assert all(str(tmp_path) in problem for problem in problems), problems


def test_an_address_and_what_is_not_there_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DriftloopError, match="is an address"):
        tables.read([Path("https://example.org/runs.csv")], SCHEMA)
    with pytest.raises(DriftloopError, match="is not there"):
        tables.read([tmp_path / "none.csv"], SCHEMA)
    with pytest.raises(DriftloopError, match="has no tables"):
        tables.read([tmp_path], SCHEMA)


def test_a_unit_in_two_files_goes_on_or_is_refused(tmp_path: Path) -> None:
    rows = cells(["a1"])
    (tmp_path / "1.csv").write_text(table(rows[:10]))
    (tmp_path / "2.csv").write_text(table(rows[10:]))
    assert values(tables.examine([tmp_path], SCHEMA)) == {"a1": PLAIN["a1"]}
    (tmp_path / "2.csv").write_text(table([[*row[:2], "1", "1"] for row in rows[5:]]))
    assert "again in another file" in str(tables.examine([tmp_path], SCHEMA).findings.problems[0])


DAYS = fleet(time='column = "hour"\nkind = "timestamp"\nevery = "1d"')


@pytest.mark.parametrize(
    "form",
    ["2024-03-{:02d}", "2024-03-{:02d}T10:00:00Z", "2024-03-{:02d} 10:00:00+02:00", "{:02d}.03.2024 10:00",
     "{:02d}/03/2024", "03/{:02d}/2024 10:00 PM", "{:02d} Mar 2024", "2024/03/{:02d}", "202403{:02d}",
     "{:d}-Mar-24", "{:02d}-MAR-24 10:00", "{:02d}.03.24", "{:02d}.03.98 10:00:30"],
)  # fmt: skip
def test_a_day_is_a_day_however_it_is_written(form: str, tmp_path: Path) -> None:
    rows = [[unit, form.format(int(hour)), *rest] for unit, hour, *rest in cells()]
    text = "\n".join([",".join(HEADER), *map(",".join, rows)])
    assert values(read(tmp_path, text, schema=DAYS)) == PLAIN
    assert guess.guess([tmp_path / "data.csv"]).schema.time.every == "1d"


@pytest.mark.parametrize("cell", ["05/04/20", "1.2.34", "5.4.20", "31.02.20", "5-Apr-2", "5-Abc-20"])
def test_what_may_be_no_day_is_none(cell: str) -> None:
    assert moment(cell) is None


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        (("2024-03-{:02d}T10:00:00Z", "2024-03-{:02d}T10:00:00"), "names a zone in some rows and none in others"),
        (("{:02d}/03/2024", "03/{:02d}/2024"), "has the day first here, and the month first at"),
        (("2024-03-{:02d}", "0000-03-{:02d}"), "no time"),
    ],
)
def test_two_ways_to_write_a_day_are_told(forms: tuple[str, str], said: str, tmp_path: Path) -> None:
    rows = [[unit, forms[int(hour) % 2].format(int(hour)), *rest] for unit, hour, *rest in cells()]
    text = "\n".join([",".join(HEADER), *map(",".join, rows)])
    problems = [str(finding) for finding in read(tmp_path, text, schema=DAYS).findings.problems]
    assert any(said in problem and "data.csv:" in problem for problem in problems), problems


@pytest.mark.parametrize("hour", ["1000000000000000000", "1e30"])
def test_a_time_that_is_far_off_is_told_where_it_is(hour: str, tmp_path: Path) -> None:
    problems = [str(finding) for finding in read(tmp_path, lines(21, f"a1,{hour},1,1")).findings.problems]
    assert any("data.csv:21" in problem and "too many steps" in problem for problem in problems), problems


# Parquet


def frame() -> "pd.DataFrame":
    """The same table as pandas has it."""
    import pandas as pd

    unit, hour, pressure, flow = zip(*cells(), strict=True)
    numbers = {"hour": map(int, hour), "pressure": map(float, pressure), "flow": map(float, flow)}
    return pd.DataFrame({"unit": unit, **{name: list(column) for name, column in numbers.items()}})


KINDS: dict[str, Callable[["pd.DataFrame"], "pd.DataFrame"]] = {
    "plain": lambda it: it,
    "categories": lambda it: it.astype({"unit": "category", "flow": "category"}),
    "an index": lambda it: it.set_index("hour"),
    "two indices": lambda it: it.set_index(["unit", "hour"]),
    "nullable numbers": lambda it: it.astype({"hour": "Int64", "flow": "Float64"}),
    "texts": lambda it: it.astype({"flow": str}),
    "texts with a comma": lambda it: it.assign(flow=[str(value).replace(".", ",") for value in it.flow]),
    "decimals": lambda it: it.assign(flow=[Decimal(f"{value:.3f}") for value in it.flow]),
    "further columns": lambda it: it.assign(list=[[1.0, 2.0]] * len(it), bytes=[b"\xff"] * len(it)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_parquet_file_says_the_same_however_its_columns_are_kept(kind: str, tmp_path: Path) -> None:
    KINDS[kind](frame()).to_parquet(tmp_path / "data.parquet")
    assert values(tables.examine([tmp_path / "data.parquet"], SCHEMA)) == PLAIN


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_a_parquet_file_indexed_by_time_is_read(zone: str | None, tmp_path: Path) -> None:
    import pandas as pd

    table = frame()
    table["hour"] = (pd.Timestamp("2024-03-01") + pd.to_timedelta(table.hour, "D")).dt.tz_localize(zone)
    table.set_index("hour").to_parquet(tmp_path / "data.parquet")
    assert values(tables.examine([tmp_path / "data.parquet"], DAYS)) == PLAIN
    assert guess.guess([tmp_path / "data.parquet"]).schema.time.every == "1d"


def test_what_is_wrong_in_a_parquet_file_is_told_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    table = frame().astype({"hour": "Int64"})
    table.loc[5, "unit"], table.loc[7, "hour"] = None, None
    table.to_parquet(file)
    problems = [str(finding) for finding in tables.examine([file], SCHEMA).findings.problems]
    assert any("row 6: unit is empty" in problem for problem in problems), problems
    assert any("row 8: hour is missing" in problem for problem in problems), problems
    frame().assign(flow=[[1.0]] * len(frame())).to_parquet(file)
    with pytest.raises(DriftloopError, match="holds list<"):
        tables.read([file], SCHEMA)
    frame()[:0].to_parquet(file)
    with pytest.raises(DriftloopError, match="there are no rows"):
        tables.read([file], SCHEMA)


def test_text_in_a_parquet_file_that_may_be_thousands_is_refused_and_not_guessed(tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    frame().assign(flow=[f"{value:.3f}".replace(".", ",") for value in frame().flow]).to_parquet(file)
    with pytest.raises(DriftloopError, match=r"can be 5\.\d{3} or 5\d{3}"):
        tables.read([file], SCHEMA)


def test_infinite_numbers_in_a_parquet_file_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    frame().assign(other=np.inf, flow=np.where(np.arange(63) % 9, frame().flow, np.inf)).to_parquet(file)
    found = guess.guess([file])
    assert found.left_out["other"] == "is empty"
    assert sum(int(np.isnan(unit.run.rows).sum()) for unit in found.reading.units) == 7


# Whatever the bytes are: an answer or an error of our own, and nothing else.

BASES = [form if isinstance(form, bytes) else form.encode() for form in FORMS.values()]
PIECES = [
    b",",
    b";",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"1e999",
    b"-",
    b"NaN",
    b"\t",
    b"=",
    b"a1",
    b"9" * 400,
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good table with some bytes replaced, left out or put in."""
    content = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        gone = draw(st.sampled_from([0, 0, 1, 7, 300]))
        content = content[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=6)) + content[at + gone :]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"sep=;\n", "data.csv")
@given(damaged() | st.binary(max_size=300), st.sampled_from(["data.csv", "data.txt.gz", "data.parquet"]))
def test_damaged_files_end_in_an_answer_or_an_error_of_our_own(folder: Path, content: bytes, name: str) -> None:
    reading = read(folder, content, name)
    suspicion.look(reading, SCHEMA)
    for finding in reading.findings:
        assert str(finding)
        assert finding.level != "problem" or finding.where
    for unit in reading.units:
        assert len(unit.run.rows) > 0
        assert not np.isinf(unit.run.rows).any()
    try:
        found = guess.guess([folder / name])
        suspicion.look(found.reading, found.schema)
    except DriftloopError:
        return
