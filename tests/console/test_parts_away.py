"""A part of the platform goes away under open pages and comes back: each page says so, and heals by itself.

The parts are real but for the registry; they are reached through a door that can be shut, as when their process died.
"""

import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from api import conftest as api_parts
from api.conftest import Platform, Versions, cheap, platform  # noqa: F401 - fixtures
from api.kept import keeping
from driftloop.api import tail
from driftloop.api.app import create_app
from driftloop.errors import RegistryUnavailable

from .browser import Complaints, served
from .shots import pages_of

pytestmark = pytest.mark.e2e

UNIT = "e1"
PAGES = {name: path for name, path in pages_of("cmapss", UNIT).items() if name not in ("fleets", "login")}
LOOP_AWAY = "loop\u2019s process does not answer"
SAYS: dict[str, dict[str, str]] = {
    "server": {"fleet": "prediction server does not answer", "unit": "prediction server"},
    "retrainer": dict.fromkeys(("fleet", "loop", "models", "data", "events"), LOOP_AWAY),
    "units": {"fleet": "service that keeps", "unit": "service that keeps"},
    "registry": {"models": "registry"},
    "watch": {"fleet": "drift watch has", "loop": "drift watch has gone silent"},
    "console": dict.fromkeys(PAGES, "The connection is cut"),
}
"""What is read on which page while a part is away; nothing of it before, nor afterwards."""
AWAY = re.compile(
    "prediction server does not|process does not answer|service that keeps|drift watch has|connection is cut|not up to"
)


class Door:
    """An address in front of another one, at which nobody listens while it is shut."""

    def __init__(self, to: str) -> None:
        self._to = int(to.rpartition(":")[2].strip("/"))
        self._open = threading.Event()
        self._ended = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open.set()
        self._thread = threading.Thread(target=self._work, name="door")
        self._thread.start()

    def shut(self) -> None:
        """As when the process behind it is killed: connections are cut, and no other is taken."""
        self._open.clear()

    def open(self) -> None:
        """The process is there again."""
        self._open.set()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.is_set():
            if not self._open.is_set():
                self._close()
                self._open.wait(0.05)
                if self._open.is_set():
                    self._listening = socket.create_server(("127.0.0.1", self.port))
                continue
            if self._listening.fileno() < 0:
                self._listening = socket.create_server(("127.0.0.1", self.port))
            ends = {one: other for pair in self._pairs for one, other in (pair, pair[::-1])}
            for ready in select.select([self._listening, *ends], [], [], 0.05)[0]:
                if ready is self._listening:
                    self._pairs.append((ready.accept()[0], socket.create_connection(("127.0.0.1", self._to))))
                elif ready.fileno() >= 0:
                    self._pass_on(ready, ends[ready])
        self._close()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            data = one.recv(65536)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        self._pairs = [pair for pair in self._pairs if one not in pair]
        one.close()
        other.close()

    def _close(self) -> None:
        self._listening.close()
        for pair in self._pairs:
            for each in pair:
                each.close()
        self._pairs = []


class Parts:
    """A console with its parts, each of which can be taken away."""

    def __init__(self, platform: Platform, monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:  # noqa: F811
        self.store, self._monkeypatch = platform.parts.store, monkeypatch
        _, service = stack.enter_context(keeping(platform, UNIT))
        self.doors = {name: self._door(stack, str(http.base_url)) for name, http in (
            ("server", platform.server), ("retrainer", platform.retrainer), ("units", service))}  # fmt: skip
        urls = {f"{name}_url": door.url for name, door in self.doors.items()}
        app = create_app(platform.settings.model_copy(update=urls))
        self.doors["console"] = self._door(stack, stack.enter_context(served(app)))
        self.url = self.doors["console"].url
        self._talking = threading.Event()
        stack.callback(self._talking.set)
        self._silent = threading.Event()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @staticmethod
    def _door(stack: ExitStack, to: str) -> Door:
        door = Door(to)
        stack.callback(door.end)
        return door

    def _watch(self) -> None:
        """Says what it sees, as often as a watch does."""
        while not self._talking.wait(0.3):
            if not self._silent.is_set():
                self.store.append("verdict", verdict="no_drift", model_version="1", n=500)

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """A part is away inside."""
        if part == "watch":
            self._silent.set()
            self._monkeypatch.setattr(tail, "SILENT_S", 2.0)
            yield
            self._silent.clear()
        elif part == "registry":
            with self._monkeypatch.context() as here:
                here.setattr(Versions, "versions", unavailable)
                here.setattr(Versions, "aliases", unavailable)
                yield
        else:
            self.doors[part].shut()
            yield
            self.doors[part].open()


def unavailable(*_: Any) -> Any:
    raise RegistryUnavailable("does not answer (ConnectError)", where="the registry")


@pytest.fixture
def parts(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:  # noqa: F811
    api_parts.wait(lambda: platform.server.get("/model").json()["model_version"] == "1")
    with ExitStack() as stack:
        yield Parts(platform, monkeypatch, stack)


@pytest.mark.parametrize("part", SAYS)
def test_a_part_that_goes_away_is_told_where_it_matters_and_heals(
    parts: Parts,
    context: Callable[..., BrowserContext],
    complaints: Complaints,
    part: str,
) -> None:
    # Those that it matters to, and one that goes on.
    chosen = {*SAYS[part], *sorted(PAGES.keys() - SAYS[part].keys())[:1]}
    before = {name: opened(context, parts.url + PAGES[name]) for name in sorted(chosen)}
    for page in before.values():
        expect(page.locator(".live")).to_have_text("live")
        expect(page.locator("body")).not_to_contain_text(AWAY)
    with parts.without(part):
        later = {} if part == "console" else {one: opened(context, parts.url + PAGES[one]) for one in SAYS[part]}
        for page_of in filter(None, (before, later)):
            for name, page in page_of.items():
                if name in SAYS[part]:
                    expect(page.locator("body")).to_contain_text(SAYS[part][name])
        for name in chosen - SAYS[part].keys():
            expect(before[name].locator(".stale, #cut")).to_have_count(0)
        if part == "server":
            assert "none" not in before["fleet"].locator("dl.figures").first.inner_text().lower()
        # Where it is the loop that is away: it has written this down before anybody could ask it again.
        parts.store.append("fleet_changed", reason="told meanwhile")
    for page_of in filter(None, (before, later)):
        for page in page_of.values():
            expect(page.locator("#cut, .stale, .state.failed")).to_have_count(0)
            expect(page.locator("body")).not_to_contain_text(AWAY)
        if "events" in page_of:
            expect(page_of["events"].locator(".event", has_text="told meanwhile")).to_have_count(1)
    # What a browser says of connections that were refused is meant here.
    complaints.said = [said for said in complaints.said if "ERR_" not in said]
    for page in (*before.values(), *later.values()):
        page.close()


def opened(context: Callable[..., BrowserContext], url: str) -> Page:
    """A page in a browser of its own, since one browser keeps six connections to an address."""
    page = context().new_page()
    page.goto(url)
    return page
