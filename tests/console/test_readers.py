"""The pages as different people read them: in each state, both colours and widths, enlarged, without motion, without
scripts, by keyboard alone; and what ten thousand units cost."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, Response, Route, expect

from .browser import Complaints
from .double import ODD_NAMES, World
from .shots import COLOURS, WIDTHS, pages_of, settle
from .test_states import violations

pytestmark = pytest.mark.e2e

PAGES = pages_of("cmapss", "engine-00001")
ACTIVE = {name: path for name, path in PAGES.items() if name != "login"}
MakeContext = Callable[..., BrowserContext]
FRAME = re.compile(r"/api/v1/(me|fleets|fleets/[^/]+)$")
"""What a page asks for before it draws its own parts."""
CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"
REACHED = f"""[...document.querySelectorAll("{CONTROLS}")].filter((one) => one.checkVisibility() && !one.disabled)"""


def empty(world: World, _: Page) -> None:
    world.busy, world.units, world.events = False, 0, []


def loading(_: World, page: Page) -> None:
    """Nothing is answered but what the frame needs."""
    page.route("**/api/v1/**", lambda route: route.continue_() if FRAME.search(route.request.url) else None)


def starting(_: World, page: Page) -> None:
    """Nothing at all is answered."""
    page.route("**/api/v1/**", lambda _: None)


def failing(world: World, _: Page) -> None:
    world.broken = {"/verdict", "/loop", "/models", "/runs", "/units", "/events", "/platform", "/plan", "/engine-00001"}


def away(_: World, page: Page) -> None:
    """The platform is gone when the page has been loaded."""
    page.route("**/api/v1/**", lambda route: route.abort())


def looking(world: World, _: Page) -> None:
    world.me = {"name": "vera", "role": "view", "how": "session", "csrf": "not-a-secret"}


def stranger(_: World, page: Page) -> None:
    """The API lets somebody in who may look at nothing of the fleet."""
    body = {"type": "about:blank", "title": "Not allowed", "status": 403, "detail": "this needs the role view"}

    def refuse(route: Route) -> None:
        route.fulfill(status=403, json=body, content_type="application/problem+json")

    page.route("**/api/v1/**", lambda route: route.continue_() if FRAME.search(route.request.url) else refuse(route))


STATES = {
    "empty": (empty, None), "loading": (loading, ".state.loading"), "starting": (starting, "main > .state"),
    "failing": (failing, ".state.failed"), "away": (away, ".state.failed"), "looking": (looking, None),
    "not allowed": (stranger, ".state.failed"),
}  # fmt: skip
"""How each comes about, and what must be seen of it on every page of a fleet."""
OF_THE_FRAME_ALONE = {"fleets": ("loading", "failing", "not allowed")}


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


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ACTIVE)
def test_anybody_can_read_every_state(
    url: str, world: World, context: MakeContext, complaints: Complaints, name: str, state: str
) -> None:
    arrange, seen = STATES[state]
    if state in OF_THE_FRAME_ALONE.get(name, ()):
        pytest.skip("the page has no other part than what its frame asks for")
    for colour, (width, height) in zip(COLOURS, WIDTHS.values(), strict=True):
        size = {"width": width, "height": height}
        page = context(viewport=size, color_scheme=colour, bypass_csp=True, reduced_motion="reduce").new_page()
        arrange(world, page)
        page.goto(url + PAGES[name])
        page.wait_for_selector(seen) if seen else settle(page)
        page.wait_for_timeout(200)
        assert violations(page) == [], f"{state}, {colour}, {width} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        said = page.locator("main").inner_text()
        assert not re.search(r"undefined|NaN|\[object", said), said
        page.close()
    if state == "away":
        complaints.said = [said for said in complaints.said if "net::ERR_FAILED" not in said]


@pytest.mark.parametrize(("width", "height"), [(720, 450), (320, 256)])
@pytest.mark.parametrize("name", PAGES)
def test_enlarged_text_needs_no_scrolling_sideways(
    url: str, context: MakeContext, name: str, width: int, height: int
) -> None:
    """200 % on a screen of 1440 by 900, and 400 % on one of 1280 by 1024 (WCAG 1.4.10)."""
    page = context(viewport={"width": width, "height": height}, device_scale_factor=2).new_page()
    page.goto(url + PAGES[name])
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        """() => [...document.querySelectorAll("header *, main button, main a, main h1, main h2, main p, main dd")]
            .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden, .scroll"))
            .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
            .filter(([, { left, right }]) => right > innerWidth + 1 || left < -1)
            .map(([what]) => what)"""
    )
    assert cut == []
    # What stays on the screen while one scrolls leaves most of it to the page.
    stuck = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((one) => one.checkVisibility() && ["sticky", "fixed"].includes(getComputedStyle(one).position))
            .map((one) => one.getBoundingClientRect()).filter(({ bottom, top }) => bottom > 0 && top < innerHeight)
            .reduce((sum, { width, height }) => sum + (width > innerWidth / 2 ? height : 0), 0)"""
    )
    assert stuck <= height / 3


