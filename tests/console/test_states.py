"""The pages in states that a real platform is rarely in, in Chromium, on a stand-in for the API."""

import asyncio
import gzip
import re
from collections.abc import Callable
from io import BytesIO
from urllib.parse import quote

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, Response, Route, expect

from .double import MARKUP, World
from .shots import COLOURS, WIDTHS, pages_of, settle

pytestmark = pytest.mark.e2e

PAGES = pages_of("cmapss", "engine-00001")
MakeContext = Callable[..., BrowserContext]
AA = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
MOST_BYTES = 250_000


def violations(page: Page) -> list[str]:
    """What axe finds, as lines."""
    found = Axe().run(page, options=AA).response["violations"]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", PAGES)
def test_anybody_can_read_it(url: str, context: MakeContext, name: str, colour: str) -> None:
    # axe is put into the page as a script of the test, which the pages' own policy would refuse.
    page = context(color_scheme=colour, bypass_csp=True, reduced_motion="reduce").new_page()
    page.goto(url + PAGES[name])
    settle(page)
    assert violations(page) == []


@pytest.mark.parametrize("colour", COLOURS)
def test_anybody_can_read_a_dialog_and_a_refusal(url: str, world: World, context: MakeContext, colour: str) -> None:
    page = context(color_scheme=colour, bypass_csp=True, reduced_motion="reduce").new_page()
    page.goto(url + PAGES["models"])
    page.get_by_role("button", name="Approve").click()
    assert violations(page) == []
    world.answered = ("ben", "reject")
    page.get_by_label("Why").fill("looks good")
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("rejected by ben")
    assert violations(page) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_the_screen(url: str, context: MakeContext, name: str, width: str) -> None:
    size = WIDTHS[width]
    page = context(viewport={"width": size[0], "height": size[1]}).new_page()
    page.goto(url + PAGES[name])
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_with_its_data_is_small(url: str, page: Page, name: str) -> None:
    sizes: dict[str, int] = {}

    def weigh(response: Response) -> None:
        if "/events/stream" not in response.url and response.ok:
            sizes[response.url] = len(gzip.compress(response.body()))

    page.on("response", weigh)
    page.goto(url + PAGES[name])
    settle(page)
    assert len(sizes) > 10
    assert sum(sizes.values()) <= MOST_BYTES


@pytest.mark.parametrize("name", ["fleets", "fleet", "loop", "models", "data", "events"])
def test_where_nothing_is_the_page_says_what_would_change_that(url: str, world: World, page: Page, name: str) -> None:
    world.busy, world.units, world.events = False, 0, []
    page.goto(url + PAGES[name])
    settle(page)
    if name == "fleets":
        expect(page.get_by_text("0 engines").first).to_be_visible()
    else:
        expect(page.locator(".state.empty .state-title").first).to_be_visible()
    assert "undefined" not in page.locator("main").inner_text()
    assert "NaN" not in page.locator("main").inner_text()


