"""Server-sent events: nothing is missed, whatever is cut; and who may no longer look is cut off."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from driftloop import durable
from driftloop.access import tokens
from driftloop.access.sessions import COOKIE
from driftloop.api import stream
from driftloop.api.app import create_app
from driftloop.api.problems import Problem
from driftloop.api.tail import HELD, Tail
from live_server import running

from .conftest import Platform, wait


@pytest.fixture
def console(platform: Platform) -> Iterator[httpx.Client]:
    """The console behind a real server, since a stream never ends."""
    with running(create_app(platform.http.app.state.fleets.base)) as http:  # type: ignore[attr-defined]
        yield http


@contextmanager
def listening(http: httpx.Client, last: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The messages of a stream that begins behind id `last`."""
    sent = {"Last-Event-ID": last, **headers} if last else headers
    with http.stream("GET", "/api/v1/events/stream", headers=sent, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "gzip" in http.headers["accept-encoding"]
        assert "content-encoding" not in answer.headers, "it would be held back to be compressed"
        yield messages(answer)


def messages(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if not line and "data" in found:
            yield found
            found = {}
        elif name in ("id", "event"):
            found[name] = value
        elif name == "data":
            found["data"] = json.loads(value)
        elif line.startswith(":"):
            yield {"event": "comment", "data": line}


def take(told: Iterator[dict[str, Any]], kind: str, count: int) -> list[dict[str, Any]]:
    """The next messages of this kind."""
    return list(itertools.islice((one for one in told if one["event"] == kind), count))


def test_a_cut_stream_goes_on_behind_its_last_id(platform: Platform, console: httpx.Client) -> None:
    store = platform.parts.store
    with listening(console) as told:
        wait(lambda: take(told, "state", 1)[0]["data"]["state"] == "idle")
        store.append("rejected", model_version="7", reason="worse")
        [first] = take(told, "event", 1)
    assert first["data"]["event"] == "rejected"
    assert first["id"] == f"cmapss:{first['data']['seq']}"
    written = [store.append("verdict", verdict="no_drift", n=at)["seq"] for at in range(1500)]
    with listening(console, first["id"]) as told:
        missed = take(told, "event", 700)
    with listening(console, missed[-1]["id"]) as told:
        missed += take(told, "event", 800)
    assert [one["data"]["seq"] for one in missed] == written


def test_a_console_that_has_just_begun_sends_nothing_twice(platform: Platform, console: httpx.Client) -> None:
    seqs = [platform.parts.store.append("verdict", verdict="no_drift", n=at)["seq"] for at in range(5)]
    with listening(console, f"cmapss:{seqs[2]}") as told:
        assert [one["data"]["seq"] for one in take(told, "event", 2)] == seqs[3:]


def test_a_log_that_begins_anew_is_all_new(platform: Platform, console: httpx.Client) -> None:
    first = platform.parts.store.append("verdict", verdict="no_drift", n=1)["seq"]
    with listening(console, "cmapss:99999") as told:
        seen = [one["data"]["seq"] for one in take(told, "event", first)]
    assert seen == list(range(1, first + 1))


def test_a_stream_tells_when_verdict_or_loop_change(platform: Platform, console: httpx.Client) -> None:
    with listening(console) as told:
        wait(lambda: take(told, "state", 1)[0]["data"]["state"] == "idle")
        platform.parts.store.append("verdict", verdict="drift", model_version="1", n=500)
        wait(lambda: take(told, "state", 1)[0]["data"]["verdict"] == "drift")


def test_a_silent_stream_shows_that_it_lives(console: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    with listening(console) as told:
        assert len(take(told, "comment", 3)) == 3


class Later:
    """The clock of tokens, two days on."""

    @staticmethod
    def time() -> float:
        return time.time() + 2 * 86_400


@pytest.mark.parametrize("end", ["revoked", "expired", "removed"])
def test_who_may_no_longer_look_is_cut_off(
    platform: Platform, console: httpx.Client, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(stream, "CHECK_S", 0.05)
    door = platform.http.app.state.door  # type: ignore[attr-defined]
    if end == "removed":
        door.people.add("anna", "view", "correct horse battery")
        cookie = door.sessions.begin(door.people.find("anna"))
        # By the name that others know the machine by: who is on it may look all the same.
        brings = {"Cookie": f"{COOKIE}={cookie}", "Host": "console.example"}
    else:
        brings = {"Authorization": f"Bearer {door.tokens.add('viewer', 'view', days=1)}"}
    with listening(console, **brings) as told:
        take(told, "state", 1)
        if end == "revoked":
            door.tokens.revoke("viewer")
        elif end == "expired":
            monkeypatch.setattr(tokens, "time", Later)
        else:
            door.people.remove("anna")
        list(told)
    assert console.get("/api/v1/events/stream", headers=brings).status_code == 401


class Log:
    """A retrainer's log in the test's hands."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: list[int] = []

    def __call__(self, path: str, after: int = 0) -> dict[str, Any]:
        if path == "/status":
            return {"state": "idle", "last_event": len(self.events)}
        self.asked.append(after)
        return {"events": [one for one in self.events if one["seq"] > after][:1000]}

    def write(self, count: int) -> None:
        first = len(self.events) + 1
        time = durable.now()
        self.events += [
            {"seq": seq, "time": time, "kind": "verdict", "verdict": "drift"} for seq in range(first, first + count)
        ]


def test_what_is_held_is_read_from_memory_and_what_is_older_is_asked_for() -> None:
    log = Log()
    log.write(HELD + 1500)
    tail = Tail(log)
    tail.look()
    assert (tail.last, tail.verdict) == (HELD + 1500, "drift")
    log.asked.clear()
    assert [one["seq"] for one in tail.after(HELD + 1490)] == list(range(HELD + 1491, HELD + 1501))
    assert tail.after(HELD + 1500) == []
    assert log.asked == []
    assert [one["seq"] for one in tail.after(3)] == list(range(4, 1004))
    assert log.asked == [3]


def test_a_store_that_begins_anew_is_followed_from_its_beginning() -> None:
    log = Log()
    log.write(50)
    tail = Tail(log)
    tail.look()
    log.events.clear()
    log.write(3)
    tail.look()
    assert tail.last == 3
    assert [one["seq"] for one in tail.after(0)] == [1, 2, 3]


def test_a_retrainer_that_is_away_is_unknown_and_then_known_again() -> None:
    log, away = Log(), threading.Event()

    def ask(path: str, **parameters: Any) -> dict[str, Any]:
        if away.is_set():
            raise a_problem()
        return log(path, **parameters)

    tail = Tail(ask)
    tail.start()
    try:
        wait(lambda: tail.state is not None)
        away.set()
        wait(lambda: tail.state is None)
        log.write(2)
        away.clear()
        wait(lambda: tail.last == 2)
    finally:
        tail.stop()


def a_problem() -> Exception:

    return Problem(503, "retrainer", "does not answer")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cmapss:120,pumps:7", {"cmapss": 120, "pumps": 7}),
        ("", {}),
        ("nonsense", {}),
        ("a:1,b:x,../c:2", {"a": 1}),
        ("a:" + "9" * 40, {}),
    ],
)
def test_an_id_that_is_none_is_passed_over(text: str, found: dict[str, int]) -> None:
    assert stream.places(text) == found


def test_a_stream_ends_in_time_and_the_next_one_goes_on_behind_it(
    platform: Platform, console: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a proxy said of somebody when it began counts no longer; a program whose token has a low rate keeps its."""
    door = platform.http.app.state.door  # type: ignore[attr-defined]
    slow = {"Authorization": f"Bearer {door.tokens.add('slow', 'view', rate=0.5)}"}
    monkeypatch.setattr(stream, "CHECK_S", 0.01)
    monkeypatch.setattr(stream, "LONGEST_S", 2.0)
    before = platform.parts.store.append("rejected", model_version="7")["seq"]
    wait(lambda: platform.fleet.tail.last >= before)
    with listening(console, f"cmapss:{before - 1}", **slow) as told:
        began = time.monotonic()
        [first] = [one for one in told if one["event"] == "event"]
    assert time.monotonic() - began >= 1.5
    second = platform.parts.store.append("rejected", model_version="8")["seq"]
    with listening(console, first["id"]) as told:
        assert [one["data"]["seq"] for one in told if one["event"] == "event"] == [second]


def test_a_watch_that_was_silent_before_the_console_began_is_silent() -> None:
    """Its last word is old, whenever it is first read; a later one counts from when it comes, whatever clocks say."""
    log = Log()
    log.write(1)
    log.events[0]["time"] = "2026-01-31T22:15:00.000Z"
    tail = Tail(log)
    assert not tail.silent
    tail.look()
    assert (tail.silent, tail.verdict) == (True, None)
    log.write(1)
    log.events[1]["time"] = "2026-01-31T22:15:05.000Z"
    tail.look()
    assert (tail.silent, tail.verdict) == (False, "drift")
