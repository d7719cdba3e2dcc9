"""The client for users, against a real console, retrainer and server; and what it does where nobody answers."""

import itertools
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from driftloop.api.app import create_app
from driftloop.client import AsyncPlatform, AsyncPredictor, Predictor, window
from driftloop.client import Platform as Client
from driftloop.errors import DriftloopError
from driftloop.protocol import following, http
from driftloop.protocol.following import Place
from live_server import running
from serving_bundles import row

from .conftest import TOKEN, Platform


@pytest.fixture
def url(platform: Platform) -> Iterator[str]:
    """Where the console is."""
    with running(create_app(platform.http.app.state.fleets.base)) as console:  # type: ignore[attr-defined]
        yield str(console.base_url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is long."""
    monkeypatch.setattr(following, "FIRST_PAUSE_S", 0.01)


def test_what_a_program_sees_and_does(platform: Platform, url: str) -> None:
    registry = platform.registry
    registry.add(decision="promoted", training="full")
    registry.add(decision="approved", training="warm_start", parent_version="1")
    registry.pointers["production"] = "1"
    with Predictor(str(platform.server.base_url)) as server:
        one = server.predict([row(2.0)] * 6, unit="e/1", step=6)
        assert (one.rul, one.lower, one.upper) == (1002.0, 992.0, 1012.0)
        many = server.predict_many([window([row(3.0)] * 6), window([row(4.0)] * 6, "e2", 7)])
        assert [each.rul for each in many] == [1003.0, 1004.0]
    with Client(url, TOKEN) as client:
        [fleet] = client.fleets()
        assert (fleet.name, fleet.units) == ("cmapss", 2)
        page = client.units("cmapss", sort="unit", order="desc")
        assert [unit.unit for unit in page.units] == ["e/1", "e2"]
        assert client.unit("cmapss", "e/1").predictions[0].rul == 1002.0
        assert client.loop("cmapss").state == "idle"
        assert [(model.version, model.state) for model in client.models("cmapss")] == [
            ("2", "challenger"),
            ("1", "champion"),
        ]
        assert client.promote("cmapss", "2", "looked at it").from_version == "1"
        assert client.rollback("cmapss").model_version == "1"
        assert client.model("cmapss").version == "1"
        told = client.events("cmapss", kinds=["promoted", "rolled_back"])
        assert [(event.event, event.who, event.fleet) for event in told] == [
            ("rolled_back", "platform", "cmapss"),
            ("promoted", "platform", "cmapss"),
        ]
        assert told[1].detail["model_version"] == "2"


async def test_the_same_from_asyncio(platform: Platform, url: str) -> None:
    async with AsyncPredictor(str(platform.server.base_url)) as server:
        assert (await server.predict([row(2.0)] * 6, "e1", 3)).rul == 1002.0
    async with AsyncPlatform(url, TOKEN) as client:
        assert (await client.fleets())[0].units == 1
        assert (await client.units("cmapss")).units[0].step == 3
        assert (await client.unit("cmapss", "e1")).steps[-1] == 3
        assert (await client.loop("cmapss")).marks[0].mark == "T0"
        assert await client.models("cmapss") == []
        written = platform.parts.store.append("rejected", model_version="3", reason="worse")
        async for event in client.follow(after="cmapss:0"):
            if event.seq == written["seq"]:
                break
        assert (event.event, event.detail["reason"]) == ("rejected", "worse")
        with pytest.raises(DriftloopError, match="nothing is in production"):
            await client.rollback("cmapss")


def test_who_is_refused_is_told_what_to_do(platform: Platform, url: str) -> None:
    with Client(url) as client, pytest.raises(DriftloopError, match=r"token.*driftloop tokens add"):
        client.rollback("cmapss")
    with Client(url, "wrong") as client, pytest.raises(DriftloopError, match="token that counts"):
        next(client.follow())
    with Client(url) as client, pytest.raises(DriftloopError, match="there is no fleet 'none'"):
        client.loop("none")
    assert platform.registry.moves == []


def test_events_go_on_where_they_were_cut(platform: Platform, url: str) -> None:
    store = platform.parts.store
    first = store.append("verdict", verdict="no_drift", n=0)
    with Client(url) as client:
        told = client.follow("cmapss", after=f"cmapss:{first['seq'] - 1}")
        assert next(told).seq == first["seq"]
        written = [store.append("verdict", verdict="no_drift", n=at)["seq"] for at in range(1, 30)]
        found = list(itertools.islice(told, 10))
        # As a network does it: no end is told, and the connection is gone.
        pool = client._http._transport._pool  # type: ignore[attr-defined]
        for connection in list(pool.connections):
            connection._connection._network_stream.close()
        found += itertools.islice(told, 19)
    assert [event.seq for event in found] == written
    assert found[-1].place == f"cmapss:{written[-1]}"


def test_what_may_be_asked_again_is_and_an_act_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftloop.protocol.client.time.sleep", lambda _: None)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) < 3:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"fleets": []})

    with Client("http://console", transport=httpx.MockTransport(answer)) as client:
        assert client.fleets() == []
        assert asked == ["GET"] * 3
        asked.clear()
        with pytest.raises(DriftloopError, match="no usable answer from the platform"):
            client.promote("cmapss", "3")
        assert asked == ["POST"]


def test_an_answer_of_another_shape_is_an_error_for_people() -> None:
    shapeless = httpx.MockTransport(lambda _: httpx.Response(200, json={"fleets": [{"name": 7}]}))
    with Client("http://console", transport=shapeless) as client, pytest.raises(DriftloopError, match="no usable"):
        client.fleets()


def test_a_stream_is_read_line_by_line() -> None:
    place = Place("a:1")
    assert place.headers == {"Last-Event-ID": "a:1"}
    lines = ["retry: 2000", ": hello", "", "id: a:2", "event: event", 'data: {"seq":', "data: 2}", "", "id: a:3", ""]
    found = [message for message in map(place.read, lines) if message is not None]
    assert [(one.event, one.content, one.place) for one in found] == [("event", {"seq": 2}, "a:2")]
    assert place.last == "a:3"
    pauses = [place.cut() for _ in range(12)]
    assert pauses[1] == 2 * pauses[0]
    assert pauses[-1] == following.LONGEST_PAUSE_S
    assert http.PATIENT.tries > 1


def test_it_needs_nothing_that_trains_or_serves() -> None:
    code = "import sys, driftloop.client; print([m for m in sys.modules if m.split('.')[0] in %r])"
    heavy = ("torch", "mlflow", "onnxruntime", "fastapi", "kfp", "pandas")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
