"""Bodies: what is taken, what is refused, and how the refusal names the field."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.fleet.schema import Channel, Schema
from driftloop.protocol.problems import RequestRefused
from driftloop.serving.reader import Reader
from driftloop.serving.requests import FLOAT32_MAX, Limits, spans
from serving_bundles import CMAPSS, PUMPS, row

LIMITS = Limits(max_batch=3, max_cycles=4, max_body_bytes=10_000)
NUMBERS = [1.0] * 23
decode = Reader(CMAPSS).decode


def refused(body: bytes | Any) -> tuple[int, list[tuple[str, str]]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestRefused) as caught:
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
    except RequestRefused as error:
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


# A fleet whose values may be missing: speed (a setting, always there), temperature_c, flow, vibration.

of_pumps = Reader(PUMPS).decode


def pumps_refused(body: bytes | Any) -> list[tuple[str, str]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestRefused) as caught:
        of_pumps(content, LIMITS)
    return [(problem.field, problem.message) for problem in caught.value.problems]


def test_rows_by_name_are_the_rows_in_order_for_any_fleet() -> None:
    named = dict(zip(reversed(CMAPSS.columns), reversed(row(5.0)), strict=True))
    [window], many = decode(json.dumps({"rows": [row(4.0), named]}).encode(), LIMITS)
    assert not many
    assert [list(one) for one in window.rows] == [row(4.0), row(5.0)]
    windows, many = decode(json.dumps({"windows": [{"rows": [named]}] * 2}).encode(), LIMITS)
    assert many
    assert [list(one.rows[0]) for one in windows] == [row(5.0)] * 2


def test_a_column_that_is_left_out_of_a_named_row_is_missing() -> None:
    [window], _ = of_pumps(b'{"rows": [{"speed": 1, "flow": 2.5}, {"vibration": null, "speed": 2}]}', LIMITS)
    assert [list(one) for one in window.rows] == [[1, None, 2.5, None], [2, None, None, None]]


@pytest.mark.parametrize("literal", ["null", "NaN"])
def test_null_and_nan_are_missing_values_where_the_fleet_holds(literal: str) -> None:
    body = f'{{"rows": [[1, 2, {literal}, 4]]}}'.encode()
    assert [list(one) for one in of_pumps(body, LIMITS)[0][0].rows] == [[1, 2, None, 4]]
    batch = b'{"windows": [' + body + b"," + body + b"]}"
    windows, many = of_pumps(batch, LIMITS)
    assert (many, len(windows)) == (True, 2)


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ([[1, 2, 3]], [("rows[0]", "has 3 values; a row has 4: speed, temperature_c, flow, vibration")]),
        ([[None, 2, 3, 4]], [("rows[0][0]", "speed (rpm) is null; a number is needed")]),
        ([[1, "n/a", 3, 4]], [("rows[0][1]", "temperature_c (°C) is the string 'n/a'; a number or null is needed")]),
        ([[1, 1e39, 3, 4]], [("rows[0][1]", "temperature_c (°C) is beyond the range of float32 (±3.4028235e38)")]),
        ([{"speed": 1, "Flow": 2}], [("rows[0].Flow", "is no column of this fleet; did you mean flow?")]),
        ([{"speed": 1, "flwo": 2}], [("rows[0].flwo", "is no column of this fleet; did you mean flow?")]),
        (
            [{"speed": 1, "x": 2}],
            [("rows[0].x", "is no column of this fleet; its columns are speed, temperature_c, flow, vibration")],
        ),
        ([{"flow": 1}], [("rows[0].speed", "is missing; a number in rpm is needed")]),
        ([{"speed": 1, "flow": "x"}], [("rows[0].flow", "flow (l/min) is the string 'x'; a number or null is needed")]),
        ([5], [("rows[0]", "is a number; a list of 4 numbers is needed")]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_is_said_with_the_columns_name_and_unit(
    rows: Any, problems: list[tuple[str, str]]
) -> None:
    assert pumps_refused({"rows": rows}) == problems


def test_a_window_without_any_value_is_refused() -> None:
    everything = Reader(msgspec.structs.replace(PUMPS, settings=(Channel(name="speed"),)))
    for rows in ([[None] * 4] * 2, [{}], [{}, [None] * 4]):
        with pytest.raises(RequestRefused) as caught:
            everything.decode(json.dumps({"rows": rows}).encode(), LIMITS)
        assert caught.value.status == 422
        assert [one.field for one in caught.value.problems] == ["rows"]
        assert "has no value at all" in caught.value.problems[0].message


def test_unit_and_step_have_a_name_each_that_fits_any_fleet() -> None:
    [window], _ = of_pumps(b'{"rows": [[1, 2, 3, 4]], "unit_id": "p-1", "step": 7}', LIMITS)
    assert (window.engine_id, window.cycle) == ("p-1", 7)
    [window], _ = of_pumps(b'{"rows": [[1, 2, 3, 4]], "engine_id": "p-1", "cycle": 7}', LIMITS)
    assert (window.engine_id, window.cycle, window.unit_id) == ("p-1", 7, None)
    [window], _ = of_pumps(b'{"rows": [[1, 2, 3, 4]], "engine_id": "e", "unit_id": "p-1"}', LIMITS)
    assert window.engine_id == "p-1"


def test_an_infinite_value_is_never_a_missing_one() -> None:
    assert pumps_refused(b'{"rows": [[1, Infinity, NaN, 4]]}') == [
        ("rows[0][1]", "temperature_c (\u00b0C) is beyond the range of float32 (\u00b13.4028235e38)")
    ]


def test_columns_named_like_words_of_python_are_columns() -> None:
    odd = Schema(name="odd", sensors=(Channel(name="class"), Channel(name="rows")), use_settings="none")
    [window], _ = Reader(odd).decode(b'{"rows": [{"class": 1, "rows": 2}]}', LIMITS)
    assert list(window.rows[0]) == [1, 2]


def test_many_names_are_said_in_few_words() -> None:
    assert spans([f"s_{n}" for n in range(1, 4)], "..") == ["s_1..3"]
    assert spans(["a_1", "a_3", "b2", "c"], "..") == ["a_1", "a_3", "b2", "c"]
    assert spans([f"x{n}y" for n in range(9)], "..", most=2) == ["x0y", "x1y", "and 7 more"]