@pytest.mark.parametrize("name", PAGES)
def test_more_room_between_letters_and_lines_hides_nothing(url: str, context: MakeContext, name: str) -> None:
    """WCAG 1.4.12; a name that is shortened on purpose can be had in full elsewhere on the page."""
    page = context(viewport={"width": 1440, "height": 900}, bypass_csp=True).new_page()
    page.goto(url + PAGES[name])
    settle(page)
    page.add_style_tag(
        content="* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }"
        " p { margin-bottom: 2em !important; }"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    hidden = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *, nav *")]
            .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden, svg, .uplot, .chart"))
            .filter((one) => ["hidden", "clip"].includes(getComputedStyle(one).overflowY))
            .filter((one) => one.scrollHeight > one.clientHeight + 2 && one.textContent.trim() && !one.title)
            .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert hidden == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_moves_for_who_asked_for_that(url: str, context: MakeContext, name: str) -> None:
    page = context(reduced_motion="reduce").new_page()
    page.route("**/verdict", lambda _: None)  # something is still being loaded
    page.goto(url + PAGES[name])
    page.wait_for_selector("main :not(.state)")
    page.wait_for_timeout(200)
    moving = "document.getAnimations().filter((one) => one.playState === 'running').map((one) => one.animationName)"
    assert page.evaluate(moving) == []


def test_something_moves_for_others(url: str, context: MakeContext) -> None:
    """The test above would see it."""
    page = context().new_page()
    page.route("**/verdict", lambda _: None)
    page.goto(url + PAGES["loop"])
    page.wait_for_selector(".state.loading")
    assert page.evaluate("document.getAnimations().length") > 0


@pytest.mark.parametrize("name", PAGES)
def test_every_control_can_be_reached_seen_and_left_by_keyboard(url: str, page: Page, name: str) -> None:
    page.goto(url + PAGES[name])
    settle(page)
    wanted = page.evaluate(f"{REACHED}.length")
    assert wanted > 5
    unseen, ends = [], 0
    for _ in range(4 * wanted + 10):
        page.keyboard.press("Tab")
        where = page.evaluate(
            """() => {
                const one = document.activeElement;
                if (one === document.body) return "end";
                one.dataset.seen = "yes";
                const { left, top, right, bottom } = one.getBoundingClientRect();
                const [x, y] = [(Math.max(left, 0) + Math.min(right, innerWidth)) / 2, (top + bottom) / 2];
                const there = document.elementFromPoint(x, Math.min(Math.max(y, 0), innerHeight - 1));
                const covered = there !== null && !one.contains(there) && !there.contains(one);
                const style = getComputedStyle(one);
                const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                const wrong = covered ? "covered: " : outlined ? "" : "no outline: ";
                return wrong && wrong + one.outerHTML.slice(0, 100);
            }"""
        )
        ends += where == "end"
        if ends == 2:  # a page may begin with the focus in its middle
            break
        if where not in ("", "end"):
            unseen.append(where)
    assert ends == 2, "the keyboard never leaves the page"
    assert unseen == []
    missed = page.evaluate(
        f"{REACHED}.filter((one) => !one.dataset.seen && one.tabIndex >= 0 && one.type !== 'radio')"
        ".map((one) => one.outerHTML.slice(0, 100))"
    )
    assert missed == []


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


LONG = "f" + "-0123456789" * 5 + "-012345"
"""A fleet's name may have 63 characters."""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ACTIVE)
def test_a_long_name_widens_no_page(url: str, world: World, context: MakeContext, name: str, width: str) -> None:
    assert len(LONG) == 63
    world.fleets = ("cmapss", LONG)
    size = WIDTHS[width]
    page = context(viewport={"width": size[0], "height": size[1]}).new_page()
    page.goto(url + PAGES[name].replace("cmapss", LONG))
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    beyond = page.evaluate(
        """() => [...document.querySelectorAll("header *, main h1, main .card *, main .panel-head *")]
            .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden, .scroll"))
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
            .map((one) => one.outerHTML.slice(0, 100))"""
    )
    assert beyond == []


@pytest.mark.parametrize("name", ODD_NAMES.values())
def test_any_name_of_a_unit_leads_to_its_page(url: str, page: Page, name: str) -> None:
    page.goto(url + PAGES["fleet"])
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.get_by_role("heading", name="Sensors")).to_be_visible()
    expect(page).to_have_title(f"{name} · cmapss · driftloop")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    assert page.locator("main script, main b").count() == 0


def test_hundreds_of_sensors_are_drawn_as_far_as_one_looks(url: str, world: World, page: Page) -> None:
    world.sensors = 300
    page.goto(url + PAGES["unit"])
    settle(page)
    charts = page.locator(".multiple canvas")
    expect(charts).to_have_count(24)
    page.get_by_role("button", name="Show 24 more of 276 sensors").click()
    expect(charts).to_have_count(48)
    expect(page.get_by_role("button", name="Show 24 more of 252 sensors")).to_be_focused()
    with page.expect_response(re.compile("/units/engine-00001$")):
        pass  # the page asks again by itself
    settle(page)
    expect(charts).to_have_count(48)


def test_thousands_of_events_are_shown_in_portions(url: str, world: World, page: Page) -> None:
    for number in range(5000):
        world.tell("step_finished", step="train", seconds=number)
    page.goto(url + PAGES["events"])
    settle(page)
    first = page.locator(".event").count()
    assert 20 < first <= 200
    page.get_by_role("button", name=re.compile("[Oo]lder|[Mm]ore")).click()
    expect(page.locator(".event")).to_have_count(2 * first)
    numbers = [int(seq) for seq in page.locator(".event").evaluate_all("rows => rows.map(row => row.dataset.seq)")]
    assert numbers == list(range(len(world.events), len(world.events) - 2 * first, -1))


def test_a_sensor_fault_that_blames_nobody_is_said_in_words(url: str, page: Page) -> None:
    page.route("**/verdict", lambda route: route.fulfill(json=NOBODY))
    page.goto(url + PAGES["loop"])
    settle(page)
    said = page.locator("main").inner_text()
    assert not re.search(r"undefined|NaN|null|\[object", said)
    assert "drift" in said.lower()


NOBODY = {
    "verdict": "drift", "since": None, "requests": 500, "features": [], "sensor_faults": [], "false_alarms": None,
}  # fmt: skip
