"""The archive: completed runs-to-failure, kept for good in a folder or an S3 bucket; what retraining learns from.

Each run is one object, `<run id>.npy`: a NumPy file of the rows (float64 `[cycles, 24]`, which `numpy.load`
reads), followed by one line of JSON with the run's id and the SHA-256 of its rows, checked at every read.
Objects are written once and never changed or deleted, so any number of writers and readers may share an archive.
"""

import errno
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import COLUMNS, N_COLUMNS

_SUFFIX = ".npy"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LIMIT = float(np.finfo(np.float32).max)
_RESTORE = "restore this object from a backup, or delete it and add the run again"


class RunConflict(DataError):
    """A run whose id is in the archive already, with other rows."""


def check_run(run: Run) -> None:
    """Raise DataError, naming the field, unless `run` can be archived.

    Its id must do for a file name, its rows must be `[cycles >= 2, 24]`, finite and within float32, and it must
    have run to failure.
    """
    if not _RUN_ID.fullmatch(run.run_id):
        what = f"the run id {run.run_id[:80]!r} must be 1 to 128 letters, digits, points, dashes or underscores"
        raise DataError(what, remedy="give the run another id, such as eng-0123456789")
    where = f"run {run.run_id}"
    if run.rows.ndim != 2 or run.rows.shape[1] != N_COLUMNS or len(run.rows) < 2:
        what = f"rows have the shape {list(run.rows.shape)}, not [cycles, {N_COLUMNS}] with at least 2 cycles"
        raise DataError(what, where=where, remedy=f"send all {N_COLUMNS} columns of every cycle")
    if run.remaining:
        what = f"the engine had {run.remaining} cycles left; only completed runs-to-failure can be archived"
        raise DataError(what, where=where, remedy="add the run when the engine has failed")
    bad = ~(np.abs(run.rows) <= _LIMIT)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        what = f"rows[{row}][{column}] ({COLUMNS[column]}) is {run.rows[row, column]}, not a finite float32"
        raise DataError(what, where=where, remedy="send the measured value, or leave the run out")


class Store(Protocol):
    """Where objects are: put once, never overwritten."""

    def put_new(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Store each object whose name is free; for each, True if it was stored and False if the name is taken."""
        ...

    def get(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is none of that name."""
        ...

    def names(self) -> list[str]:
        """The names of all objects, sorted."""
        ...

    def where(self, name: str) -> str:
        """The full name of an object, for people."""
        ...


class Archive:
    """Append-only set of completed runs; `open_archive` makes one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, run: Run) -> bool:
        """Archive one run: True if it is new, False if it was there already, row for row.

        When this returns, the run is on disk. Raises DataError for a run that `check_run` refuses and RunConflict
        for an id that is taken by other rows.
        """
        return self.add_all([run])[0]

    def add_all(self, runs: Sequence[Run]) -> list[bool]:
        """Archive many runs as `add` does; no run is stored unless every one of them may be."""
        unique: dict[str, Run] = {}
        for run in runs:
            check_run(run)
            if unique.setdefault(run.run_id, run).sha256 != run.sha256:
                raise RunConflict("is given twice with different rows", where=f"run {run.run_id}")
        known = set(self.run_ids()) & unique.keys()
        for run_id in known:
            self._check_same(unique[run_id])
        fresh = [run for run_id, run in unique.items() if run_id not in known]
        stored = self._store.put_new([(run.run_id + _SUFFIX, _encode(run)) for run in fresh])
        added = {run.run_id for run, is_new in zip(fresh, stored, strict=True) if is_new}
        for run in fresh:
            if run.run_id not in added:  # another writer was faster
                self._check_same(run)
        answers = []
        for run in runs:
            answers.append(run.run_id in added)
            added.discard(run.run_id)  # a run given twice in one call is new the first time only
        return answers

    def run_ids(self) -> list[str]:
        """The ids of all archived runs, sorted."""
        return [name.removesuffix(_SUFFIX) for name in self._store.names() if name.endswith(_SUFFIX)]

    def read(self, run_id: str) -> Run:
        """One run; raises DataError where it is missing or damaged, naming the object and what to do."""
        name = run_id + _SUFFIX
        content = self._store.get(name) if _RUN_ID.fullmatch(run_id) else None
        if content is None:
            raise DataError("there is no such run in the archive", where=self._store.where(name))
        return decode(run_id, content, self._store.where(name))

    def read_all(self, ids: Iterable[str] | None = None) -> list[Run]:
        """The runs with `ids`, in their order, by default all of them sorted by id; raises DataError as `read` does."""
        wanted = self.run_ids() if ids is None else list(ids)
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(self.read, wanted))

    def _check_same(self, run: Run) -> None:
        if self.read(run.run_id).sha256 != run.sha256:
            raise RunConflict(
                "is in the archive already with other rows; an archived run never changes",
                where=f"run {run.run_id}",
                remedy="give the run another id, or use another archive for another fleet",
            )


def open_archive(location: str | Path) -> Archive:
    """The archive in a folder (made at the first `add`) or at `s3://bucket/prefix`.

    S3 is configured by the standard variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and so
    on). Raises DataError for a location that cannot be one.
    """
    text = str(location)
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise DataError("names no bucket", where=text, remedy="write it as s3://bucket/prefix")
        return Archive(_BucketStore(bucket, prefix.strip("/")))
    if "://" in text or not text:
        raise DataError("is not an archive", where=text or "archive", remedy="give a folder or s3://bucket/prefix")
    return Archive(_FolderStore(Path(text)))


def decode(run_id: str, content: bytes, where: str) -> Run:
    """The run in an archived object's bytes; raises DataError where they are not what was written for `run_id`."""
    buffer = io.BytesIO(content)
    try:
        run = Run(run_id, np.load(buffer, allow_pickle=False))
        label = json.loads(buffer.read())
        intact = run.rows.dtype == np.float64 and label == {"run_id": run_id, "sha256": run.sha256}
    except (ValueError, EOFError, OSError, AttributeError, MemoryError):
        intact = False
    if not intact:
        raise DataError("the archived run is damaged: its rows do not match its checksum", where=where, remedy=_RESTORE)
    return run


