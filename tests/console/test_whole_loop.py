"""A whole loop through the pages: a small fleet changes in front of a real platform, and people look, decide and undo.

Nothing here is a stand-in. With DRIFTLOOP_SCREENSHOTS every page is photographed while a person is asked and after all
is over (`make screenshots`).
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.protocol.archive_client import post_runs
from live_platform import COMMAND, Platform, Traffic

from .browser import Complaints, reader
from .shots import pages_of, settle, shoot
from .test_states import MOST_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

ENGINES = 100
RATE, WINDOW = 40.0, 50
PASSWORD = "correct horse battery"
PEOPLE = {"anna": "operate", "ben": "operate", "vera": "view"}
MARKS = ("T0", "T1", "T2", "T_RT", "T4", "T5")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Up, with a champion for FD001 in service, asking people before a promotion."""
    state = tmp_path_factory.mktemp("whole") / "state"
    with Platform(state, engines=ENGINES, DRIFTLOOP_PROMOTION="approve", DRIFTLOOP_RECOVERY_ANSWERS="900") as found:
        healthy = [run for run in fleet(found, "FD001") if run.role != "live"]
        post_runs(healthy, found.urls["retrainer"], found.settings.token)
        assert found.run("train", "--promote").returncode == 0
        found.wait(lambda: found.served() == "1", "version 1 to be served")
        for name, role in PEOPLE.items():
            subprocess.run(
                [*COMMAND, "people", "add", name, "--role", role],
                env=found.environment, input=PASSWORD + "\n", text=True, check=True, capture_output=True,
            )  # fmt: skip
        yield found


def fleet(platform: Platform, subset: str) -> list[Run]:
    """The simulated runs of one part of the fleet."""
    return load_fleet(subset, platform.settings, splits=("train",)).train


@pytest.fixture(scope="module")
def complained() -> Complaints:
    return Complaints()


class Person:
    """Somebody in a browser of her own."""

    def __init__(self, browser: Browser, platform: Platform, complained: Complaints, name: str | None) -> None:
        self.url = platform.urls["console"]
        self.context: BrowserContext = reader(browser)
        self.page: Page = self.context.new_page()
        complained.watch(self.page)
        if name is not None:
            self.page.goto(f"{self.url}/login?next=/fleets/cmapss/loop")
            self.page.get_by_label("Name").fill(name)
            self.page.get_by_label("Password").fill(PASSWORD)
            self.page.keyboard.press("Enter")
            expect(self.page.locator(".who-name")).to_have_text(name)

    def go(self, page: str) -> Page:
        """Open a page by name."""
        self.page.goto(self.url + pages_of("cmapss", "x")[page])
        settle(self.page)
        return self.page

    def answer(self, verb: str, why: str) -> None:
        """Give the reason in the dialog, and do it."""
        self.page.get_by_label("Why").fill(why)
        self.page.get_by_role("dialog").get_by_role("button", name=verb).click()


def test_a_whole_loop_through_the_pages(browser: Browser, platform: Platform, complained: Complaints) -> None:
    anna = Person(browser, platform, complained, "anna")
    ben = Person(browser, platform, complained, "ben")
    guest = Person(browser, platform, complained, None)
    healthy, changed = fleet(platform, "FD001"), fleet(platform, "FD002")
    loop = anna.page
    expect(loop.get_by_role("heading", name="Watching")).to_be_visible()

    with Traffic(platform, [r for r in healthy if r.role == "live"], rate=RATE, window=WINDOW, timeout_s=60):
        expect(loop.get_by_text("fits the model")).to_be_visible()
        look_at_the_fleet(guest)

    with Traffic(platform, changed, rate=RATE, window=WINDOW, timeout_s=60, seed=1):
        assert platform.post("/events", {"kind": "fleet_changed", "reason": "FD002 in service"}).is_success
        expect(loop.locator("li[data-mark=T1].done")).to_be_visible()
        expect(loop.get_by_text("to blame").first).to_be_visible()
        post_runs(changed, platform.urls["retrainer"], platform.settings.token)
        expect(loop.locator("li[data-mark=T2].done")).to_be_visible()
        expect(loop.get_by_role("heading", name="Waiting for a person")).to_be_visible()
        take_pictures(browser, platform, "waiting")

        decide(anna, ben, guest)
        ben.go("loop")
        for mark in MARKS:
            expect(ben.page.locator(f"li[data-mark={mark}].done")).to_be_visible()
        take_pictures(browser, platform, "recovered")

        undo_during_a_cut(anna, ben, platform)
        platform.wait(lambda: platform.served() == "1", "version 1 to be served again")


def look_at_the_fleet(guest: Person) -> None:
    """The fleet is listed, and a unit shows its predictions and sensors."""
    page = guest.go("fleet")
    first = page.locator("tbody th a").first
    unit = first.inner_text()
    first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(unit)
    expect(page.get_by_role("img", name=re.compile("Expected remaining life"))).to_be_visible()
    expect(page.locator(".multiple")).to_have_count(21)
    expect(page.locator(".multiple").get_by_text(re.compile("within its band|readings outside")).first).to_be_visible()