def test_what_fails_says_so_and_mends_itself(url: str, world: World, page: Page) -> None:
    world.broken = {"/verdict"}
    page.goto(url + PAGES["loop"])
    expect(page.get_by_role("alert")).to_contain_text("The loop\u2019s process does not answer")
    expect(page.get_by_text("Timeline of the newest recovery")).to_be_visible()
    world.broken = set()
    expect(page.get_by_role("list", name="Drift of each reading")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_what_cannot_be_fetched_any_more_says_since_when(url: str, world: World, page: Page) -> None:
    """A retrainer that goes away leaves what was shown, and nobody takes that for the present."""
    page.clock.install()
    page.goto(url + PAGES["loop"])
    settle(page)
    expect(page.locator(".stale")).to_have_count(0)
    world.broken = {"/verdict", "/loop", "/schedules"}
    page.clock.run_for(20_000)
    expect(page.locator(".stale")).to_have_count(3)
    said = page.locator(".stale").first
    expect(said).to_contain_text(
        "This is not up to date. The loop\u2019s process does not answer (ConnectError). What you see"
    )
    expect(page.get_by_text("Timeline of the newest recovery")).to_be_visible()
    expect(page.locator(".live")).to_have_text("live")
    page.clock.run_for(20_000)
    expect(page.locator(".stale")).to_have_count(3)
    world.broken = set()
    page.clock.run_for(20_000)
    expect(page.locator(".stale")).to_have_count(0)


@pytest.mark.parametrize("name", ["fleets", "fleet"])
def test_what_is_not_known_is_not_shown_as_nothing(url: str, world: World, page: Page, name: str) -> None:
    world.gone = {"server", "retrainer", "units", "watch"}
    page.goto(url + PAGES[name])
    settle(page)
    said = page.locator("dl.figures").first
    for words in ("prediction server does not", "keeps readings does not", "drift watch has gone silent"):
        expect(said).to_contain_text(words)
    expect(said).to_contain_text("not known")
    assert not re.search(r"\b0 engines|\bnone\b", said.inner_text())


def test_a_watch_that_is_silent_says_since_when(url: str, world: World, page: Page) -> None:
    page.goto(url + PAGES["loop"])
    settle(page)
    expect(page.locator(".stale")).to_have_count(0)
    world.gone = {"watch"}
    expect(page.locator(".stale")).to_contain_text("The drift watch has gone silent. What you see is from")
    expect(page.get_by_role("list", name="Drift of each reading")).to_be_visible()
    page.goto(url + PAGES["fleet"])
    expect(page.get_by_role("region", name="Data quality")).to_contain_text("The drift watch has said nothing since")
    world.gone = set()
    expect(page.get_by_role("region", name="Data quality")).not_to_contain_text("has said nothing since")


def test_events_that_cannot_be_fetched_come_by_themselves_later(url: str, world: World, page: Page) -> None:
    """Also those that happened meanwhile, of which the stream has told only the newest."""
    world.broken = {"/events"}
    page.goto(url + PAGES["events"])
    expect(page.get_by_role("alert")).to_contain_text("The loop\u2019s process does not answer")
    expect(page.locator(".live")).to_have_text("live")
    world.tell("alert_firing", cause="fleet_change:3", reason="while they could not be fetched")
    world.broken = set()
    expect(page.locator(".event")).to_have_count(len(world.events))
    expect(page.get_by_role("alert")).to_have_count(0)


def test_older_events_that_cannot_be_fetched_say_so(url: str, world: World, page: Page) -> None:
    for number in range(150):
        world.tell("step_finished", step="train", seconds=number)
    page.goto(url + PAGES["events"])
    settle(page)
    world.broken = {"/events"}
    page.get_by_role("button", name="Show older").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    world.broken = set()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".event")).to_have_count(len(world.events))


def test_a_search_shows_what_was_searched_for_last(url: str, page: Page) -> None:
    """An answer that is late does not take the place of a newer one."""
    waiting = []

    def hold(route: Route) -> None:
        if "q=alarm" in route.request.url:
            waiting.append(route)
        else:
            route.continue_()

    page.route("**/events?**", hold)
    page.goto(url + PAGES["events"])
    settle(page)
    page.get_by_role("searchbox").fill("alarm")
    with page.expect_request("**/events?q=alarm**"):
        pass
    page.get_by_role("searchbox").fill("sensor exchanged")
    expect(page.locator(".event")).to_have_count(1)
    [late] = waiting
    with page.expect_response("**/events?q=alarm**"):
        late.continue_()
    page.wait_for_timeout(200)
    expect(page.locator(".event")).to_have_count(1)


def test_a_schedule_is_made_and_told_in_words(url: str, page: Page) -> None:
    """Nobody who plans maintenance has to know what cron is."""
    asked = []

    def take(route: Route) -> None:
        if route.request.method == "POST":
            asked.append(route.request.post_data_json)
            route.fulfill(status=200, json={})
        else:
            route.continue_()

    page.route("**/schedules", take)
    page.goto(url + PAGES["loop"])
    settle(page)
    expect(page.get_by_role("region", name="Schedules, table")).to_contain_text("Mondays, 03:00 UTC")
    page.get_by_role("button", name="Add a schedule").click()
    page.get_by_label("Name").fill("weekly")
    page.get_by_label("Days").select_option("Fridays")
    page.get_by_label("Time (UTC)").fill("14:05")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("is planned")).to_be_visible()
    assert asked == [{"name": "weekly", "mode": "warm", "cron": "5 14 * * 5", "act": "retrain"}]


