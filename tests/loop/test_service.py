"""The retrainer over HTTP, with a real archive and event log, and a registry and pipeline in the test's hands."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from driftloop.drift.outcomes import Figure, Judgement
from driftloop.errors import DriftloopError
from driftloop.loop.api import service
from driftloop.loop.jobs.local import Job
from driftloop.loop.judge import promotion
from driftloop.loop.judge.concept import Truth
from driftloop.loop.state import Attempt
from driftloop.settings import Settings
from live_server import local

from .fakes import FakeBackend, FakeRegistry

TOKEN = "a-token-of-enough-length"


class Up:
    """A running service and a client that brings the token."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **overrides: object) -> None:
        (folder / "token").write_text(TOKEN)
        self.settings = Settings(state_dir=folder / "state", token_file=folder / "token", **overrides)
        self.registry, self.backend = FakeRegistry(), FakeBackend()
        self.registry.close = lambda: None  # type: ignore[attr-defined]
        monkeypatch.setattr(service, "Registry", lambda *_: self.registry)
        self.app = service.create_app(self.settings, backend=self.backend)
        self.parts = self.app.state.service
        self.http = local(self.app, headers={"Authorization": f"Bearer {TOKEN}"})

    def problems(self, path: str, body: Any, status: int = 422) -> list[dict[str, str]]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http.post(path, content=content)
        assert answer.status_code == status, answer.text
        found: list[dict[str, str]] = answer.json()["detail"]
        return found

    def wait(self, condition: Callable[[], Any]) -> None:
        """Until it holds, or the test's own time is over."""
        while not condition():
            time.sleep(0.01)

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/events").json()["events"]
        return found


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    running = Up(tmp_path, monkeypatch, max_archive_bytes=2**20)
    with running.http:
        yield running


def run_of(name: str, cycles: int = 30, seed: int = 0) -> dict[str, Any]:
    return {"run_id": name, "rows": np.random.default_rng(seed).normal(size=(cycles, 24)).round(3).tolist()}


def webhook(**labels: str) -> dict[str, Any]:
    return {
        "version": "4",
        "status": "firing",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "DriftloopDrift", "model_version": "1", "kind": "fleet_change", **labels},
                "annotations": {"n": "500", "score": "3.1", "summary": "the fleet has changed"},
                "startsAt": "2027-01-15T09:00:00+01:00",
                "endsAt": "0001-01-01T00:00:00Z",
            }
        ],
    }


def test_an_alert_is_in_the_log_when_it_is_acknowledged(up: Up):
    answer = up.http.post("/alerts", json=webhook(features="sensor_11,sensor_4"))
    assert answer.json() == {"alerts": [{"cause": "fleet_change:1", "result": "queued"}]}
    event = up.events()[0]
    assert event["kind"] == "alert_firing"
    assert event["starts_at"] == "2027-01-15T08:00:00.000Z"
    assert event["features"] == ["sensor_11", "sensor_4"]
    assert event["n"] == 500


def test_the_watchs_own_event_about_its_alert_is_not_logged_twice(up: Up):
    body = {"kind": "alert_firing", "id": "alert_firing:1:fleet_change:2027-01-15T08:00:00.000Z", "n": 500}
    up.http.post("/events", json=body)
    up.http.post("/alerts", json=webhook())
    assert [event["kind"] for event in up.events()].count("alert_firing") == 1


BAD_ALERTS: list[tuple[dict[str, Any], str]] = [
    ({"labels": {"alertname": "Watchdog"}}, ".labels.alertname"),
    ({"labels": {"alertname": "DriftloopDrift", "fleet": "cells"}}, ".labels.fleet"),
    ({"labels": {"model_version": "stub"}}, ".labels.model_version"),
    ({"labels": {"kind": "weather"}}, ".labels.kind"),
    ({"labels": {"kind": 7}}, ".labels[...]"),
    ({"startsAt": "yesterday"}, ".startsAt"),
    ({"status": "pending"}, ".status"),
    ({"annotations": {"n": "many"}}, ".annotations.n"),
]


