"""The ring: whole windows of one unit each, bounded, newest first to stay; and how they are read from replicas."""

from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.protocol import windows as sent
from driftloop.protocol.windows import Page, UnitWindow, WindowsUnavailable
from driftloop.serving import ring as ring_module
from driftloop.serving.app import create_app
from driftloop.serving.requests import Window
from driftloop.serving.ring import Ring
from driftloop.settings import Settings
from live_server import running
from serving_bundles import CMAPSS, FakeRegistry, row

TOKEN = "a-token-of-enough-letters"


def window(unit: str | None, rows: int = 3, first: float = 0.0, cycle: int | None = None) -> Window:
    return Window(rows=[[first + at, 1.0] for at in range(rows)], engine_id=unit, cycle=cycle)


def small(units: int = 3, rows: int = 4, most_bytes: int = 10**6) -> Ring:
    return Ring(units=units, rows=rows, most_bytes=most_bytes)


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window is taken."""
    monkeypatch.setattr(ring_module, "REFRESH_S", 0.0)


def test_the_newest_rows_of_the_newest_window_of_each_unit_are_held() -> None:
    ring = small()
    ring.put([window("a", rows=9, cycle=9), window("b"), window(None)])
    ring.put([window("a", rows=6, first=100.0, cycle=12)])
    found, after = ring.windows("", 10)
    assert [(one.unit, one.step) for one in found] == [("a", 12), ("b", None)]
    assert found[0].rows[:, 0].tolist() == [102.0, 103.0, 104.0, 105.0]
    assert after is None


def test_a_missing_value_is_not_a_number() -> None:
    ring = small()
    ring.put([Window(rows=[[None, 1.0]], engine_id="a")])
    assert np.isnan(ring.windows("", 1)[0][0].rows[0, 0])


def test_the_unit_that_was_silent_longest_goes() -> None:
    ring = small(units=2)
    ring.put([window("a"), window("b"), window("a"), window("c")])
    assert [one.unit for one in ring.windows("", 10)[0]] == ["a", "c"]


def test_a_unit_is_not_taken_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "REFRESH_S", 1000.0)
    ring = small()
    ring.put([window("a", first=0.0)])
    ring.put([window("a", first=50.0)])
    assert ring.windows("", 1)[0][0].rows[0, 0] == 0.0


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 12)), max_size=60),
    st.integers(1, 5),
    st.integers(16, 400),
)
def test_it_never_holds_more_than_its_bounds(sent_rows: list[tuple[str, int]], units: int, most_bytes: int) -> None:
    """And what it holds are rows of one request of one unit each."""
    ring = small(units=units, most_bytes=most_bytes)
    for number, (unit, rows) in enumerate(sent_rows):
        ring.put([window(unit, rows=rows, first=1000.0 * number)])
    found, _ = ring.windows("", 100)
    assert len(found) <= units
    assert sum(one.rows.nbytes for one in found) <= most_bytes
    for one in found:
        number = int(one.rows[0, 0] // 1000)
        assert sent_rows[number][0] == one.unit
        assert len(one.rows) == min(4, sent_rows[number][1])
        assert (np.diff(one.rows[:, 0]) == 1).all()


def test_pages_hold_each_unit_once() -> None:
    ring = small(units=10)
    ring.put([window(unit) for unit in "hgfedcba"])
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        found, after = ring.windows(after, 3)
        seen += [one.unit for one in found]
    assert seen == list("abcdefgh")


def page(*windows: UnitWindow, fleet: str = "f", after: str | None = None) -> bytes:
    return sent.encode(Page(fleet, 2, [sent.sent(one) for one in windows], after))


def unit_window(unit: str, first: float, step: int | None = None, age_s: float = 0.0) -> UnitWindow:
    return UnitWindow(unit, np.array([[first, 1.0]], np.float32), step, age_s)


def replicas(**pages: bytes) -> httpx.MockTransport:
    """Servers by their host's name; one that has no page is down."""

    def answer(request: httpx.Request) -> httpx.Response:
        content = pages.get(request.url.host + request.url.params["after"])
        if content is None:
            raise httpx.ConnectError("down")
        return httpx.Response(200, content=content)

    return httpx.MockTransport(answer)


