"""The pages on a telephone in both colours, without scripts, and what ten thousand units cost."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Response, expect

from .double import World
from .shots import COLOURS, WIDTHS, pages_of, settle
from .test_states import violations

pytestmark = pytest.mark.e2e

PAGES = pages_of("cmapss", "engine-00001")
MakeContext = Callable[..., BrowserContext]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", PAGES)
def test_anybody_can_read_it_on_a_telephone(url: str, context: MakeContext, name: str, colour: str) -> None:
    width, height = WIDTHS["narrow"]
    size = {"width": width, "height": height}
    page = context(viewport=size, color_scheme=colour, bypass_csp=True, reduced_motion="reduce").new_page()
    page.goto(url + PAGES[name])
    settle(page)
    assert violations(page) == []


@pytest.mark.parametrize("name", ["fleets", "loop", "login"])
def test_without_scripts_a_page_says_what_it_needs(url: str, context: MakeContext, name: str) -> None:
    page = context(java_script_enabled=False).new_page()
    page.goto(url + PAGES[name])
    expect(page.locator("main > p.state")).to_be_hidden()
    said = page.locator("noscript .state")
    expect(said).to_be_visible()
    expect(said.get_by_role("link", name="/api/docs")).to_be_visible()
    assert "need JavaScript" in said.inner_text()


def test_ten_thousand_units_cost_no_more_than_a_hundred(url: str, world: World, context: MakeContext) -> None:
    """What is looked at is bounded, not the clock: as many elements, and as much data; seconds are printed."""
    found = {}
    for units in (100, 10_000):
        world.units = units
        page = context().new_page()
        client = page.context.new_cdp_session(page)
        client.send("Performance.enable")
        answers: list[Response] = []
        page.on("response", lambda one, answers=answers: answers.append(one))
        page.goto(url + PAGES["fleet"])
        settle(page)
        sizes = [len(one.body()) for one in answers if "/units" in one.url and one.ok]
        metrics = {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}
        found[units] = (page.evaluate("document.querySelectorAll('*').length"), sum(sizes))
        shown = {name: round(1000 * metrics[name], 1) for name in ("ScriptDuration", "LayoutDuration", "TaskDuration")}
        print(f"{units} units: {found[units]} (elements, bytes), ms: {shown}")
        page.close()
    assert found[10_000][0] <= found[100][0] + 20
    assert found[10_000][1] <= found[100][1] * 1.2
