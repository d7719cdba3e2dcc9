"""Fetching NASA's public archive of C-MAPSS: the 13 files, each checked, all of them or none."""

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from driftloop.errors import DataError
from driftloop.fleets.cmapss.files import SHA256, verify

ADDRESSES = (
    "https://data.nasa.gov/docs/legacy/CMAPSSData.zip",
    "https://phm-datasets.s3.amazonaws.com/NASA/6.+Turbofan+Engine+Degradation+Simulation+Data+Set.zip",
)
"""NASA's public copies, tried in this order. The second wraps the first's zip in a zip."""

_LARGEST_ARCHIVE = 256 * 2**20
_LARGEST_FILE = 64 * 2**20
_ALTERNATIVES = (
    "download the archive elsewhere and give its path with --url, or copy the 13 files and set CMAPSS_DIR, "
    "or run `dvc pull`; without any of them driftloop simulates a fleet and says so"
)

Progress = Callable[[int, int | None], None]


def pull(folder: Path, addresses: Sequence[str] = ADDRESSES, progress: Progress | None = None) -> str | None:
    """Put NASA's 13 files into `folder` and return the address they came from; None if they were there already.

    An address is a URL or the path of a zip file; the first that yields all 13 files with NASA's checksums is
    used. `progress` is called with the bytes so far and in all. Until every file is checked nothing in `folder`
    changes. Raises DataError that says for each address what was wrong, and what else can be done.
    """
    if _is_complete(folder):
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(folder.parent)) from error
    faults = []
    try:
        for address in addresses:
            try:
                _fetch(address, work / "archive.zip", progress)
                _extract(work / "archive.zip", work / "files")
            except DataError as error:
                faults.append(f"{address}: {error.what}")
                continue
            _move(work / "files", folder)
            return address
    finally:
        shutil.rmtree(work, ignore_errors=True)
    raise DataError("; ".join(faults), where="download of NASA's archive", remedy=_ALTERNATIVES)


def _is_complete(folder: Path) -> bool:
    try:
        verify(folder)
    except DataError:
        return False
    return True


def _fetch(address: str, path: Path, progress: Progress | None) -> None:
    try:
        if "://" not in address:
            shutil.copyfile(address, path)
            return
        with path.open("wb") as file:
            done = 0
            for chunk, total in _chunks(address):
                done += len(chunk)
                if done > _LARGEST_ARCHIVE:
                    raise DataError(f"is larger than {_LARGEST_ARCHIVE >> 20} MiB, which NASA's archive is not")
                file.write(chunk)
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error


def _chunks(url: str) -> Iterator[tuple[bytes, int | None]]:
    """The body of an answer in pieces, each with the length that the server announced."""
    import httpx

    try:
        timeout = httpx.Timeout(30.0, connect=10.0)
        with httpx.stream("GET", url, follow_redirects=True, timeout=timeout) as answer:
            if answer.status_code != 200:
                raise DataError(f"answered {answer.status_code} {answer.reason_phrase}")
            length = answer.headers.get("content-length")
            for chunk in answer.iter_bytes(2**18):
                yield chunk, int(length) if length else None
    except ImportError as error:
        # httpx, of a proxy that the environment names.
        what = "the proxy of ALL_PROXY or HTTPS_PROXY is a SOCKS proxy, which needs a package that is not installed"
        raise DataError(f"{what}: pip install 'httpx[socks]', or unset the variable") from error
    except ValueError as error:
        raise DataError(f"the proxy that the environment names cannot be used: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataError(f"cannot be reached: {error or type(error).__name__}") from error


def _extract(archive: Path, folder: Path) -> None:
    """Write the 13 files found anywhere in a zip, or in a zip in it, into `folder`; raises DataError otherwise."""
    folder.mkdir(exist_ok=True)
    wrong: dict[str, str] = {}
    missing = set(SHA256)
    try:
        with archive.open("rb") as file:
            for name, content in _members(file):
                if name not in missing:
                    continue
                found = hashlib.sha256(content).hexdigest()
                if found == SHA256[name]:
                    # Names come from our own table, never from the zip, so no member can leave the folder.
                    (folder / name).write_bytes(content)
                    missing.discard(name)
                else:
                    wrong[name] = found
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"is not a sound zip file: {error}") from error
    if missing:
        faults = [f"{n} has SHA-256 {wrong[n][:12]}…" if n in wrong else f"{n} is missing" for n in sorted(missing)]
        raise DataError("; ".join(faults))


def _members(file: IO[bytes], depth: int = 0) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/")).name
            nested = depth == 0 and name.lower().endswith(".zip")
            if name not in SHA256 and not nested:
                continue
            with archive.open(member) as stream:
                content = stream.read(_LARGEST_FILE + 1)
            if len(content) > _LARGEST_FILE:
                raise DataError(f"{name} in it is larger than {_LARGEST_FILE >> 20} MiB, which none of NASA's files is")
            if nested:
                yield from _members(io.BytesIO(content), depth + 1)
            else:
                yield name, content


def _move(source: Path, folder: Path) -> None:
    try:
        if not folder.exists() or not any(folder.iterdir()):
            os.replace(source, folder)
            return
        for name in SHA256:
            os.replace(source / name, folder / name)
    except OSError as error:
        remedy = "make the folder writable"
        raise DataError(f"cannot be written: {error.strerror}", where=str(folder), remedy=remedy) from error
