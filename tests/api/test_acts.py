"""What one may do through the API: who may, what the retrainer makes of it, and who it says did it."""

from typing import Any

import httpx
import numpy as np
import pytest

from .conftest import Platform

PASSWORD = "correct horse battery"


@pytest.fixture
def anna(platform: Platform) -> dict[str, str]:
    """What anna's browser sends with a change; she may operate."""
    platform.http.app.state.door.people.add("anna", "operate", PASSWORD)  # type: ignore[attr-defined]
    answer = platform.http.post("/api/v1/login", json={"name": "anna", "password": PASSWORD})
    assert answer.status_code == 204
    return {"X-CSRF-Token": platform.get("/me")["csrf"]}


def act(platform: Platform, path: str, body: Any, headers: dict[str, str], method: str = "POST") -> httpx.Response:
    answer: httpx.Response = platform.http.request(
        method, "/api/v1" + path.replace("./", "/fleets/cmapss/"), json=body, headers=headers
    )
    return answer


def test_a_person_moves_the_alias_and_the_log_says_who(platform: Platform, anna: dict[str, str]) -> None:
    registry = platform.registry
    registry.add(decision="promoted"), registry.add(decision="approved")
    registry.pointers["production"] = "1"
    done = act(platform, "./models/2/promote", {"reason": "looked at it"}, anna)
    assert done.status_code == 200, done.text
    assert done.json() == {"model_version": "2", "from_version": "1", "already": False}
    assert registry.pointers["production"] == "2"
    back = act(platform, "./models/rollback", {"from_version": "2", "reason": "worse on the older engines"}, anna)
    assert back.json() == {"model_version": "1", "from_version": "2", "already": False}
    told = platform.get("./events", event=["promoted", "rolled_back"])["events"]
    assert [(one["event"], one["who"], one["reason"]) for one in told] == [
        ("rolled_back", "anna", "worse on the older engines"),
        ("promoted", "anna", "looked at it"),
    ]
    entries = platform.http.get("/api/v1/audit", headers=platform.token).json()["entries"]
    said = [(one["service"], one["who"], one.get("actor"), one["act"]) for one in entries if "log in" not in one["act"]]
    assert said == [
        ("retrainer", "platform", "anna", "POST /promote"),
        ("console", "anna", None, "POST /api/v1/fleets/cmapss/models/2/promote"),
        ("retrainer", "platform", "anna", "POST /rollback"),
        ("console", "anna", None, "POST /api/v1/fleets/cmapss/models/rollback"),
    ]
    assert [one.get("reason") for one in entries if one["service"] == "console"][1] == "looked at it"


def test_nobody_acts_by_looking(platform: Platform, anna: dict[str, str]) -> None:
    assert act(platform, "./models/rollback", None, {}).status_code == 403
    assert act(platform, "./models/rollback", None, {"X-CSRF-Token": "wrong"}).status_code == 403
    platform.http.cookies.clear()
    assert act(platform, "./models/rollback", None, anna).status_code == 401
    token = platform.http.app.state.door.tokens.add("viewer", "view")  # type: ignore[attr-defined]
    refused = act(platform, "./models/rollback", None, {"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["field"]) == (403, "role")
    assert platform.registry.moves == []


def test_what_the_retrainer_refuses_is_refused_in_its_words(platform: Platform, anna: dict[str, str]) -> None:
    platform.registry.add()
    refused = act(platform, "./models/rollback", {"from_version": "1"}, anna)
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert "nothing is in production" in refused.json()["detail"]
    unknown = act(platform, "./approvals/9-none/approve", {"reason": "yes"}, anna)
    assert unknown.status_code in (404, 409), unknown.text
    wrong = act(platform, "./causes/fleet_change:1/mute", {"for_s": 1, "until": "2030-01-01T00:00:00Z"}, anna)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "for_s")


def test_runs_are_archived_found_and_taken_back(platform: Platform, anna: dict[str, str]) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 24)).round(3).tolist()
    posted = {"runs": [{"run_id": "e-1", "rows": rows, "confirmed": True}]}
    assert act(platform, "./runs", {**posted, "only_check": True}, anna).json() == {"added": [], "known": []}
    assert act(platform, "./runs", posted, anna).json()["added"] == ["e-1"]
    assert [one["run_id"] for one in platform.get("./runs", q="E-")["runs"]] == ["e-1"]
    gone = act(platform, "./runs/withdraw", {"runs": ["e-1"], "reason": "the wrong file"}, anna)
    assert gone.json()["withdrawn"] == ["e-1"]
    [one] = platform.get("./runs")["runs"]
    assert one["withdrawn"]["reason"] == "the wrong file"
    bad = {"runs": [{"run_id": "e-2", "rows": [[1.0]]}]}
    refused = act(platform, "./runs", bad, anna)
    assert (refused.status_code, refused.json()["field"]) == (422, "runs[0].rows[0]")


def test_schedules_and_mutes_come_and_go(platform: Platform, anna: dict[str, str]) -> None:
    made = act(platform, "./schedules", {"name": "monthly", "act": "retrain", "every_s": 86_400, "mode": "full"}, anna)
    assert made.status_code == 200, made.text
    assert [one["name"] for one in platform.get("./schedules")["schedules"]] == ["monthly"]
    assert platform.get("./loop")["schedules"][0]["name"] == "monthly"
    assert act(platform, "./schedules/monthly", None, anna, "DELETE").status_code == 200
    assert platform.get("./schedules")["schedules"] == []
    for wrong in ({}, [], 7, "fast"):
        refused = act(
            platform, "./schedules", {"name": "monthly", "act": "retrain", "every_s": 60, "mode": wrong}, anna
        )
        assert (refused.status_code, refused.json()["field"]) == (422, "mode"), refused.text
    muted = act(platform, "./causes/fleet_change:1/mute", {"for_s": 600, "reason": "rebuilt"}, anna)
    assert muted.status_code == 200, muted.text
    assert "fleet_change:1" in str(platform.get("./loop")["muted"])
    assert act(platform, "./causes/fleet_change:1/mute", None, anna, "DELETE").status_code == 200
    assert "fleet_change:1" not in str(platform.get("./loop")["muted"])