def test_the_watchs_own_event_about_the_end_is_not_logged_twice(up: Up):
    up.http.post("/alerts", json=webhook())
    body = {"kind": "alert_resolved", "id": "alert_resolved:1:fleet_change:2027-01-15T08:00:00.000Z"}
    up.http.post("/events", json=body)
    (alert,) = webhook()["alerts"]
    up.http.post("/alerts", json={"version": "4", "alerts": [{**alert, "status": "resolved"}]})
    assert [event["kind"] for event in up.events()].count("alert_resolved") == 1


@pytest.mark.parametrize(("change", "field"), BAD_ALERTS)
def test_an_alert_that_is_not_ours_or_not_usable_takes_no_other_with_it(up: Up, change: dict[str, Any], field: str):
    (good,) = webhook()["alerts"]
    bad = {**good, **change, "labels": {**good["labels"], **change.get("labels", {})}}
    younger = {**good, "startsAt": "2027-01-15T09:30:00Z"}
    answer = up.http.post("/alerts", json={"version": "4", "alerts": [good, bad, younger]})
    assert answer.status_code == 200
    assert [taken["result"] for taken in answer.json()["alerts"]] == ["queued", "duplicate"]
    (other,) = answer.json()["others"]
    assert other["field"] == f"alerts[1]{field}"
    assert other["message"]
    fired = [event["starts_at"] for event in up.events() if event["kind"] == "alert_firing"]
    assert fired == ["2027-01-15T08:00:00.000Z", "2027-01-15T09:30:00.000Z"]


def test_a_webhook_whose_older_alert_has_ended_leaves_the_younger_firing(up: Up):
    (first,) = webhook()["alerts"]
    second = {**first, "startsAt": "2027-01-15T09:30:00Z"}
    ended = {**first, "status": "resolved", "endsAt": "2027-01-15T09:29:00Z"}
    up.http.post("/alerts", json={"version": "4", "alerts": [first]})
    up.http.post("/alerts", json={"version": "4", "alerts": [second, ended]})
    assert up.http.get("/status").json()["firing"] == {"fleet_change:1": "2027-01-15T09:30:00.000Z"}


@pytest.mark.parametrize("body", [{"version": "3", "alerts": []}, {"version": "4"}, {"version": "4", "alerts": {}}])
def test_what_is_no_webhook_is_refused(up: Up, body: dict[str, Any]):
    assert up.problems("/alerts", body)[0]["field"]


def test_runs_are_archived_once_and_listed_with_their_role(up: Up):
    body = {"runs": [run_of("eng-1"), run_of("eng-2", seed=1)]}
    assert up.http.post("/archive/runs", json=body).json() == {"added": ["eng-1", "eng-2"], "known": []}
    assert up.http.post("/archive/runs", json=body).json() == {"added": [], "known": ["eng-1", "eng-2"]}
    listed = up.http.get("/archive/runs").json()["runs"]
    assert [run["run_id"] for run in listed] == ["eng-1", "eng-2"]
    assert {run["role"] for run in listed} <= {"train", "early_stop", "calibrate", "gate", "live"}
    archived = [event for event in up.events() if event["kind"] == "runs_archived"]
    assert [event["count"] for event in archived] == [2]


def test_one_bad_run_keeps_all_of_a_call_out(up: Up):
    bad = run_of("eng-2")
    bad["rows"][3][5] = 1e300
    found = up.problems("/archive/runs", {"runs": [run_of("eng-1"), bad]})
    assert found[0]["field"] == "runs[1].rows[3][5]"
    assert up.http.get("/archive/runs").json() == {"runs": []}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"runs": [{"run_id": "eng-1", "rows": [[1.0] * 23, [1.0] * 24]}]}, "runs[0].rows[0]"),
        ({"runs": [{"run_id": "eng-1", "rows": [["a"] * 24]}]}, "runs[0].rows[0][0]"),
        ({"runs": [{"run_id": "../../etc", "rows": [[1.0] * 24] * 2}]}, "runs[0].run_id"),
        ({"runs": [{"run_id": "eng-1", "rows": [[1.0] * 24]}]}, "runs[0].rows"),
        ({"runs": [{"run_id": "eng-1"}]}, "runs[0]"),
        ({"runs": []}, "runs"),
        ({}, "body"),
        ([], "body"),
    ],
)
def test_bad_runs_are_refused_with_the_field(up: Up, body: Any, field: str):
    assert up.problems("/archive/runs", body)[0]["field"] == field


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"runs": [NaN]}'])
def test_what_is_not_json_is_refused(up: Up, body: bytes):
    assert up.problems("/archive/runs", body, status=400)[0]["field"] == "body"


