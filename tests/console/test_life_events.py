"""What has happened to a unit is told from its page: real pages, a real API, and a real service that keeps units."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from api.conftest import Platform, cheap, platform  # noqa: F401 - fixtures
from api.kept import PASSWORD, keeping, row

from .browser import served

FLEET = "/fleets/cmapss"
NAME = "<b>x & y"


class Seen:
    """A page that anna has open, and how rows get in."""

    def __init__(self, page: Page, url: str, units: Any) -> None:
        self.page, self.url, self.units = page, url, units

    def of(self, unit: str) -> Page:
        """The page of a unit."""
        self.page.goto(f"{self.url}{FLEET}/units/{unit.replace('%', '%25').replace('&', '%26')}")
        expect(self.page.get_by_role("heading", name="What happened to it")).to_be_visible()
        return self.page

    def press(self, button: str, **fields: str) -> None:
        """Press a button, fill in the dialog, and confirm."""
        self.page.get_by_role("button", name=button).click()
        for field, value in fields.items():
            self.page.locator(f"dialog [name={field}]").fill(value)
        self.page.locator("dialog button[type=submit]").click()
        expect(self.page.locator("dialog")).to_have_count(0)


@pytest.fixture
def seen(platform: Platform, context: Callable[..., BrowserContext]) -> Iterator[Seen]:  # noqa: F811
    with keeping(platform, "e1", NAME) as (app, units), served(app) as url:
        page = context().new_page()
        page.goto(f"{url}/login")
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="cmapss", level=1)).to_be_visible()
        yield Seen(page, url, units)
        # Before its server ends, of which it would complain.
        page.close()


def test_a_failure_is_told_and_taken_back(seen: Seen) -> None:
    page = seen.of(NAME)
    expect(page.get_by_role("heading", name=NAME, level=1)).to_be_visible()
    expect(page.get_by_text("Nothing was told yet")).to_be_visible()
    seen.press("It has failed…", note="bearing")
    told = page.get_by_role("region", name="What happened to it, table")
    expect(told).to_contain_text("bearing")
    expect(told).to_contain_text("anna")
    expect(page.get_by_label("Its lives").first).to_contain_text("failed")
    expect(page.get_by_role("button", name="It has failed…")).to_have_count(0)
    expect(page.get_by_role("button", name="It was installed…")).to_be_visible()
    seen.press("Take back: failed", reason="it was the gauge")
    expect(told).to_contain_text("Taken back by anna: it was the gauge.")
    expect(page.get_by_role("button", name="It has failed…")).to_be_visible()
    assert seen.units.get("/units", params={"q": NAME}).json()["units"][0]["state"] == "running"


def test_an_overhaul_begins_a_life_and_the_one_before_can_be_looked_at(seen: Seen) -> None:
    page = seen.of("e1")
    seen.press("It was overhauled…")
    expect(page.get_by_text("life 2 of 2")).to_be_visible()
    page.get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_text("life 1 of 2")).to_be_visible()
    expect(page.get_by_role("button", name="It has failed…")).to_have_count(0)


def test_units_that_have_failed_are_listed_when_they_are_asked_for(seen: Seen) -> None:
    seen.of("e1")
    seen.press("It has failed…")
    seen.page.goto(seen.url + FLEET)
    listed = seen.page.get_by_role("region", name="engines in service, table")
    expect(listed).to_contain_text(NAME)
    expect(listed).not_to_contain_text("e1")
    seen.page.get_by_label("State").select_option("failed")
    expect(listed).to_contain_text("e1")
    expect(listed).not_to_contain_text(NAME)


def test_two_units_under_one_name_are_made_two(seen: Seen) -> None:
    assert seen.units.post("/telemetry", json=[row("e1", 2, sensor_2=9.0)]).status_code == 409
    page = seen.of("e1")
    expect(page.get_by_text("Perhaps two engines send under this name")).to_be_visible()
    seen.press("Make two engines of it…", name="e1-b")
    expect(page.get_by_text("Perhaps two engines send under this name")).to_have_count(0)
    assert seen.units.get("/units/e1-b").json()["quality"]["rows"] == 1
