"""What a request may be and what an answer is: one set of types for decoding, validation and the documentation.

The fast way is msgspec, straight from bytes to checked windows. Only a body that it refuses is looked at again,
slowly, to say in which field what is wrong.
"""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from driftloop.errors import DriftloopError
from driftloop.fleets.cmapss.schema import COLUMNS, N_COLUMNS

FLOAT32_MAX = 3.4028235e38
"""The largest number that float32 holds, as numpy and Java print it."""
_MOST_PROBLEMS = 10

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Row = Annotated[
    list[Number], Meta(min_length=N_COLUMNS, max_length=N_COLUMNS, description="setting_1..3, sensor_1..21, raw units")
]
Name = Annotated[str, Meta(max_length=200)]
Cycle = Annotated[float, Meta(ge=0, le=10**9, multiple_of=1)]
"""A whole number; 3.0 is one in JSON, and what clients with tables of floats send."""


class Window(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of one engine, one per cycle, oldest first, the newest last."""

    rows: Annotated[list[Row], Meta(min_length=1)]
    engine_id: Name | None = None
    cycle: Cycle | None = None
    request_id: Name | None = None


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Several windows, answered together and by one model version."""

    windows: Annotated[list[Window], Meta(min_length=1)]


class Prediction(msgspec.Struct, kw_only=True):
    """Remaining useful life in cycles after the newest row, with the ends of its prediction interval.

    Flags: `stub` (no model is registered yet), `unseen_regime` (an operating regime the model was not trained
    on), `short_history` (fewer rows than the model looks at; they were padded with the first one),
    `no_finite_answer` (the model's arithmetic failed on these rows; 0 is given, the cautious value).
    """

    rul: float
    lower: float
    upper: float
    regime: Annotated[int, Meta(description="-1: seen by no training engine")]
    flags: list[str]
    model_version: str
    request_id: str
    engine_id: str | UnsetType = UNSET
    cycle: int | UnsetType = UNSET


class BatchAnswer(msgspec.Struct):
    """One prediction per window, in the order of the windows."""

    predictions: list[Prediction]
    model_version: str


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with which field."""

    field: str
    message: str


class Refusal(msgspec.Struct):
    """The body of every 4xx and 5xx answer."""

    detail: list[Problem]


@dataclass(frozen=True)
class Limits:
    """The largest request that is taken."""

    max_batch: int
    max_cycles: int
    max_body_bytes: int


class BadRequest(DriftloopError):
    """A request that cannot be answered; `status` is the HTTP status, `problems` name the fields."""

    def __init__(self, status: int, problems: list[Problem]) -> None:
        self.status, self.problems = status, problems
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))


_window_decoder = msgspec.json.Decoder(Window)
_batch_decoder = msgspec.json.Decoder(Batch)


def decode(body: bytes, limits: Limits) -> tuple[list[Window], bool]:
    """The windows of a body, and whether it is a batch; raises BadRequest.

    Every number in the result is finite and fits float32, every row has 24 columns.
    """
    try:
        window = _window_decoder.decode(body)
        if len(window.rows) <= limits.max_cycles:
            return [window], False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            windows = _batch_decoder.decode(body).windows
            if len(windows) <= limits.max_batch and all(len(w.rows) <= limits.max_cycles for w in windows):
                return windows, True
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    raise _explain(body, limits)


def _explain(body: bytes, limits: Limits) -> BadRequest:
    if not body.strip():
        return BadRequest(400, [Problem("body", 'is empty; send JSON such as {"rows": [[24 numbers], ...]}')])
    try:
        # Unlike msgspec this reads NaN and Infinity, so that the field that holds one can be named.
        value = json.loads(body, parse_int=_integer)
    except RecursionError:
        return BadRequest(400, [Problem("body", "is nested too deeply")])
    except UnicodeDecodeError as error:
        return BadRequest(400, [Problem("body", f"is not UTF-8: {error.reason} at byte {error.start}")])
    except ValueError as error:
        return BadRequest(400, [Problem("body", f"is not JSON: {error}")])
    return BadRequest(422, _body_problems(value, limits)[:_MOST_PROBLEMS] or [_whatever_msgspec_says(body)])


def _integer(digits: str) -> int | float:
    """Python refuses to read integers of more than 4,300 digits; as a float they are infinite and named as such."""
    return int(digits) if len(digits) < 400 else float(digits)


def _body_problems(value: Any, limits: Limits) -> list[Problem]:
    if not isinstance(value, dict):
        return [Problem("body", f"is {_kind(value)}; an object with rows or windows is needed")]
    if "windows" not in value:
        return _window_problems(value, "", limits)
    windows = value["windows"]
    problems = [
        Problem(_shown(name), "is not known next to windows; it belongs into each window")
        for name in value
        if name != "windows"
    ]
    if not isinstance(windows, list):
        return [Problem("windows", f"is {_kind(windows)}; a list of windows is needed"), *problems]
    if not windows:
        return [Problem("windows", "is empty; at least one window is needed"), *problems]
    if len(windows) > limits.max_batch:
        most = f"has {len(windows)} windows; at most {limits.max_batch} are taken in one request"
        return [Problem("windows", most), *problems]
    for index, window in enumerate(windows):
        if len(problems) >= _MOST_PROBLEMS:
            break
        if isinstance(window, dict):
            problems += _window_problems(window, f"windows[{index}].", limits)
        else:
            problems.append(Problem(f"windows[{index}]", f"is {_kind(window)}; an object with rows is needed"))
    return problems


def _window_problems(window: dict[str, Any], at: str, limits: Limits) -> list[Problem]:
    problems = [
        Problem(at + _shown(name), f"is not known; a window has {', '.join(Window.__struct_fields__)}")
        for name in window
        if name not in Window.__struct_fields__
    ]
    for name in ("engine_id", "request_id"):
        text = window.get(name)
        if text is not None and not isinstance(text, str):
            problems.append(Problem(at + name, f"is {_kind(text)}; a string is needed"))
        elif isinstance(text, str) and len(text) > 200:
            problems.append(Problem(at + name, f"has {len(text)} characters; at most 200 are taken"))
        elif isinstance(text, str) and not text.isascii() and text != text.encode(errors="replace").decode():
            problems.append(Problem(at + name, "has half a surrogate pair, which is no character"))
    cycle = window.get("cycle")
    if isinstance(cycle, bool) or not isinstance(cycle, int | float | None):
        problems.append(Problem(at + "cycle", f"is {_kind(cycle)}; a whole number is needed"))
    elif cycle is not None and not 0 <= cycle <= 10**9:
        problems.append(Problem(at + "cycle", "is outside of 0 to 1000000000"))
    elif cycle is not None and cycle != int(cycle):
        problems.append(Problem(at + "cycle", f"is {cycle}; a whole number is needed"))
    if "rows" not in window:
        return [Problem(at + "rows", "is missing; send rows (one window) or windows (a batch)"), *problems]
    return [*_rows_problems(window["rows"], at + "rows", limits), *problems]


def _rows_problems(rows: Any, at: str, limits: Limits) -> list[Problem]:
    if not isinstance(rows, list):
        return [Problem(at, f"is {_kind(rows)}; a list of rows is needed")]
    if not rows:
        return [Problem(at, "is empty; at least one row is needed")]
    if len(rows) > limits.max_cycles:
        return [Problem(at, f"has {len(rows)} rows; at most {limits.max_cycles} are taken in one window")]
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        here = f"{at}[{index}]"
        if len(problems) >= _MOST_PROBLEMS:
            break
        if not isinstance(row, list):
            problems.append(Problem(here, f"is {_kind(row)}; a list of {N_COLUMNS} numbers is needed"))
        elif len(row) != N_COLUMNS:
            problems.append(
                Problem(here, f"has {len(row)} values; a row has {N_COLUMNS}: setting_1 to 3, sensor_1 to 21")
            )
        else:
            problems += [
                Problem(f"{here}[{column}]", f"{COLUMNS[column]} {message}")
                for column, number in enumerate(row)
                if (message := _number_problem(number))
            ]
    return problems


def _number_problem(number: Any) -> str | None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return f"is {_kind(number)}; a number is needed"
    if math.isnan(number):
        return "is NaN; a finite number is needed"
    # Ordered comparison: an int may be too large for a float.
    if not -FLOAT32_MAX <= number <= FLOAT32_MAX:
        return "is beyond the range of float32 (±3.4028235e38)"
    return None


def _whatever_msgspec_says(body: bytes) -> Problem:
    try:
        _batch_decoder.decode(body) if b'"windows"' in body else _window_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message, _, path = str(error).partition(" - at `$.")
        return Problem(path.rstrip("`") or "body", message)
    return Problem("body", "is ambiguous: a field is given twice")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return f"the string {value[:40]!a}"
    return {dict: "an object", list: "a list", int: "a number", float: "a number"}.get(type(value), "not understood")


def _shown(name: str) -> str:
    return name[:60].encode("ascii", "backslashreplace").decode()