def test_an_id_that_is_taken_by_other_rows_is_a_conflict(up: Up):
    up.http.post("/archive/runs", json={"runs": [run_of("eng-1")]})
    found = up.problems("/archive/runs", {"runs": [run_of("eng-2"), run_of("eng-1", seed=9)]}, status=409)
    assert "eng-1" in found[0]["message"]
    assert [run["run_id"] for run in up.http.get("/archive/runs").json()["runs"]] == ["eng-1"]


def test_a_body_over_the_limit_is_refused(up: Up):
    assert up.problems("/archive/runs", b" " * (2**20 + 1), status=413)[0]["field"] == "body"

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 2**16

    assert up.http.post("/archive/runs", content=pieces()).status_code == 413
    assert up.problems("/events", b" " * (2**18 + 1), status=413)[0]["field"] == "body"


@pytest.mark.parametrize(
    "path",
    [
        "/alerts",
        "/archive/runs",
        "/feedback",
        "/events",
        "/progress",
        "/retrain",
        "/promote",
        "/rollback",
        "/approvals/2-ab",
    ],
)
@pytest.mark.parametrize("header", [None, "Bearer wrong", TOKEN, "Bearer "])
def test_without_the_token_nothing_is_changed(up: Up, path: str, header: str | None):
    del up.http.headers["Authorization"]
    answer = up.http.post(path, json={}, headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.json()["detail"][0]["field"] == "Authorization"
    assert up.events() == []


def answered(**changes: Any) -> dict[str, Any]:
    """What POST /predict answers."""
    return {
        "rul": 52.0, "lower": 40.0, "upper": 64.5, "regime": 0, "flags": [], "model_version": "1",
        "request_id": "r-7", "engine_id": "eng-7", "cycle": 31, **changes,
    }  # fmt: skip


def test_a_true_rul_is_taken_once_with_the_prediction_as_it_was_answered(up: Up):
    body = {"outcomes": [{"true_rul": 41, "prediction": answered()}]}
    assert up.http.post("/feedback", json=body).json() == {"added": 1, "known": 0}
    assert up.http.post("/feedback", json=body).json() == {"added": 0, "known": 1}
    (kept,) = up.parts.feedback.outcomes("eng-7", "1")
    assert (kept.key, kept.rul, kept.true_rul) == ("cycle 31", 52.0, 41.0)
    assert [event["count"] for event in up.events() if event["kind"] == "feedback_received"] == [1]
    other = {"outcomes": [{"true_rul": 42, "prediction": answered()}]}
    assert "known with other figures" in up.problems("/feedback", other, status=409)[0]["message"]


def test_who_kept_no_answers_is_helped_by_the_inference_log(up: Up):
    folder = up.settings.state_dir / "inference"
    folder.mkdir()
    record = {**answered(), "time": "2027-01-15T08:00:00.000Z", "row": [], "newest": []}
    (folder / "inference-0.jsonl").write_text(
        json.dumps(record) + "\n" + json.dumps({**record, "model_version": "stub", "request_id": "r-8", "cycle": 32})
    )
    body = {"outcomes": [{"true_rul": 41, "request_id": "r-7"}, {"true_rul": 41, "engine_id": "eng-7", "cycle": 31}]}
    assert up.http.post("/feedback", json=body).json() == {"added": 1, "known": 1}
    found = up.problems("/feedback", {"outcomes": [body["outcomes"][0], {"true_rul": 1, "request_id": "r-8"}]})
    assert found[0]["field"] == "outcomes[1]"
    assert "send the prediction as POST /predict answered it" in found[0]["message"]


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        ({"true_rul": -1, "prediction": answered()}, "outcomes[0].true_rul"),
        ({"prediction": answered()}, "outcomes[0]"),
        ({"true_rul": 4}, "outcomes[0]"),
        ({"true_rul": 4, "engine_id": "eng-7"}, "outcomes[0]"),
        ({"true_rul": 4, "engine_id": "eng-7", "cycle": 1}, "outcomes[0]"),
        ({"true_rul": 4, "prediction": answered(model_version="stub")}, "outcomes[0].prediction.model_version"),
        ({"true_rul": 4, "prediction": answered(lower=70)}, "outcomes[0].prediction.lower"),
        ({"true_rul": 4, "prediction": answered(rul="x")}, "outcomes[0].prediction.rul"),
        ({"true_rul": 4, "prediction": answered(engine_id=None)}, "outcomes[0].engine_id"),
        ({"true_rul": 4, "prediction": answered(cycle=None, request_id=None)}, "outcomes[0].cycle"),
        ({"true_rul": 4, "rul": 5, "prediction": answered()}, "outcomes[0]"),
    ],
)
def test_bad_feedback_is_refused_with_the_field_and_nothing_of_it_is_kept(up: Up, outcome: Any, field: str):
    good = {"true_rul": 41, "prediction": answered(engine_id="eng-8")}
    assert up.problems("/feedback", {"outcomes": [outcome, good]})[0]["field"] == field
    assert up.parts.feedback.engines() == []


