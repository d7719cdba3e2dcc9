"""Files that hold no table of text: told by how they begin, and refused with a remedy."""

import codecs
import re

from driftloop.errors import DataError

_CONTROL = bytes({*range(32)} - {*b"\t\n\r\f"})
"""Signs that no table of text is made of."""
_MAGIC = (
    (b"PK\x05\x06", "is an empty zip archive", "save the sheet as CSV"),
    (b"%PDF", "is a PDF", "save its table as CSV"),
    (b"ARROW1", "is an Arrow file", "write its table as CSV or Parquet"),
    (b"version https://git-lfs", "is a pointer of Git LFS, and not the data", "fetch them: git lfs pull"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "save the sheet as CSV"),
    (b"\x89HDF", "is an HDF5 file", "write its tables as CSV or Parquet: h5py reads them in Python"),
    (b"MATLAB", "is a MATLAB file", "write its tables as CSV or Parquet: scipy.io.loadmat reads them in Python"),
    (b"\x28\xb5\x2f\xfd", "is packed by zstd", "unpack it, or pack it by gzip"),
    (b"\x93NUMPY", "is a NumPy file", "write it as CSV or Parquet, with a header"),
    (b"SQLite", "is an SQLite database", "write its table as CSV or Parquet"),
    (codecs.BOM_UTF32_LE, "is UTF-32 text", "save it as UTF-8"),
)
_MARKUP = (
    (re.compile(r"<(!doctype|html|\?xml|table)\b", re.IGNORECASE), "is a web page, or XML"),
    (re.compile(r"\{\s*\"|\[\s*[{\[]"), "is JSON"),
)
_AS_TABLE = "write its table as CSV or Parquet"


class NoTable(DataError):
    """A file that holds no table at all; in a folder it may lie beside those that do."""


def refuse_bytes(head: bytes, where: str) -> None:
    """Raise NoTable where a file's first bytes are those of a known other form."""
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            raise NoTable(what, where=where, remedy=remedy)


def refuse_control(head: bytes, where: str) -> None:
    """Raise NoTable for bytes of which too many are signs that no text has."""
    if sum(head.count(sign) for sign in _CONTROL) > 16 + len(head) / 50:
        raise NoTable("is no text", where=where, remedy=_AS_TABLE)


def refuse_text(begun: str, where: str) -> None:
    """Raise NoTable for a text that is markup."""
    for beginning, what in _MARKUP:
        if beginning.match(begun):
            raise NoTable(what, where=where, remedy=_AS_TABLE)
