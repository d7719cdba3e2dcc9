"""A file with a table, as people have it: found out what it is, then read in pieces of its columns.

Text: UTF-8, UTF-16 or Windows-1252, with or without BOM; comma, semicolon, tab, bar or spaces between the cells; any
line ends; lines before the header, comments, blank lines, a header that is repeated, a line of units below it; packed
by gzip, bzip2, xz or zip. Parquet needs the package pyarrow. Whatever is something else is refused with a remedy.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import foreign, headers, packed, parquet
from driftloop.fleet.cells import Decimal, decimal_of, moment, number
from driftloop.fleet.foreign import NoTable
from driftloop.fleet.headers import SPACES, has_no_number, is_comment, is_number, parsed
from driftloop.fleet.packed import DAMAGED, unpacked

SUFFIXES = (".parquet", *(text + behind for text in (".csv", ".tsv", ".txt", ".dat") for behind in packed.SUFFIXES))
"""What a table's file is called; a folder's other files are left alone."""

CHUNK = 20_000
"""Rows that are read at a time."""
_SAMPLE = 1 << 18
"""Characters from which the form of a file is found out."""
_REMARK = 3  # columns from which on a line with one text alone is a remark and no row
_LONGEST = 1 << 20
"""Characters in one line."""
_TOTAL = re.compile(
    r"(grand |sub)?totals?|sums?|average|mean|minimum|maximum|count"
    r"|(gesamt|zwischen)?summen?|gesamt(ergebnis)?|mittelwert|durchschnitt|anzahl",
    re.IGNORECASE,
)
"""What a line is called below a table that is no row of it."""


@dataclass(frozen=True)
class Chunk:
    """Some rows of the chosen columns."""

    rows: NDArray[np.int64]
    """The line of each row in a text, its number from 1 on in Parquet."""
    columns: list[Sequence[str] | NDArray[np.float64]]
    """Text cells, or numbers with NaN where one is missing; times are seconds since 1970."""


@dataclass(frozen=True)
class Sheet:
    """A table in a file, whose form is known; `chunks` reads it."""

    path: Path
    headers: tuple[str, ...]
    parquet: bool = False
    encoding: str = "utf-8"
    delimiter: str = ","
    decimal: Decimal = "."
    before: int = 0
    """Lines before the first row of values."""
    units: dict[str, str] = field(default_factory=dict)
    """What a line below the header says about the units of columns."""
    notes: tuple[str, ...] = ()
    """What was found out about the file and a person might not expect."""
    remarks: list[int] = field(default_factory=list, compare=False)
    """Lines that were no rows of the table, as reading finds them."""
    cut_off: list[int] = field(default_factory=list, compare=False)
    """The last line, where the file ends within it: it is no row either."""

    def where(self, row: int) -> str:
        """File and line, or row, for people."""
        return f"{self.path}: row {row}" if self.parquet else f"{self.path}:{row}"

    def chunks(self, columns: Sequence[int]) -> Iterator[Chunk]:
        """The rows, `CHUNK` at a time, of the columns with these positions; raises DataError for a bad line."""
        if not self.parquet:
            return _text_chunks(self, columns)
        names = [self.headers[column] for column in columns]
        return (Chunk(rows, cells) for rows, cells in parquet.chunks(self.path, names, CHUNK))


def open_sheet(path: Path, assumed: Sequence[str] | None = ()) -> Sheet:
    """Find out what a file's table looks like; raises DataError where it is none, or cannot be told.

    A file without a header whose columns are as many as those `assumed` has these; with None they are called by place.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(64)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if head[:4] == b"PAR1":
        # No delimiter tells how numbers in text are written.
        decimal = decimal_of(parquet.texts(path, CHUNK), "", str(path))
        notes = ("numbers in text have a decimal comma",) if decimal == "," else ()
        return Sheet(path, parquet.headers(path), parquet=True, decimal=decimal, notes=notes)
    foreign.refuse_bytes(head, str(path))
    return _text_sheet(path, assumed)


# Text


def _width(rows: Sequence[tuple[int, Sequence[str]]], path: Path) -> int:
    """How many cells most rows have; raises NoTable where there is none, as where a file says `sep=;` and no more."""
    if not rows:
        raise NoTable("is empty", where=str(path))
    return Counter(len(cells) for _, cells in rows).most_common(1)[0][0]