def test_what_completed_engines_say_is_in_the_status(up: Up):
    up.http.post("/archive/runs", json={"runs": [run_of("eng-1")]})
    assert up.parts.feedback.engines() == ["eng-1"]
    assert up.http.get("/status").json()["concept"]["verdict"] == "not_enough_data"
    assert up.http.get("/feedback").json()["changed_runs"] == []


def test_the_estimate_of_the_error_stands_beside_what_completed_engines_say(up: Up):
    said = {"known": True, "rmse": 12.0, "low": 9.0, "high": 15.0, "coverage": 0.9, "answers": 500}
    up.http.post("/events", json={"kind": "verdict", "model_version": "3", "verdict": "no_drift", "estimate": said})
    shown = up.http.get("/status").json()["estimate"]
    assert shown == {"model_version": "3", "why": None, "live": None, **said}
    assert up.parts._live_error() == ("3", 12.0, "estimated")
    up.parts.concept.stop()
    next(thread for thread in up.parts._threads if thread.name == "concept-watch").join()
    figure = Figure(16.0, 12.0, None, 17.25, 0.4)
    judged = Judgement(
        verdict="no_drift", engines=20, least=8, window=20, reference=27, score=0.4, figures={"rmse": figure}
    )
    up.parts.concept.report = Truth("3", judged, "no_drift")
    assert up.http.get("/status").json()["estimate"]["live"] == {"rmse": 16.0, "inside": False}
    assert up.parts._live_error() == ("3", 16.0, "live")
    up.http.post("/events", json={"kind": "verdict", "model_version": "3", "estimate": {"known": "perhaps"}})
    assert up.http.get("/status").json()["estimate"] is None


def test_the_metrics_of_live_errors_are_exact(up: Up):
    figures = {
        "rmse": Figure(13.5, 12.0, None, 17.25, 0.4),
        "bias": Figure(-1.5, 0.25, -6.0, 6.5, 0.3),
        "coverage": Figure(0.88, 0.9, 0.7, None, 0.1),
    }
    judged = Judgement(verdict="no_drift", engines=20, least=8, window=20, reference=27, score=0.4, figures=figures)
    up.parts.concept.stop()
    next(thread for thread in up.parts._threads if thread.name == "concept-watch").join()
    up.parts.concept.report = Truth("3", judged, "no_drift")
    lines = up.http.get("/metrics").text.replace('fleet="cmapss",', "").splitlines()
    assert [line for line in lines if line.startswith(("driftloop_live", "driftloop_concept"))] == [
        'driftloop_concept_verdict{model_version="3",verdict="drift"} 0.0',
        'driftloop_concept_verdict{model_version="3",verdict="no_drift"} 1.0',
        'driftloop_concept_verdict{model_version="3",verdict="not_enough_data"} 0.0',
        'driftloop_concept_verdict{model_version="3",verdict="input_drift"} 0.0',
        'driftloop_live_engines{model_version="3"} 20.0',
        'driftloop_live_rmse{model_version="3"} 13.5',
        'driftloop_live_bias{model_version="3"} -1.5',
        'driftloop_live_coverage{model_version="3"} 0.88',
        'driftloop_live_limit{figure="rmse",model_version="3",side="upper"} 17.25',
        'driftloop_live_limit{figure="bias",model_version="3",side="lower"} -6.0',
        'driftloop_live_limit{figure="bias",model_version="3",side="upper"} 6.5',
        'driftloop_live_limit{figure="coverage",model_version="3",side="lower"} 0.7',
    ]


