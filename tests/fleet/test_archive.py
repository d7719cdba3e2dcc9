from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from driftloop.errors import DataError
from driftloop.fleet.archive import Archive, RunConflict, open_archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA


def run(run_id: str = "eng-0123456789", cycles: int = 5, first: float = 0.0) -> Run:
    rows = np.arange(cycles * 24, dtype=np.float64).reshape(cycles, 24)
    rows[0, 0] = first
    return Run(run_id, rows)


@pytest.fixture
def archive(location: str) -> Archive:
    return open_archive(location, SCHEMA)


def test_a_run_is_read_back_as_it_was_added(archive: Archive) -> None:
    assert archive.add(run()) is True
    read = archive.read("eng-0123456789")
    assert np.array_equal(read.rows, run().rows)
    assert (read.run_id, read.remaining, read.sha256) == ("eng-0123456789", 0, run().sha256)


def test_adding_a_run_again_changes_nothing(archive: Archive) -> None:
    assert [archive.add(run()), archive.add(run())] == [True, False]
    assert archive.run_ids() == ["eng-0123456789"]


def test_a_known_id_with_other_rows_is_refused_and_the_first_rows_stay(archive: Archive) -> None:
    archive.add(run())
    with pytest.raises(RunConflict, match="run eng-0123456789: is in the archive already with other rows"):
        archive.add(run(first=1.0))
    assert archive.read("eng-0123456789").rows[0, 0] == 0.0


def test_an_empty_archive_has_no_runs(archive: Archive) -> None:
    assert archive.run_ids() == []
    assert archive.read_all() == []
    assert archive.add_all([]) == []


def test_many_runs_are_added_and_read_in_order(archive: Archive) -> None:
    runs = [run(f"eng-{i:03}", cycles=2 + i) for i in range(20)]
    archive.add(runs[3])
    assert archive.add_all([*runs, runs[0]]) == [True] * 3 + [False] + [True] * 16 + [False]
    assert archive.run_ids() == [r.run_id for r in runs]
    assert [r.sha256 for r in archive.read_all()] == [r.sha256 for r in runs]
    assert [r.run_id for r in archive.read_all(["eng-007", "eng-002"])] == ["eng-007", "eng-002"]


def test_no_run_is_stored_unless_all_may_be(archive: Archive) -> None:
    archive.add(run("eng-b", first=4.0))
    for bad in (Run("eng-c", np.full((3, 24), np.nan)), run("eng-b", first=9.0), run("eng-a", first=9.0)):
        with pytest.raises(DataError):
            archive.add_all([run("eng-a"), bad])
    assert archive.run_ids() == ["eng-b"]


def test_a_run_that_is_not_there_is_an_error_for_people(archive: Archive) -> None:
    for run_id in ("eng-nothing", "../secret"):
        with pytest.raises(DataError, match="there is no such run in the archive"):
            archive.read(run_id)


@pytest.mark.parametrize("run_id", ["", ".hidden", "a/b", "..", "a b", "a\n", "-x", "é", "x" * 129])
def test_ids_that_are_no_safe_file_names_are_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(DataError, match="run id"):
        open_archive(tmp_path, SCHEMA).add(run(run_id))
    assert list(tmp_path.iterdir()) == []


def test_only_lives_of_finite_rows_that_ended_in_failure_are_archived(tmp_path: Path) -> None:
    rows = run().rows
    huge, nan = rows.copy(), rows.copy()
    huge[2, 3], nan[1, 0] = 1e39, np.nan
    for bad, says in (
        (Run("r", rows[:, :23]), r"shape \[5, 23\]"),
        (Run("r", rows[:1]), "at least 2 cycles"),
        (Run("r", rows.ravel()), r"shape \[120\]"),
        (Run("r", huge), r"rows\[2\]\[3\] \(sensor_1\) is 1e\+39"),
        (Run("r", nan), r"rows\[1\]\[0\] \(setting_1\) is nan"),
        (Run("r", rows, remaining=7), "7 cycles left"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            open_archive(tmp_path, SCHEMA).add(bad)
        assert caught.value.where == "run r"
        assert caught.value.remedy


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=arrays(
        np.float64,
        st.tuples(st.integers(2, 8), st.just(24)),
        elements=st.floats(-3e38, 3e38, allow_nan=False, allow_infinity=False),
    )
)
def test_every_valid_run_survives_the_archive_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, rows) -> None:
    archive = open_archive(tmp_path_factory.mktemp("archive"), SCHEMA)
    archive.add(Run("r", rows))
    assert archive.read("r").rows.tobytes() == rows.tobytes()


def test_an_archived_run_is_a_file_that_numpy_reads(tmp_path: Path) -> None:
    open_archive(tmp_path, SCHEMA).add(run())
    assert np.array_equal(np.load(tmp_path / "eng-0123456789.npy"), run().rows)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "label", "other", "text"])
