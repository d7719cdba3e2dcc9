"""Bodies: what is taken, what is refused, and how the refusal names the field."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_bundles import row

from driftloop.serving.requests import FLOAT32_MAX, BadRequest, Limits, decode

LIMITS = Limits(max_batch=3, max_cycles=4, max_body_bytes=10_000)
NUMBERS = [1.0] * 23


def refused(body: bytes | Any) -> tuple[int, list[tuple[str, str]]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(BadRequest) as caught:
        decode(content, LIMITS)
    return caught.value.status, [(problem.field, problem.message) for problem in caught.value.problems]


def with_number(literal: str) -> bytes:
    return f'{{"rows": [{[*NUMBERS, 0]}, {[*NUMBERS, 7]}]}}'.replace("7]", f"{literal}]").encode()


def test_one_window_is_taken_with_its_names() -> None:
    body = {"rows": [row(1.0), row(2.0)], "engine_id": "eng-1", "cycle": 7, "request_id": "r"}
    [window], many = decode(json.dumps(body).encode(), LIMITS)
    assert not many
    assert (window.rows[1][3], window.engine_id, window.cycle, window.request_id) == (2.0, "eng-1", 7, "r")


def test_a_cycle_may_be_written_as_a_float() -> None:
    [window], _ = decode(json.dumps({"rows": [row()], "cycle": 3.0}).encode(), LIMITS)
    assert window.cycle == 3


def test_a_batch_is_taken_in_order() -> None:
    windows, many = decode(json.dumps({"windows": [{"rows": [row(n)]} for n in (3, 1, 2)]}).encode(), LIMITS)
    assert many
    assert [window.rows[0][3] for window in windows] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("number", ["1e30", "-1e30", "3.4028235e38", "0", "-0.0", "1e-320", "1" + "0" * 37])
def test_finite_numbers_unlike_any_engine_are_taken(number: str) -> None:
    [window], _ = decode(with_number(number), LIMITS)
    assert math.isfinite(window.rows[1][23])


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("NaN", "sensor_21 is NaN; a finite number is needed"),
        ("Infinity", "sensor_21 is beyond the range of float32 (±3.4028235e38)"),
        ("-Infinity", "sensor_21 is beyond the range of float32 (±3.4028235e38)"),
        ("1e39", "sensor_21 is beyond the range of float32 (±3.4028235e38)"),
        ("1e400", "sensor_21 is beyond the range of float32 (±3.4028235e38)"),
        ("1" + "0" * 100, "sensor_21 is beyond the range of float32 (±3.4028235e38)"),
        ("1" + "0" * 5000, "sensor_21 is beyond the range of float32 (±3.4028235e38)"),
        ('"1"', "sensor_21 is the string '1'; a number is needed"),
        ("null", "sensor_21 is null; a number is needed"),
        ("true", "sensor_21 is a boolean; a number is needed"),
        ("[1]", "sensor_21 is a list; a number is needed"),
        ("{}", "sensor_21 is an object; a number is needed"),
    ],
)
def test_a_value_that_is_no_finite_float32_is_named(number: str, message: str) -> None:
    assert refused(with_number(number)) == (422, [("rows[1][23]", message)])


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        ({}, [("rows", "is missing; send rows (one window) or windows (a batch)")]),
        ({"rows": []}, [("rows", "is empty; at least one row is needed")]),
        ({"rows": {}}, [("rows", "is an object; a list of rows is needed")]),
        ({"rows": None}, [("rows", "is null; a list of rows is needed")]),
        ({"rows": [1.0] * 24}, None),
        ({"rows": [row(), NUMBERS]}, [("rows[1]", "has 23 values; a row has 24: setting_1 to 3, sensor_1 to 21")]),
        ({"rows": [[*row(), 1.0]]}, [("rows[0]", "has 25 values; a row has 24: setting_1 to 3, sensor_1 to 21")]),
        ({"rows": [row()] * 5}, [("rows", "has 5 rows; at most 4 are taken in one window")]),
        ({"windows": []}, [("windows", "is empty; at least one window is needed")]),
        ({"windows": 1}, [("windows", "is a number; a list of windows is needed")]),
        (
            {"windows": [{"rows": [row()]}] * 4},
            [("windows", "has 4 windows; at most 3 are taken in one request")],
        ),
        ({"windows": [{"rows": [row()]}, 1]}, [("windows[1]", "is a number; an object with rows is needed")]),
        (
            {"windows": [{"rows": [row()]}, {"rows": [NUMBERS]}]},
            [("windows[1].rows[0]", "has 23 values; a row has 24: setting_1 to 3, sensor_1 to 21")],
        ),
        ({"windows": [{}]}, [("windows[0].rows", "is missing; send rows (one window) or windows (a batch)")]),
        (
            {"windows": [{"rows": [row()]}], "engine_id": "e"},
            [("engine_id", "is not known next to windows; it belongs into each window")],
        ),
        ({"rows": [row()], "engine": 1}, [("engine", "is not known; a window has rows, engine_id, cycle, request_id")]),
        ({"rows": [row()], "engine_id": 7}, [("engine_id", "is a number; a string is needed")]),
        ({"rows": [row()], "engine_id": "e" * 201}, [("engine_id", "has 201 characters; at most 200 are taken")]),
        ({"rows": [row()], "request_id": ["r"]}, [("request_id", "is a list; a string is needed")]),
        (
            {"rows": [row()], "request_id": "\ud800"},
            [("request_id", "has half a surrogate pair, which is no character")],
        ),
        ({"rows": [row()], "cycle": "3"}, [("cycle", "is the string '3'; a whole number is needed")]),
        ({"rows": [row()], "cycle": 1.5}, [("cycle", "is 1.5; a whole number is needed")]),
        ({"rows": [row()], "cycle": True}, [("cycle", "is a boolean; a whole number is needed")]),
        ({"rows": [row()], "cycle": -1}, [("cycle", "is outside of 0 to 1000000000")]),
        ({"rows": [row()], "cycle": 10**30}, [("cycle", "is outside of 0 to 1000000000")]),
        ([], [("body", "is a list; an object with rows or windows is needed")]),
        ("rows", [("body", "is the string 'rows'; an object with rows or windows is needed")]),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused_with_its_field(body: Any, problems: list[tuple[str, str]] | None) -> None:
    problems = problems or [("rows", "has 24 rows; at most 4 are taken in one window")]
    assert refused(body) == (422, problems)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", 'is empty; send JSON such as {"rows": [[24 numbers], ...]}'),
        (b"  \n", 'is empty; send JSON such as {"rows": [[24 numbers], ...]}'),
        (b"rows=1", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"rows": [', "is not JSON: Expecting value: line 1 column 11 (char 10)"),
        (b"\xff\xfe\x00", "is not UTF-8: "),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"rows":' + b"[" * 100_000, "is nested too deeply"),
        (b'{"x":' * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_not_json_is_refused_as_such(body: bytes, message: str) -> None:
    status, [(field, said)] = refused(body)
    assert (status, field) == (400, "body")
    assert said.startswith(message)


def test_no_more_than_ten_problems_are_listed() -> None:
    assert len(refused({"rows": [["x"] * 24] * 4})[1]) == 10


def test_a_body_that_msgspec_alone_refuses_still_gets_a_field() -> None:
    # The last of two equal names counts for one reader, each for the other.
    body = json.dumps({"rows": [row()]}).encode()
    assert refused(b'{"rows": 1, ' + body[1:]) == (422, [("rows", "Expected `array`, got `int`")])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["rows", "windows", "x"]), inner),
    max_leaves=20,
)
nearly_rows = st.lists(st.lists(st.floats() | st.integers() | st.just("1"), min_size=23, max_size=25), max_size=5)
nearly_windows = st.fixed_dictionaries(
    {"rows": nearly_rows | json_values},
    optional=dict.fromkeys(("engine_id", "cycle", "request_id", "other"), json_values),
)
bodies = nearly_windows | st.fixed_dictionaries({"windows": st.lists(nearly_windows | json_values)}) | json_values


@given(bodies.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_any_body_is_taken_or_refused_with_a_field(body: bytes) -> None:
    windows, refusal = [], None
    try:
        windows, _ = decode(body, LIMITS)
    except BadRequest as error:
        refusal = error
    if refusal is not None:
        assert refusal.status in {400, 422}
        assert refusal.problems
        assert all(problem.field and problem.message for problem in refusal.problems)
        refusal.problems[0].message.encode()
    else:
        numbers = [number for window in windows for row in window.rows for number in row]
        assert all(-FLOAT32_MAX <= number <= FLOAT32_MAX for number in numbers)
        assert all(len(row) == 24 for window in windows for row in window.rows)