def test_events_are_read_from_where_one_left_off(up: Up):
    for i in range(3):
        assert up.http.post("/events", json={"kind": "verdict", "n": i}).json() == {"seq": i + 1}
    answer = up.http.get("/events?after=1").json()
    assert [event["n"] for event in answer["events"]] == [1, 2]
    assert answer["next"] == 3
    assert up.http.get("/events?after=3").json() == {"events": [], "next": 3}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({"kind": "No Kind"}, "kind"),
        ({"kind": "verdict", "seq": 7}, "seq"),
        ({"kind": "verdict", "time": "noon"}, "time"),
        ({"kind": "verdict", "time": 7}, "time"),
        ({"kind": "verdict", "id": {}}, "id"),
        ({"kind": "verdict", "model_version": 7}, "model_version"),
        ([], "body"),
    ],
)
def test_bad_events_are_refused_with_the_field(up: Up, body: Any, field: str):
    assert up.problems("/events", body)[0]["field"] == field


def test_how_far_the_step_that_runs_is_stands_in_the_status_and_in_no_event(up: Up):
    until_ready(up)
    told = {"run": "r1", "step": "train", "done": 340, "of": 800, "loss": 0.25, "seconds_left": 3.5}
    attempt = Attempt("fleet_change:1", "1", "2027-01-15T09:00:00Z", run="r1", step="train")
    before = up.events()
    with up.parts.store.change() as change:
        change.state.attempt, change.state.phase = attempt, "running"

    def shown() -> Any:
        return up.http.get("/status").json()["progress"]

    def tell(**changes: Any) -> None:
        assert up.http.post("/progress", json={**told, **changes}).status_code == 200

    assert shown() is None
    tell()
    assert shown() == {"step": "train", "done": 340, "of": 800, "loss": 0.25, "seconds_left": 3.5}
    tell(done=360, loss=None, seconds_left=None)
    assert shown() == {"step": "train", "done": 360, "of": 800, "loss": None, "seconds_left": None}
    tell(run="an earlier one", done=700)
    assert shown()["done"] == 360
    with up.parts.store.change() as change:
        change.state.attempt.step = "evaluate"
    assert shown() is None
    assert up.events() == before


@pytest.mark.parametrize(
    ("change", "field"),
    [({"of": 0}, "of"), ({"done": -1}, "done"), ({"loss": "low"}, "loss"), ({"run": ""}, "run"), ({"x": 1}, "body")],
)
def test_progress_that_is_none_is_refused_with_the_field(up: Up, change: dict[str, Any], field: str):
    told = {"run": "r1", "step": "train", "done": 340, "of": 800}
    assert up.problems("/progress", {**told, **change})[0]["field"] == field


def test_a_deeply_nested_event_is_refused(up: Up):
    assert up.problems("/events", b'{"kind":"verdict","a":' + b"[" * 50_000 + b"]" * 50_000 + b"}")


def test_by_hand_without_a_model_is_told_what_to_do(up: Up):
    until_ready(up)
    assert up.problems("/retrain", {"mode": "full"}, status=409)[0]["message"].startswith("nothing is in production")
    assert up.problems("/retrain", {"mode": "half"})[0]["field"] == "mode"
    assert up.problems("/promote", {"version": "9"}, status=404)[0]["message"] == "there is no version 9"
    assert up.problems("/promote", {"version": "x"}) == [
        {"field": "version", "message": "must be the number of a version"}
    ]
    assert "`from_version`" in up.problems("/rollback", {})[0]["message"]
    up.registry.add()
    nothing = up.problems("/rollback", {"from_version": "1"}, status=409)[0]["message"]
    assert nothing.startswith("nothing is in production, not version 1")