def test_a_table_that_goes_on_beside_the_screen_shows_so(url: str, context: MakeContext) -> None:
    """A shadow at that side, which is not there at the end."""
    page = context(viewport={"width": 390, "height": 844}).new_page()
    page.goto(url + PAGES["models"])
    settle(page)
    table = page.get_by_role("region", name="The gate\u2019s reasons, table")
    assert table.evaluate("one => one.scrollWidth > one.clientWidth")
    shown = [edge_of(table)]
    table.evaluate("one => one.scrollTo(one.scrollWidth, 0)")
    shown.append(edge_of(table))
    assert shown[0] < shown[1] - 10


def edge_of(part: Locator) -> float:
    """How light the right edge of a part of a page is, on the whole."""
    picture = Image.open(BytesIO(part.screenshot())).convert("L")
    return float(np.median(np.asarray(picture)[:, -3:]))


def test_what_does_not_exist_says_so(url: str, page: Page) -> None:
    page.goto(url + "/fleets/no-such-fleet/loop")
    expect(page.get_by_role("alert")).to_contain_text("there are cmapss, pumps")
    page.goto(url + "/fleets/cmapss/units/nobody")
    expect(page.get_by_role("alert")).to_contain_text("no readings of nobody were seen")


@pytest.mark.parametrize("address", ["/fleets/%E0%A4%A/loop", "/fleets/cmapss/units/%E0%A4%A", "/fleets/%/events"])
def test_an_address_that_nobody_can_have_written_says_so(url: str, page: Page, address: str) -> None:
    page.goto(url + address)
    expect(page.get_by_role("alert").first).to_contain_text(re.compile("there is no fleet|no readings of"))


def test_names_are_text(url: str, page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"a name ran as a script: {dialog.message}"))
    page.goto(url + PAGES["fleet"])
    page.get_by_role("link", name=MARKUP).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    settle(page)
    assert page.locator("main script").count() == 0


def test_ten_thousand_units(url: str, world: World, page: Page) -> None:
    world.units = 10_000
    page.goto(url + PAGES["fleet"])
    expect(page.get_by_text("1\u201350 of 10,000 engines")).to_be_visible()
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("51\u2013100 of 10,000 engines")).to_be_visible()
    page.get_by_role("searchbox").fill("engine-09999")
    expect(page.get_by_text("1\u20131 of 1 engine")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="At least").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("At least")
    expect(page.locator("tbody td.strong").first).to_have_text("125")


def test_the_switch_of_fleets_stays_on_the_same_page(url: str, page: Page) -> None:
    page.goto(url + PAGES["loop"])
    page.get_by_label("Fleet", exact=True).select_option("pumps")
    expect(page).to_have_url(re.compile("/fleets/pumps/loop$"))


def test_colours_are_kept(url: str, context: MakeContext) -> None:
    page = context(color_scheme="light").new_page()
    page.goto(url + PAGES["unit"])
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark colours").click()
    dark = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(page.get_by_role("button", name="Light colours")).to_be_visible()
    assert page.evaluate(ground) == dark


def test_a_cut_connection_shows_and_misses_nothing(url: str, world: World, page: Page) -> None:
    page.goto(url + PAGES["events"])
    expect(page.locator(".live")).to_have_text("live")
    world.tell("alert_firing", cause="fleet_change:3", reason="before the cut")
    expect(page.get_by_text("before the cut")).to_be_visible()
    world.away = True
    world.cut.set()
    expect(page.locator("#cut")).to_contain_text("The connection is cut")
    world.tell("promoted", model_version="6", reason="during the cut")
    world.cut.clear()
    world.away = False
    expect(page.get_by_text("during the cut")).to_be_visible()
    expect(page.locator("#cut")).to_have_count(0)
    world.tell("recovery_verified", model_version="6", reason="after the cut")
    expect(page.get_by_text("after the cut")).to_be_visible()
    shown = [int(text) for text in page.locator(".event").evaluate_all("rows => rows.map(row => row.dataset.seq)")]
    assert shown == [event["seq"] for event in reversed(world.events)]
    assert world.asked_with[0] == "cmapss:9"
    assert world.asked_with[-1] == "cmapss:10"


