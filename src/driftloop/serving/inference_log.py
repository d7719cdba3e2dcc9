"""The inference log: what was asked and answered, as JSON lines, for reports and feedback.

A thread writes it from a bounded queue, so that neither a slow nor a full disk delays a request; what does not
fit is dropped and counted. Worker k of a server writes `inference-k.jsonl`, rotated to `inference-k.1.jsonl`
(newest) and so on, so that the log never takes more than (files + 1) x bytes per worker.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.durable import NOT_JSON, format_seconds
from driftloop.serving.requests import Prediction, Row, Window, newest_row

log = logging.getLogger(__name__)

_MOST_WAITING = 20_000
"""Records in the queue, about four seconds of a busy server."""
_PAUSE_S = 0.1
_WORKERS = 64


class Record(msgspec.Struct):
    """One prediction: `row` is the newest row as sent, null for what was missing, `newest` its normalised sensors."""

    time: str
    model_version: str
    engine_id: str | None
    cycle: int | None
    request_id: str
    rul: float
    lower: float
    upper: float
    regime: int
    flags: list[str]
    row: Row
    newest: list[float]


class _Asked(NamedTuple):
    """What is kept of a window until it is written: its rows are thousands of objects, which are better given back at
    once to the requests that follow."""

    engine_id: str | None
    cycle: float | None
    row: Row


class _Batch(NamedTuple):
    time: float
    version: str
    windows: Sequence[_Asked]
    predictions: Sequence[Prediction]
    newest: NDArray[np.float32]


class InferenceLog:
    """Appends predictions to this worker's log; `dropped` and `failed` are called with numbers of records."""

    def __init__(
        self,
        folder: Path,
        *,
        most_bytes: int,
        files: int,
        dropped: Callable[[int], None],
        failed: Callable[[int], None],
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._folder, self._most_bytes, self._files = folder, most_bytes, files
        self._dropped, self._failed, self._most_waiting = dropped, failed, most_waiting
        self._batches: deque[_Batch] = deque()
        self._waiting = 0
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="inference-log", daemon=True)
        self._encoder = msgspec.json.Encoder()
        self._lock_handle: int | None = None
        self._file: int | None = None
        self._path = folder / "inference-0.jsonl"
        self._size = 0
        self._complaining = False

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end the thread."""
        self._stopping.set()
        self._thread.join()

    def put(
        self,
        version: str,
        windows: Sequence[Window],
        predictions: Sequence[Prediction],
        newest: NDArray[np.float32],
    ) -> None:
        """Queue one batch; never waits for the disk. What is more than the queue holds is dropped."""
        with self._guard:
            fits = self._waiting + len(windows) <= self._most_waiting
            if fits:
                self._waiting += len(windows)
                asked = [_Asked(window.engine_id, window.cycle, newest_row(window.rows)) for window in windows]
                self._batches.append(_Batch(time.time(), version, asked, predictions, newest))
        if not fits:
            self._dropped(len(windows))

    def _work(self) -> None:
        # Woken by time rather than by each batch: fewer, larger writes, and nothing to signal on the way.
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(_PAUSE_S)
            while self._batches:
                self._write_some()
        if self._file is not None:
            os.close(self._file)
        if self._lock_handle is not None:
            os.close(self._lock_handle)

    def _write_some(self, most: int = 500) -> None:
        lines: list[bytes] = []
        while self._batches and len(lines) < most:
            with self._guard:
                batch = self._batches.popleft()
                self._waiting -= len(batch.windows)
            lines += [self._encoder.encode(record) for record in _records(batch)]
        content = b"\n".join(lines) + b"\n"
        try:
            self._append(content)
            self._complaining = False
        except OSError as error:
            if not self._complaining:
                log.error("the inference log %s cannot be written: %s", self._path, error.strerror)
            self._complaining = True
            self._failed(len(lines))

    def _append(self, content: bytes) -> None:
        if self._file is None:
            self._open()
        if self._size and self._size + len(content) > self._most_bytes:
            self._rotate()
        assert self._file is not None
        try:
            written = os.write(self._file, content)
            if written != len(content):
                raise OSError(28, "no space left on device")
        except OSError:
            # Whatever part arrived goes again: no half record stays.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(content)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock_handle is None:
            self._path, self._lock_handle = _claim(self._folder)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._file).st_size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            # A crash left half a line; the next record must not be glued to it.
            self._size += os.write(self._file, b"\n")

    def _rotate(self) -> None:
        assert self._file is not None
        os.close(self._file)
        self._file = None
        for number in range(self._files - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(_rotated(self._path, number), _rotated(self._path, number + 1))
        os.replace(self._path, _rotated(self._path, 1))
        self._open()


def read_records(folder: Path) -> Iterator[Record]:
    """The records in the folder, worker by worker, each oldest first; a line cut short by a crash is passed over."""
    decoder = msgspec.json.Decoder(Record)
    for worker in range(_WORKERS):
        live = folder / f"inference-{worker}.jsonl"
        rotated = sorted(folder.glob(f"inference-{worker}.*.jsonl"), key=_number, reverse=True)
        for path in (*rotated, live):
            # A file may be rotated between the listing and the reading.
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                for line in file:
                    with contextlib.suppress(*NOT_JSON):
                        yield decoder.decode(line)


def _records(batch: _Batch) -> Iterator[Record]:
    at = format_seconds(batch.time)
    normalised = np.round(batch.newest.astype(np.float64), 5).tolist()
    for window, prediction, newest in zip(batch.windows, batch.predictions, normalised, strict=True):
        yield Record(
            time=at,
            model_version=batch.version,
            engine_id=window.engine_id,
            cycle=None if window.cycle is None else int(window.cycle),
            request_id=prediction.request_id,
            rul=prediction.rul,
            lower=prediction.lower,
            upper=prediction.upper,
            regime=prediction.regime,
            flags=prediction.flags,
            row=window.row,
            newest=newest,
        )


def _claim(folder: Path) -> tuple[Path, int]:
    """The lowest free number among this server's workers; the lock goes with the process, however it ends."""
    for worker in range(_WORKERS):
        handle = os.open(folder / f".inference-{worker}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return folder / f"inference-{worker}.jsonl", handle
    raise OSError(11, f"more than {_WORKERS} workers write to {folder}")


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}.jsonl")


def _number(path: Path) -> int:
    digits = path.name.removesuffix(".jsonl").rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0
