"""What an archive knows of its runs beside their rows: which are the same, whose they are, their roles, what was taken
back."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleet import roles
from driftloop.fleet.archive import Archive, RunConflict, open_archive
from driftloop.fleet.objects import FIRST_FLEET, decode, encode
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Channel, Schema
from driftloop.fleets.cmapss.schema import SCHEMA

PUMPS = Schema(
    name="pumps",
    unit="pump",
    step="hour",
    settings=(Channel(name="load"),),
    sensors=(Channel(name="vibration"), Channel(name="pressure", missing="refuse")),
    use_settings="regimes",
)
CELLS = [f"cell-{i}" for i in range(17)]


def pump(run_id: str = "pump-1", first: float = 0.0, hours: int = 4, **more: bool) -> Run:
    rows = np.arange(hours * 3, dtype=np.float64).reshape(hours, 3)
    rows[0, 0] = first
    return Run(run_id, rows, **more)


@pytest.fixture
def archive(location: str) -> Archive:
    return open_archive(location, PUMPS)


# The same rows.


def test_the_same_rows_under_another_id_are_the_run_that_is_there(archive: Archive) -> None:
    archive.add(pump("a"))
    assert archive.keep([pump("b"), pump("c", first=1.0), pump("d", first=1.0)]) == [
        ("a", False),
        ("c", True),
        ("c", False),
    ]
    assert archive.run_ids() == ["a", "c"]


def test_the_same_rows_are_found_by_an_archive_that_was_opened_later(archive: Archive, location: str) -> None:
    archive.add_all([pump("a"), pump("b", first=1.0)])
    later = open_archive(location, PUMPS)
    assert later.keep([pump("z", first=1.0)]) == [("b", False)]
    assert later.archived_as([pump("y").sha256, "0" * 64]) == {pump("y").sha256: "a"}


def test_of_two_writers_with_the_same_rows_one_run_is_left(location: str) -> None:
    met = threading.Barrier(2)
    writers = [open_archive(location, PUMPS) for _ in range(2)]
    for writer in writers:
        writer._store.put_new = _after(met, writer._store.put_new)  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        kept = list(pool.map(lambda i: writers[i].keep([pump(f"copy-{i}")])[0], range(2)))
    assert open_archive(location, PUMPS).run_ids() == ["copy-0"]
    # Whoever looked before the other had written knows it at the next look.
    assert {run.run_id for run in kept} <= {"copy-0", "copy-1"}
    assert writers[1].keep([pump("copy-2")]) == [("copy-0", False)]
    assert writers[1].total() == 2


def _after(met: threading.Barrier, put_new: Callable[..., list[bool]]) -> Callable[..., list[bool]]:
    def wait(objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        if any(name.endswith(".npy") for name, _ in objects):
            met.wait(timeout=20)
        return put_new(objects)

    return wait


# Whose runs they are.


def test_a_missing_value_is_kept_where_the_fleet_file_lets_it_be_held(archive: Archive) -> None:
    run = pump()
    run.rows[2, 1] = np.nan
    archive.add(run)
    assert np.array_equal(archive.read("pump-1").rows, run.rows, equal_nan=True)
    run.rows[1, 2] = np.nan
    with pytest.raises(DataError, match=r"rows\[1\]\[2\] \(pressure\) is nan"):
        archive.add(Run("pump-2", run.rows))


def test_errors_speak_of_the_fleets_own_columns_and_words(archive: Archive) -> None:
    with pytest.raises(DataError, match=r"shape \[4, 2\], not \[hours, 3\] with at least 1 hour"):
        archive.add(Run("a", np.zeros((4, 2))))
    with pytest.raises(DataError, match="the pump had 3 hours left"):
        archive.add(Run("a", np.zeros((4, 3)), remaining=3))


def test_a_unit_that_failed_at_its_first_row_is_a_run(archive: Archive) -> None:
    archive.add(pump(hours=1))
    assert archive.read("pump-1").rul.tolist() == [0.0]


def test_runs_of_another_fleet_are_refused_and_named(location: str, archive: Archive) -> None:
    archive.add(pump())
    other = open_archive(location, msgspec.structs.replace(PUMPS, cap=77))
    for use in (lambda: other.read("pump-1"), other.read_all, lambda: other.add(pump("b", first=2.0))):
        with pytest.raises(DataError, match=r"is a run of another fleet .* than pumps") as caught:
            use()
        assert caught.value.what.endswith("its cap is auto, not 77")
        assert "DRIFTLOOP_ARCHIVE" in str(caught.value.remedy)
    wider = msgspec.structs.replace(PUMPS, sensors=(*PUMPS.sensors, Channel(name="noise")))
    with pytest.raises(DataError, match=r"than pumps .*, it lacks the sensor noise"):
        open_archive(location, wider).read_all()


def test_a_description_of_the_fleet_that_cannot_be_read_closes_no_archive(tmp_path: Path) -> None:
    open_archive(tmp_path, PUMPS).add(pump())
    [description] = tmp_path.glob("fleet-*.json")
    description.write_text('{"name": "from a later version", "more": 1}')
    assert open_archive(tmp_path, PUMPS).read("pump-1").run_id == "pump-1"
    with pytest.raises(DataError, match="which has other columns"):
        open_archive(tmp_path, msgspec.structs.replace(PUMPS, cap=77)).read_all()


def test_objects_without_a_fleet_are_c_mapss_and_are_still_written_so() -> None:
    assert SCHEMA.digest == FIRST_FLEET
    content = encode(Run("eng-1", np.ones((2, 24))), SCHEMA)
    assert b"fleet" not in content
    assert decode("eng-1", content, "x", SCHEMA).rows.shape == (2, 24)
    with pytest.raises(DataError, match="another fleet"):
        decode("eng-1", content, "x", PUMPS)


def test_a_unit_that_was_taken_out_stays_so_and_has_no_label(archive: Archive, location: str) -> None:
    archive.add_all([pump("a"), pump("b", first=1.0, censored=True)])
    later = open_archive(location, PUMPS)
    assert [run.censored for run in later.read_all()] == [False, True]
    assert (later.run_ids(), later.failed_ids()) == (["a", "b"], ["a"])
    with pytest.raises(RunConflict, match="failed, but the same rows are there as run b, which was taken out"):
        later.add(pump("c", first=1.0))


# Roles.


def test_roles_are_dealt_once_and_read_by_everybody(archive: Archive, location: str) -> None:
    dealt = archive.deal(CELLS)
    assert roles.lacking(dealt.values(), PUMPS.least) == {}
    later = open_archive(location, PUMPS)
    assert later.roles() == dealt
    assert later.deal(CELLS[:5]) == {cell: dealt[cell] for cell in CELLS[:5]}
    later.add_all([pump(cell, first=float(i)) for i, cell in enumerate(CELLS)])
    assert {run.run_id: run.role for run in later.read_all()} == dealt
    assert later.roles_of(CELLS) == dealt


def test_where_the_hash_does_nothing_is_written_unless_it_is_asked_for(archive: Archive, location: str) -> None:
    many = [f"eng-{i}" for i in range(300)]
    assert archive.deal(many) == {run_id: roles.role_of(run_id) for run_id in many}
    assert archive.roles() == {}
    archive.deal(many, always=True)
    assert open_archive(location, PUMPS).roles() == {run_id: roles.role_of(run_id) for run_id in many}


def test_of_many_who_deal_at_once_the_first_ones_roles_hold(location: str) -> None:
    """Each deals another choice of the same units, so that their answers would contradict each other."""
    choices = [CELLS[i:] + CELLS[: i % 3] for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda choice: open_archive(location, PUMPS).deal(choice, always=True), choices))
    written = open_archive(location, PUMPS).roles()
    for answer in answers:
        assert answer.items() <= written.items()


def test_a_role_that_a_model_was_trained_with_is_not_dealt_anew(archive: Archive) -> None:
    known = dict.fromkeys(CELLS[:6], "live")
    assert archive.deal(CELLS, known=known).items() >= known.items()
    assert Counter(archive.roles().values())["train"] >= PUMPS.least["train"]


def test_other_least_numbers_can_be_asked_for(archive: Archive) -> None:
    dealt = archive.deal(CELLS, least={"train": 4, "live": 9})
    assert Counter(dealt.values())["live"] >= 9


# Taking back.


def test_a_withdrawn_run_is_never_learnt_from_again_but_can_be_read(archive: Archive, location: str) -> None:
    archive.add_all([pump("a"), pump("b", first=1.0)])
    assert archive.withdraw(["b"], "a test engine") == ["b"]
    assert archive.withdraw(["b"], "again") == []
    later = open_archive(location, PUMPS)
    assert (later.run_ids(), later.failed_ids(), later.total()) == (["a"], ["a"], 2)
    assert [run.run_id for run in later.read_all()] == ["a"]
    assert later.read("b").rows[0, 0] == 1.0
    assert later.withdrawn()["b"].reason == "a test engine"


@pytest.mark.parametrize("run_id", ["b", "another-name"])
def test_withdrawn_rows_do_not_come_back_under_any_name(archive: Archive, run_id: str) -> None:
    archive.add(pump("b"))
    archive.withdraw(["b"], "a test engine")
    with pytest.raises(RunConflict, match=r"run b: was withdrawn at .* \(a test engine\)"):
        archive.add_all([pump("new", first=5.0), pump(run_id)])
    assert archive.run_ids() == []


def test_what_is_not_there_cannot_be_withdrawn(archive: Archive) -> None:
    archive.add(pump("a"))
    with pytest.raises(DataError, match="no such run"):
        archive.withdraw(["a", "b"], "")
    assert archive.run_ids() == ["a"]


def test_a_damaged_record_is_an_error_with_its_name(archive: Archive) -> None:
    archive._store.put_new([("roles-000001.json", b'{"a": \xe9}')])
    with pytest.raises(DataError, match=r"roles-000001\.json") as caught:
        archive.run_ids()
    assert "restore this object" in str(caught.value.remedy)
