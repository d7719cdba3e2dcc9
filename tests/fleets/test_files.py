import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.errors import DataError
from driftloop.fleets.cmapss import files

ROW = "0.0 0.0 100.0 " + " ".join(["1.5"] * 21) + "  \n"


def series(*labels: str) -> str:
    return "".join(f"{label} {ROW}" for label in labels)


def fault(text: str | bytes) -> DataError:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(DataError) as caught:
        files.parse_series(content, "x.txt")
    assert caught.value.remedy
    return caught.value


def test_units_are_read_in_their_order_despite_trailing_spaces() -> None:
    parsed = files.parse_series(series("1 1", "1 2", "7 1").encode(), "x.txt")
    assert [(unit, rows.shape) for unit, rows in parsed] == [(1, (2, 24)), (7, (1, 24))]
    assert parsed[0][1][0].tolist() == [0, 0, 100] + [1.5] * 21


def test_windows_line_ends_are_read_too() -> None:
    parsed = files.parse_series(series("1 1", "1 2").replace("\n", "\r\n").encode(), "x.txt")
    assert parsed[0][1].shape == (2, 24)


def test_a_missing_column_is_refused_with_its_line_and_name() -> None:
    lines = series("1 1", "1 2", "1 3").splitlines(keepends=True)
    lines[1] = lines[1].replace("1.5  \n", " \n")
    error = fault("".join(lines))
    assert error.where == "x.txt:2"
    assert "25 columns instead of 26; sensor_21 is missing" in error.what


def test_a_column_too_many_is_refused_even_if_every_line_has_it() -> None:
    error = fault(series("1 1", "1 2").replace("  \n", " 2.0\n"))
    assert (error.where, error.what) == ("x.txt:1", "has 27 columns instead of 26")


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused_with_line_and_column(value: str) -> None:
    text = series("1 1") + series("1 2").replace("100.0", value)
    error = fault(text)
    assert error.where == "x.txt:2"
    assert "setting_3" in error.what


@pytest.mark.parametrize("value", ["1,5", "abc", "0x10", "1_000", "--1", "#"])
def test_cells_that_are_not_numbers_are_refused_with_line_and_column(value: str) -> None:
    error = fault(series("1 1") + series("1 2").replace("100.0", value))
    assert error.where == "x.txt:2"
    assert "setting_3" in error.what
    assert value in error.what


@pytest.mark.parametrize(
    ("labels", "line", "says"),
    [
        (("1 1", "1 -2"), 2, "cycle -2"),
        (("1 0",), 1, "cycle 0"),
        (("1 1.5",), 1, "cycle 1.5"),
        (("-1 1",), 1, "unit -1"),
        (("0.5 1",), 1, "unit 0.5"),
        (("1 1", "1 2", "1 2"), 3, "cycle 2 where cycle 3"),
        (("1 1", "1 3", "1 2"), 2, "cycle 3 where cycle 2"),
        (("1 2", "1 3"), 1, "cycle 2 where cycle 1"),
        (("1 1", "2 2"), 2, "cycle 2 where cycle 1"),
        (("1 1", "2 1", "1 2"), 3, "unit 1 appears again"),
        (("1 1", "2 1", "1 1"), 3, "unit 1 appears again"),
    ],
)
def test_units_and_cycles_that_make_no_lives_are_refused_with_their_line(
    labels: tuple[str, ...], line: int, says: str
) -> None:
    error = fault(series(*labels))
    assert error.where == f"x.txt:{line}"
    assert says in error.what


def test_a_file_cut_within_its_last_number_is_refused_though_it_parses() -> None:
    error = fault(series("1 1", "1 2").rstrip()[:-1])
    assert error.where == "x.txt:2"
    assert "cut short" in error.what


def test_blank_lines_are_refused() -> None:
    assert fault(series("1 1") + "\n" + series("1 2")).where == "x.txt:2"


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    error = fault(series("1 1").encode() + b"\xff" + series("1 2").encode())
    assert (error.where, error.what) == ("x.txt:2", "is not UTF-8 text")


def test_an_empty_file_is_refused() -> None:
    assert fault("").what == "is empty"


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(content: bytes) -> None:
    try:
        files.parse_series(content, "x.txt")
    except DataError:
        return


@pytest.mark.parametrize("text", ["1 \n-2 \n", "1 \n2.5 \n", "1 \nnan \n", "1 \n2 3 \n"])
def test_labels_that_are_not_whole_numbers_are_refused_with_their_line(text: str) -> None:
    with pytest.raises(DataError) as caught:
        files.parse_rul(text.encode(), "RUL.txt")
    assert caught.value.where == "RUL.txt:2"


def test_a_subset_is_read_whole_or_in_part(fleet_folder: Path) -> None:
    both = files.read_subset(fleet_folder, "FD002", check=False)
    assert [len(both.train), len(both.test), len(both.remaining)] == [3, 3, 3]
    only = files.read_subset(fleet_folder, "FD002", ("train",), check=False)
    assert [len(only.train), len(only.test), len(only.remaining)] == [3, 0, 0]


def test_labels_that_do_not_match_the_test_engines_are_refused(fleet_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fleet_folder, tmp_path / "fleet")
    labels = folder / "RUL_FD001.txt"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="2 labels for the 3 engines") as caught:
        files.read_subset(folder, "FD001", check=False)
    assert caught.value.where == str(labels)


def test_units_that_are_not_numbered_without_gaps_are_refused(fleet_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fleet_folder, tmp_path / "fleet")
    path = folder / "train_FD001.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("2 ")))
    with pytest.raises(DataError, match="unit 3 stands where unit 2 is expected"):
        files.read_subset(folder, "FD001", check=False)


def test_files_that_are_not_nasas_are_refused_with_a_remedy(fleet_folder: Path) -> None:
    with pytest.raises(DataError, match="is not NASA's file: SHA-256") as caught:
        files.read_subset(fleet_folder, "FD001")
    assert caught.value.where == str(fleet_folder / "train_FD001.txt")
    assert "driftloop data pull" in str(caught.value)


def test_verify_names_every_bad_file(fleet_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fleet_folder, tmp_path / "fleet")
    (folder / "readme.txt").unlink()
    with pytest.raises(DataError, match="13 of 13 files are bad") as caught:
        files.verify(folder)
    assert all(name in caught.value.what for name in files.SHA256)


def test_a_subset_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="FD001, FD002, FD003, FD004"):
        files.read_subset(tmp_path, "FD005")


def test_nasas_files_are_nasas(nasa: Path) -> None:
    files.verify(nasa)


@pytest.mark.parametrize("subset", files.SUBSETS)
def test_nasas_files_hold_the_known_engines(nasa: Path, subset: str) -> None:
    content = files.read_subset(nasa, subset)
    assert (len(content.train), len(content.test)) == files.ENGINES[subset]
    assert min(len(rows) for rows in content.test) == {"FD001": 31, "FD002": 21, "FD003": 38, "FD004": 19}[subset]
    assert all(np.isfinite(rows).all() for rows in content.train + content.test)
