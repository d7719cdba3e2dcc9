"""Chromium for the tests of the pages, an eye on what it complains of, and a server in a thread."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from ports import free_ports

LONG_MS = 420_000
"""Far beyond what anything takes, so that a slow machine is slow and not red."""
expect.set_options(timeout=LONG_MS)

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = "no Chromium here: `make setup-browser` installs Debian's, or set DRIFTLOOP_CHROMIUM to the one to use"
HARMLESS = ("the server responded with a status of",)
"""Chromium reports each answer above 399 as an error of its own; whether one is meant is the test's matter."""


def find_chromium() -> Path | None:
    """The browser of this machine; None where there is none."""
    named = os.environ.get("DRIFTLOOP_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    return Path(found) if found and Path(found).exists() else None


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium. Without one the test fails, or, where none can be installed, is skipped with the reason."""
    path = find_chromium()
    if path is None:
        can_be_installed = os.geteuid() == 0 and shutil.which("apt-get")
        (pytest.fail if can_be_installed else pytest.skip)(f"the pages are untested: {MISSING}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


def reader(browser: Browser, **options: Any) -> BrowserContext:
    """Somebody's browser, by default with a wide screen; it waits long for whatever it is told to."""
    one = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    one.set_default_timeout(LONG_MS)
    return one


@dataclass
class Complaints:
    """What a page's console and scripts complained of, violations of the content policy among it."""

    said: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Listen to a page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.said.append(f"{page.url}: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in HARMLESS):
            self.said.append(f"{message.location.get('url')}: {message.text}")


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of an application that a thread serves."""
    port = free_ports(1)[0]
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="pages")
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive(), "the server of the pages did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
