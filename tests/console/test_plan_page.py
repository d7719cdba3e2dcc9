"""The page Plan: what it asks by itself, and that it can be read on a telephone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from .shots import WIDTHS, pages_of, settle

pytestmark = pytest.mark.e2e

PLAN = pages_of("cmapss", "engine-00001")["plan"]


def test_a_period_is_as_long_as_fits_until_somebody_says_how_long(url: str, page: Page) -> None:
    page.goto(url + PLAN)
    period, slots = page.get_by_label("A period is"), page.get_by_label("Slots of each period")
    expect(period).to_have_value("10")
    slots.fill(", ".join(["1"] * 25))
    expect(period).to_have_value("5")
    period.fill("4")
    rows = page.get_by_role("region", name="Failures and planned work by period").locator("tbody th")
    expect(rows.first).to_have_text("0 to 4")
    period.fill("")
    expect(period).to_have_value("5")
    expect(rows.first).to_have_text("0 to 5")


def test_what_cannot_be_planned_is_said_in_words(url: str, page: Page) -> None:
    page.goto(url + PLAN)
    settle(page)
    page.get_by_label("Planned work costs").fill("9")
    expect(page.locator("main")).to_contain_text("a failure costs more than planned work")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("What you ask for does not fit")
    expect(page.get_by_role("alert")).not_to_contain_text("Unprocessable")


def test_the_work_of_a_plan_fits_a_telephone(url: str, context: Callable[..., BrowserContext]) -> None:
    width, height = WIDTHS["narrow"]
    page = context(viewport={"width": width, "height": height}).new_page()
    page.goto(url + PLAN)
    settle(page)
    for name in ("Units in their slots, table", "Units worth a slot, table"):
        table = page.get_by_role("region", name=name)
        expect(table.locator("tbody tr").first).to_be_visible()
        assert table.evaluate("one => one.scrollWidth - one.clientWidth") <= 0, name
