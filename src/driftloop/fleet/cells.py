"""What people write into the cells of a table, as numbers and times: decimal commas, thousands, words for missing."""

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError

Decimal = Literal[".", ","]

_WORDS = "- -- ? . na n/a n.a. n.d. nan null none nil missing <na> \\n"
_PHRASES = ("no data", "not available")
_OFFICE = "#n/a #na #null! #div/0! #value! #ref! #num! #name? 1.#qnan 1.#ind -1.#ind"
MISSING = frozenset(["", *_WORDS.split(), *_OFFICE.split(), *_PHRASES])
"""Words for a missing value, in lower case."""
TRUTHS = dict.fromkeys(("true", "yes", "on", "wahr", "ja"), 1.0) | dict.fromkeys(
    ("false", "no", "off", "falsch", "nein"), 0.0
)
"""Words that are 1 and 0 in a column of numbers."""
FALSE = MISSING | {"0", "0.0", "no", "n", "false", "f", "off", "falsch", "nein"}
"""What a column that says yes or no writes for no."""

_SPACES = "\u00a0\u2009\u202f\u2019 '"
_POINT = re.compile(rf"[+-]?\d{{1,3}}([,{_SPACES}])\d{{3}}(?:\1\d{{3}})*(?:\.\d*)?")
_COMMA = re.compile(rf"[+-]?(?:\d*|\d{{1,3}}([.{_SPACES}])\d{{3}}(?:\1\d{{3}})*)(?:,\d*)?(?:[eE][+-]?\d+)?")
LARGEST = float(np.finfo(np.float32).max)
"""What float32 can hold; anything beyond is no number."""


def numbers(cells: Sequence[str], decimal: Decimal) -> tuple[NDArray[np.float64], list[int]]:
    """The cells as numbers, NaN where one is missing or infinite, and the positions of those that are no number.

    What float32 cannot hold is no number either.
    """
    bad: list[int] = []
    try:
        if "_" in (joined := "".join(cells)):
            raise ValueError  # Python reads 1_000 as a thousand
        if decimal == ".":
            found = np.array(list(map(float, cells)), dtype=np.float64)
        elif "." in joined:
            raise ValueError
        else:
            found = np.array([float(cell.replace(",", ".")) for cell in cells], dtype=np.float64)
    except ValueError:
        found = np.empty(len(cells), dtype=np.float64)
        for at, cell in enumerate(cells):
            value = _simple(cell, decimal) if cell else math.nan
            found[at] = math.nan if value is None else value
            if value is None:
                bad.append(at)
    found[np.isinf(found)] = math.nan
    beyond = np.flatnonzero(np.abs(found) > LARGEST)
    found[beyond] = math.nan
    return found, sorted({*bad, *beyond.tolist()})


def _simple(cell: str, decimal: Decimal) -> float | None:
    """The same as `number`, quicker for what Python reads too."""
    if "_" not in cell and (decimal == "." or "." not in cell):
        with suppress(ValueError):
            return float(cell if decimal == "." else cell.replace(",", "."))
    return number(cell, decimal)


def number(cell: str, decimal: Decimal) -> float | None:
    """One cell as a number, NaN where it is missing, None where it is no number."""
    text = cell.strip().replace("\u2212", "-").removesuffix("%").rstrip()
    if text.lower() in MISSING:
        return math.nan
    if text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if decimal == ",":
        if not _COMMA.fullmatch(text):
            return None
        text = re.sub(rf"[.{_SPACES}]", "", text).replace(",", ".")
    elif _POINT.fullmatch(text):
        text = re.sub(rf"[,{_SPACES}]", "", text)
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def is_true(cell: str, value: str | int | float | bool | None) -> bool:
    """Whether a cell says yes: it is `value`, or, where that is None, it is neither missing nor a no."""
    text = cell.strip()
    if value is None or isinstance(value, bool):
        return (text.lower() not in FALSE) is (value is None or value)
    if isinstance(value, str) and text == value.strip():
        return True
    found, wanted = number(text, "."), value if not isinstance(value, str) else number(value, ".")
    return found is not None and found == wanted


