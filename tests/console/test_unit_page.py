"""What the page of one unit says of how old it is, and what its answer is of."""

import pytest
from playwright.sync_api import Page, expect

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
