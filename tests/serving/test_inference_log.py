"""The inference log: what it keeps, how it stays bounded, and that nothing waits for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftloop.serving.inference_log import InferenceLog, Record, read_records
from driftloop.serving.requests import Prediction, Window
from serving_bundles import row


class Counts:
    dropped = failed = 0

    def drop(self, records: int) -> None:
        self.dropped += records

    def fail(self, records: int) -> None:
        self.failed += records


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def make(tmp_path: Path, counts: Counts) -> Callable[..., InferenceLog]:
    def one(**changes: Any) -> InferenceLog:
        whole = {"most_bytes": 10**6, "files": 2, "dropped": counts.drop, "failed": counts.fail}
        return InferenceLog(tmp_path / "inference", **{**whole, **changes})

    return one


def batch(*numbers: int) -> tuple[str, list[Window], list[Prediction], Any]:
    windows = [Window([row(0.1), row(0.1 + n)], f"eng-{n}", n) for n in numbers]
    predictions = [
        Prediction(rul=n, lower=n - 1, upper=n + 1, regime=0, flags=["stub"], model_version="1", request_id=f"r{n}")
        for n in numbers
    ]
    return "1", windows, predictions, np.full((len(numbers), 21), 1 / 3, dtype=np.float32)


def written(log: InferenceLog, *batches: tuple[int, ...]) -> None:
    """Start the log, write the batches one after the other, and stop it."""
    log._open()
    for numbers in batches:
        log.put(*batch(*numbers))
        log._write_some()
    log.start()
    log.stop()


def test_a_record_has_the_row_as_sent_and_what_was_answered(make: Callable[..., InferenceLog], tmp_path: Path) -> None:
    log = make()
    log.start()
    log.put(*batch(7))
    log.stop()
    [record] = read_records(tmp_path / "inference")
    assert record.time.endswith("Z")
    assert record == Record(record.time, "1", "eng-7", 7, "r7", 7.0, 6.0, 8.0, 0, ["stub"], [*row(7.1)], [0.33333] * 21)


def test_stopping_writes_what_waits(make: Callable[..., InferenceLog], tmp_path: Path) -> None:
    log = make()
    for n in range(2000):
        log.put(*batch(n))
    log.start()
    log.stop()
    assert [record.cycle for record in read_records(tmp_path / "inference")] == list(range(2000))


def test_files_are_rotated_by_size_and_a_limited_number_kept(make: Callable[..., InferenceLog], tmp_path: Path) -> None:
    written(make(most_bytes=1500), *((n,) for n in range(20)))
    files = {path.name: path.stat().st_size for path in (tmp_path / "inference").glob("*.jsonl")}
    assert set(files) == {"inference-0.jsonl", "inference-0.1.jsonl", "inference-0.2.jsonl"}
    assert all(size <= 1500 for size in files.values())
    kept = [record.cycle for record in read_records(tmp_path / "inference")]
    assert kept == list(range(kept[0] or 0, 20)), "the newest, in order, without a gap"


def test_a_restart_goes_on_in_the_same_file(make: Callable[..., InferenceLog], tmp_path: Path) -> None:
    for n in range(3):
        written(make(), (n,))
    assert [record.cycle for record in read_records(tmp_path / "inference")] == [0, 1, 2]
    assert [path.name for path in (tmp_path / "inference").glob("*.jsonl")] == ["inference-0.jsonl"]


def test_each_worker_has_a_file_of_its_own(make: Callable[..., InferenceLog], tmp_path: Path) -> None:
    first, second = make(), make()
    first._open()
    written(second, (2,))
    written(first, (1,))
    assert [record.cycle for record in read_records(tmp_path / "inference")] == [1, 2]
    assert (tmp_path / "inference" / "inference-1.jsonl").exists()


def test_what_does_not_fit_is_dropped_and_counted(
    make: Callable[..., InferenceLog], counts: Counts, tmp_path: Path
) -> None:
    log = make(most_waiting=3)
    for numbers in ((1, 2), (3, 4), (5,)):
        log.put(*batch(*numbers))
    assert counts.dropped == 2
    log.start()
    log.stop()
    assert [record.cycle for record in read_records(tmp_path / "inference")] == [1, 2, 5]


def test_a_full_disk_loses_records_and_nothing_else(
    make: Callable[..., InferenceLog], counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make()
    log._open()
    real_write = os.write

    def full(handle: int, content: bytes) -> int:
        real_write(handle, content[:50])
        raise OSError(28, "No space left on device")

    for numbers, broken in (((1,), False), ((2, 3), True), ((4,), False)):
        with monkeypatch.context() as patch:
            if broken:
                patch.setattr(os, "write", full)
            log.put(*batch(*numbers))
            log._write_some()
    log.start()
    log.stop()
    assert counts.failed == 2
    assert [record.cycle for record in read_records(tmp_path / "inference")] == [1, 4]


def test_a_folder_that_cannot_be_made_is_counted(counts: Counts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = InferenceLog(tmp_path / "file" / "below", most_bytes=9, files=1, dropped=counts.drop, failed=counts.fail)
    log.start()
    log.put(*batch(1, 2))
    log.stop()
    assert counts.failed == 2


def test_half_a_line_left_by_a_crash_is_passed_over(make: Callable[..., InferenceLog], tmp_path: Path) -> None:
    written(make(), (1,), (2,))
    path = tmp_path / "inference" / "inference-0.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    written(make(), (3,))
    assert [record.cycle for record in read_records(tmp_path / "inference")] == [1, 3]
