"""What `driftloop status` says of a fleet, and when a server counts as started."""

from typing import Any

import httpx
import pytest

from driftloop.embedded import components, status
from driftloop.settings import Settings

SERVER = "http://127.0.0.1:8500"
MODEL = {"model_version": "1", "refused": None, "not_ready": None}
REFUSED = {"version": "2", "kind": "other_fleet", "reason": "is of the fleet pumps"}


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, Any]]:
    """What servers answer, by path."""
    known: dict[str, tuple[int, Any]] = {}

    def reply(request: httpx.Request) -> httpx.Response:
        code, body = known.get(request.url.path, (404, {}))
        return httpx.Response(code, json=body)

    monkeypatch.setattr(status, "_http", lambda: httpx.Client(transport=httpx.MockTransport(reply)))
    return known


def said(model: dict[str, Any] | None, loop: dict[str, Any]) -> str:
    return status.caption({"fleets": {"cmapss": {"model": model, "loop": loop, "last_verdict": None}}})


def test_the_promise_of_the_baseline_and_what_bounds_it_are_shown() -> None:
    promise = {"requests_per_false_alarm": 20_000, "engines": 4, "units": 12, "bounded_by_units": True}
    shown = said(MODEL, {"state": "idle", "promise": promise})
    assert "at most one false alarm in 20,000 requests from 4 units in service on (12 units, which bound it)" in shown
    shown = said(MODEL, {"state": "idle", "promise": {**promise, "units": None, "bounded_by_units": False}})
    assert "at most one false alarm in 20,000 requests from 4 units in service on" in shown
    assert "(" not in shown.partition("at most")[2]


def test_how_wrong_the_model_probably_is_is_shown() -> None:
    known = {"known": True, "rmse": 8.49, "low": 4.37, "high": 11.58}
    assert "estimated RMSE 8.5 (4.4 to 11.6)" in said(MODEL, {"state": "idle", "estimate": known})
    unknown = {"known": False, "why": "the watch sees drift"}
    assert "error not estimated (the watch sees drift)" in said(MODEL, {"state": "idle", "estimate": unknown})


def test_that_people_cannot_be_told_is_shown() -> None:
    told = {"waiting": [], "given_up": 0, "last_error": "not taken by address 1 (mailto)"}
    assert "people cannot be told (not taken by address 1 (mailto))" in said(MODEL, {"state": "idle", "notify": told})


def test_a_version_that_waits_for_a_person_is_shown_with_what_to_do() -> None:
    shown = said(
        MODEL, {"state": "awaiting_approval", "approval": {"id": "3-ab", "version": "3", "reasons": ["only 1 new"]}}
    )
    assert "version 3 waits for a person: driftloop approve 3-ab, or driftloop reject 3-ab (only 1 new)" in shown


def test_why_the_server_is_not_ready_is_shown(answer: dict[str, tuple[int, Any]]) -> None:
    answer["/model"] = (200, {"model_version": "stub", "stub": True, "refused": REFUSED})
    answer["/readyz"] = (503, {"detail": [{"field": "model", "message": "production version 2 cannot be used"}]})
    answer["/status"] = (200, {"state": "idle", "last_event": 0})
    of_fleet = status._of_fleet(Settings(server_url=SERVER))
    assert "server is not ready: production version 2 cannot be used" in said(of_fleet["model"], of_fleet["loop"])


def test_a_refused_version_is_shown_while_the_one_before_serves(answer: dict[str, tuple[int, Any]]) -> None:
    answer["/model"] = (200, {"model_version": "1", "refused": REFUSED})
    answer["/readyz"] = (200, {"ready": True})
    of_fleet = status._of_fleet(Settings(server_url=SERVER))
    assert "production version 2 is refused: is of the fleet pumps" in said(of_fleet["model"], {"state": "idle"})


@pytest.mark.parametrize(
    ("readyz", "refused", "started"),
    [(200, None, True), (503, None, False), (503, REFUSED, True), (503, "away", False)],
)
def test_a_server_that_refuses_the_only_version_does_not_keep_the_platform_down(
    answer: dict[str, tuple[int, Any]], readyz: int, refused: Any, started: bool
) -> None:
    answer["/readyz"] = (readyz, {"detail": []})
    if refused != "away":
        answer["/model"] = (200, {"model_version": "stub", "refused": refused})
    assert components._serves(SERVER) is started
