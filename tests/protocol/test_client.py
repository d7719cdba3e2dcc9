"""The client of the retrainer: what it asks, what it repeats, and what people are told."""

import asyncio
import gc
import json
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from driftloop.errors import DriftloopError
from driftloop.fleet.archive import RunConflict
from driftloop.fleet.runs import Run
from driftloop.protocol import archive_client, http
from driftloop.protocol.client import AsyncClient, Client, Server
from driftloop.protocol.outbox import Outbox
from driftloop.protocol.progress import Progress
from ports import free_port

URL, TOKEN = "http://retrainer:8600", "a-token-of-sixteen-or-more"
Reply = Callable[[httpx.Request], httpx.Response]


class Retrainer:
    """Answers what it is told to, in order; the last answer is given again."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, content = answer
        return httpx.Response(status, content=content if isinstance(content, bytes) else json.dumps(content).encode())

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url}" for request in self.requests]


def client(retrainer: Reply, url: str = URL) -> Client:
    return Client(url, TOKEN, transport=httpx.MockTransport(retrainer))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


DOWN = httpx.ConnectError("Connection refused")


def test_every_question_goes_where_it_belongs_with_the_token():
    retrainer = Retrainer(
        (200, {"state": "idle"}),
        (200, {"events": [{"seq": 4}], "next": 4}),
        (200, {"seq": 5}),
        (200, {"added": 1, "known": 0}),
        (200, {"changed_runs": ["a"]}),
        (200, {"attempt": {"cause": "by_hand:1:now"}}),
        (200, {"model_version": "2", "from_version": "1"}),
        (200, {"model_version": "1", "from_version": "2"}),
    )
    with client(retrainer) as asked:
        assert asked.status() == {"state": "idle"}
        assert asked.events(3) == ([{"seq": 4}], 4)
        assert asked.report({"kind": "verdict"})
        assert asked.add_feedback([{"true_rul": 5.0, "request_id": "x"}]) == {"added": 1, "known": 0}
        assert asked.changed_runs() == ["a"]
        assert asked.retrain("full")["cause"] == "by_hand:1:now"
        assert asked.promote("2")["from_version"] == "1"
        assert asked.rollback("2")["model_version"] == "1"
    paths = ["/status", "/events?after=3", "/events", "/feedback", "/feedback", "/retrain", "/promote", "/rollback"]
    assert [line.split(URL)[1] for line in retrainer.asked] == paths
    assert {request.headers["Authorization"] for request in retrainer.requests} == {f"Bearer {TOKEN}"}
    assert json.loads(retrainer.requests[5].content) == {"mode": "full"}


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}//", f" {URL} "])
def test_a_trailing_slash_changes_nothing(url: str):
    retrainer = Retrainer((200, {"state": "idle"}))
    client(retrainer, url).status()
    assert retrainer.asked == [f"GET {URL}/status"]


def test_a_path_before_ours_stays():
    retrainer = Retrainer((200, {"state": "idle"}))
    client(retrainer, "http://gateway/loop/").status()
    assert retrainer.asked == ["GET http://gateway/loop/status"]


@pytest.mark.parametrize("url", ["http://retrainer:port", "retrainer", "retrainer:8600", "ftp://retrainer"])
def test_what_is_no_url_is_told(url: str):
    with pytest.raises(DriftloopError, match="is no URL"):
        Client(url)


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch):
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    with pytest.raises(DriftloopError, match=r"^http://127\.0\.0\.1:9/status: no usable answer"):
        Client("http://127.0.0.1:9").status()
    assert not http.client(URL).trust_env
    assert not http.async_client(URL).trust_env


def test_progress_is_told_once_and_what_does_not_arrive_is_let_go():
    told = Progress("run-1", "train", 340, 800, 0.25)
    retrainer = Retrainer((200, {}), DOWN, (503, {"detail": "starting"}))
    with client(retrainer) as asked:
        assert [asked.progress(told) for _ in range(3)] == [True, False, False]
    assert retrainer.asked == [f"POST {URL}/progress"] * 3
    assert json.loads(retrainer.requests[0].content) == {
        "run": "run-1",
        "step": "train",
        "done": 340,
        "of": 800,
        "loss": 0.25,
    }


def test_an_event_is_reported_again_under_one_id_until_it_is_taken():
    retrainer = Retrainer(DOWN, (503, {"detail": "starting"}), (200, {"seq": 1}))
    assert client(retrainer).report({"kind": "verdict", "score": 1.5})
    bodies = [json.loads(request.content) for request in retrainer.requests]
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["id"]


@pytest.mark.parametrize(("answer", "tries"), [(DOWN, 5), ((500, b"no"), 5), ((422, {"detail": []}), 1)])
def test_an_event_that_is_not_taken_ends_nothing(answer: Any, tries: int):
    retrainer = Retrainer(answer)
    assert not client(retrainer).report({"kind": "verdict"})
    assert len(retrainer.requests) == tries


def test_what_must_happen_once_is_asked_once():
    for act in (Client.retrain, lambda asked: asked.rollback("2"), lambda asked: asked.promote("2")):
        retrainer = Retrainer(DOWN, (200, {}))
        with pytest.raises(
            DriftloopError, match=r"no usable answer from the retrainer: nothing listens there.*driftloop up"
        ):
            act(client(retrainer))
        assert len(retrainer.requests) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"detail": [{"field": "Authorization", "message": "must be a token"}]}), "must be a token.*TOKEN_FILE"),
        ((409, {"detail": [{"field": "state", "message": "is running"}]}), "state: is running"),
        ((502, b"<html>caf\xe9"), "<html>caf"),
        ((500, b""), "answered 500 without a word"),
        ((500, b'{"detail": [1]}'), "detail"),
        ((200, b"caf\xe9"), "is not JSON"),
        ((200, b'{"attempt": "\xe9"}'), "not UTF-8"),
        ((200, b"[1]"), "Expected `object`"),
        ((200, b"{}"), "something is missing in it"),
        ((200, b'{"attempt": 1}'), "something is missing in it"),
        ((200, b"[" * 100_000), "no usable answer"),
    ],
)
def test_a_refusal_or_an_answer_that_is_none_is_told_to_people(answer: Any, said: str):
    with pytest.raises(DriftloopError, match=said) as caught:
        client(Retrainer(answer)).retrain()
    assert str(caught.value).startswith(f"{URL}/retrain: ")


def test_events_are_followed_page_by_page():
    pages = [(200, {"events": [{"seq": 1}, {"seq": 2}], "next": 2}), (200, {"events": [{"seq": 3}], "next": 3})]
    retrainer = Retrainer(*pages, (200, {"events": [], "next": 3}))
    assert [event["seq"] for event in client(retrainer).follow()] == [1, 2, 3]
    assert [request.url.params["after"] for request in retrainer.requests] == ["0", "2", "3"]
    retrainer = Retrainer((200, {"events": [], "next": 3}), *pages)
    waiting = client(retrainer).follow(3, forever=True)
    assert [next(waiting)["seq"], next(waiting)["seq"]] == [1, 2]


def test_who_follows_waits_for_a_retrainer_that_is_started_again():
    page = (200, {"events": [{"seq": 1}], "next": 1})
    retrainer = Retrainer(page, DOWN, (503, b"starting"), (200, {"events": [{"seq": 2}], "next": 2}))
    following = client(retrainer).follow(forever=True)
    assert [next(following)["seq"], next(following)["seq"]] == [1, 2]
    assert [request.url.params["after"] for request in retrainer.requests] == ["0", "1", "1", "1"]
    with pytest.raises(DriftloopError, match="no usable answer"):
        next(client(Retrainer(DOWN)).follow(forever=True))
    refused = Retrainer(page, (401, {"detail": [{"field": "Authorization", "message": "must be `Bearer `"}]}))
    with pytest.raises(DriftloopError, match="Bearer"):
        list(client(refused).follow(forever=True))


def test_a_name_stays_one_part_of_the_path():
    retrainer = Retrainer((200, {}))
    with client(retrainer) as asked:
        asked.answer("../retrain?x#y", "approve")
        asked.cancel("a/b")
        asked.unmute("fleet_change:3")
    paths = [request.url.raw_path for request in retrainer.requests]
    assert paths == [b"/approvals/..%2Fretrain%3Fx%23y", b"/schedules/a%2Fb", b"/mute/fleet_change%3A3"]


async def test_from_asyncio_the_policy_is_the_same(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    retrainer = Retrainer(DOWN, (503, b"starting"), (200, {"added": ["a"], "known": []}))
    asked = AsyncClient(f"{URL}/", TOKEN, transport=httpx.MockTransport(retrainer))
    ((body, _),) = archive_client.batches([Run("a", np.ones((2, 24)))])
    assert await asked.ask(archive_client.post_batch(body)) == {"added": ["a"], "known": []}
    assert pauses == [0.0, 0.5, 1.0]
    refuses = AsyncClient(URL, TOKEN, transport=httpx.MockTransport(Retrainer((409, {"detail": "known"}))))
    with pytest.raises(RunConflict, match="known"):
        await refuses.ask(archive_client.post_batch(body))
    await asked.close()
    await refuses.close()


def test_a_server_that_is_not_there_is_told_apart_from_the_retrainer():
    with (
        Server("http://127.0.0.1:9/") as server,
        pytest.raises(DriftloopError, match="no usable answer from the server"),
    ):
        server.model()


def test_the_outbox_keeps_what_may_be_taken_later_and_gives_up_what_is_refused(caplog: pytest.LogCaptureFixture):
    retrainer = Retrainer((503, b"no"), (401, b"no"), (429, b"no"), DOWN, (422, b"no"))
    outbox = Outbox(TOKEN, transport=httpx.MockTransport(retrainer))
    outbox.event(f"{URL}/", {"kind": "verdict"})
    with caplog.at_level(logging.ERROR):
        assert [outbox.deliver() for _ in range(5)] == [False] * 4 + [True]
    assert outbox.dropped == 1
    assert "is given up" in caplog.text
    assert set(retrainer.asked) == {f"POST {URL}/events"}
    outbox.put("http://retrainer:port/alerts", {})
    assert not outbox.deliver()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python looks for no circles meanwhile."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_what_was_sent_goes_with_its_answer() -> None:
    def transport() -> httpx.MockTransport:
        return httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(b"{}")))

    def let_go(answer: httpx.Response) -> list[weakref.ref[Any]]:
        assert answer.json() == {}
        return [weakref.ref(answer), weakref.ref(answer.request)]

    async def asked() -> list[weakref.ref[Any]]:
        async with http.async_client(URL, transport=transport()) as async_client:
            return let_go(await async_client.post("/predict", content=b"megabytes"))

    with http.client(URL, transport=transport()) as client:
        gone = let_go(client.post("/predict", content=b"megabytes"))
    gone += asyncio.run(asked())
    assert [one() for one in gone] == [None] * 4


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "nothing listens there"),
        (httpx.ConnectError("All connection attempts failed"), "All connection attempts failed"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "its name is not known here"),
        (httpx.ConnectError("[Errno -3] Temporary failure in name resolution"), "its name is not known here"),
        (httpx.ConnectError("[Errno 113] No route to host"), "no way leads there"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] hostname"), "its certificate is not trusted"),
        (httpx.ConnectTimeout("timed out"), "it took too long"),
        (httpx.ReadTimeout(""), "it took too long"),
        (httpx.ReadError(""), "the connection was cut"),
        (httpx.RemoteProtocolError("Server disconnected"), "the connection was cut"),
        (httpx.TooManyRedirects("Exceeded maximum allowed redirects."), "Exceeded maximum allowed redirects."),
        (httpx.UnsupportedProtocol(""), "UnsupportedProtocol"),
    ],
)
def test_people_are_told_in_words_why_nobody_answered(error: httpx.HTTPError, words: str) -> None:
    assert http.why(error) == words


def test_it_is_so_of_a_port_where_nothing_listens_and_of_a_name_that_is_none() -> None:
    with http.client() as asking:
        for address, words in (
            (f"http://127.0.0.1:{free_port()}", "nothing listens there"),
            ("http://no-such-host.invalid", "its name is not known here"),
        ):
            with pytest.raises(httpx.ConnectError) as raised:
                asking.get(address)
            assert http.why(raised.value) == words