def decimal_of(cells: Iterable[str], delimiter: str, where: str) -> Decimal:
    """Whether numbers are written with a decimal point or comma; raises DataError where both are, or none can tell."""
    points, commas, unclear = "", "", ""
    all_cells = list(cells)
    for cell in all_cells if any("," in cell for cell in all_cells) else []:
        text = cell.strip().lstrip("+-\u2212")
        if re.fullmatch(r"\d*\.\d+([eE][+-]?\d+)?", text):
            whole, _, fraction = text.partition(".")
            points = text if not re.fullmatch(r"[1-9]\d{0,2}", whole) or len(fraction) != 3 else points
        elif re.fullmatch(r"\d{1,3}(,\d{3})+\.\d*|\d{1,3}(,\d{3}){2,}", text):
            points = text
        elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d*|\d{1,3}(\.\d{3}){2,}", text):
            commas = text
        elif re.fullmatch(r"\d*,\d+([eE][+-]?\d+)?", text):
            if re.fullmatch(r"[1-9]\d{0,2},\d{3}", text):
                unclear = text
            else:
                commas = text
    remedy = "write numbers with a decimal point and without separators for thousands"
    if points and commas:
        raise DataError(f"has both {points!r} and {commas!r}: one decimal point, one comma", where=where, remedy=remedy)
    if commas or (unclear and not points and delimiter == ";"):
        return ","
    if unclear and not points and delimiter != ",":
        whole = unclear.replace(",", "")
        raise DataError(f"{unclear!r} can be {unclear.replace(',', '.')} or {whole}", where=where, remedy=remedy)
    return "."


# Times


class Moment(NamedTuple):
    """A point in time, seconds since 1970, as it is where the day comes first and where the month does."""

    day_first: float
    month_first: float
    zoned: bool | None
    """Whether it names a zone; None for a number of seconds."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(
    r"(\d{1,2})([./ -])(\d{1,2}|[A-Za-z]{3,9})\2(\d{4}|\d{2})"
    r"(?:[ T,]+(\d{1,2}):(\d{2})(?::(\d{2}(?:[.,]\d+)?))?\s*([AaPp][Mm])?)?\s*(Z|UTC|GMT)?"
)
_CENTURY = 69
"""The first year of two digits that is of the last century, as in POSIX."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SCALES = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e-3), (1e14, 1e17, 1e-6), (1e17, 1e20, 1e-9))


def moment(cell: str) -> Moment | None:
    """What a cell says about time; None where it says nothing.

    ISO 8601 with or without a zone, also with slashes; seconds, milliseconds, microseconds or nanoseconds since 1970;
    day, month and year in either order, with English names of months, AM and PM; `05.04.20` and `5-Apr-20`.
    """
    text = cell.strip()
    if text[4:5] == "-":  # nearly always; the others are told apart below
        with suppress(ValueError):
            return _iso(text)
    try:
        value = float(text)
    except ValueError:
        return _written(text)
    if re.fullmatch(r"(19|20)\d{12}", text):
        return _written(f"{text[:8]}T{text[8:]}")
    for low, high, scale in _SCALES:
        if low <= value < high:
            return Moment(value * scale, value * scale, None)
    return _written(text) if re.fullmatch(r"(19|20)\d{6}", text) else None


def _written(text: str) -> Moment | None:
    plain = re.sub(r"\s*(UTC|GMT)$", "Z", text)
    if re.match(r"\d{4}/\d{1,2}/\d{1,2}", plain):
        year, month, rest = plain.split("/", 2)
        day = re.match(r"\d+", rest)
        plain = f"{year}-{month:0>2}-{day[0]:0>2}{rest[day.end() :]}" if day else plain
    try:
        return _iso(plain)
    except ValueError:
        return _by_parts(text)


def _iso(text: str) -> Moment:
    """A time as ISO 8601 writes it; raises ValueError for anything else."""
    found = datetime.fromisoformat(text)
    seconds = ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH).total_seconds()
    return Moment(seconds, seconds, found.tzinfo is not None)


def _by_parts(text: str) -> Moment | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    first, separator, second, year, hour, minute, second_of, half, zone = match.groups()
    # 05/04/20 may begin with the year, and 1.2.34 be no date at all.
    if len(year) == 2 and second.isdigit() and not (separator == "." and len(first) == len(second) == 2):
        return None
    of_century = year if len(year) == 4 else f"{20 if int(year) < _CENTURY else 19}{year}"
    hours = int(hour or 0)
    if half:
        hours = hours % 12 + 12 * (half.lower() == "pm") if 1 <= hours <= 12 else 24
    if hours > 23 or int(minute or 0) > 59:
        return None
    of_day = hours * 3600 + int(minute or 0) * 60 + float((second_of or "0").replace(",", "."))
    if second.isdigit():
        day_first = _day(int(of_century), int(second), int(first))
        month_first = math.nan if separator == "." else _day(int(of_century), int(first), int(second))
    elif second[:3].lower() in _MONTHS:
        day_first = month_first = _day(int(of_century), _MONTHS.index(second[:3].lower()) + 1, int(first))
    else:
        return None
    if math.isnan(day_first) and math.isnan(month_first):
        return None
    return Moment(day_first + of_day, month_first + of_day, zone is not None)


def _day(year: int, month: int, day: int) -> float:
    try:
        return (datetime(year, month, day, tzinfo=UTC) - _EPOCH) / timedelta(seconds=1)
    except ValueError:
        return math.nan
