"""Where an archive's objects are: a folder, or a bucket of S3; put once, never overwritten, never deleted."""

import errno
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from driftloop.environment import is_here
from driftloop.errors import DataError


class Store(Protocol):
    """Where objects are: put once, never overwritten."""

    def put_new(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Store each object whose name is free; for each, True if it was stored and False if the name is taken."""
        ...

    def get(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is none of that name."""
        ...

    def tail(self, name: str, size: int) -> bytes | None:
        """The last `size` bytes of an object, or all of them; None where there is none of that name."""
        ...

    def names(self) -> list[str]:
        """The names of all objects, sorted."""
        ...

    def where(self, name: str) -> str:
        """The full name of an object, for people."""
        ...


def open_store(location: str | Path) -> Store:
    """The store in a folder (made at the first `put_new`) or at `s3://bucket/prefix`.

    S3 is configured by the standard variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and so
    on). Raises DataError for a location that cannot be one.
    """
    text = str(location)
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise DataError("names no bucket", where=text, remedy="write it as s3://bucket/prefix")
        return BucketStore(bucket, prefix.strip("/"))
    if "://" in text or not text:
        raise DataError("is not an archive", where=text or "archive", remedy="give a folder or s3://bucket/prefix")
    return FolderStore(Path(text))


class FolderStore:
    """Objects as the files of a folder, which is made at the first one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_new(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Write files that are not there; they are on disk when this returns."""
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
        """A file's bytes."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=self.where(name)) from error

    def tail(self, name: str, size: int) -> bytes | None:
        """The last bytes of a file."""
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(-min(size, os.fstat(file.fileno()).st_size), os.SEEK_END)
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=self.where(name)) from error

    def names(self) -> list[str]:
        """The files' names, without those that a killed writer left."""
        try:
            return sorted(path.name for path in self._folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot be listed: {error.strerror}", where=str(self._folder)) from error

    def where(self, name: str) -> str:
        """The file's path."""
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


class BucketStore:
    """Objects below a prefix of an S3 bucket; raises DataError where boto3 is missing or misconfigured."""

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
            if is_here(self._client.meta.endpoint_url):
                # Proxies named in the environment are for the world outside.
                self._client = boto3.client("s3", config=config.merge(Config(proxies={})))
        except Exception as error:
            raise self._error("cannot be opened", "", error) from error

    def put_new(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Put objects that are not there, eight at a time."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(self._put, objects))

    def get(self, name: str) -> bytes | None:
        """An object's bytes."""
        return self._get(name)

    def tail(self, name: str, size: int) -> bytes | None:
        """The last bytes of an object; a store that knows no ranges sends all of it."""
        content = self._get(name, Range=f"bytes=-{size}")
        return None if content is None else content[-size:]

    def _get(self, name: str, **how: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **how)
            content: bytes = answer["Body"].read()
        except Exception as error:
            if _code(error) in ("NoSuchKey", "404"):
                return None
            if _code(error) in ("InvalidRange", "416"):  # an empty object has no last byte
                return b""
            raise self._error("cannot be read", name, error) from error
        return content

    def names(self) -> list[str]:
        """The names of all objects below the prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        try:
            keys = [entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", ())]
        except Exception as error:
            raise self._error("cannot be listed", "", error) from error
        return sorted(key for key in keys if "/" not in key)

    def where(self, name: str) -> str:
        """The object's address."""
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
