"""The archive's endpoints: what may come in, under which id, with which role, and how it is taken back."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleet import roles
from driftloop.fleet.archive import Archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.simulator import simulate

from .test_service import Up

FLEET_FILE = """
name = "pumps"
unit = "pump"
sensors = ["vibration", "pressure"]
settings = []
end = { sensor = "pressure", below = 1.0 }
"""


@cache
def engines() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Simulated engines that failed, and that had not."""
    content = simulate("FD001", seed=5, engines=20)
    return content.train, content.test


def posted(name: str, lives: list[np.ndarray], **more: Any) -> dict[str, Any]:
    return {"runs": [{"run_id": f"{name}-{i}", "rows": rows.tolist(), **more} for i, rows in enumerate(lives)]}


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    running = Up(tmp_path, monkeypatch)
    with running.http:
        yield running


@pytest.fixture
def full(up: Up) -> Up:
    """With twenty failed engines in the archive."""
    up.http.post("/archive/runs", json=posted("eng", engines()[0])).raise_for_status()
    return up


def test_engines_that_had_not_failed_are_refused_with_what_can_be_done(full: Up) -> None:
    (problem,) = full.problems("/archive/runs", posted("pm", engines()[1]))
    assert problem["field"].startswith("runs[")
    for part in ("does not look like the life of a failed engine", '"confirmed": true', "--failed", "--censored"):
        assert part in problem["message"]
    assert len(full.http.get("/archive/runs").json()["runs"]) == 20
    assert [event["kind"] for event in full.events()][-1] == "runs_refused"


def test_a_person_may_say_that_they_failed(full: Up) -> None:
    body = posted("pm", engines()[1], confirmed=True)
    assert len(full.http.post("/archive/runs", json=body).json()["added"]) == 20


def test_what_was_taken_out_is_archived_without_a_label(full: Up) -> None:
    body = posted("pm", engines()[1], censored=True)
    assert len(full.http.post("/archive/runs", json=body).json()["added"]) == 20
    assert full.parts.archive.failed_ids() == sorted(f"eng-{i}" for i in range(20))
    assert set(full.parts.feedback.engines()) == {f"eng-{i}" for i in range(20)}


def test_a_look_alone_archives_nothing(full: Up) -> None:
    assert full.problems("/archive/runs", {**posted("pm", engines()[1]), "only_check": True})
    body = {**posted("more", [rows + 0.001 for rows in engines()[0]]), "only_check": True}
    assert full.http.post("/archive/runs", json=body).json() == {"added": [], "known": []}
    assert len(full.http.get("/archive/runs").json()["runs"]) == 20


def test_the_same_rows_under_other_ids_are_known(full: Up) -> None:
    answer = full.http.post("/archive/runs", json=posted("copy", engines()[0][:2])).json()
    assert answer == {
        "added": [],
        "known": ["copy-0", "copy-1"],
        "same_as": {"copy-0": "eng-0", "copy-1": "eng-1"},
    }


def test_where_a_column_tells_the_end_a_run_that_does_not_reach_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET_FILE)
    up = Up(tmp_path, monkeypatch, fleet=str(tmp_path / "fleet.toml"))
    with up.http:
        ended, going_on = [[1.0, 3.0], [None, 0.5]], [[1.0, 3.0], [2.0, 2.5]]
        body = {"runs": [{"run_id": "a", "rows": ended}, {"run_id": "b", "rows": going_on}]}
        (problem,) = up.problems("/archive/runs", body)
        assert problem["field"] == "runs[1]"
        assert "never reaches its end: pressure is 2.5 in the last row, not below 1" in problem["message"]
        body["runs"][1]["censored"] = True
        assert up.http.post("/archive/runs", json=body).json()["added"] == ["a", "b"]


def test_roles_are_dealt_for_units_that_are_not_archived_yet(up: Up) -> None:
    cells = [f"cell-{i}" for i in range(17)]
    dealt = up.http.post("/archive/roles", json={"run_ids": cells, "least": {"live": 3}}).json()["roles"]
    assert roles.lacking(dealt.values(), {**up.settings.schema.least, "live": 3}) == {}
    assert up.http.get("/archive/roles").json() == {"roles": dealt}
    assert up.http.post("/archive/roles", json={"run_ids": cells}).json()["roles"] == dealt


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"run_ids": []}, "run_ids"),
        ({"run_ids": ["a/b"]}, "run_ids[0]"),
        ({"run_ids": ["a"], "least": {"train": -1}}, "least[...]"),
        ({"run_ids": ["a"], "least": {"boss": 1}}, "least"),
    ],
)
def test_a_bad_question_for_roles_is_refused_with_the_field(up: Up, body: Any, field: str) -> None:
    assert up.problems("/archive/roles", body)[0]["field"].startswith(field[:5])


def test_a_wrong_file_is_taken_back_and_the_versions_that_know_it_are_named(full: Up) -> None:
    wrong = posted("pm", engines()[1], confirmed=True)
    full.http.post("/archive/runs", json=wrong).raise_for_status()
    sums = [Run("x", rows).sha256 for rows in engines()[1]]
    answer = full.http.post("/archive/withdraw", json={"sha256": sums, "reason": "test engines"}).json()
    assert (len(answer["withdrawn"]), answer["before"], answer["versions"]) == (20, [], [])
    assert len(full.http.get("/archive/runs").json()["runs"]) == 20
    gone = full.http.get("/archive/withdrawn").json()["runs"]
    assert {run["run_id"] for run in gone} == {f"pm-{i}" for i in range(20)}
    assert {run["reason"] for run in gone} == {"test engines"}
    said = [event for event in full.events() if event["kind"] == "runs_withdrawn"]
    assert [(event["count"], event["reason"]) for event in said] == [(20, "test engines")]
    assert "was withdrawn" in full.problems("/archive/runs", wrong, status=409)[0]["message"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [({}, 422, "runs"), ({"runs": ["nobody"]}, 404, "runs"), ({"sha256": ["0" * 64]}, 404, "sha256")],
)
def test_what_is_not_archived_cannot_be_taken_back(full: Up, body: Any, status: int, field: str) -> None:
    assert full.problems("/archive/withdraw", body, status=status)[0]["field"] == field


def test_a_store_that_is_away_is_no_fault_of_who_takes_runs_back(full: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise DataError("the store does not answer")

    monkeypatch.setattr(Archive, "withdraw", away)
    assert full.problems("/archive/withdraw", {"runs": ["a"]}, status=503)[0]["field"] == "archive"
