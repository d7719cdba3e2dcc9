"""Telling people for real: an SMTP server and an HTTP sink on loopback, retries, kills, and what is never told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from typer.testing import CliRunner

from driftloop.errors import DriftloopError
from driftloop.loop.store import Store
from driftloop.notify import commands, delivery, teller
from driftloop.notify.teller import GATHER_S, Teller

SECRET = "hunter2-hunter2"


class FreePort(Controller):
    """A controller that finds its port itself; aiosmtpd asks for one that is known."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Post:
    """An SMTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], str]] = []
        self.controller = FreePort(self, hostname="127.0.0.1", port=0)

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode()))
        return "250 taken"

    @property
    def address(self) -> str:
        port = self.controller.server.sockets[0].getsockname()[1]
        return f"mailto://127.0.0.1:{port}/?from=driftloop@example.com&to=ann@example.com&mode=insecure"


class Sink:
    """A web server that keeps what is posted to it; `status` is what it answers."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status = 200
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if sink.status == 200:
                    sink.posted.append(json.loads(body))
                self.send_response(sink.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"json://ann:{SECRET}@127.0.0.1:{self.server.server_address[1]}/told"


@pytest.fixture
def post() -> Iterator[Post]:
    made = Post()
    made.controller.start()
    yield made
    made.controller.stop()


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Told:
    """A teller over a real store; time passes when told to."""

    def __init__(self, folder: Path, *addresses: str, cool_down_s: float = 900.0) -> None:
        self.folder, self.cool_down_s, self.muted = folder, cool_down_s, set[str]()
        self.file = folder / "addresses"
        self.file.write_text("# whom to tell\n\n" + "\n".join(addresses) + "\n")
        self.clock = 1000.0
        self.store = Store(folder / "loop.db", 1000)
        self.restart()

    def restart(self) -> None:
        self.store.close()
        self.store = Store(self.folder / "loop.db", 1000)
        self.teller = Teller(
            self.store,
            self.file,
            "cmapss",
            "docs",
            cool_down_s=self.cool_down_s,
            muted=lambda cause: cause in self.muted,
            clock=lambda: self.clock,
        )

    def alert(self, version: str = "3") -> None:
        about = {"model_version": version, "features": ["sensor_11"], "drift": "fleet_change"}
        self.store.append("alert_firing", cause=f"fleet_change:{version}", **about)

    def pass_s(self, seconds: float) -> None:
        self.teller.turn()
        self.clock += seconds
        self.teller.turn()

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.store.read() if event["kind"].startswith("noti")]


def test_people_are_told_by_mail_and_by_webhook_once_a_cause(tmp_path: Path, post: Post, sink: Sink) -> None:
    told = Told(tmp_path, post.address, sink.address)
    told.store.append("alert_firing", cause="fleet_change:1", drift="fleet_change")
    told.restart()  # The store is younger than the teller's cursor: nothing of it was kept yet.
    told.alert()
    told.teller.turn()
    told.store.append("first_aid_promoted", cause="fleet_change:3", model_version="4")
    assert (post.mails, sink.posted) == ([], [])
    told.pass_s(GATHER_S)
    ((sender, receivers, mail),) = post.mails
    assert (sender, receivers) == ("driftloop@example.com", ["ann@example.com"])
    assert "Subject: driftloop cmapss: the fleet has changed" in mail
    (posted,) = sink.posted
    assert posted["title"] == "driftloop cmapss: the fleet has changed"
    assert "sensor_11" in posted["message"]
    assert "version 4 serves, provisional" in posted["message"]
    assert "docs/runbooks.md#fleet_change" in posted["message"]
    assert told.kinds() == ["notified"]

    told.alert("3")
    told.pass_s(GATHER_S)
    assert len(sink.posted) == 1


def test_after_the_pause_the_rest_is_told_together(tmp_path: Path, sink: Sink) -> None:
    told = Told(tmp_path, sink.address, cool_down_s=0.0)
    told.alert()
    told.pass_s(GATHER_S)
    told.store.append("promoted", cause="fleet_change:3", model_version="5")
    told.teller.turn()
    told.store.append("recovery_verified", cause="fleet_change:3", model_version="5")
    told.pass_s(GATHER_S)
    assert len(sink.posted) == 2
    assert "version 5 is in production" in sink.posted[1]["message"]
    assert "recovered" in sink.posted[1]["message"]


