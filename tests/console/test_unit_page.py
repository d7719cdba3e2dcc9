"""What the page of one unit says of how old it is, what its answer is of, and that its charts have room for numbers."""

import pytest
from playwright.sync_api import Page, Route, expect

from .double import World
from .shots import pages_of, settle

pytestmark = pytest.mark.e2e


def figure(page: Page, name: str) -> str:
    """What stands under one of the figures on top."""
    return page.locator("dl.figures > div", has=page.get_by_text(name, exact=True)).inner_text()


@pytest.mark.parametrize("unanswered", [0, 7])
def test_a_unit_ages_with_its_readings_and_an_answer_says_which_step_it_is_of(
    url: str, world: World, page: Page, unanswered: int
) -> None:
    world.unanswered = unanswered
    page.goto(url + pages_of("cmapss", "engine-00001")["unit"])
    settle(page)
    assert "159 cycles" in figure(page, "Age")
    behind = "as of cycle 152: no answer yet to the newest 7 cycles"
    assert (behind in figure(page, "Remaining life, at least")) == (unanswered > 0)
    expect(page.get_by_role("img", name=f"at cycle {159 - unanswered} it is")).to_be_visible()


def test_long_numbers_at_a_chart_are_not_cut_off(url: str, page: Page) -> None:
    def with_long_numbers(route: Route) -> None:
        found = route.fetch().json()
        wave = [1e-4 * (at % 7) for at in range(len(found["steps"]))]
        for sensor, value in zip(found["sensors"], (21.61, 0.00031, 642.0), strict=False):
            sensor |= {"values": [value + each for each in wave], "low": None, "high": None}
        route.fulfill(json=found)

    page.route("**/api/v1/**/units/engine-00001*", with_long_numbers)
    page.goto(url + pages_of("cmapss", "engine-00001")["unit"])
    settle(page)
    # What is written beside a chart is drawn: only its room can be measured.
    room = page.locator(".multiple").evaluate_all(
        "all => all.map(one => [one.getAttribute('aria-label'), one.querySelectorAll('.u-axis')[1].offsetWidth])"
    )
    widths = [width for _, width in room]
    assert min(widths) == 46, room
    assert max(widths) > 46, room
