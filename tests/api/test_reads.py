"""What one may look at, of a platform whose processes are real."""

from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from driftloop.api import problems, tail
from driftloop.api.app import create_app
from driftloop.errors import RegistryUnavailable
from driftloop.protocol import platform as asked
from live_server import local, running
from ports import free_ports

from .conftest import Platform, wait


def test_a_registry_that_is_away_is_told_of_without_a_word_about_settings() -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    def ask() -> None:
        raise RegistryUnavailable("cannot be reached: nothing listens there", where="MLflow", remedy="correct SETTING")

    answer = TestClient(app).get("/")
    assert (answer.status_code, answer.json()["field"]) == (503, "registry")
    assert answer.json()["detail"] == "cannot be reached: nothing listens there"


def served(platform: Platform) -> None:
    wait(lambda: platform.server.get("/model").json()["model_version"] == "1")


def test_the_fleet_at_a_glance(platform: Platform) -> None:
    served(platform)
    platform.predict("e1", 7, sensor=3.0)
    platform.predict("e2", 9, sensor=50.0)
    platform.predict("e2", 10, sensor=2.0)
    [fleet] = platform.get("/fleets")["fleets"]
    assert fleet["name"] == "cmapss"
    assert (fleet["unit"], fleet["step"], fleet["champion"], fleet["units"]) == ("engine", "cycle", "1", 2)
    assert fleet["description"] == "3 settings and 21 sensors for each cycle of an engine"
    assert fleet["first_due"] == {"unit": "e2", "rul": 1002.0, "low": 992.0, "high": 1012.0}
    whole = platform.get("/fleets/cmapss")
    assert len(whole["settings"]) == 3
    assert len(whole["sensors"]) == 21
    assert whole["cap"] == 125


