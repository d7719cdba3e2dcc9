"""What is struck out is the name alone, at every width."""

import pytest
from playwright.sync_api import Page, expect

from .shots import WIDTHS, pages_of, settle

pytestmark = pytest.mark.e2e

LINES = """node => {
    const found = [];
    for (let at = node; at && at.tagName !== "TABLE"; at = at.parentElement) {
        const { display, textDecorationLine } = getComputedStyle(at);
        found.push(textDecorationLine);
        // A line goes on into what is in the flow, and ends at a box that stands in a line of text.
        if (display.startsWith("inline-")) break;
    }
    return found;
}"""


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_run_that_was_withdrawn_says_so_in_words_that_are_not_struck_out(
    url: str, page: Page, width: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": width[0], "height": width[1]})
    page.goto(url + pages_of("cmapss", "engine-00001")["data"])
    settle(page)
    row = page.locator("tr.withdrawn")
    expect(row.locator("th")).to_have_css("text-decoration-line", "line-through")
    assert "line-through" not in row.locator(".tag", has_text="withdrawn").evaluate(LINES)
