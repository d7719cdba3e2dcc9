"""Two fleets behind the pages' switch: each page shows the one that is chosen, and what is done goes to that one.

Retrainers and servers are real, in this process; `driftloop up` with two fleets is tried by ../e2e/test_fleets.py.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from api.conftest import Platform, Versions, cheap, platform  # noqa: F401 - fixtures
from api.kept import PASSWORD
from driftloop import places
from driftloop import settings as settings_
from driftloop.api import fleets as api_fleets
from driftloop.api.app import create_app
from driftloop.loop.api import service
from driftloop.places import Place, Places
from driftloop.serving.app import create_app as create_server
from live_server import running
from loop.fakes import FakeBackend
from serving_bundles import FakeRegistry as ServedRegistry

from .browser import Complaints, served
from .shots import pages_of, settle
from .test_parts_away import Door

pytestmark = pytest.mark.e2e

PRESSES = """
name = "presses"
unit = "press"
step = "shift"
settings = ["rate"]
sensors = ["oil", "vibration"]
"""
OTHER = {"cmapss": "presses", "presses": "cmapss"}
SUBPAGES = [name for name, path in pages_of("cmapss", "7").items() if path.startswith("/fleets/") and name != "unit"]
NOUNS = {"cmapss": r"\bengines?\b", "presses": r"\bpress(es)?\b"}


class Two:
    """A console of two fleets; the retrainer of the presses is behind a door."""

    def __init__(self, platform: Platform, folder: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
        (folder / "presses.toml").write_text(PRESSES)
        base = platform.settings
        of_cmapss = Place(fleet="cmapss", folder=".", server_url=base.server_url, retrainer_url=base.retrainer_url)
        presses = Place(fleet=str(folder / "presses.toml"), folder="fleets/presses", server_url="", retrainer_url="")
        known = Places(mlflow_url=base.mlflow_url, up=tuple(OTHER), fleets={"cmapss": of_cmapss, "presses": presses})
        own = settings_.of_fleet(base, known, "presses")
        registry = Versions()
        monkeypatch.setattr(service, "Registry", lambda *_: registry)
        app = service.create_app(own, backend=FakeBackend())
        retrainer = stack.enter_context(running(app))
        server = stack.enter_context(running(create_server(own, ServedRegistry(folder / "registry"))))
        self.door = Door(str(retrainer.base_url))
        stack.callback(self.door.end)
        self.stores = {"cmapss": platform.parts.store, "presses": app.state.service.store}
        there = Place(
            fleet=presses.fleet, folder=presses.folder, server_url=str(server.base_url).rstrip("/"),
            retrainer_url=self.door.url,
        )  # fmt: skip
        places.write(
            base.state_dir,
            Places(mlflow_url=base.mlflow_url, up=known.up, fleets={"cmapss": of_cmapss, "presses": there}),
        )
        monkeypatch.setattr(api_fleets, "Registry", lambda *_: registry)
        console = create_app(base)
        console.state.door.people.add("anna", "operate", PASSWORD)
        self.url = stack.enter_context(served(console))

    def tell(self, fleet: str, reason: str) -> None:
        """Something happens to a fleet."""
        self.stores[fleet].append("fleet_changed", reason=reason)

    def kinds(self, fleet: str) -> list[str]:
        return [event["kind"] for event in self.stores[fleet].read()]


@pytest.fixture
def two(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:  # noqa: F811
    with ExitStack() as stack:
        yield Two(platform, tmp_path, stack, monkeypatch)


@pytest.fixture
def anna(two: Two, context: Callable[..., BrowserContext]) -> Iterator[BrowserContext]:
    """Her browser, in which she is signed in."""
    reader = context()
    page = reader.new_page()
    page.goto(f"{two.url}/login")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator(".who-name")).to_have_text("anna")
    page.close()
    yield reader
    for page in reader.pages:
        page.close()


def foreign(asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of requests, each with the page that sent it, those that are about another fleet than their page."""
    found = []
    for page, url in asked:
        own, path = re.search(r"/fleets/([^/?]+)", urlsplit(page).path), urlsplit(url).path
        named = re.match(r"/api/v1/fleets/([^/]+)", path)
        streamed = re.search(r"fleet=([^&]+)", url) if path.endswith("/stream") else None
        about = {unquote(match[1]) for match in (named, streamed) if match is not None}
        if own is not None and about - {own[1]}:
            found.append((page, url))
    return found


