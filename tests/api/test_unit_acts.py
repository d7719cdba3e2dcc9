"""What people do to units in service through the API: a real service that keeps units stands behind it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.testclient import TestClient

from driftloop.api.app import create_app
from live_server import local

from .conftest import Platform, wait
from .kept import PASSWORD, keeping, row


class Kept(NamedTuple):
    """Anna's browser at the console, and the service that keeps the units."""

    console: TestClient
    headers: dict[str, str]
    units: httpx.Client

    def act(self, method: str, path: str, body: Any, status: int) -> Any:
        answer = self.console.request(method, f"/api/v1/fleets/cmapss/units{path}", json=body, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.console.get(f"/api/v1/fleets/cmapss/units{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def kept(platform: Platform) -> Iterator[Kept]:
    with keeping(platform, "e1", "50%", "e2") as (app, units), local(app) as console:
        assert console.post("/api/v1/login", json={"name": "anna", "password": PASSWORD}).status_code == 204
        yield Kept(console, {"X-CSRF-Token": console.get("/api/v1/me").json()["csrf"]}, units)


def test_a_person_tells_of_a_failure_and_takes_it_back(kept: Kept) -> None:
    body = {"kind": "failed", "note": "bearing", "id": "ticket-1"}
    told = kept.act("POST", "/50%25/events", body, 201)
    assert (told["kind"], told["who"], told["note"], told["life"]) == ("failed", "anna", "bearing", 1)
    assert kept.act("POST", "/50%25/events", body, 201)["id"] == told["id"]
    assert [one["unit"] for one in kept.get("?state=failed")["units"]] == ["50%"]
    assert [one["unit"] for one in kept.get("?sort=unit")["units"]] == ["e1", "e2"]
    wait(lambda: kept.get("/50%25")["lives"][0]["archive"] in ("archived", "refused", "labels"))
    back = kept.act("DELETE", f"/50%25/events/{told['id']}", {"reason": "it was the gauge"}, 200)
    assert (back["withdrawn"]["who"], back["withdrawn"]["reason"]) == ("anna", "it was the gauge")
    assert (kept.get("/50%25")["state"], kept.get("/50%25")["quality"]["rows"]) == ("running", 3)


def test_refusals_are_the_services_own(kept: Kept) -> None:
    assert kept.act("POST", "/nobody/events", {"kind": "failed"}, 404)["field"] == "unit"
    assert kept.act("POST", "/e1/events", {"kind": "exploded"}, 422)["field"] == "kind"
    assert kept.act("POST", "/e1/events", {"kind": "failed", "age": 3}, 422)["field"] == "age"
    assert kept.act("POST", "/e1/events", {"kind": "failed", "who": "somebody else"}, 422)["field"] == "body"
    kept.act("POST", "/e1/events", {"kind": "removed"}, 201)
    assert kept.act("POST", "/e1/events", {"kind": "failed"}, 409)["field"] == "kind"
    assert kept.act("DELETE", "/e1/events/99", None, 404)["field"] == "event"


def test_units_are_renamed_and_split_and_earlier_lives_shown(kept: Kept) -> None:
    wait(lambda: all(unit["step"] == 3 for unit in kept.get("")["units"]))
    assert kept.act("POST", "/e1/rename", {"name": "e7"}, 200) == {"unit": "e7", "before": "e1"}
    assert kept.act("POST", "/e7/rename", {"name": "e2"}, 409)["field"] == "name"
    assert kept.units.post("/telemetry", json=[row("e7", 1, setting_1=5.0)]).status_code == 409
    flags = Counter(flag for unit in kept.get("")["units"] for flag in unit["flags"])
    assert flags["contradicting_rows"] == 1
    assert kept.get("?flag=contradicting_rows&limit=1")["flags"] == flags
    assert kept.act("POST", "/e7/split", {"name": "e8"}, 200)["rows"] == 1
    kept.act("POST", "/e7/events", {"kind": "overhauled"}, 201)
    assert (kept.get("/e7")["life"], kept.get("/e7?life=1")["state"]) == (2, "overhauled")


def test_what_drives_a_prediction_is_said_of_the_newest_rows_of_the_life(kept: Kept) -> None:
    """Of many steps in one request the server remembers the first; the rows that are kept are asked about."""
    drivers = "/api/v1/fleets/cmapss/drivers/e1"
    wait(lambda: kept.get("/e1")["step"] == 3)
    assert kept.console.get(drivers).json()["step"] == 3
    kept.act("POST", "/e1/events", {"kind": "overhauled"}, 201)
    assert kept.console.get(drivers).status_code == 404, "servers remember the life before"
    rows = [row("e1", step, sensor_2=2.0) for step in range(4, 9)]
    assert kept.units.post("/telemetry", json=rows).status_code == 200
    wait(lambda: kept.get("/e1")["step"] == 5)
    found = kept.console.get(drivers).json()
    assert found["step"] == 5
    assert found["rul"] == pytest.approx(kept.get("/e1")["rul"], abs=0.01)
    window = kept.units.get("/units/e1/window").json()
    assert (window["life"], [one[4] for one in window["rows"]]) == (2, [2.0] * 5)


def test_who_may_only_look_changes_nothing(kept: Kept) -> None:
    kept.console.app.state.door.people.add("bo", "view", PASSWORD)  # type: ignore[attr-defined]
    kept.console.cookies.clear()
    assert kept.console.post("/api/v1/login", json={"name": "bo", "password": PASSWORD}).status_code == 204
    kept.headers["X-CSRF-Token"] = kept.console.get("/api/v1/me").json()["csrf"]
    for method, path, body in (
        ("POST", "/e1/events", {"kind": "failed"}),
        ("DELETE", "/e1/events/1", None),
        ("POST", "/e1/rename", {"name": "x"}),
        ("POST", "/e1/split", {"name": "x"}),
    ):
        assert kept.act(method, path, body, 403)["field"] == "role"
    assert kept.get("/e1")["state"] == "running"


def test_where_the_service_is_away_is_said_so_beside_what_servers_remember(platform: Platform) -> None:
    served = platform.settings.model_copy(update={"units_url": "http://127.0.0.1:9"})
    with local(create_app(served)) as console:
        path = "/api/v1/fleets/cmapss/units"
        unseen = console.get(f"{path}/e1")
        assert (unseen.status_code, unseen.json()["field"]) == (503, "units")
        assert console.get("/api/v1/fleets/cmapss/drivers/e1").status_code == 503
        platform.predict("e1", 7, rows=1)
        assert console.get(path, params={"flag": "nothing"}).json()["flags"] == {"short_history": 1}
        for found in (console.get(path).json(), console.get(f"{path}/e1").json()):
            assert "does not answer" in found["problem"]
        assert console.get(path, params={"state": "failed"}).json()["units"] == []
        headers = platform.token
        assert console.post(f"{path}/e1/events", json={"kind": "failed"}, headers=headers).status_code == 503
    assert "problem" not in platform.get("./units")


def test_a_fleet_that_keeps_no_units_says_so(platform: Platform) -> None:
    path = "/api/v1/fleets/cmapss/units/e1/events"
    answer = platform.http.post(path, json={"kind": "failed"}, headers=platform.token)
    assert (answer.status_code, answer.json()["field"]) == (409, "fleet")