def _encode(run: Run) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(run.rows, dtype="<f8"), allow_pickle=False)
    buffer.write(b"\n" + json.dumps({"run_id": run.run_id, "sha256": run.sha256}).encode() + b"\n")
    return buffer.getvalue()


class _FolderStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_new(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        if not objects:
            return []
        temporary: list[str] = []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # All bytes reach the disk under temporary names before any name is taken.
            for name, content in objects:
                handle, path = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")
                temporary.append(path)
                with os.fdopen(handle, "wb") as file:
                    os.fchmod(handle, 0o644)
                    file.write(content)
                    file.flush()
                    os.fsync(handle)
            stored = [self._link(path, self._folder / name) for path, (name, _) in zip(temporary, objects, strict=True)]
            self._sync()
        except OSError as error:
            remedy = "free some space" if error.errno == errno.ENOSPC else "make the archive's folder writable"
            what = f"the runs cannot be written: {error.strerror}"
            raise DataError(what, where=str(self._folder), remedy=remedy) from error
        finally:
            for path in temporary:
                Path(path).unlink(missing_ok=True)
        return stored

    def get(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=self.where(name)) from error

    def names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot be listed: {error.strerror}", where=str(self._folder)) from error

    def where(self, name: str) -> str:
        return str(self._folder / name)

    @staticmethod
    def _link(temporary: str, path: Path) -> bool:
        # Unlike a rename, a link never replaces what another writer has put there meanwhile.
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        return True

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _BucketStore:
    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            remedy = "pip install 'driftloop[data]'"
            raise DataError("an S3 archive needs boto3", where=f"s3://{bucket}/{prefix}", remedy=remedy) from error
        # Some S3 stores do not know the checksums that boto3 adds by default since 1.36.
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=30,
        )
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        try:
            self._client = boto3.client("s3", config=config)
        except Exception as error:
            raise self._error("cannot be opened", "", error) from error

    def put_new(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(self._put, objects))

    def get(self, name: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            content: bytes = answer["Body"].read()
        except Exception as error:
            if _code(error) in ("NoSuchKey", "404"):
                return None
            raise self._error("cannot be read", name, error) from error
        return content

    def names(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        try:
            keys = [entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", ())]
        except Exception as error:
            raise self._error("cannot be listed", "", error) from error
        return sorted(key for key in keys if "/" not in key)

    def where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def _put(self, entry: tuple[str, bytes], pauses_s: tuple[float, ...] = (0.1, 0.3, 1.0)) -> bool:
        name, content = entry
        try:
            return self._put_if_free(name, content)
        except Exception as error:
            if not pauses_s or _code(error) not in ("ConditionalRequestConflict", "409"):
                raise self._error("cannot be written", name, error) from error
        # Two writers were under way with this name at once; S3 asks both to try again.
        time.sleep(pauses_s[0])
        return self._put(entry, pauses_s[1:])

    def _put_if_free(self, name: str, content: bytes) -> bool:
        key = self._prefix + name
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content, IfNoneMatch="*")
        except Exception as error:
            if _code(error) in ("PreconditionFailed", "412"):
                return False
            if _code(error) not in ("NotImplemented", "501"):
                raise
            # A store without conditional writes: two writers of one new id could meet between these calls, so that
            # what is stored is compared afterwards.
            if self.get(name) is not None:
                return False
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content)
            return self.get(name) == content
        return True

    def _error(self, what: str, name: str, error: Exception) -> DataError:
        remedy = "check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and that the bucket exists"
        return DataError(f"{what}: {error}", where=self.where(name), remedy=remedy)


def _code(error: Exception) -> str:
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
