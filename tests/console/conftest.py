"""A browser for all tests of the pages, and a page of it for each."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from .browser import Complaints, chromium, reader, served
from .double import World, create, story


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with this folder: while it runs, no test elsewhere could run an event loop of its own."""
    with chromium() as found:
        yield found


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def context(browser: Browser, complaints: Complaints) -> Iterator[Callable[..., BrowserContext]]:
    """Makes readers' browsers; what their pages complain of fails the test."""
    made = []

    def make(**options: Any) -> BrowserContext:
        one = reader(browser, **options)
        one.on("page", complaints.watch)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()
    assert complaints.said == []


@pytest.fixture
def page(context: Callable[..., BrowserContext]) -> Page:
    return context().new_page()


@pytest.fixture
def world() -> World:
    found = World()
    story(found)
    return found


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """The pages on the double."""
    with served(create(world)) as address:
        yield address
        world.cut.set()
