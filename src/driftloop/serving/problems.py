"""Why a body cannot be answered: the slow look at it, which names the field, the column and what is wrong."""

import difflib
import json
import math
from typing import Any

from driftloop.fleet.schema import Channel, Schema, folded
from driftloop.protocol.problems import Problem, RequestRefused
from driftloop.serving.requests import FLOAT32_MAX, LONGEST_NAME, Form, Limits, spans

_MOST_PROBLEMS = 10


def parse(body: bytes) -> Any:
    """A body as JSON that, unlike msgspec's, may hold NaN (None) and Infinity; raises ValueError, RecursionError."""
    return json.loads(body, parse_int=_integer, parse_constant=lambda word: None if word == "NaN" else float(word))


def explain(body: bytes, form: Form, limits: Limits) -> RequestRefused:
    """What is wrong with a body that is not taken; without problems where nothing is found."""
    if not body.strip():
        example = f'{{"rows": [[{form.schema.n_columns} numbers], ...]}}'
        return RequestRefused(400, [Problem("body", f"is empty; send JSON such as {example}")])
    try:
        # Unlike msgspec this reads NaN and Infinity, so that the field that holds one can be named.
        value = json.loads(body, parse_int=_integer)
    except RecursionError:
        return RequestRefused(400, [Problem("body", "is nested too deeply")])
    except UnicodeDecodeError as error:
        return RequestRefused(400, [Problem("body", f"is not UTF-8: {error.reason} at byte {error.start}")])
    except ValueError as error:
        return RequestRefused(400, [Problem("body", f"is not JSON: {error}")])
    return RequestRefused(422, _body_problems(value, form, limits)[:_MOST_PROBLEMS])


def _integer(digits: str) -> int | float:
    """Python refuses to read integers of more than 4,300 digits; as a float they are infinite and named as such."""
    return int(digits) if len(digits) < 400 else float(digits)


def _body_problems(value: Any, form: Form, limits: Limits) -> list[Problem]:
    if not isinstance(value, dict):
        return [Problem("body", f"is {_kind(value)}; an object with rows or windows is needed")]
    if "windows" not in value:
        return _window_problems(value, "", form, limits)
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
            problems += _window_problems(window, f"windows[{index}].", form, limits)
        else:
            problems.append(Problem(f"windows[{index}]", f"is {_kind(window)}; an object with rows is needed"))
    return problems


def _window_problems(window: dict[str, Any], at: str, form: Form, limits: Limits) -> list[Problem]:
    problems = [
        Problem(at + _shown(name), f"is not known; a window has {', '.join(form.fields)}")
        for name in window
        if name not in form.fields
    ]
    for name in ("engine_id", "unit_id", "request_id"):
        text = window.get(name) if name in form.fields else None
        if text is not None and not isinstance(text, str):
            problems.append(Problem(at + name, f"is {_kind(text)}; a string is needed"))
        elif isinstance(text, str) and len(text) > LONGEST_NAME:
            problems.append(Problem(at + name, f"has {len(text)} characters; at most {LONGEST_NAME} are taken"))
        elif isinstance(text, str) and not text.isascii() and text != text.encode(errors="replace").decode():
            problems.append(Problem(at + name, "has half a surrogate pair, which is no character"))
    for name in ("cycle", "step"):
        problems += _step_problems(window.get(name) if name in form.fields else None, at + name)
    if "rows" not in window:
        return [Problem(at + "rows", "is missing; send rows (one window) or windows (a batch)"), *problems]
    return [*_rows_problems(window["rows"], at + "rows", form, limits), *problems]


def _step_problems(step: Any, at: str) -> list[Problem]:
    if isinstance(step, bool) or not isinstance(step, int | float | None):
        return [Problem(at, f"is {_kind(step)}; a whole number is needed")]
    if step is not None and not 0 <= step <= 10**9:
        return [Problem(at, "is outside of 0 to 1000000000")]
    if step is not None and step != int(step):
        return [Problem(at, f"is {step}; a whole number is needed")]
    return []


def _rows_problems(rows: Any, at: str, form: Form, limits: Limits) -> list[Problem]:
    if not isinstance(rows, list):
        return [Problem(at, f"is {_kind(rows)}; a list of rows is needed")]
    if not rows:
        return [Problem(at, "is empty; at least one row is needed")]
    if len(rows) > limits.max_cycles:
        return [Problem(at, f"has {len(rows)} rows; at most {limits.max_cycles} are taken in one window")]
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        if len(problems) >= _MOST_PROBLEMS:
            break
        problems += _row_problems(row, f"{at}[{index}]", form.schema)
    if not problems and form.holds and all(_is_missing(value) for row in rows for value in _values(row)):
        problems.append(Problem(at, "has no value at all: every value of every row is missing"))
    return problems


def _row_problems(row: Any, at: str, schema: Schema) -> list[Problem]:
    if isinstance(row, dict):
        return _named_problems(row, at, schema)
    if not isinstance(row, list):
        return [Problem(at, f"is {_kind(row)}; a list of {schema.n_columns} numbers is needed")]
    if len(row) != schema.n_columns:
        columns = ", ".join(spans(schema.columns, " to "))
        return [Problem(at, f"has {len(row)} values; a row has {schema.n_columns}: {columns}")]
    return [
        Problem(f"{at}[{position}]", f"{_called(channel, schema)} {message}")
        for position, (channel, number) in enumerate(zip(schema.channels, row, strict=True))
        if (message := _number_problem(number, channel))
    ]


def _named_problems(row: dict[str, Any], at: str, schema: Schema) -> list[Problem]:
    problems = [
        Problem(f"{at}.{_shown(name)}", f"is no column of this fleet{_meant(name, schema)}")
        for name in row
        if name not in schema.columns
    ]
    for channel in schema.channels:
        here = f"{at}.{channel.name}"
        if channel.name not in row:
            if channel.missing == "refuse":
                problems.append(Problem(here, f"is missing; a number{_in_unit(channel)} is needed"))
        elif message := _number_problem(row[channel.name], channel):
            problems.append(Problem(here, f"{_called(channel, schema)} {message}"))
    return problems


def _meant(name: str, schema: Schema) -> str:
    folded = {column.lower(): column for column in schema.columns}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {folded[near[0]]}?"
    return f"; its columns are {', '.join(spans(schema.columns, ' to '))}"


def _called(channel: Channel, schema: Schema) -> str:
    """A column's name with its unit; without, where clients have learnt the texts before columns had units."""
    return channel.name if schema.padding == "repeated" or not channel.unit else f"{channel.name} ({channel.unit})"


def _in_unit(channel: Channel) -> str:
    return f" in {channel.unit}" if channel.unit else ""


def _number_problem(number: Any, channel: Channel) -> str | None:
    holds = channel.missing == "hold"
    if number is None and holds:
        return None
    if channel.words and isinstance(number, str):
        known = folded(number) in channel.codes()
        return None if known else f"is {_kind(number)}; one of {', '.join(channel.words)} is needed"
    if isinstance(number, bool) or not isinstance(number, int | float):
        return f"is {_kind(number)}; a number{' or null' if holds else ''} is needed"
    if math.isnan(number):
        return None if holds else "is NaN; a finite number is needed"
    # Ordered comparison: an int may be too large for a float.
    if not -FLOAT32_MAX <= number <= FLOAT32_MAX:
        return "is beyond the range of float32 (±3.4028235e38)"
    return None


def _values(row: Any) -> list[Any]:
    return list(row.values()) if isinstance(row, dict) else row


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


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