def test_a_stream_that_the_platform_ends_is_no_cut(url: str, world: World, page: Page) -> None:
    page.clock.install()
    page.goto(url + PAGES["events"])
    expect(page.locator(".live")).to_have_text("live")
    page.evaluate(
        """() => {
            window.cuts = 0;
            const look = () => (window.cuts += document.querySelectorAll("#cut").length);
            new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
        }"""
    )
    page.clock.fast_forward(11_000)
    ended, world.cut = world.cut, asyncio.Event()
    ended.set()
    world.tell("promoted", model_version="6", reason="after the end")
    expect(page.get_by_text("after the end")).to_be_visible()
    assert page.evaluate("window.cuts") == 0


def test_a_page_that_nobody_sees_lets_its_connection_go_and_misses_nothing(url: str, world: World, page: Page) -> None:
    hide = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true });"
    told = "document.dispatchEvent(new Event('visibilitychange'));"
    page.clock.install()
    page.goto(url + PAGES["events"])
    expect(page.locator(".live")).to_have_text("live")
    page.evaluate(hide % "true" + told)
    page.clock.fast_forward(31_000)
    for _ in range(200):
        if world.connections == 0:
            break
        page.wait_for_timeout(50)
    assert world.connections == 0
    expect(page.locator("#cut")).to_have_count(0)
    world.tell("promoted", model_version="6", reason="while nobody looked")
    page.evaluate(hide % "false" + told)
    expect(page.get_by_text("while nobody looked")).to_be_visible()
    assert world.asked_with == ["cmapss:9", "cmapss:9"]


def test_a_page_that_is_opened_behind_others_takes_no_connection_and_misses_nothing(
    url: str, world: World, page: Page
) -> None:
    """A browser has six for one address: whoever opens ten units in tabs of their own must not wait for them."""
    hide = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true });"
    page.add_init_script(hide % "true")
    page.goto(url + PAGES["events"])
    expect(page.locator(".event")).to_have_count(len(world.events))
    page.wait_for_timeout(300)
    assert world.asked_with == []
    expect(page.locator("#cut")).to_have_count(0)
    world.tell("promoted", model_version="6", reason="before anybody looked")
    page.evaluate(hide % "false" + "document.dispatchEvent(new Event('visibilitychange'));")
    expect(page.get_by_text("before anybody looked")).to_be_visible()
    expect(page.locator(".live")).to_have_text("live")
    assert world.asked_with == [f"cmapss:{len(world.events) - 1}"]


def test_two_people_at_once(url: str, world: World, context: MakeContext) -> None:
    first, second = context().new_page(), context().new_page()
    for page in (first, second):
        page.goto(url + PAGES["models"])
        page.get_by_role("button", name="Approve").click()
        page.get_by_label("Why").fill("better on every kind")
    first.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(first.get_by_text("Model 5 goes into service.")).to_be_visible()
    world.me = {**world.me, "name": "ben"}
    second.get_by_role("dialog").get_by_role("button", name="Approve").click()
    dialog = second.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("model 5 was approved by anna")
    expect(dialog.get_by_role("button", name="Approve")).to_be_disabled()
    dialog.get_by_role("button", name="Close").click()
    expect(second.get_by_role("button", name="Approve")).to_have_count(0)