def test_what_is_not_known_at_a_glance_is_not_nothing(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is away leaves its figures unknown, and is named; a watch that is silent says nothing of now."""
    served(platform)
    platform.predict("e1", 7, sensor=3.0)
    platform.parts.store.append("verdict", verdict="no_drift", n=500)
    wait(lambda: platform.get("/fleets/cmapss")["verdict"] == "no_drift")
    assert platform.get("/fleets/cmapss")["away"] == []
    assert platform.get("./verdict")["silent"] is False
    monkeypatch.setattr(tail, "SILENT_S", 0.0)
    whole, said = platform.get("/fleets/cmapss"), platform.get("./verdict")
    assert (whole["verdict"], whole["away"]) == ("unknown", ["watch"])
    assert (said["verdict"], said["silent"]) == ("no_drift", True)
    assert said["as_of"].endswith("Z")
    monkeypatch.undo()
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    away = platform.settings.model_copy(update={"server_url": nowhere, "units_url": nowhere, "retrainer_url": nowhere})
    with local(create_app(away)) as http:
        whole = http.get("/api/v1/fleets/cmapss").json()
        assert (whole["units"], whole["first_due"], whole["champion"], whole["verdict"]) == (
            None,
            None,
            None,
            "unknown",
        )
        assert whole["away"] == ["server", "retrainer", "units"]


def test_units_and_one_of_them(platform: Platform) -> None:
    served(platform)
    for step in range(5, 12):
        platform.predict("pump/1 é", step, sensor=float(step))
    page = platform.get("./units")
    assert page["total"] == 1
    assert page["units"][0]["step"] == 11
    one = platform.get("./units/pump/1 é")
    assert [said["step"] for said in one["predictions"]] == list(range(5, 12))
    assert [said["rul"] for said in one["predictions"]] == [1000.0 + step for step in range(5, 12)]
    sensor = one["sensors"][0]
    assert (sensor["name"], len(sensor["values"]), one["steps"][-1] - one["steps"][0]) == ("sensor_1", 6, 5)
    assert platform.get("./units", q="nothing")["total"] == 0
    assert platform.get("./units", offset=1)["units"] == []
    assert platform.get("./units/other", 404)["field"] == "unit"


def test_the_loop_and_its_marks(platform: Platform) -> None:
    assert platform.get("./loop")["state"] == "idle"
    store = platform.parts.store
    store.append("alert_firing", cause="fleet_change:1", model_version="1", starts_at="2027-01-15T09:00:00.000Z")
    marks = {one["mark"]: one for one in platform.get("./loop")["marks"]}
    assert marks["T1"] == {"mark": "T1", "time": "2027-01-15T09:00:00.000Z", "event": store.last}
    assert marks["T2"]["time"] is None


def test_the_verdict_names_features_thresholds_and_who_is_blamed(platform: Platform) -> None:
    store = platform.parts.store
    assert platform.get("./verdict")["verdict"] == "unknown"
    store.append("verdict", verdict="no_drift", model_version="1", n=500, min_n=300)
    worst = {"sensor_4": {"psi": 0.4, "score": 2.0, "threshold_psi": 0.2}, "sensor_2": {"psi": 0.1, "score": 0.5}}
    first = store.append("verdict", verdict="drift", model_version="1", n=501, worst=worst, blamed=["sensor_4"])
    store.append("verdict", verdict="drift", model_version="1", n=502, worst=worst, blamed=["sensor_4"])
    found = platform.get("./verdict")
    assert (found["verdict"], found["requests"], found["since"]) == ("drift", 502, first["time"])
    assert [(f["name"], f["threshold"], f["drifted"], f["blamed"]) for f in found["features"]] == [
        ("sensor_4", 0.2, True, True),
        ("sensor_2", None, False, False),
    ]


def test_versions_with_lineage_and_figures(platform: Platform) -> None:
    registry = platform.registry
    registry.add(training="full", decision="promoted", engines="40")
    registry.add(training="warm_start", decision="rejected", parent_version="1", decision_reason="worse")
    registry.pointers["production"] = "1"
    page = platform.get("./models")
    assert [(one["version"], one["state"], one["parent"]) for one in page["models"]] == [
        ("2", "rejected", "1"),
        ("1", "champion", None),
    ]
    assert page["models"][1]["figures"] == {"early_stop_rmse": 12.5}
    assert platform.get("./models/production")["learnt_from"] == {"runs": 40}
    assert platform.get("./models/9", 404)["status"] == 404
    assert platform.get("./models/nine", 422)["field"] == "version"
    registry.down = True
    assert platform.get("./models", 503)["field"] == "registry"


def test_events_are_searched_newest_first_in_pages(platform: Platform) -> None:
    store = platform.parts.store
    for at in range(30):
        store.append("verdict", verdict="no_drift", n=at)
    store.append("rejected", model_version="3", reason="100 % worse_than before", who="Zoë")
    found = platform.get("./events", event="-verdict", q="% WORSE_than")["events"]
    assert [(one["event"], one["who"]) for one in found if one["event"] == "rejected"] == [("rejected", "Zoë")]
    assert platform.get("./events", q="Zoë")["events"] == found
    assert platform.get("./events", q="1_0 %")["events"] == []
    page = platform.get("./events", event="verdict", limit=10)
    older = platform.get("./events", event="verdict", limit=10, before=page["first"])
    assert [one["n"] for one in page["events"]] == list(range(29, 19, -1))
    assert [one["n"] for one in older["events"]] == list(range(19, 9, -1))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/fleets/none", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/fleets", 405),
        ("GET", "/api/v1/fleets/cmapss/units?limit=0", 422),
        ("GET", "/api/v1/fleets/cmapss/events?before=-1", 422),
    ],
)
def test_every_error_is_a_problem_document(platform: Platform, method: str, path: str, status: int) -> None:
    answer = platform.http.request(method, path, headers=platform.token)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert {"type", "title", "detail"} <= answer.json().keys()


def test_pages_may_load_nothing_from_elsewhere(platform: Platform) -> None:
    headers = platform.http.get("/").headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_a_platform_that_is_not_supervised_is_asked(platform: Platform) -> None:
    found = {one["name"]: one for one in platform.get("/platform")["components"]}
    assert found["server"]["state"] == "ready"
    assert found["mlflow"]["state"] == "down"
    assert "does not answer" in found["mlflow"]["message"]


def test_units_whose_rows_are_kept_come_from_there(platform: Platform) -> None:
    """Until it knows any, and where it does not answer, from what the servers remember."""
    served(platform)
    platform.predict("seen", 7)
    columns = [f"setting_{i}" for i in (1, 2, 3)] + [f"sensor_{i}" for i in range(1, 22)]
    kept = FastAPI()
    units: list[dict[str, Any]] = []

    @kept.get("/units")
    def listed() -> dict[str, Any]:
        return {"total": len(units), "units": units}

    @kept.get("/units/{unit}")
    def one(unit: str) -> dict[str, Any]:
        if unit != "kept":
            raise HTTPException(404)
        values = [{"name": name, "unit": "", "values": [1.0, 2.0], "low": None, "high": None} for name in columns]
        return {**units[0], "predictions": [], "sensors": values, "steps": [4, 5], "life_events": []}

    with running(kept) as http:
        base = platform.http.app.state.fleets.base  # type: ignore[attr-defined]
        with local(create_app(base.model_copy(update={"units_url": str(http.base_url)}))) as console:

            def get(path: str) -> Any:
                return console.get(f"/api/v1/fleets/cmapss{path}").json()

            assert [one["unit"] for one in get("/units")["units"]] == ["seen"]
            units.append({
                "unit": "kept", "last_seen": None, "step": 5, "rul": None, "low": None, "high": None, "flags": [],
                "version": None, "state": "running",
            })  # fmt: skip
            assert [one["state"] for one in get("/units")["units"]] == ["running"]
            assert (get("")["units"], get("")["first_due"]) == (1, None)
            found = get("/units/kept")
            assert found["steps"] == [4, 5]
            assert found["sensors"][0]["low"] is None
            assert found["sensors"][3]["high"] == pytest.approx([2.0, 2.0], abs=1e-3)
            assert get("/units/seen")["predictions"][0]["step"] == 7


ODD = (
    "pump 7", "Pümpe-Ä7", "泵", "50%", "x?y#z", "north/7", "<script>alert(1)</script>", "a'b\"c&d", "back\\slash",
    "+1", "a;b=c", ".hidden",
)  # fmt: skip


@pytest.mark.parametrize("unit", ODD)
def test_a_unit_of_an_odd_name_is_listed_found_and_shown(platform: Platform, unit: str) -> None:
    served(platform)
    platform.predict(unit, 6)
    wait(lambda: unit in [one["unit"] for one in platform.get("./units")["units"]])
    assert [one["unit"] for one in platform.get("./units", q=unit)["units"]] == [unit]
    question = asked.unit("cmapss", unit)
    answer = platform.http.get(question.path)
    assert answer.status_code == 200, answer.text
    assert question.read(answer.json()).unit == unit