def test_a_damaged_object_is_refused_with_its_name_and_a_remedy(tmp_path: Path, damage: str) -> None:
    archive = open_archive(tmp_path, SCHEMA)
    archive.add_all([run("eng-a"), run("eng-b", first=4.0)])
    path = tmp_path / "eng-a.npy"
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "flip": content[:300] + bytes([content[300] ^ 1]) + content[301:],
            "empty": b"",
            "label": content[: content.rindex(b"{")],
            "other": (tmp_path / "eng-b.npy").read_bytes(),
            "text": b"not a run at all",
        }[damage]
    )
    for use in (lambda: archive.read("eng-a"), archive.read_all, lambda: archive.add(run("eng-a"))):
        with pytest.raises(DataError, match="damaged") as caught:
            use()
        assert caught.value.where == str(path)
        assert caught.value.remedy
    assert archive.read("eng-b").rows[0, 0] == 4.0


def test_what_a_killed_writer_left_is_passed_over(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, SCHEMA)
    archive.add(run())
    (tmp_path / ".eng-x.npy.abc").write_bytes(b"half")
    assert archive.run_ids() == ["eng-0123456789"]


def test_nothing_but_the_objects_is_left_in_the_folder(tmp_path: Path) -> None:
    open_archive(tmp_path, SCHEMA).add_all([run("eng-a"), run("eng-b", first=4.0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eng-a.npy", "eng-b.npy"]


def test_of_many_writers_of_one_new_id_one_wins_and_the_others_learn_it(archive: Archive) -> None:
    def add(first: int) -> bool | None:
        try:
            return archive.add(run(first=float(first)))
        except RunConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(add, range(16)))
    assert outcomes.count(True) == 1
    assert outcomes.count(None) == 15
    assert archive.read("eng-0123456789").rows[0, 0] == outcomes.index(True)


def test_a_folder_that_cannot_be_written_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be (written|listed)"):
        open_archive(tmp_path / "file" / "archive", SCHEMA).add(run())


@pytest.mark.parametrize("location", ["", "http://host/x", "s3://", "s3:///prefix"])
def test_a_location_that_is_no_archive_is_refused(location: str) -> None:
    with pytest.raises(DataError, match=r"not an archive|names no bucket"):
        open_archive(location, SCHEMA)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_an_error_for_people() -> None:
    with pytest.raises(DataError, match=r"s3://nowhere/x/.*NoSuchBucket.*AWS_ENDPOINT_URL"):
        open_archive("s3://nowhere/x", SCHEMA).run_ids()


@pytest.mark.usefixtures("s3")
def test_prefixes_of_one_bucket_are_archives_of_their_own() -> None:
    outer, inner = open_archive("s3://archive/plants", SCHEMA), open_archive("s3://archive/plants/a", SCHEMA)
    inner.add(run("eng-a"))
    outer.add(run("eng-b"))
    assert (outer.run_ids(), inner.run_ids()) == (["eng-b"], ["eng-a"])


@pytest.mark.usefixtures("s3")
def test_a_store_without_conditional_writes_still_never_replaces_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    archive = open_archive("s3://archive/old-store", SCHEMA)
    client = archive._store._client  # type: ignore[attr-defined]
    put = client.put_object

    def refuse_conditions(**request: object) -> object:
        if "IfNoneMatch" in request:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        return put(**request)

    monkeypatch.setattr(client, "put_object", refuse_conditions)
    assert [archive.add(run()), archive.add(run())] == [True, False]
    with pytest.raises(RunConflict):
        archive.add(run(first=1.0))


def test_a_missing_boto3_is_an_error_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(DataError, match="needs boto3"):
        open_archive("s3://archive/x", SCHEMA)


@pytest.mark.usefixtures("s3")
def test_a_write_that_met_another_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    archive = open_archive("s3://archive/busy", SCHEMA)
    client = archive._store._client  # type: ignore[attr-defined]
    put, conflicts = client.put_object, iter([True, True])

    def meet(**request: object) -> object:
        if next(conflicts, False):
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return put(**request)

    monkeypatch.setattr(client, "put_object", meet)
    assert archive.add(run()) is True


@pytest.mark.usefixtures("s3")
def test_a_bad_endpoint_is_an_error_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")
    with pytest.raises(DataError, match="AWS_ENDPOINT_URL"):
        open_archive("s3://archive/x", SCHEMA)


def test_a_store_on_this_machine_is_reached_without_the_proxy(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert s3
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    archive = open_archive(f"s3://archive/{tmp_path.name}", SCHEMA)
    assert archive.add(run()) is True
    assert archive.run_ids() == ["eng-0123456789"]
