"""Windows as MessagePack: the same answers as in JSON, and nothing that JSON would not let in."""

import math
import re
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop.protocol.windows import CONTENT_TYPE, Asked, Batch, encode
from serving_bundles import CMAPSS, row

PACKED = {"Content-Type": CONTENT_TYPE}


def packed(rows: Any) -> bytes:
    return np.asarray(rows, dtype="<f4").tobytes()


def ask(shared: httpx.Client, *windows: Asked) -> httpx.Response:
    return shared.post("/predict", content=encode(Batch(list(windows))), headers=PACKED)


NUMBERS = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12), min_size=1, max_size=5))
def test_answers_are_those_to_the_same_rows_in_json(
    shared: httpx.Client, drawn: list[list[tuple[float, float]]]
) -> None:
    windows = [[row(sensor, setting) for sensor, setting in window] for window in drawn]
    names = [{"engine_id": f"e{at}", "cycle": at, "request_id": f"r{at}"} for at in range(len(windows))]
    as_json = {"windows": [{"rows": rows, **name} for rows, name in zip(windows, names, strict=True)]}
    expected = shared.post("/predict", json=as_json)
    assert expected.status_code == 200
    found = ask(shared, *(Asked(packed(rows), **name) for rows, name in zip(windows, names, strict=True)))
    assert found.json() == expected.json()


def test_what_is_asked_is_counted_logged_and_remembered(shared: httpx.Client) -> None:
    assert ask(shared, Asked(packed([row(3.0)] * 4), "packed-1", 4)).status_code == 200
    [window] = shared.get("/answers", params={"unit": "packed-1"}).json()["answers"]
    assert (window["unit"], window["step"]) == ("packed-1", 4)


def counted(shared: httpx.Client) -> float:
    """Predictions of any version so far."""
    said = shared.get("/metrics").text
    return sum(float(value) for value in re.findall(r"^driftloop_predictions_total\{.*\} (\S+)$", said, re.MULTILINE))


def test_a_history_is_answered_and_remembered_and_counts_as_no_traffic(shared: httpx.Client) -> None:
    alone = ask(shared, Asked(packed([row(5.0)] * 4), "now", 4, "r")).json()["predictions"][0]
    before = counted(shared)
    past = Asked(packed([row(9.0)] * 4), "past", 4, history=True)
    found = ask(shared, past, Asked(packed([row(5.0)] * 4), "now", 4, "r"), past).json()["predictions"]
    assert found[1] == alone
    assert counted(shared) == before + 1
    assert ask(shared, past).json()["predictions"][0]["rul"] == found[0]["rul"]
    assert counted(shared) == before + 1
    assert shared.get("/answers", params={"unit": "past"}).json()["answers"][-1]["step"] == 4


WRONG: dict[str, tuple[Any, int, str]] = {
    "no MessagePack": (b"\xc1", 422, "body"),
    "JSON": (b'{"windows": []}', 422, "body"),
    "no windows": (encode({"windows": []}), 422, "windows"),
    "another field": (encode({"windows": [{"rows": packed([row()]), "more": 1}]}), 422, "windows[0]"),
    "too many windows": (encode(Batch([Asked(packed([row()]))] * 9)), 413, "windows"),
    "no rows": (encode(Batch([Asked(b"")])), 422, "windows[0].rows"),
    "half a row": (encode(Batch([Asked(packed([row()])[:-4])])), 422, "windows[0].rows"),
    "too many rows": (encode(Batch([Asked(packed([row()] * 51))])), 422, "windows[0].rows"),
    "a list of rows": (encode({"windows": [{"rows": [row()]}]}), 422, "windows[0].rows"),
    "a name beyond all names": (encode(Batch([Asked(packed([row()]), "x" * 201)])), 422, "windows[0].engine_id"),
    "a step below none": (encode(Batch([Asked(packed([row()]), cycle=-1)])), 422, "windows[0].cycle"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_by_its_field(shared: httpx.Client, what: str) -> None:
    body, status, field = WRONG[what]
    answer = shared.post("/predict", content=body, headers=PACKED)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"][0]["field"] == field


@pytest.mark.parametrize(
    ("value", "said"), [(math.nan, "is missing"), (math.inf, "is infinite"), (-math.inf, "is infinite")]
)
def test_no_value_comes_in_that_json_has_no_word_for(shared: httpx.Client, value: float, said: str) -> None:
    wrong = row()
    wrong[4] = value
    [problem] = ask(shared, Asked(packed([row(), row()])), Asked(packed([row(), wrong]))).json()["detail"]
    assert problem == {"field": f"windows[1].rows[1].{CMAPSS.columns[4]}", "message": said}


def test_only_predictions_are_asked_for_so(shared: httpx.Client) -> None:
    body = encode(Batch([Asked(packed([row()]))]))
    for path in ("/explain", "/bands"):
        assert shared.post(path, content=body, headers=PACKED).status_code == 415
    assert msgspec.json.decode(shared.post("/predict", content=body, headers=PACKED).content)["model_version"] == "1"
