import json
from pathlib import Path

import numpy as np
import pytest

from driftloop import fleets
from driftloop.errors import DataError
from driftloop.fleet.archive import open_archive
from driftloop.fleet.intake import read_files
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.fleets.cmapss.source import engine_id

ROWS = np.arange(72, dtype=np.float64).reshape(3, 24)


def read_completed(path: Path, prefix: str | None = None) -> list[Run]:
    """The runs of one file of C-MAPSS's form."""
    return read_files([path], SCHEMA, own=fleets.reader(SCHEMA), prefix=prefix).runs


def test_units_of_a_train_file_get_the_ids_that_the_fleet_has(fleet_folder: Path) -> None:
    runs = read_completed(fleet_folder / "train_FD002.txt")
    assert [run.run_id for run in runs] == [engine_id("FD002", unit) for unit in (1, 2, 3)]


def test_another_fleet_gets_other_ids(fleet_folder: Path) -> None:
    runs = read_completed(fleet_folder / "train_FD002.txt", "plant 7")
    assert [run.run_id for run in runs] == [engine_id("plant 7", unit) for unit in (1, 2, 3)]


def test_files_of_engines_that_had_not_failed_are_refused(fleet_folder: Path) -> None:
    for name in ("test_FD001.txt", "RUL_FD001.txt"):
        with pytest.raises(DataError, match="had not failed yet"):
            read_completed(fleet_folder / name)


def test_a_numpy_file_is_one_run_named_as_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "pump-7.npy", ROWS.astype(np.float32))
    (run,) = read_completed(tmp_path / "pump-7.npy")
    assert run.run_id == "pump-7"
    assert np.array_equal(run.rows, ROWS)


def test_objects_of_an_archive_can_be_added_to_another_and_are_checked(tmp_path: Path) -> None:
    open_archive(tmp_path, SCHEMA).add(Run("eng-a", ROWS))
    path = tmp_path / "eng-a.npy"
    assert read_completed(path)[0].sha256 == Run("eng-a", ROWS).sha256
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"\x01" + content[201:])
    with pytest.raises(DataError, match="damaged"):
        read_completed(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_a_numpy_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match="is not a NumPy file of numbers") as caught:
        read_completed(tmp_path / "x.npy")
    assert caught.value.where == str(tmp_path / "x.npy")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="is not a NumPy file of numbers"):
        read_completed(tmp_path / "x.npy")


def test_json_holds_runs_as_the_retrainer_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(
        json.dumps({"runs": [{"run_id": "a", "rows": ROWS.tolist()}, {"run_id": "b", "rows": ROWS.tolist()}]})
    )
    assert [(run.run_id, run.rows.shape) for run in read_completed(path)] == [("a", (3, 24)), ("b", (3, 24))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"runs": [\n{"run_id": "a",\n "rows" [[1]]}]}', r"runs\.json:3: is not JSON"),
        ('{"runs": [{"run_id": "a", "rows": [["x"]]}]}', r"\$\.runs\[0\]\.rows\[0\]\[0\]"),
        ('{"runs": [{"rows": [[1]]}]}', "run_id"),
        ('{"runs": [{"run_id": "a", "rows": [[1, 2], [1]]}]}', r"runs\[0\]\.rows\[1\] has 1 numbers"),
        ('{"runs": [{"run_id": "a", "rows": [[1, 2], [1, 2]]}]}', r"run a: rows have the shape \[2, 2\]"),
        ('{"runs": []}', "has no runs"),
        ("[]", "object"),
    ],
)
def test_bad_json_is_refused_with_file_and_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "runs.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_completed(path)
    assert str(path) in str(caught.value)


def test_a_damaged_line_is_refused_with_file_and_line(fleet_folder: Path, tmp_path: Path) -> None:
    lines = (fleet_folder / "train_FD001.txt").read_text().splitlines(keepends=True)
    lines[41] = lines[41].replace("100.0", "nan", 1)
    path = tmp_path / "train_FD001.txt"
    path.write_text("".join(lines))
    with pytest.raises(DataError) as caught:
        read_completed(path)
    assert caught.value.where == f"{path}:42"