def test_a_token_is_shown_once(url: str, page: Page) -> None:
    page.goto(url + PAGES["platform"])
    page.get_by_role("button", name="Add a token").click()
    page.get_by_label("Name of the program").fill("gateway-2")
    page.get_by_label("May").select_option("predict")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    shown = page.get_by_role("dialog", name="The token of \u201cgateway-2\u201d")
    expect(shown).to_contain_text("drift-0123456789")
    shown.get_by_role("button", name="I have copied it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("drift-0123456789")).to_have_count(0)


def test_a_viewer_sees_why_she_cannot_act(url: str, world: World, page: Page) -> None:
    world.me = {"name": "local", "role": "view", "how": "loopback", "csrf": None}
    for name in ("models", "loop", "data"):
        page.goto(url + PAGES[name])
        settle(page)
        expect(page.get_by_text("To act here you need the role operate").first).to_be_visible()
        assert page.get_by_role("button", name=re.compile("Approve|Retrain|Withdraw|Mute|Put model")).count() == 0
    page.goto(url + PAGES["platform"])
    expect(page.get_by_text("Tokens and the audit log are for administrators")).to_be_visible()


def test_a_refusal_of_the_api_is_told(url: str, world: World, page: Page) -> None:
    page.goto(url + PAGES["models"])
    page.get_by_role("button", name="Approve").click()
    world.me = {**world.me, "role": "view"}
    page.get_by_label("Why").fill("I would like to")
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("this needs the role operate")


def test_signing_in_leads_back(url: str, world: World, page: Page) -> None:
    world.me = {"name": "local", "role": "view", "how": "loopback", "csrf": None}
    page.goto(url + PAGES["loop"])
    page.get_by_role("link", name="Sign in", exact=True).click()
    page.get_by_label("Name").fill("carla")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong")
    page.get_by_label("Password").fill("right password")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/fleets/cmapss/loop$"))
    expect(page.get_by_text("carla")).to_be_visible()


ELSEWHERE = (
    "https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)", "/\\elsewhere.example",
    "/.//elsewhere.example/", "/x/..//elsewhere.example/", "/%2e//elsewhere.example/", "/\t/elsewhere.example/",
)  # fmt: skip


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_in_leads_nowhere_else(url: str, page: Page, target: str) -> None:
    page.goto(f"{url}/login?next={quote(target)}")
    page.get_by_label("Name").fill("carla")
    page.get_by_label("Password").fill("right password")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(re.escape(url) + "/(fleets.*)?$"))


def test_by_keyboard_alone(url: str, page: Page) -> None:
    page.goto(url + PAGES["models"])
    settle(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("seen and good")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Model 5 goes into service.")).to_be_visible()


def test_times_are_the_readers_with_utc_beside_them(url: str, world: World, context: MakeContext) -> None:
    page = context(timezone_id="Asia/Tokyo").new_page()
    world.events[0]["time"] = "2026-01-31T22:15:00.000Z"
    page.goto(url + PAGES["events"])
    shown = page.locator("li[data-seq='1'] time")
    expect(shown).to_contain_text("1 Feb")
    expect(shown).to_contain_text("07:15:00")
    expect(shown).to_have_attribute("title", "2026-01-31 22:15:00 UTC")


@pytest.mark.parametrize("state", ["verifying", "running", "awaiting_approval"])
def test_rollback_is_confirmed_and_told(url: str, world: World, page: Page, state: str) -> None:
    world.state, world.champion = state, "5"
    page.goto(url + PAGES["models"])
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Roll back").click()
    assert world.champion == "5"  # no reason, no act
    page.get_by_label("Why").fill("complaints from the line")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("Model 3 is in service again.")).to_be_visible()
    assert world.events[-1]["reason"] == "complaints from the line"


def test_a_promotion_is_bound_to_the_model_that_the_page_shows_in_service(url: str, world: World, page: Page) -> None:
    page.route("**/promote", lambda route: route.fulfill(json={"model_version": "2", "from_version": world.champion}))
    page.goto(url + PAGES["models"])
    page.locator("[data-key^=promote-]").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("looked at it")
    with page.expect_request("**/promote") as asked:
        dialog.get_by_role("button", name="Put into service").click()
    assert asked.value.post_data_json == {"reason": "looked at it", "from_version": world.champion}


def test_a_rollback_that_somebody_else_was_quicker_with_is_told_and_happens_once(
    url: str, world: World, page: Page
) -> None:
    world.champion = "5"
    page.goto(url + PAGES["models"])
    page.get_by_role("button", name="Roll back").click()
    page.get_by_label("Why").fill("complaints from the line")
    world.champion = "3"
    told = len(world.events)
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    said = "Model 5 had been taken out already; model 3 is in service."
    expect(page.get_by_text(said)).to_be_visible()
    assert (world.champion, len(world.events)) == ("3", told)