def check_shows(page: Page, fleet: str) -> None:
    """The page is of this fleet: what it says, and where it leads."""
    expect(page.locator(".live")).to_have_text("live")
    expect(page.get_by_label("Fleet", exact=True)).to_have_value(fleet)
    expect(page).to_have_title(re.compile(rf"\b{fleet}\b"))
    assert not re.search(NOUNS[OTHER[fleet]], page.locator("main").inner_text().lower())
    leading = page.locator("a[href^='/fleets/']").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert [one for one in leading if not re.match(rf"/fleets/{fleet}(/|$)", one)] == []


def test_each_page_shows_its_own_fleet_and_the_switch_stays_on_it(two: Two, anna: BrowserContext) -> None:
    page = anna.new_page()
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.headers.get("referer", ""), request.url)))
    for name in SUBPAGES:
        page.goto(two.url + pages_of("cmapss", "7")[name])
        settle(page)
        check_shows(page, "cmapss")
        page.get_by_label("Fleet", exact=True).select_option("presses")
        page.wait_for_url("**" + pages_of("presses", "7")[name])
        settle(page)
        check_shows(page, "presses")
    for fleet in OTHER:
        assert len([url for _, url in asked if f"/events/stream?fleet={fleet}" in url]) == len(SUBPAGES)
        assert len([url for page_, url in asked if fleet in page_ and f"/api/v1/fleets/{fleet}" in url]) > 9
    assert foreign(asked) == []


def test_what_happens_and_what_is_done_stay_with_their_fleet(two: Two, anna: BrowserContext) -> None:
    events = {}
    for fleet in OTHER:
        page = events[fleet] = anna.new_page()
        page.goto(two.url + pages_of(fleet, "7")["events"])
        expect(page.locator(".live")).to_have_text("live")
    for fleet in OTHER:
        two.tell(fleet, f"this is about {fleet}")
    for fleet, page in events.items():
        expect(page.locator(".event", has_text=f"this is about {fleet}")).to_have_count(1)
    for fleet, page in events.items():
        # What was told first has long been there where what was told last is.
        expect(page.locator(".event", has_text=f"this is about {OTHER[fleet]}")).to_have_count(0)
    page = anna.new_page()
    page.goto(two.url + pages_of("presses", "7")["loop"])
    page.get_by_role("button", name="Add a schedule").click()
    page.get_by_label("Name").fill("of-the-presses")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("region", name="Schedules, table")).to_contain_text("of-the-presses")
    expect(events["presses"].locator(".event", has_text="Schedule added")).to_have_count(1)
    expect(events["presses"].locator(".event", has_text="Schedule added")).to_contain_text("anna")
    assert "schedule_added" in two.kinds("presses")
    assert "schedule_added" not in two.kinds("cmapss")


def test_a_fleet_whose_retrainer_is_down_says_so_and_the_other_goes_on(
    two: Two, anna: BrowserContext, complaints: Complaints
) -> None:
    both, loop, healthy = (anna.new_page() for _ in range(3))
    both.goto(two.url)
    loop.goto(two.url + pages_of("presses", "7")["loop"])
    healthy.goto(two.url + pages_of("cmapss", "7")["events"])
    of: dict[str, Any] = {fleet: both.locator(".card", has=both.get_by_role("link", name=fleet)) for fleet in OTHER}
    expect(of["presses"]).to_contain_text("Watching")
    expect(loop.get_by_role("heading", name="Watching")).to_be_visible()
    two.door.shut()
    expect(of["presses"]).to_contain_text("process does not answer")
    expect(loop.locator(".stale")).to_have_count(3)
    two.tell("cmapss", "the engines go on")
    expect(healthy.locator(".event", has_text="the engines go on")).to_have_count(1)
    expect(healthy.locator(".stale, #cut")).to_have_count(0)
    expect(of["cmapss"]).to_contain_text("Watching")
    expect(of["cmapss"]).not_to_contain_text("does not answer")
    two.door.open()
    expect(loop.locator(".stale")).to_have_count(0)
    expect(of["presses"]).to_contain_text("Watching")
    expect(of["presses"]).not_to_contain_text("process does not answer")
    complaints.said = [said for said in complaints.said if "ERR_" not in said]
