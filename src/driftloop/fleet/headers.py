"""Where a text's table begins: its lines taken apart, and the one of them that is the header."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from driftloop.errors import DataError
from driftloop.fleet.cells import TRUTHS, number

SPACES = " "
"""The delimiter of a table whose cells are divided by any number of spaces."""
_HEAD = 20
"""Lines among which the header is looked for."""
_BEGINNINGS = frozenset("#/ \t\xa0")
"""Signs that a comment's line begins with."""

Rows = list[tuple[int, list[str]]]
"""Cells of lines, each with how many lines are before it."""


def is_comment(line: str) -> bool:
    """Whether a line is a comment: it begins with # or //."""
    return line[:1] in _BEGINNINGS and line.lstrip().startswith(("#", "//"))


def is_number(cell: str) -> bool:
    """Whether a cell is a number, written with a point or a comma, and none that is missing."""
    for decimal in (".", ","):
        found = number(cell, "." if decimal == "." else ",")
        if found is not None:
            return not math.isnan(found) and cell.strip().lower() not in TRUTHS
    return False


def parsed(lines: Sequence[str], delimiter: str) -> Rows:
    """The rows that are not blank, each with the lines before it."""
    if delimiter == SPACES:
        return [(at, line.split()) for at, line in enumerate(lines) if line.strip()]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows = []
    before = 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((before, cells))
            before = reader.line_num
    except csv.Error:  # told with its line when the file is read
        return rows
    return rows


def find(rows: Rows, width: int, sample: Sequence[str], delimiter: str) -> tuple[int, tuple[str, ...], Rows] | None:
    """Lines before the header, the header, and the rows after it; None where there is no header."""
    first = _fullest(rows, width)
    above = rows[first - 1][1] if first else []
    ends = len(above) == width - 1 or (len(above) == width + 1 and not above[-1].strip())
    if above and ends and has_no_number(above):
        first -= 1  # rows end with a delimiter and the header does not, or the other way round
    before, cells = rows[first]
    if not _is_numeric(cells):
        return before, _in_groups(cells, rows[first - 1][1] if first else []), rows[first + 1 :]
    comments = [line.lstrip().lstrip("#/").strip() for line in sample[:before] if is_comment(line)]
    for comment in reversed(comments):
        told = parsed([comment], delimiter)
        if told and len(told[0][1]) == width and not _is_numeric(told[0][1]):
            return before, tuple(told[0][1]), rows[first:]
    return None


def _in_groups(cells: Sequence[str], above: Sequence[str]) -> tuple[str, ...]:
    """The header; where it repeats itself, with the groups of columns before it that the line above names.

    A group's name stands above its first column, and counts up to the next one.
    """
    names = [cell.strip() for cell in cells]
    if len(above) != len(cells) or len({*names}) == len(names) or not has_no_number(above):
        return tuple(cells)
    groups: list[str] = []
    for cell in above:
        groups.append(cell.strip() or (groups[-1] if groups else ""))
    told = tuple(
        f"{group} {name}" if group and names.count(name) > 1 else name
        for group, name in zip(groups, names, strict=True)
    )
    return told if len({*told}) > len({*names}) else tuple(cells)


def _fullest(rows: Rows, width: int) -> int:
    """Which row is the header: of those before the first numbers the one in which most is written, the first of these.

    A title, or a line that names groups of columns, leaves most cells of its line empty.
    """
    first = next(at for at, (_, cells) in enumerate(rows) if len(cells) == width)
    best, most = first, 0
    for at, (_, cells) in enumerate(rows[first : first + _HEAD], first):
        filled = [cell for cell in cells if cell.strip()]
        if len(cells) != width or (len(filled) > width / 2 and any(map(is_number, filled))):
            break
        if len(filled) > most:
            best, most = at, len(filled)
    return best


def none_found(rows: Rows, width: int, path: Path) -> DataError:
    """That a table has no header, and what to write."""
    before, cells = next(row for row in rows if len(row[1]) == width)
    shown = ",".join(f"column_{at + 1}" for at in range(min(width, 3)))
    what = f"has no header: the first of its {width} columns is {cells[0].strip()[:20]!r}"
    remedy = f"put a line with the columns' names first, such as {shown}; NASA's C-MAPSS files are the fleet cmapss"
    return DataError(what, where=f"{path}:{before + 1}", remedy=remedy)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether at least half of the cells are numbers, as those of a header are not."""
    found = [is_number(cell) for cell in cells if cell.strip()]
    return bool(found) and sum(found) * 2 >= len(found)


def has_no_number(cells: Sequence[str]) -> bool:
    """Whether no cell of a line is a number."""
    return not any(is_number(cell) for cell in cells)
