"""The parts: how each is read from a platform, and put back."""

import contextlib
import io
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from platform_backup.manifest import Refused

SQLITE = b"SQLite format 3\0"
BESIDE = ("-wal", "-shm", "-journal")


def dump(database: str) -> Callable[[BinaryIO], None]:
    """A database as pg_dump's own format; PGHOST, PGUSER and PGPASSFILE say where it is."""

    def produce(to: BinaryIO) -> None:
        done = subprocess.run(["pg_dump", "--format=custom", "--compress=6", database], stdout=to, check=False)
        if done.returncode != 0:
            raise Refused(f"pg_dump of {database} failed with code {done.returncode}")

    return produce


def load(database: str, content: BinaryIO) -> None:
    """Replace a database by a dump: it is made anew, owned by the user of its name."""
    _psql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
    _psql(f'CREATE DATABASE "{database}" OWNER "{database}"')
    # Who may enter is the database's own setting, which a dump of it alone does not hold.
    _psql(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
    command = ["pg_restore", "--no-owner", f"--role={database}", "--exit-on-error", f"--dbname={database}"]
    restoring = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert restoring.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        shutil.copyfileobj(content, restoring.stdin, 1 << 20)
        restoring.stdin.close()
    if restoring.wait() != 0:
        raise Refused(f"pg_restore of {database} failed with code {restoring.returncode}")


def _psql(statement: str) -> None:
    done = subprocess.run(["psql", "-Xqt", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", statement], check=False)
    if done.returncode != 0:
        raise Refused(f"PostgreSQL did not take: {statement}")


def pack_bucket(
    s3: Any, bucket: str, leave_out: tuple[str, ...], told: Callable[[int], None]
) -> Callable[[BinaryIO], None]:
    """Every object of a bucket, but below the prefixes `leave_out`; tells how many there were."""

    def produce(to: BinaryIO) -> None:
        count = 0
        with tarfile.open(fileobj=to, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for each in page.get("Contents", []):
                    if each["Key"].startswith(leave_out):
                        continue
                    found = s3.get_object(Bucket=bucket, Key=each["Key"])
                    entry = tarfile.TarInfo("object")
                    entry.size = found["ContentLength"]
                    entry.pax_headers = {"driftloop.key": each["Key"], "driftloop.type": found.get("ContentType", "")}
                    tar.addfile(entry, found["Body"])
                    count += 1
        told(count)

    return produce


def unpack_bucket(s3: Any, bucket: str, leave_out: tuple[str, ...], content: BinaryIO) -> int:
    """Make a bucket hold exactly the packed objects, but for what lies below `leave_out`; returns how many they are."""
    kept = set()
    with tarfile.open(fileobj=content, mode="r|") as tar:
        for entry in tar:
            key, kind = entry.pax_headers["driftloop.key"], entry.pax_headers.get("driftloop.type", "")
            file = tar.extractfile(entry)
            assert file is not None
            s3.upload_fileobj(_Plain(file), bucket, key, ExtraArgs={"ContentType": kind} if kind else None)
            kept.add(key)
    _drain(content)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            if each["Key"] not in kept and not each["Key"].startswith(leave_out):
                s3.delete_object(Bucket=bucket, Key=each["Key"])
    return len(kept)


class _Plain:
    """A stream that can only be read on: boto3 would seek in a member of a tar, which a pipe cannot."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        piece: bytes = self._file.read(size)
        return piece


def pack_folder(folder: Path, leave_out: tuple[str, ...]) -> Callable[[BinaryIO], None]:
    """The files of a folder but for those below the folders `leave_out`; SQLite's databases by their backup API."""

    def produce(to: BinaryIO) -> None:
        with tarfile.open(fileobj=to, mode="w|") as tar, tempfile.TemporaryDirectory() as scratch:
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder).as_posix()
                if not path.is_file() or path.is_symlink() or name.split("/")[0] in leave_out:
                    continue
                if name.endswith(BESIDE) and Path(str(path).rpartition("-")[0]).exists():
                    continue
                if _is_sqlite(path):
                    copy = Path(scratch) / "copy.db"
                    copy_sqlite(path, copy)
                    tar.add(copy, name)
                    copy.unlink()
                else:
                    tar.add(path, name)

    return produce


def copy_sqlite(path: Path, to: Path) -> None:
    """A copy of a database at one moment, whoever writes into it; refuses a damaged one."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(to)) as copy,
    ):
        source.backup(copy)
        [(found,)] = copy.execute("PRAGMA integrity_check(1)").fetchall()
        if found != "ok":
            raise Refused(f"{path} is damaged: {found}")
        # One file, with nothing beside it.
        copy.execute("PRAGMA journal_mode=DELETE")


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def unpack_folder(folder: Path, leave_out: tuple[str, ...], content: BinaryIO) -> None:
    """Make a folder hold exactly the packed files, but for what lies below `leave_out`."""
    for path in folder.iterdir():
        if path.name in leave_out or path.name == "lost+found":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with tarfile.open(fileobj=content, mode="r|") as tar:
        for entry in tar:
            tar.extract(entry, folder, filter="data", set_attrs=False)
            os.chmod(folder / entry.name, 0o660)
    _drain(content)


def pack_files(folder: Path) -> Callable[[BinaryIO], None]:
    """Files of a mounted Secret by name."""

    def produce(to: BinaryIO) -> None:
        with tarfile.open(fileobj=to, mode="w|") as tar:
            for path in sorted(each for each in folder.iterdir() if each.is_file()):
                content = path.read_bytes()
                entry = tarfile.TarInfo(path.name)
                entry.size, entry.mode = len(content), 0o600
                tar.addfile(entry, io.BytesIO(content))

    return produce


def _drain(content: BinaryIO) -> None:
    """What follows the end of a tar: padding."""
    while content.read(1 << 20):
        pass
