"""Pictures of every page: two widths, two colours."""

from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

from .browser import reader

WIDTHS = {"wide": (1440, 900), "narrow": (390, 844)}
COLOURS = ("light", "dark")
QUIET_MS = 400


def pages_of(fleet: str, unit: str) -> dict[str, str]:
    """Every page by name."""
    base = f"/fleets/{fleet}"
    return {
        "fleets": "/", "fleet": base, "unit": f"{base}/units/{unit}", "plan": f"{base}/plan", "loop": f"{base}/loop",
        "models": f"{base}/models", "data": f"{base}/data", "events": f"{base}/events", "platform": "/platform",
        "login": "/login",
    }  # fmt: skip


def settle(page: Page) -> None:
    """Wait until nothing loads any more."""
    page.wait_for_selector("main:not(:has(.loading)):not(:has(> p.state))", state="attached")
    page.wait_for_timeout(QUIET_MS)


def shoot(browser: Browser, url: str, folder: Path, fleet: str, unit: str, only: str = "") -> Iterator[Path]:
    """Take all pictures into a folder, `NAME-WIDTH-COLOUR.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for size, (width, height) in WIDTHS.items():
        for colour in COLOURS:
            context = reader(browser, viewport={"width": width, "height": height}, color_scheme=colour)
            for name, path in pages_of(fleet, unit).items():
                if only and name not in only.split(","):
                    continue
                page = context.new_page()
                page.goto(url + path)
                settle(page)
                target = folder / f"{name}-{size}-{colour}.png"
                page.screenshot(path=target, full_page=True)
                page.close()
                yield target
            context.close()
