"""The pages on the real API, with nothing behind it: the frame is there, and each page says what is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from driftloop import settings
from driftloop.api.app import create_app
from ports import free_ports

from .browser import served


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    """The console's process with a fleet whose server, retrainer and registry do not answer."""
    away = {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in zip(
        ("mlflow", "server", "retrainer", "console"), free_ports(4), strict=True)}  # fmt: skip
    configured = settings.load(state_dir=tmp_path, token_file=None, archive="", cmapss_dir=None, **away)
    with served(create_app(configured)) as url:
        yield url


def test_the_pages_stand_while_nothing_else_does(api: str, page: Page) -> None:
    page.goto(api)
    expect(page).to_have_url(f"{api}/fleets/cmapss")
    expect(page.get_by_role("heading", level=1)).to_have_text("cmapss")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.get_by_role("alert").first).to_contain_text("does not answer")
    page.get_by_role("link", name="Loop", exact=True).click()
    expect(page.get_by_role("heading", name="Loop")).to_be_visible()
    page.get_by_role("link", name="Platform").click()
    expect(page.get_by_role("heading", name="Platform")).to_be_visible()
    assert "undefined" not in page.locator("main").inner_text()
