"""Files that are packed: gzip, bzip2, xz, and zip archives that hold one table; read as what is in them."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from driftloop.fleet.foreign import NoTable

SUFFIXES = ("", ".gz", ".bz2", ".xz")
"""What is behind the name of a packed table; archives are read where they are named, and left alone in folders."""
DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
"""What reading a damaged file raises."""
_ZIP = b"PK\x03\x04"
_NAMED = 5


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked; raises NoTable for an archive that does not hold one table."""
    with path.open("rb") as raw:
        head = raw.read(6)
        raw.seek(0)
        if head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=raw) as packed:
                yield cast(BinaryIO, packed)
        elif head.startswith(b"BZh"):
            with bz2.BZ2File(raw) as packed:
                yield cast(BinaryIO, packed)
        elif head.startswith(b"\xfd7zXZ"):
            with lzma.LZMAFile(raw) as packed:
                yield cast(BinaryIO, packed)
        elif head.startswith(_ZIP):
            with zipfile.ZipFile(raw) as archive, archive.open(_only(archive, path)) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield raw


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file in an archive; raises NoTable where there are others, or where it is a workbook."""
    inside = [one for one in archive.infolist() if not one.is_dir() and not _hidden(one.filename)]
    names = [one.filename for one in inside]
    if "[Content_Types].xml" in names or "content.xml" in names:
        raise NoTable("is a workbook of Excel or the like", where=str(path), remedy="save its sheet as CSV")
    if len(inside) != 1:
        shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        what = f"is a zip archive of {len(names)} files ({shown})" if names else "is an empty zip archive"
        raise NoTable(what, where=str(path), remedy="unpack it, and name the folder")
    if inside[0].flag_bits & 1:
        raise NoTable("is a zip archive with a password", where=str(path), remedy="unpack it")
    return inside[0]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