def _text_sheet(path: Path, assumed: Sequence[str] | None) -> Sheet:
    encoding = _encoding(path)
    sample: list[str] = []
    with _lines(path, encoding) as lines:
        size = 0
        for line in lines:
            sample.append(line)
            size += len(line)
            if size > _SAMPLE:
                break
    begun = "".join(sample)[:_SAMPLE].lstrip()
    if not begun:
        raise NoTable("is empty", where=str(path))
    foreign.refuse_text(begun, str(path))
    told = re.fullmatch(r"sep=(.)", sample[0].strip())
    start = 1 if told else 0
    shown = [("" if is_comment(line) else line) for line in sample[start:]]
    delimiter = told[1] if told else _delimiter(shown, str(path))
    rows = [(at + start, cells) for at, cells in parsed(shown, delimiter)]
    width = _width(rows, path)
    found = headers.find(rows, width, sample, delimiter)
    if found is None and (assumed is None or len(assumed) == width):
        found = 0, tuple(assumed or (f"column_{at + 1}" for at in range(width))), rows
    if found is None:
        raise headers.none_found(rows, width, path)
    at, written, body = found
    named = tuple(map(repaired, written))
    notes = [f"the {at} lines before the header are left out"] if at - start > 0 and shown[0].strip() else []
    if body is rows:
        notes.append(f"there is no header: the {width} columns are taken in the order of the fleet file")
    units: dict[str, str] = {}
    before = body[0][0] if body else len(sample)
    if len(body) > 1 and has_no_number(body[0][1]) and not has_no_number(body[1][1]):
        units = dict(zip(map(str.strip, named), (repaired(cell).strip(" []()") for cell in body[0][1]), strict=False))
        notes.append(f"line {before + 1} is taken as the units of the columns")
        before, body = body[1][0], body[1:]
    decimal = decimal_of((cell for _, row in body for cell in row), delimiter, str(path))
    if decimal == ",":
        notes.append("numbers have a decimal comma")
    if encoding.startswith("utf-16"):
        notes.append("the text is UTF-16")
    if named != written:
        notes.append("the text is not UTF-8; it is read as Windows-1252")
    named = tuple(header.strip() for header in named)
    return Sheet(path, named, False, encoding, delimiter, decimal, before, units, tuple(notes))


def _encoding(path: Path) -> str:
    try:
        with unpacked(path) as binary:
            head = binary.read(1 << 16)
    except DAMAGED as error:
        raise DataError(f"is damaged: {error}", where=str(path), remedy="copy or pack it again") from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith(b"PAR1"):
        raise DataError("is packed Parquet", where=str(path), remedy="unpack it: Parquet packs itself")
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > len(head) / 4 and even < odd / 4:
        return "utf-16-le"
    if even > len(head) / 4 and odd < even / 4:
        return "utf-16-be"
    foreign.refuse_control(head, str(path))
    return "utf-8"


