"""The newest answers of each unit: bounded in units and in answers, and given to who may look."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.protocol import answers as sent
from driftloop.serving.app import create_app
from driftloop.serving.bands import WIDTH, bands
from driftloop.serving.engine import StubEngine, load
from driftloop.serving.recent import Recent
from driftloop.serving.requests import Prediction, Window
from driftloop.settings import Settings
from live_server import running
from serving_bundles import CMAPSS, FakeRegistry, row, write

TOKEN = "a-token-of-enough-letters"


def said(rul: float) -> Prediction:
    return Prediction(rul=rul, lower=rul, upper=rul, regime=0, flags=[], model_version="1", request_id="r")


def put(recent: Recent, *answers: tuple[str | None, float]) -> None:
    windows = [Window(rows=[[1.0]], engine_id=unit, cycle=rul) for unit, rul in answers]
    recent.put(windows, [said(rul) for _, rul in answers])


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.integers(0, 99)), max_size=60))
def test_what_is_held_is_the_newest_of_each_and_bounded(asked: list[tuple[str | None, int]]) -> None:
    recent = Recent(units=3, answers=8, of_one_unit=4)
    for unit, rul in asked:
        put(recent, (unit, float(rul)))
    order = [unit for unit, _ in asked if unit is not None]
    kept = list(dict.fromkeys(reversed(order)))[:3]
    newest = {one.unit: one for one in recent.newest()}
    assert newest.keys() == set(kept)
    held = {unit: recent.of(unit) for unit in kept}
    assert sum(map(len, held.values())) <= 8
    for unit, answers in held.items():
        told = [float(rul) for other, rul in asked if other == unit]
        assert 1 <= len(answers) <= 4
        assert [one.rul for one in answers] == told[-len(answers) :]
        assert newest[unit] == answers[-1]


def test_a_unit_keeps_its_newest_answer_however_much_others_ask() -> None:
    recent = Recent(units=9, answers=5, of_one_unit=9)
    put(recent, ("quiet", 7.0))
    put(recent, *[("busy", float(at)) for at in range(50)])
    assert [one.rul for one in recent.of("quiet")] == [7.0]
    assert [one.rul for one in recent.of("busy")] == [46.0, 47.0, 48.0, 49.0]


def test_the_band_of_a_regime_is_what_the_graph_normalises_by(tmp_path: Path) -> None:
    engine = load(write(tmp_path / "b", 1), "1")
    rows = np.array([row(3.0), row(4.0), row(5.0, setting_1=500.0)], dtype=np.float32)
    first = bands(engine, rows)[0]
    assert first.values == [3.0, 4.0, 5.0]
    # The tiny graph normalises by nothing: mean 0, standard deviation 1; and knows no regime so far away.
    assert first.low[:2] == pytest.approx([-WIDTH] * 2, abs=1e-3)
    assert first.high[:2] == pytest.approx([WIDTH] * 2, abs=1e-3)
    assert (first.low[2], first.high[2]) == (None, None)
    assert bands(StubEngine(CMAPSS), rows)[0].low == [None] * 3


def test_bands_of_any_rows_are_told_and_nothing_is_kept(tmp_path: Path) -> None:
    registry = FakeRegistry(tmp_path / "r")
    registry.publish("1", 1)
    registry.production = "1"
    with running(create_app(Settings(state_dir=tmp_path / "s", follow_interval_s=0.05), registry)) as http:
        while http.get("/model").json()["stub"]:
            pass
        [first, *_] = http.post(sent.BANDS, json={"rows": [row(3.0)] * 4}).json()["sensors"]
        assert first["values"] == [3.0] * 4
        assert first["high"] == pytest.approx([WIDTH] * 4, abs=1e-3)
        assert http.post(sent.BANDS, json={"rows": [[1.0]]}).status_code == 422
        assert http.get(sent.PATH).json()["units"] == []


def test_the_answers_are_given_to_who_may_look(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    app = create_app(Settings(state_dir=tmp_path / "s", token_file=tmp_path / "token"), FakeRegistry(tmp_path / "r"))
    with running(app) as http:
        http.post("/predict", json={"rows": [row()] * 3, "engine_id": "a b", "cycle": 9})
        assert http.get(sent.PATH, headers={"Host": "elsewhere.example"}).status_code == 401
        http.headers["Authorization"] = f"Bearer {TOKEN}"
        [unit] = http.get(sent.PATH).json()["units"]
        assert (unit["unit"], unit["step"], unit["version"], unit["flags"]) == ("a b", 9, "stub", ["stub"])
        whole = http.get(sent.PATH, params={"unit": "a b"}).json()
        assert len(whole["answers"]) == 1
        assert whole["sensors"][0]["values"] == [1.0] * 3
        assert http.get(sent.PATH, params={"unit": "b"}).json()["answers"] == []