def test_of_a_unit_that_several_replicas_know_the_newest_window_counts() -> None:
    """By its step, else by when it was answered; one replica that is down is passed over."""
    transport = replicas(
        one=page(unit_window("a", 1.0, step=7), unit_window("b", 1.0, age_s=5.0), after="b"),
        oneb=page(unit_window("c", 1.0)),
        two=page(unit_window("a", 2.0, step=6, age_s=9.0), unit_window("b", 2.0, age_s=1.0)),
    )
    found = sent.read(["http://one", "http://two", "http://three"], TOKEN, "f", transport=transport)
    assert [(one.unit, float(one.rows[0, 0])) for one in found] == [("a", 1.0), ("b", 2.0), ("c", 1.0)]


def test_no_replica_another_fleet_and_damage_are_told_apart() -> None:
    """Each with its reason."""
    with pytest.raises(WindowsUnavailable, match="does not answer"):
        sent.read(["http://three"], TOKEN, "f", transport=replicas())
    with pytest.raises(WindowsUnavailable, match="another fleet"):
        sent.read(["http://one"], TOKEN, "g", transport=replicas(one=page()))
    with pytest.raises(WindowsUnavailable, match="something else"):
        sent.read(["http://one"], TOKEN, "f", transport=replicas(one=b"no"))
    cut = msgspec.msgpack.encode(Page("f", 2, [sent.Sent("a", 1, 0.0, b"12345")]))
    with pytest.raises(WindowsUnavailable, match="cut short"):
        sent.read(["http://one"], TOKEN, "f", transport=replicas(one=cut))


def test_a_name_that_nobody_knows_stands_for_itself() -> None:
    """And one address for each that a name has."""
    assert sent.replicas("http://no-such-host.invalid:8500") == ["http://no-such-host.invalid:8500"]
    assert sent.replicas("http://127.0.0.1:8500") == ["http://127.0.0.1:8500"]


def test_windows_are_read_from_a_server_by_who_may_look(tmp_path: Path) -> None:
    """What was asked over HTTP comes back as it was sent; from elsewhere, not without a token."""
    (tmp_path / "token").write_text(TOKEN)
    registry = FakeRegistry(tmp_path / "registry")
    registry.publish("1", 1)
    with running(create_app(Settings(state_dir=tmp_path / "state", token_file=tmp_path / "token"), registry)) as client:
        for unit in range(70):
            body = {"rows": [row(float(unit)), row(unit + 0.5)], "engine_id": f"u{unit:02}", "cycle": 5}
            assert client.post("/predict", json=body).status_code == 200
        url = str(client.base_url).rstrip("/")
        found = sent.read([url], TOKEN, CMAPSS.digest)
        assert [one.unit for one in found] == [f"u{unit:02}" for unit in range(70)]
        np.testing.assert_array_equal(found[7].rows, np.array([row(7.0), row(7.5)], np.float32))
        assert client.get("/windows", headers={"Host": "elsewhere.example"}).status_code == 401
        with pytest.raises(WindowsUnavailable, match="token"):
            sent.read([url], "another", CMAPSS.digest)


def test_answers_of_a_model_that_was_given_first_aid_say_so() -> None:
    """Each of them, until a labelled version takes its place."""
    from types import SimpleNamespace

    from driftloop.serving.answering import _predictions
    from driftloop.serving.engine import StubEngine

    engine = StubEngine(CMAPSS)
    asked = [Window(rows=[row(1.0)], request_id="r")]
    outputs = engine.predict([one.rows for one in asked])._replace(regime=np.zeros(1, np.int64))
    for provisional, flags in ((True, ["provisional"]), (False, [])):
        engine.metadata = SimpleNamespace(provisional=provisional)  # type: ignore[assignment]
        assert _predictions(engine, asked, outputs)[0].flags == flags