def decide(anna: Person, ben: Person, guest: Person) -> None:
    """Two people decide at once, of whom one is faster; a guest may not, and sees why."""
    refused = guest.go("models")
    expect(refused.get_by_text("To act here you need the role operate").first).to_be_visible()
    assert refused.get_by_role("button", name="Approve").count() == 0
    told = refused.locator("dl.pairs dt").all_inner_texts()
    assert told
    assert [name for name in told if not name[0].isupper()] == [], "figures without words"
    for person in (anna, ben):
        person.go("models").get_by_role("button", name="Approve").click()
    anna.answer("Approve", "better where it matters")
    expect(anna.page.get_by_text("goes into service")).to_be_visible()
    ben.answer("Approve", "I think so too")
    expect(ben.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("anna", ignore_case=True)


def undo_during_a_cut(anna: Person, ben: Person, platform: Platform) -> None:
    """One person rolls back while the other's connection is cut, who then misses nothing."""
    events = ben.go("events")
    expect(events.locator(".event", has_text="better where it matters").first).to_contain_text("anna")
    ben.context.set_offline(True)
    expect(events.locator("#cut")).to_be_visible()
    anna.go("models").get_by_role("button", name="Roll back").click()
    anna.answer("Roll back", "to be tried again on Monday")
    expect(anna.page.get_by_text("Model 1 is in service again")).to_be_visible()
    ben.context.set_offline(False)
    expect(events.locator(".event", has_text="Rolled back").first).to_contain_text("anna")
    expect(events.locator("#cut")).to_have_count(0)
    numbers = [int(n) for n in events.locator(".event").evaluate_all("rows => rows.map(row => row.dataset.seq)")]
    assert numbers == sorted(set(numbers), reverse=True)
    told = [event["seq"] for event in platform.events() if event["kind"] != "verdict"]
    assert [n for n in told if n <= numbers[0] and n not in numbers] == []


def test_a_viewer_is_refused_by_the_api_too(browser: Browser, platform: Platform, complained: Complaints) -> None:
    vera = Person(browser, platform, complained, "vera")
    page = vera.go("loop")
    expect(page.get_by_text("To act here you need the role operate").first).to_be_visible()
    status = page.evaluate(
        """async () => {
            const me = await (await fetch("/api/v1/me")).json();
            const headers = { "Content-Type": "application/json", "X-CSRF-Token": me.csrf };
            const answer = await fetch("/api/v1/fleets/cmapss/loop/retrain", { method: "POST", headers, body: "{}" });
            return answer.status;
        }"""
    )
    assert status == 403


def test_a_page_is_small_as_it_is_sent(browser: Browser, platform: Platform, complained: Complaints) -> None:
    """What a browser without a cache is sent for each page, data and headers included, after a whole loop."""
    vera = Person(browser, platform, complained, "vera")
    sizes = {}
    for name, path in pages_of("cmapss", longest_known(platform)).items():
        page = vera.context.new_page()
        complained.watch(page)
        client = vera.context.new_cdp_session(page)
        client.send("Network.enable")
        client.send("Network.setCacheDisabled", {"cacheDisabled": True})
        sent: list[float] = []
        client.on("Network.loadingFinished", lambda told, sent=sent: sent.append(told["encodedDataLength"]))
        page.goto(vera.url + path)
        settle(page)
        assert len(sent) > 5
        sizes[name] = round(sum(sent))
        page.close()
    print(sizes)
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}


def test_nobody_complained(complained: Complaints) -> None:
    offline = [said for said in complained.said if "ERR_INTERNET_DISCONNECTED" in said]
    assert [said for said in complained.said if said not in offline] == []


def longest_known(platform: Platform) -> str:
    """The unit, of some, with most predictions one after the other: there is most to see of it."""
    units = f"{platform.urls['console']}/api/v1/fleets/cmapss/units"
    with httpx.Client(trust_env=False, timeout=20.0) as client:
        names = [row["unit"] for row in client.get(units, params={"limit": 40}).json()["units"]]
        steps = {name: [row["step"] for row in client.get(f"{units}/{name}").json()["predictions"]] for name in names}
    return max(steps, key=lambda name: _in_a_row(steps[name]))


def _in_a_row(steps: list[int]) -> int:
    """How many of the newest steps follow each other."""
    breaks = [at for at in range(1, len(steps)) if steps[at] != steps[at - 1] + 1]
    return len(steps) - (breaks[-1] if breaks else 0)


def take_pictures(browser: Browser, platform: Platform, moment: str) -> None:
    """Pictures of every page, where somebody asked for them."""
    folder = os.environ.get("DRIFTLOOP_SCREENSHOTS")
    if folder:
        unit = longest_known(platform)
        taken = list(shoot(browser, platform.urls["console"], Path(folder) / moment, "cmapss", unit))
        print(json.dumps([str(path) for path in taken]))