@contextmanager
def _lines(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    """The lines of a text; bytes that are no UTF-8 are kept as surrogates, which `repaired` reads."""
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    with unpacked(path) as binary, io.TextIOWrapper(binary, encoding, errors, newline="") as text:
        yield _bounded(text, path)


def _bounded(text: TextIO, path: Path) -> Iterator[str]:
    number_of = 0
    try:
        while line := text.readline(_LONGEST):
            number_of += 1
            if len(line) == _LONGEST:
                what = f"is longer than {_LONGEST} characters; this is no table of lines"
                raise DataError(what, where=f"{path}:{number_of}", remedy="write its table as CSV or Parquet")
            yield line
    except DAMAGED as error:
        where = f"{path}:{number_of + 1}"
        raise DataError(f"is damaged: {error}", where=where, remedy="copy or pack it again") from None


def repaired(text: str) -> str:
    """`text` with bytes that were no UTF-8 read as Windows-1252."""
    if text.isascii() or not re.search("[\udc80-\udcff]", text):
        return text
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _delimiter(lines: Sequence[str], where: str) -> str:
    """What stands between the cells: of what splits nine lines of ten alike, what gives most numbers in a line."""
    shown = [line for line in lines if line.strip()][:200]
    best, most = "", (0.0, 1)
    for delimiter in ("\t", ";", "|", ",", SPACES):
        rows = [cells for _, cells in parsed(shown, delimiter)]
        if not rows or (delimiter == SPACES and best):
            continue
        widths = [len(cells) for cells in rows]
        width = Counter(widths).most_common(1)[0][0]
        table = widths[widths.index(width) :]
        if width == 1 or table.count(width) < 0.9 * (len(table) - 1):
            continue
        found = sum(is_number(cell) for cells in rows for cell in cells) / len(rows)
        if (found, width) > most:
            best, most = delimiter, (found, width)
    if best:
        return best
    if all(is_number(line) or moment(line) is not None for line in shown[1:]):  # one column alone
        return ","
    remedy = "save it as CSV with one header and the same number of cells in every line"
    raise NoTable("is no table: its lines have different numbers of cells", where=where, remedy=remedy)


def _text_chunks(sheet: Sheet, columns: Sequence[int]) -> Iterator[Chunk]:
    width = len(sheet.headers)
    rows: list[list[str]] = []
    at: list[int] = []

    def chunk() -> Chunk:
        cells: list[Sequence[str] | NDArray[np.float64]] = [[row[column] for row in rows] for column in columns]
        return Chunk(np.array(at, dtype=np.int64), cells)

    with _lines(sheet.path, sheet.encoding) as found:
        lines = _Newest(found)
        for _ in range(sheet.before):
            next(lines, None)
        for line, row in _rows(sheet, lines):
            if len(row) == width + 1 and not row[-1].strip():
                row.pop()
            elif len(row) == width - 1 and not sheet.headers[-1]:
                row.append("")
            if len(row) != width:
                # A quote that never ends has taken in lines that are rows.
                one_line = not any("\n" in cell for cell in row)
                if one_line and at and len(row) < width and not lines.newest.endswith(("\n", "\r")):
                    sheet.cut_off.append(line)
                    continue
                if not (one_line and width >= _REMARK and len(row) == 1 and _is_alone(row)):
                    raise _ragged(sheet, line, row)
                sheet.remarks.append(line)
                continue
            if _is_remark(row):
                sheet.remarks.append(line)
                continue
            rows.append(row)
            at.append(line)
            if len(rows) == CHUNK:
                yield chunk()
                rows, at = [], []
        if rows:
            yield chunk()


class _Newest:
    """Lines, of which the one that was read last is known."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.newest = lines, ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.newest = next(self._lines)
        return self.newest


def _is_remark(row: Sequence[str]) -> bool:
    """Whether a line is no row of the table: a sum, or a text in one cell of several."""
    if len(row) < _REMARK or all(row):
        return False
    filled = [cell.strip() for cell in row if cell and not cell.isspace()]
    return _is_alone(filled) or bool(_TOTAL.fullmatch(filled[0].rstrip(" :")))


def _is_alone(filled: Sequence[str]) -> bool:
    """Whether one cell alone is filled, by a text."""
    return len(filled) == 1 and number(filled[0], ".") is None and number(filled[0], ",") is None


def _rows(sheet: Sheet, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows with values, each with its line; the header, where it is repeated, is no row."""
    blank = "\n"
    plain = (blank if is_comment(line) else line for line in lines)
    header = [header.strip() for header in sheet.headers]
    if sheet.delimiter == SPACES:
        for at, line in enumerate(plain, start=sheet.before + 1):
            row = line.split()
            if row and row != header:
                yield at, row
        return
    reader = csv.reader(plain, delimiter=sheet.delimiter, skipinitialspace=True)
    first = sheet.before + 1
    try:
        for row in reader:
            again = bool(row) and row[0].strip() == header[0] and [repaired(cell).strip() for cell in row] == header
            if not again and ((row and row[0]) or any(cell.strip() for cell in row)):
                yield first, row
            first = sheet.before + reader.line_num + 1
    except csv.Error as error:
        remedy = "close the quote, or double it where it is part of the text"
        raise DataError(f"has a cell that never ends: {error}", where=sheet.where(first), remedy=remedy) from None


def _ragged(sheet: Sheet, line: int, row: list[str]) -> DataError:
    width = len(sheet.headers)
    missing = f"; {sheet.headers[len(row)]} is missing" if len(row) < width else ""
    remedy = "correct or remove this line; a cell with the delimiter in it needs quotes"
    return DataError(f"has {len(row)} cells instead of {width}{missing}", where=sheet.where(line), remedy=remedy)