def test_a_promotion_and_a_rollback_by_hand(up: Up):
    until_ready(up)
    up.registry.add()
    up.registry.add(parent_version="1")
    said = [
        up.http.post(path, json=body).json()
        for path, body in (
            ("/promote", {"version": "1"}),
            ("/promote", {"version": "2", "from_version": "1"}),
            ("/promote", {"version": "2", "from_version": "1"}),
            ("/rollback", {"from_version": "2"}),
            ("/rollback", {"from_version": "2"}),
        )
    ]
    assert [(one["model_version"], one["from_version"], one["already"]) for one in said] == [
        ("1", None, False),
        ("2", "1", False),
        ("2", "1", True),
        ("1", "2", False),
        ("1", "2", True),
    ]
    assert [event["kind"] for event in up.events()] == ["promoted", "promoted", "rolled_back"]
    late = up.problems("/promote", {"version": "2", "from_version": "2"}, status=409)[0]["message"]
    assert late.startswith("version 1 is in production, not version 2")


def test_events_name_who_asked(up: Up):
    up.registry.add()
    up.registry.add()
    up.http.post("/promote", json={"version": "1"}, headers={"X-Driftloop-Actor": "Ann \u00c4".encode()})
    up.http.post("/promote", json={"version": "2"}, headers={"X-Driftloop-Actor": " \t"})
    up.http.post("/rollback", json={"from_version": "2"})
    assert [event["who"] for event in up.events()] == ["Ann \u00c4", "token", "token"]


def test_an_answer_to_what_nobody_asked_is_not_found(up: Up):
    assert up.problems("/approvals/2-ab", {"answer": "approve"}, status=404)[0]["field"] == "id"
    assert up.problems("/approvals/2-ab", {"answer": "perhaps"})[0]["field"] == "answer"
    assert up.http.get("/status").json()["approval"] is None


def test_schedules_are_added_listed_and_cancelled_over_http(up: Up):
    ann = {"X-Driftloop-Actor": "ann"}
    body = {"name": "weekly", "act": "retrain", "cron": "0 3 * * 1"}
    made = up.http.post("/schedules", json=body, headers=ann).json()
    assert (made["name"], made["cron"], made["who"]) == ("weekly", "0 3 * * 1", "ann")
    assert made["next"].endswith("T03:00:00.000Z")
    assert up.http.get("/schedules").json() == {"schedules": [made]}
    assert up.http.get("/status").json()["schedules"] == [made]
    for body, field, what in (
        ({"name": "x", "act": "retrain"}, "every_s", "either every_s or cron is needed"),
        ({"name": "x", "act": "retrain", "cron": "noon"}, "cron", "'noon' is no cron expression"),
        ({"name": "x", "act": "error"}, "above", "`error` needs `above`"),
        ({"name": "X Y", "act": "retrain"}, "name", "must be a name of lower-case letters"),
    ):
        (problem,) = up.problems("/schedules", body)
        assert problem["field"] == field
        assert problem["message"].startswith(what)
    assert up.http.delete("/schedules/weekly").json() == made
    assert up.http.delete("/schedules/weekly").status_code == 404
    assert up.http.delete("/schedules/weekly", headers={"Authorization": "Bearer no"}).status_code == 401
    assert [event["kind"] for event in up.events()] == ["schedule_added", "schedule_removed"]


def test_causes_are_muted_and_told_of_again_over_http(up: Up):
    muted = up.http.post("/mute", json={"cause": "fleet_change:1", "for_s": 3600, "reason": "known"}).json()
    assert (muted["cause"], muted["reason"], muted["who"]) == ("fleet_change:1", "known", "token")
    assert up.http.get("/status").json()["muted"] == [muted]
    assert up.http.post("/mute", json={"cause": "concept", "until": "2999-01-01T00:00:00Z"}).status_code == 422
    for body in ({"cause": "concept"}, {"cause": "concept", "until": "noon"}, {"cause": "a b", "for_s": 5}):
        assert up.problems("/mute", body)
    unknown = up.problems("/mute", {"cause": "fleet_chang", "for_s": 5})[0]["message"]
    assert unknown.startswith("'fleet_chang' is no kind of causes; there are fleet_change, sensor_fault, concept,")
    for kind in unknown.partition("there are ")[2].split(", "):
        assert up.http.post("/mute", json={"cause": kind, "for_s": 5}).status_code == 200, kind
        assert up.http.delete(f"/mute/{kind}").status_code == 200
    assert up.http.delete("/mute/fleet_change:1").json() == muted
    assert up.http.delete("/mute/fleet_change:1").status_code == 404


