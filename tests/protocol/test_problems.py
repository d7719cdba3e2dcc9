import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.durable import decode_json
from driftloop.errors import JsonError
from driftloop.loop.store import Store
from driftloop.protocol import problems
from driftloop.protocol.events import KINDS
from driftloop.protocol.problems import Problem, RequestRefused, refusal


def test_a_refusal_has_the_one_form():
    error = RequestRefused(422, [Problem("rows[0]", "is null"), Problem("cycle", "is -1")])
    assert str(error) == "rows[0]: is null; cycle: is -1"
    assert problems.content(error.problems) == {
        "detail": [{"field": "rows[0]", "message": "is null"}, {"field": "cycle", "message": "is -1"}]
    }
    assert refusal(409, "state", "busy").problems == [Problem("state", "busy")]


@pytest.mark.parametrize(
    ("body", "status", "field", "message"),
    [
        (b"{", 400, "body", "is not JSON: Input data was truncated"),
        (b'{"a": ["\xe9"]}', 400, "body", "is not JSON: it is not UTF-8"),
        (b"[]", 422, "body", "Expected `object`, got `array`"),
        (b'{"a": [1]}', 422, "[...][0]", "Expected `str`, got `int`"),
        (b'{"a": ' + b"[" * 100_000, 422, "body", "is nested too deeply"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_by_what_is_wrong(body: bytes, status: int, field: str, message: str):
    with pytest.raises(JsonError) as caught:
        decode_json(body, dict[str, list[object]] if b"[[" in body else dict[str, list[str]])
    error = problems.of_json(caught.value)
    assert (error.status, error.problems[0].message) == (status, message)
    assert error.problems[0].field == field


@given(st.sampled_from(sorted(KINDS)))
def test_every_kind_of_event_is_a_word_that_the_log_takes(tmp_path_factory: pytest.TempPathFactory, kind):
    store = Store(tmp_path_factory.mktemp("log") / "loop.db", keep=10)
    assert store.append(kind)["kind"] == kind
    assert store.newest(kind) is not None
    store.close()
