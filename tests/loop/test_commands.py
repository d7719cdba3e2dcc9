"""The commands, against a retrainer that answers as told."""

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from driftloop.errors import DriftloopError
from driftloop.loop.api import approvals, commands, scheduling, terminal
from driftloop.protocol.client import Client

Answer = Callable[[str, str, Any], tuple[int, Any]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    def use(answer: Answer) -> None:
        def reply(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content) if request.content else None
            status, content = answer(request.method, request.url.raw_path.decode(), body)
            return httpx.Response(status, json=content)

        monkeypatch.setattr(
            terminal,
            "Client",
            lambda url, token, **more: Client(url, token, transport=httpx.MockTransport(reply), **more),
        )

    return use


def run(*arguments: str) -> str:
    app = typer.Typer()
    of_loop = (commands.retrainer, commands.retrain, commands.promote, commands.rollback, commands.events)
    for command in (*of_loop, approvals.approve, approvals.reject, scheduling.mute, scheduling.unmute):
        app.command()(command)
    app.add_typer(scheduling.app, name="schedules")
    result = CliRunner().invoke(app, arguments, catch_exceptions=True)
    if isinstance(result.exception, DriftloopError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_promote_says_what_was_replaced(answers):
    said = {"model_version": "2", "from_version": "1", "already": False}
    answers(lambda *_: (200, said))
    assert run("promote", "2") == "version 2 is in production (before: 1)\n"
    assert json.loads(run("promote", "2", "--json")) == said


def test_who_waits_for_a_retraining_is_told_once_that_it_waits_for_a_person(answers, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    approval = {"cause": "by_hand:1:now", "version": "2"}
    ended = {"cause": "by_hand:1:now", "model_version": "2", "decision": "promoted", "reason": "better"}
    said = [{"history": [], "approval": None}, *[{"history": [], "approval": approval}] * 2, {"history": [ended]}]
    attempt = {"cause": "by_hand:1:now", "champion": "1"}
    answers(lambda method, _, __: (200, {"attempt": attempt} if method == "POST" else said.pop(0)))
    told = run("retrain", "--wait")
    assert told.count("version 2 waits for a person: driftloop approve, or driftloop reject") == 1
    assert told.endswith("version 2: promoted (better)\n")


def test_rollback_says_what_is_served_again(answers):
    said = {"model_version": "1", "from_version": "2", "already": False}
    asked: list[Any] = []
    answers(lambda _, __, body: (200, asked.append(body) or said))
    assert run("rollback", "2", "--reason", "wild") == "version 1 is in production again, not 2\n"
    assert asked == [{"from_version": "2", "reason": "wild"}]


def test_who_types_a_command_stands_in_what_it_does(monkeypatch, answers):
    told: list[str | None] = []
    real = httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        told.append(request.headers.get("X-Driftloop-Actor"))
        return real(self, request, **more)

    monkeypatch.setattr(httpx.Client, "send", send)
    monkeypatch.setattr("getpass.getuser", lambda: "zoë")
    answers(lambda *_: (200, {"model_version": "1", "from_version": "2", "already": False}))
    run("rollback", "2")
    assert told == ["zoë"]


def test_what_was_done_already_is_told(answers):
    answers(lambda *_: (200, {"model_version": "1", "from_version": "2", "already": True}))
    assert run("rollback", "2") == "version 1 is in production already, not 2\n"
    assert run("promote", "1") == "version 1 is in production already (before: 2)\n"


def answered(method: str, path: str, body: Any) -> tuple[int, Any]:
    if method == "GET":
        return 200, {"approval": {"id": "3-abcd"}}
    assert path == "/approvals/3-abcd"
    return 200, {"id": "3-abcd", "version": "3", "who": "token", "at": "now", **body}


def test_what_waits_is_approved_or_rejected_with_a_reason(answers):
    answers(answered)
    assert run("approve") == "version 3 is approved (3-abcd)\n"
    assert run("reject", "3-abcd", "--reason", "worse") == "version 3 is rejected (3-abcd)\n"
    said = json.loads(run("reject", "--reason", "worse", "--json"))
    assert (said["answer"], said["reason"]) == ("reject", "worse")


def scheduled(method: str, path: str, body: Any) -> tuple[int, Any]:
    entry = {"act": "retrain", "mode": "full", "next": "noon", "last": None, "cron": None, "firing": True, "who": "ann"}
    if method == "GET":
        watch = {**entry, "name": "high", "act": "error", "above": 20.0, "every_s": 60.0}
        return 200, {"schedules": [watch], "muted": [{"cause": "c", "until": "t", "who": "ann", "reason": "known"}]}
    return 200, {**entry, "name": path.rpartition("/")[2], **(body or {})}


def test_schedules_are_listed_added_and_cancelled(answers):
    answers(scheduled)
    shown = run("schedules", "list")
    assert "watch: RMSE above 20" in shown
    assert "FIRING" in shown
    assert "c is muted until t by ann: known" in shown
    said = json.loads(run("schedules", "add", "weekly", "retrain", "--every", "7d", "--mode", "full", "--json"))
    assert (said["name"], said["every_s"], said["mode"]) == ("weekly", 7 * 86400.0, "full")
    assert run("schedules", "cancel", "weekly") == "weekly is cancelled\n"
    with pytest.raises(DriftloopError, match="is no length of time"):
        run("schedules", "add", "weekly", "retrain", "--every", "soon")


def test_a_cause_is_muted_for_a_while(answers):
    answers(lambda method, path, body: (200, {"cause": "concept", "until": "noon", "asked": [method, path, body]}))
    assert run("mute", "concept", "--for", "6h") == "concept is muted until noon\n"
    assert json.loads(run("mute", "concept", "--for", "6h", "--json"))["asked"][2]["for_s"] == 6 * 3600.0
    assert json.loads(run("unmute", "concept", "--json"))["asked"] == ["DELETE", "/mute/concept", None]


def test_nothing_to_approve_is_an_error(answers):
    answers(lambda *_: (200, {"approval": None}))
    with pytest.raises(DriftloopError, match="no version waits"):
        run("approve")


def test_a_late_answer_says_what_happened(answers):
    answers(lambda *_: (409, {"detail": [{"field": "id", "message": "was approved by ann at noon"}]}))
    with pytest.raises(DriftloopError, match="was approved by ann at noon"):
        run("approve", "3-abcd")


def test_retrain_waits_for_its_own_decision(answers):
    attempt = {"cause": "by_hand:1:now", "champion": "1"}
    other = {"cause": "fleet_change:1", "decision": "rejected", "reason": "worse", "model_version": "2"}
    mine = {"cause": "by_hand:1:now", "decision": "promoted", "reason": "better", "model_version": "3"}
    histories = iter([[other], [other, mine]])

    def answer(_: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/retrain":
            assert body == {"mode": "full"}
            return 200, {"attempt": attempt}
        return 200, {"history": next(histories)}

    answers(answer)
    assert run("retrain", "--mode", "full", "--wait") == "version 3: promoted (better)\n"


def test_events_are_printed_page_by_page(answers):
    def answer(_: str, path: str, __: Any) -> tuple[int, Any]:
        after = int(path.partition("=")[2])
        if after >= 2:
            return 200, {"events": [], "next": after}
        event = {"seq": after + 1, "time": "T", "kind": "verdict", "n": 500, "id": "x", "verdict": "no_drift"}
        return 200, {"events": [event], "next": after + 1}

    answers(answer)
    lines = run("events").splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert lines[0].endswith("n=500 verdict=no_drift")
    assert run("events", "--kind", "promoted") == ""
    with pytest.raises(DriftloopError, match=r"no event 'promotd'.*did you mean promoted\?"):
        run("events", "--kind", "promotd")


def test_a_refusal_is_shown_with_its_field_and_remedy(answers):
    detail = [{"field": "Authorization", "message": "must be a token"}]
    answers(lambda *_: (401, {"detail": detail}))
    with pytest.raises(DriftloopError, match=r"Authorization: must be a token \(set DRIFTLOOP_TOKEN_FILE"):
        run("rollback", "2")


def test_a_retrainer_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_RETRAINER_URL", "http://127.0.0.1:9")
    with pytest.raises(DriftloopError, match="start it with `driftloop up`"):
        run("rollback", "2")


def test_the_retrainer_does_not_listen_to_others_without_a_token(monkeypatch, tmp_path):
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("DRIFTLOOP_TOKEN_FILE", raising=False)
    with pytest.raises(DriftloopError, match=r"--host 0\.0\.0\.0.*set DRIFTLOOP_TOKEN_FILE"):
        run("retrainer", "--host", "0.0.0.0")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named_before_the_retrainer_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DriftloopError, match=f"port {port} is in use"):
            run("retrainer", "--port", str(port))
    assert list(tmp_path.iterdir()) == []
