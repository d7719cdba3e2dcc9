"""The client for users, against a real console, retrainer and server; and what it does where nobody answers."""

import inspect
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from driftloop import client as programs
from driftloop.api.app import create_app
from driftloop.client import AsyncGateway, AsyncPlatform, AsyncPredictor, Gateway, Predictor, window
from driftloop.client import Platform as Client
from driftloop.errors import DriftloopError
from driftloop.protocol import following, http
from driftloop.protocol.client import Question
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
        assert client.rollback("cmapss", "2").model_version == "1"
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
        with pytest.raises(DriftloopError, match="there is no version 1"):
            await client.rollback("cmapss", "1")


def test_who_is_refused_is_told_what_to_do(platform: Platform, url: str) -> None:
    with Client(url) as client, pytest.raises(DriftloopError, match=r"token.*driftloop tokens add"):
        client.rollback("cmapss", "1")
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


GIVEN: dict[str, object] = {
    "fleet": "a/b", "name": "u/1", "unit": "u/1", "version": "3", "approval": "7-a", "word": "approve", "cause": "x:1",
    "for_s": 60.0, "entry": {"name": "monthly"}, "runs": [], "kind": "failed", "event": 12, "role": "view",
    "from_version": "3",
}  # fmt: skip
NOT_FOR_PROGRAMS = {("GET", "/me"), ("POST", "/login"), ("POST", "/logout")}


def asked_of(owner: type) -> dict[str, Question[Any]]:
    """What each method of a client asks, with parameters of all kinds."""
    methods = {name: one for name, one in vars(owner).items() if isinstance(one, programs.Asked)}
    found = {}
    for name, method in methods.items():
        question = method.__get__(None, owner)
        needed = {
            one: GIVEN[one]
            for one, what in inspect.signature(question).parameters.items()
            if what.default is inspect.Parameter.empty
        }
        found[name] = question(**needed)
    return found


def test_a_program_may_do_all_that_the_api_does(platform: Platform) -> None:
    document = platform.http.get("/api/openapi.json").json()
    operations = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    reached = {("GET", "/events/stream")}
    for question in asked_of(programs._OfPlatform).values():
        path = question.path.partition("?")[0].removeprefix("/api/v1")
        alike = [
            (method, template)
            for method, template in operations
            if method == question.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        ]
        # `/models/rollback` is no version.
        which = min(alike, key=lambda one: one[1].count("{"))
        reached.add(which)
    assert reached == operations - NOT_FOR_PROGRAMS


def test_every_method_has_words_and_is_the_same_for_asyncio() -> None:
    assert len(asked_of(programs._OfPlatform)) > 30
    for name in asked_of(programs._OfPlatform):
        question = getattr(Client, name)
        assert question.__doc__
        assert question is getattr(AsyncPlatform, name)


def test_what_is_muted_planned_and_archived_by_a_program(url: str) -> None:
    rows = [row(float(at)) for at in range(30)]
    with Client(url, TOKEN) as client:
        assert client.about().fleets == ["cmapss"]
        assert client.fleet("cmapss").least_units["train"] >= 1
        assert client.mute("cmapss", "sensor_fault", 60, "rebuilding")["cause"] == "sensor_fault"
        client.unmute("cmapss", "sensor_fault")
        client.add_schedule("cmapss", {"name": "monthly", "act": "retrain", "cron": "0 3 1 * *"})
        assert [one["name"] for one in client.schedules("cmapss")] == ["monthly"]
        client.cancel_schedule("cmapss", "monthly")
        assert client.schedules("cmapss") == []
        run = {"run_id": "pump-7", "rows": rows, "confirmed": True}
        assert client.archive("cmapss", [run], only_check=True).added == []
        assert client.runs("cmapss").total == 0
        assert client.archive("cmapss", [run]).added == ["pump-7"]
        assert [one.run_id for one in client.runs("cmapss", q="pump").runs] == ["pump-7"]
        assert client.withdraw("cmapss", ["pump-7"], "the wrong file").withdrawn == ["pump-7"]
        [gone] = client.runs("cmapss").runs
        assert gone.withdrawn is not None
        assert gone.withdrawn["reason"] == "the wrong file"
        assert client.verdict("cmapss").requests == 0


def test_tokens_are_made_and_taken_back_by_a_program(url: str) -> None:
    with Client(url, TOKEN) as client:
        made = client.add_token("planner", "view", days=1)
        assert [(one.name, one.role) for one in client.tokens()] == [("planner", "view")]
        with Client(url, made.token) as planner, pytest.raises(DriftloopError, match="role view; this needs operate"):
            planner.rollback("cmapss", "1")
        assert client.revoke_token("planner") is None
        assert client.tokens() == []
        assert {"POST /api/v1/tokens", "DELETE /api/v1/tokens/planner"} <= {one.act for one in client.audit()}


KEPT = {"rows": 2, "stored": 1, "known": 0, "late": 0, "ended": 0, "refused": 1, "results": ["stored", "refused"],
        "problems": [{"row": 1, "unit": "e2", "field": "time", "message": "is in the future"}]}  # fmt: skip


def units_service(status: int, answer: dict[str, Any]) -> httpx.MockTransport:
    def kept(request: httpx.Request) -> httpx.Response:
        assert (request.url.path, request.headers["Authorization"]) == ("/telemetry", "Bearer gateway")
        assert list(json.loads(request.content)) == ["rows"]
        return httpx.Response(status, json=answer)

    return httpx.MockTransport(kept)


@pytest.mark.parametrize("status", [200, 409, 422])
async def test_a_gateway_is_told_of_each_row(status: int) -> None:
    rows: list[Any] = [{"unit": "e1", "cycle": 1}, {"unit": "e2", "cycle": 9}]
    with Gateway(token="gateway", transport=units_service(status, KEPT)) as gateway:
        assert gateway.send(rows).results == ["stored", "refused"]
    async with AsyncGateway(token="gateway", transport=units_service(status, KEPT)) as gateway:
        assert (await gateway.send(rows)).problems[0]["message"] == "is in the future"


def test_a_gateway_whose_whole_body_is_refused_raises() -> None:
    refused = units_service(422, {"detail": "rows: is no list"})
    with Gateway(token="gateway", transport=refused) as gateway, pytest.raises(DriftloopError, match="is no list"):
        gateway.send([])


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


def test_an_act_of_which_nothing_is_said_is_done_all_the_same() -> None:
    nothing = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    with Client("http://console", transport=nothing) as client:
        assert client.unmute("cmapss", "sensor_fault") == {}
    gone = httpx.MockTransport(lambda _: httpx.Response(204))
    with Client("http://console", transport=gone) as client:
        assert client.revoke_token("planner") is None
