"""The fleet in service on a whole platform: rows go in one by one, processes die, units fail, labels follow."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftloop.durable import parse_time
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.protocol.archive_client import post_runs
from live_platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

FAILING = 4


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with version 1 in production."""
    with Platform(tmp_path_factory.mktemp("units") / "state", engines=60) as platform:
        post_runs(fleet(platform, live=False), platform.urls["retrainer"], platform.settings.token)
        assert platform.run("train", "--promote").returncode == 0
        platform.wait(lambda: platform.served() == "1", "version 1 to be served")
        yield platform


def fleet(platform: Platform, *, live: bool) -> list[Run]:
    found = load_fleet("FD001", platform.settings, splits=("train",)).train
    return [run for run in found if (run.role == "live") is live]


def rows_of(run: Run) -> list[dict[str, Any]]:
    """A run's rows as a gateway sends them."""
    names = [*(f"setting_{at}" for at in (1, 2, 3)), *(f"sensor_{at}" for at in range(1, 22))]
    return [
        {"unit": run.run_id, "cycle": at, **dict(zip(names, row, strict=True))}
        for at, row in enumerate(run.rows.tolist(), 1)
    ]


def send(platform: Platform, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Send rows until they are acknowledged, as a gateway does; what became of them."""
    headers = {"Authorization": f"Bearer {platform.settings.token}"}

    def answered() -> list[str] | None:
        try:
            answer = httpx.post(
                platform.urls["units"] + "/telemetry", json=list(rows), headers=headers, trust_env=False, timeout=30.0
            )
        except httpx.HTTPError:
            return None
        assert answer.status_code in (200, 503), answer.text
        return list(answer.json()["results"]) if answer.is_success else None

    return list(platform.wait(answered, "rows to be taken"))


def predicted(platform: Platform) -> float:
    """Windows that the server has counted as traffic, whatever version answered."""
    text = httpx.get(platform.urls["server"] + "/metrics", trust_env=False).text
    counts = [line for line in text.splitlines() if line.startswith("driftloop_predictions_total{")]
    assert counts
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def kill(platform: Platform, component: str) -> None:
    os.kill(platform.pid(component), signal.SIGKILL)


def unit(platform: Platform, name: str) -> dict[str, Any]:
    return platform.get("units", f"/units/{name}?steps=1000") or {"predictions": [], "lives": []}


def test_rows_go_in_while_processes_die_and_every_step_is_answered_once(platform: Platform) -> None:
    runs = fleet(platform, live=True)[:FAILING]
    longest = max(len(run.rows) for run in runs)
    sent = 0
    for cycle in range(longest):
        batch = [rows_of(run)[cycle] for run in runs if cycle < len(run.rows)]
        assert set(send(platform, batch)) <= {"stored", "known"}
        sent += len(batch)
        if cycle == 30:
            kill(platform, "units")
        if cycle == 60:
            kill(platform, "server")
    for run in runs:
        steps = list(range(1, len(run.rows) + 1))
        platform.wait(
            lambda run=run, steps=steps: [one["step"] for one in unit(platform, run.run_id)["predictions"]] == steps,
            f"every step of {run.run_id}",
        )
        assert {one["version"] for one in unit(platform, run.run_id)["predictions"]} == {"1"}
    listed = platform.get("units", "/units") or {}
    assert listed["total"] == FAILING
    assert listed["units"] == sorted(listed["units"], key=lambda one: one["low"])


def test_failed_units_are_archived_and_their_labels_reach_the_concept_watch(platform: Platform) -> None:
    runs = fleet(platform, live=True)[:FAILING]
    before = platform.loop()["concept"].get("engines", 0)
    for run in runs[:-1]:
        assert platform.run("units", "event", run.run_id, "failed", "--who", "the test").returncode == 0
    assert platform.run("units", "event", runs[-1].run_id, "removed").returncode == 0
    for run in runs:
        platform.wait(
            lambda run=run: unit(platform, run.run_id)["lives"][-1]["archive"] == "archived", f"{run.run_id} archived"
        )
    archived = {one["run_id"] for one in (platform.get("retrainer", "/archive/runs") or {})["runs"]}
    assert {run.run_id for run in runs} <= archived
    platform.wait(lambda: platform.loop()["concept"].get("engines", 0) == before + FAILING - 1, "the labels")
    for run in runs[:-1]:
        last = unit(platform, run.run_id)["predictions"]
        assert [one["true_rul"] for one in last] == [
            float(len(run.rows) - step) for step in range(1, len(run.rows) + 1)
        ]
    assert unit(platform, runs[-1].run_id)["predictions"][0]["true_rul"] is None
    assert platform.of_kind("feedback_received")


def test_a_backfill_is_no_traffic(platform: Platform, tmp_path: Path) -> None:
    runs = fleet(platform, live=True)[FAILING : 2 * FAILING]
    rows = [row for run in runs for row in rows_of(run)]
    table = tmp_path / "last-year.csv"
    table.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    before = predicted(platform)
    assert platform.run("units", "backfill", str(table)).returncode == 0
    for run in runs:
        platform.wait(
            lambda run=run: [one["step"] for one in unit(platform, run.run_id)["predictions"]] == [len(run.rows)],
            f"the newest step of {run.run_id}",
        )
    # Answers to a history are kept with their units, and count nowhere as traffic.
    assert predicted(platform) == before


def test_a_changed_fleet_is_learnt_from_its_failures_alone(platform: Platform, tmp_path: Path) -> None:
    before = int(platform.served() or 0)
    done = platform.run(
        "experiment", "--through", "telemetry", "--units", "20", "--rate", "160", "--healthy-s", "5", "--answers",
        "500", "--timeout-s", "400", "--results", str(tmp_path),
    )  # fmt: skip
    metrics = json.loads((tmp_path / "telemetry_metrics.json").read_text())
    # Whether a version with labels is better than first aid without is decided on a handful of failures.
    assert (done.returncode == 0) is metrics["recovered"]
    assert metrics["recovered"] or ("rejected" in metrics["decisions"] and metrics["t_fa"] is not None), metrics
    names = ("t0", "first_failure", "labels_enough", "t2")
    marks = [parse_time(metrics[name]) for name in names]
    assert marks == sorted(marks)
    assert metrics["rows_unanswered"] == 0, metrics["failures"]
    assert metrics["failed_units_changed_at_labels_enough"] > 0
    if metrics["recovered"]:
        assert int(metrics["challenger_version"]) > before
        assert metrics["rmse_recovered_below_cap"] < metrics["rmse_drifted_below_cap"]
    assert "SIMULATED DATA" in (tmp_path / "telemetry_summary.md").read_text()
    assert (tmp_path / "telemetry_timeline.png").read_bytes().startswith(b"\x89PNG")
    # The runs of the new fleet came by their failures and by nothing else.
    listed = platform.get("units", "/units?state=failed&limit=1000") or {}
    archived = {one["run_id"] for one in (platform.get("retrainer", "/archive/runs") or {})["runs"]}
    failed = {one["unit"] for one in listed["units"]}
    assert metrics["failed_units_changed"] <= len(failed)
    posted = {run.run_id for run in fleet(platform, live=False)}
    assert archived - posted <= failed | {run.run_id for run in fleet(platform, live=True)}