def test_what_is_not_taken_is_tried_again_at_those_who_have_not_got_it(tmp_path: Path, post: Post, sink: Sink) -> None:
    told = Told(tmp_path, post.address, sink.address)
    sink.status = 500
    told.alert()
    told.pass_s(GATHER_S)
    assert (len(post.mails), sink.posted, told.kinds()) == (1, [], [])
    shown = told.teller.shown()
    assert shown is not None
    assert shown["waiting"] == [{"about": "fleet_change fleet_change:3", "tries": 1}]
    assert shown["last_error"] == "fleet_change fleet_change:3: not taken by address 4 (json)"
    told.pass_s(teller.FIRST_RETRY_S - 1)
    told.restart()  # A kill before the next try loses nothing.
    sink.status = 200
    told.pass_s(0.0)
    assert (len(post.mails), len(sink.posted), told.kinds()) == (1, 1, ["notified"])
    assert told.teller.shown() == {"waiting": [], "given_up": 0, "last_error": None}


def test_what_is_never_taken_is_given_up_visibly(tmp_path: Path, sink: Sink) -> None:
    told = Told(tmp_path, sink.address)
    sink.status = 500
    told.alert()
    told.pass_s(GATHER_S)
    for _ in range(teller.MOST_TRIES):
        told.pass_s(teller.LONGEST_RETRY_S)
    assert told.kinds() == ["notification_failed"]
    (failed,) = [event for event in told.store.read() if event["kind"] == "notification_failed"]
    assert (failed["tries"], failed["cause"]) == (teller.MOST_TRIES, "fleet_change:3")
    shown = told.teller.shown()
    assert shown is not None
    assert (shown["given_up"], shown["waiting"]) == (1, [])


@pytest.mark.parametrize("muted", ["fleet_change:3", "fleet_change"])
def test_nobody_is_told_of_a_muted_cause(tmp_path: Path, sink: Sink, muted: str) -> None:
    told = Told(tmp_path, sink.address)
    told.muted.add(muted)
    told.alert()
    told.pass_s(GATHER_S)
    assert (sink.posted, told.teller.state.waiting) == ([], [])


def test_a_kill_before_the_delivery_loses_nothing(tmp_path: Path, sink: Sink) -> None:
    told = Told(tmp_path, sink.address)
    told.alert()
    told.teller.turn()
    told.restart()
    told.pass_s(GATHER_S)
    assert len(sink.posted) == 1


def test_no_secret_is_told_or_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture, sink: Sink) -> None:
    told = Told(tmp_path, sink.address)
    sink.server.shutdown()
    told.alert()
    with caplog.at_level(0):
        told.pass_s(GATHER_S)
        told.file.write_text(f"nonsense://{SECRET}\n")
        told.pass_s(teller.FIRST_RETRY_S)
    said = json.dumps([told.store.read(), told.teller.shown()]) + caplog.text
    assert told.teller.state.last_error is not None
    assert "line 1 is no address that is known (it begins with 'nonsense')" in told.teller.state.last_error
    assert SECRET not in said


def test_without_addresses_nobody_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "loop.db", 1000)
    silent = Teller(store, None, "cmapss", "docs", cool_down_s=0.0)
    store.append("alert_firing", cause="fleet_change:1", drift="fleet_change")
    silent.turn()
    assert (silent.shown(), silent.state.waiting) == (None, [])


@pytest.mark.parametrize(("content", "why"), [("", "has none"), ("\xff", "not UTF-8"), (None, "cannot be read")])
def test_a_file_of_addresses_that_cannot_be_used_says_so(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "addresses"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DriftloopError, match=why):
        delivery.addresses(path)


def test_the_command_sends_a_test_and_says_who_took_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: Sink
) -> None:
    path = tmp_path / "addresses"
    path.write_text(sink.address)
    monkeypatch.setenv("DRIFTLOOP_NOTIFY_FILE", str(path))
    result = CliRunner().invoke(commands.app, ["test"])
    assert (result.exit_code, result.output) == (0, "address 1 (json): sent\n")
    assert sink.posted[0]["title"] == "driftloop cmapss: a test"
    sink.status = 500
    result = CliRunner().invoke(commands.app, ["test", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output) == {"addresses": [{"address": "1 (json)", "taken": False}]}