def test_first_aid_by_hand_without_a_model_is_told_what_to_do(up: Up):
    up.wait(lambda: up.http.get("/readyz").is_success)
    assert up.problems("/first-aid", {}, status=409)[0]["message"].startswith("nothing is in production")


def test_a_person_approves_over_http_and_who_is_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    up = Up(tmp_path, monkeypatch, promotion="approve", min_new_engines=1, shadow_answers=0)
    up.registry.add(decision="promoted")
    up.registry.pointers["production"] = "1"

    def approving(job: Job) -> None:
        version = up.registry.add(retraining=job.run, cause=job.cause, parent_version=job.champion)
        promotion.decide(up.registry, version, promotion.APPROVED, "better", job.cause)

    up.backend.script = approving
    with up.http:
        up.wait(lambda: up.http.get("/readyz").is_success)
        up.http.post("/archive/runs", json={"runs": [run_of(f"eng-{i}", seed=i) for i in range(12)]})
        assert up.http.post("/retrain", json={}).is_success
        up.wait(lambda: up.http.get("/status").json()["approval"])
        waiting = up.http.get("/status").json()["approval"]
        path, ann = f"/approvals/{waiting['id']}", {"X-Driftloop-Actor": "ann"}
        answer = up.http.post(path, json={"answer": "approve", "reason": "fine"}, headers=ann).json()
        assert (answer["id"], answer["version"], answer["who"]) == (waiting["id"], "2", "ann")
        up.wait(lambda: up.registry.pointers["production"] == "2")
        late = up.problems(path, {"answer": "reject"}, status=409)
        assert late[0]["message"].startswith("was approved by ann at ")
        assert late[0]["message"].endswith(": fine")


def test_a_registry_that_is_down_is_503_and_the_service_stays_alive(up: Up):
    until_ready(up)
    up.registry.down = True
    assert up.problems("/promote", {"version": "1"}, status=503)[0]["field"] == "registry"
    assert up.http.get("/healthz").status_code == 200
    assert up.http.get("/status").json()["state"] == "idle"


def test_it_is_ready_once_the_registry_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    up = Up(tmp_path, monkeypatch)
    up.registry.down = True
    with up.http:
        assert up.http.get("/readyz").status_code == 503
        up.registry.down = False
        up.parts.worker.poke()
        until_ready(up)


def test_two_retrainers_do_not_work_on_one_folder(up: Up):
    with pytest.raises(DriftloopError, match="another retrainer works on this folder"):
        service.create_app(up.settings, backend=FakeBackend())


def test_metrics_show_state_events_and_runs(up: Up):
    up.http.post("/archive/runs", json={"runs": [run_of("eng-1")]})
    up.http.post("/events", json={"kind": "something_else"})
    text = up.http.get("/metrics").text.replace('fleet="cmapss",', "")
    assert 'driftloop_loop_state{state="idle"} 1.0' in text
    assert 'driftloop_loop_state{state="running"} 0.0' in text
    assert 'driftloop_loop_events_total{kind="runs_archived"} 1.0' in text
    assert 'driftloop_loop_events_total{kind="other"} 1.0' in text
    assert sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("driftloop_archive_runs{")) == 1


def until_ready(up: Up) -> None:
    """Wait for the worker's first move."""
    while up.http.get("/readyz").status_code != 200:
        up.parts.worker.poke()


def test_no_request_that_fits_the_schema_or_not_is_a_server_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    up = Up(tmp_path, monkeypatch)
    schema = schemathesis.openapi.from_dict(up.app.openapi())

    with up.http:
        until_ready(up)
        for operation in schema.get_all_operations():
            exercise(operation.ok(), up)


def exercise(operation: Any, up: Up) -> None:
    """Send generated requests of one operation through the running application."""

    @given(case=operation.as_strategy())
    @hypothesis_settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def send(case: Any) -> None:
        request = case.as_transport_kwargs()
        answer = up.http.request(
            case.method,
            case.formatted_path,
            params=request.get("params"),
            content=json.dumps(request["json"]).encode() if "json" in request else request.get("data"),
        )
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code in (400, 401, 409, 413, 422):
            assert all(problem["field"] for problem in answer.json()["detail"])

    send()
