#!/usr/bin/env python3
"""People with a browser at the doors of the lab's platform: who gets in, who does not, and as whom.

    people.py password ADDRESS <PASSWORD     the person `admin`, by the file of passwords
    people.py provider ADDRESS               anna, clara and eve, by the provider of oidc.py

ADDRESS is doors_address. One line for each that was tried; ends with 1 at the first that is not as it must be.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from console.browser import chromium, reader

PORTS = {"console": 30840, "mlflow": 30841, "prometheus": 30842, "grafana": 30843, "minio": 30844}
# What shows that one is inside: a title of the page behind, and a request to it that has data. Grafana's is a stand-in.
BEHIND = {
    "console": ("Fleet", "/api/v1/fleets"),
    "mlflow": ("MLflow", "/ajax-api/2.0/mlflow/experiments/search?max_results=1"),
    "prometheus": ("Prometheus", "/api/v1/query?query=up"),
    "grafana": ("stands in for Grafana", "/"),
    "minio": ("MinIO Console", "/api/v1/login"),
}


class Doors:
    """The doors at an address, and the ways people go through them."""

    def __init__(self, address: str) -> None:
        self.address = address

    def of(self, door: str) -> str:
        """A door's own address."""
        return f"{self.address}:{PORTS[door]}"

    def stays_out(self, page: Page, door: str, who: str) -> None:
        """Whoever it is has neither the page behind the door nor its data."""
        title, data = BEHIND[door]
        page.goto(self.of(door) + "/")
        assert title not in page.title(), f"{who} sees the page behind {door}"
        answer = page.request.get(self.of(door) + data, max_redirects=0)
        assert answer.status in (302, 401, 403), f"{who} had {answer.status} of {door}{data}"
        print(f"out   {who} at {door}: {answer.status}")

    def is_in(self, page: Page, door: str, who: str) -> None:
        """Whoever it is sees the page behind the door, and its data."""
        title, data = BEHIND[door]
        page.goto(self.of(door) + "/")
        expect(page).to_have_title(re.compile(title))
        answer = page.request.get(self.of(door) + data)
        assert answer.status == 200, f"{who} had {answer.status} of {door}{data}: {answer.text()[:300]}"
        print(f"in    {who} at {door}")

    def type_password(self, page: Page, door: str, name: str, password: str) -> None:
        """Fill in the form of a door."""
        page.goto(self.of(door) + "/")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()

    def ask_provider(self, page: Page, door: str, name: str) -> None:
        """Go to a door, and say at the provider who one is."""
        page.goto(self.of(door) + "/")
        page.get_by_role("button", name=name).click()
        # The way back leads by the door, which remembers them, or does not.
        page.wait_for_url(f"{self.of(door)}/**")

    def me(self, page: Page) -> tuple[str, str, str]:
        """Who the console says one is: name, role, how."""
        me = page.request.get(self.of("console") + "/api/v1/me").json()
        return me["name"], me["role"], me["how"]

    def mute(self, page: Page) -> int:
        """The status of an act, sent by the page as the console's own are."""
        page.goto(self.of("console") + "/platform")
        status: int = page.evaluate(
            """async () => {
                const me = await (await fetch("/api/v1/me")).json();
                const [{name}] = (await (await fetch("/api/v1/fleets")).json()).fleets;
                const answer = await fetch(`/api/v1/fleets/${name}/causes/fleet_change:999/mute`, {method: "POST",
                    headers: {"Content-Type": "application/json", "X-CSRF-Token": me.csrf},
                    body: JSON.stringify({for_s: 60, reason: "tried on the lab"})});
                return answer.status;
            }"""
        )
        return status


@contextmanager
def somebody() -> Iterator[Page]:
    """A browser of somebody of whom nothing is known; it takes the lab's certificates."""
    with chromium() as browser:
        yield reader(browser, ignore_https_errors=True).new_page()


def by_password(doors: Doors, password: str) -> None:
    """Without a provider."""
    with somebody() as page:
        for door in PORTS:
            doors.stays_out(page, door, "a stranger")
            doors.type_password(page, door, "admin", "not the password")
            expect(page.get_by_role("alert")).to_be_visible()
            doors.stays_out(page, door, "admin with a wrong password")
    with somebody() as page:
        doors.type_password(page, "console", "admin", password)
        expect(page.locator(".who-name")).to_have_text("admin")
        assert doors.me(page) == ("admin", "admin", "proxy"), doors.me(page)
        assert (status := doors.mute(page)) == 200, status
        print("acts  admin, through the console")
        # A login at one door is none at another, whatever its cookie is called.
        [cookie] = [each for each in page.context.cookies() if each["name"] == "driftloop_console"]
        assert cookie["httpOnly"], cookie
        page.context.add_cookies([{**cookie, "name": "driftloop_mlflow"}])  # type: ignore[list-item]
        doors.stays_out(page, "mlflow", "admin with the console's cookie")
        for door in PORTS:
            if door != "console":
                doors.type_password(page, door, "admin", password)
            doors.is_in(page, door, "admin")
        page.goto(doors.of("console") + "/")
        page.get_by_role("link", name="Sign out").click()
        doors.stays_out(page, "console", "admin who has signed out")


def by_provider(doors: Doors) -> None:
    """With one: planners look at the console, Prometheus and Grafana; the platform's group goes everywhere."""
    with somebody() as page:
        for door in PORTS:
            page.goto(doors.of(door) + "/")
            assert urlsplit(page.url).path == "/authorize", page.url
            doors.stays_out(page, door, "a stranger")
    for name, role, open_to in (
        ("anna", "view", {"console", "prometheus", "grafana"}),
        ("clara", "admin", set(PORTS)),
        ("eve", None, set()),
    ):
        with somebody() as page:
            for door in PORTS:
                doors.ask_provider(page, door, name)
                (doors.is_in if door in open_to else doors.stays_out)(page, door, name)
            if role is not None:
                assert doors.me(page) == (f"{name}@lab.example", role, "proxy"), doors.me(page)
                status = doors.mute(page)
                assert status == (200 if role == "admin" else 403), status
                print(f"acts  {name}, who may {role}: {status}")


if __name__ == "__main__":
    if sys.argv[1] == "password":
        by_password(Doors(sys.argv[2]), sys.stdin.read().strip())
    else:
        by_provider(Doors(sys.argv[2]))
