"""Concept drift by the real commands: the same inputs, another remaining life; and a fleet where nothing changes.

No request is sent at all: completed engines are what tells, and the drift watch has nothing to see.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from driftloop.drift import outcomes
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.simulator import simulate
from driftloop.protocol.archive_client import batches
from live_platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

ENGINES = 80


def engines(name: str, count: int, *, hurried: bool = False) -> list[Run]:
    """Completed runs of simulated FD001 engines; one name gives the same engines again.

    Those that are `hurried` wear twice as fast: what a sensor reads is as ever, the cycles that are left are half.
    """
    lives = simulate("FD001", seed=sum(name.encode()), engines=count, splits=("train",)).train
    return [Run(f"{name}-{i}", rows[::-1][:: 2 if hurried else 1][::-1]) for i, rows in enumerate(lives)]


def complete(platform: Platform, runs: list[Run]) -> None:
    """The engines reach the end of their lives, and their runs the archive."""
    for body, _ in batches(runs):
        platform.post("/archive/runs", body).raise_for_status()


def judged(platform: Platform, version: str, count: int) -> dict[str, Any]:
    """What the status says of a version once it has judged that many engines."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = platform.loop().get("concept") or {}
        return found if found.get("model_version") == version and found.get("engines", 0) >= count else None

    status: dict[str, Any] = platform.wait(look, f"the judgement of {count} engines by version {version}")
    return status


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a champion trained on simulated engines."""
    with Platform(
        tmp_path_factory.mktemp("concept") / "state", engines=ENGINES, DRIFTLOOP_SUPERSEDE_PAUSE_S="2"
    ) as running:
        complete(running, engines("first", ENGINES))
        assert running.run("train", "--promote").returncode == 0
        running.wait(lambda: running.served() == "1", "the server to serve version 1")
        yield running


def test_a_healthy_fleet_raises_nothing(platform: Platform) -> None:
    complete(platform, engines("healthy", 25))
    concept = judged(platform, "1", 25)
    assert concept["verdict"] == "no_drift", concept
    assert concept["figures"]["rmse"]["value"] < concept["figures"]["rmse"]["upper"]
    assert platform.of_kind("alert_firing") == []
    assert "labels no_drift" in platform.run("status").stdout


def test_a_true_rul_can_be_fed_back_with_what_was_answered(platform: Platform) -> None:
    run = engines("asked", 1)[0]
    window = {"rows": run.rows[:60].tolist(), "engine_id": run.run_id, "cycle": 60}
    answer = httpx.post(f"{platform.urls['server']}/predict", json=window, trust_env=False).raise_for_status().json()
    body = {"outcomes": [{"true_rul": float(run.rul[59]), "prediction": answer}]}
    assert platform.post("/feedback", body).json() == {"added": 1, "known": 0}
    # Where server and retrainer share a machine, the answer itself need not be kept.
    again = {"outcomes": [{"true_rul": float(run.rul[59]), "engine_id": run.run_id, "cycle": 60}]}
    platform.wait(lambda: platform.post("/feedback", again).json() == {"added": 0, "known": 1}, "the inference log")


def test_half_the_life_at_the_same_readings_leads_to_a_model_that_knows_it(platform: Platform) -> None:
    complete(platform, engines("hurried", ENGINES, hurried=True))
    alert = platform.wait(lambda: platform.of_kind("alert_firing"), "the alert")[0]
    assert (alert["drift"], alert["cause"]) == ("concept", "concept:1")
    assert "bias" in alert["features"]
    said = platform.wait(lambda: platform.of_kind("about_to_supersede", cause="concept:1"), "the announcement")[0]
    assert said["reason"].startswith(f"about to supersede {said['labels']} labels because of {said['count']} runs (")
    platform.wait(lambda: platform.of_kind("promoted", cause="concept:1"), "the promotion")
    platform.wait(lambda: platform.of_kind("alert_resolved", cause="concept:1"), "the end of the alert")
    assert platform.production() == "2"
    decided = platform.of_kind("gate_decided")[0]
    assert "old" not in decided["figures"]
    assert decided["figures"]["new"]["rmse_challenger"] < decided["figures"]["new"]["rmse_champion"]
    assert [item["decision"] for item in platform.loop()["history"]] == ["promoted"]

    folder = platform.registry.fetch("2", platform.state / "fetched")
    manifest = msgspec.json.decode((folder / "metadata.json").read_bytes())["manifest"]
    learnt = {entry["run_id"] for entry in manifest if not entry.get("superseded", False)}
    assert not any(run_id.startswith("first") for run_id in learnt)
    # They all came at once: of these the newest that a verdict looks at.
    assert sum(run_id.startswith("hurried") for run_id in learnt) > outcomes.MOST - 5
    # Where the change began is found but for a few engines.
    assert sum(run_id.startswith("healthy") for run_id in learnt) < 6


def test_the_new_model_is_right_about_the_engines_that_follow(platform: Platform) -> None:
    complete(platform, engines("following", 20, hurried=True))
    concept = judged(platform, "2", 20)
    assert concept["verdict"] == "no_drift", concept
    text = httpx.get(f"{platform.urls['retrainer']}/metrics", trust_env=False).text.replace('fleet="cmapss",', "")
    assert f'driftloop_live_rmse{{model_version="2"}} {concept["figures"]["rmse"]["value"]}' in text
    assert 'driftloop_concept_verdict{model_version="2",verdict="no_drift"} 1.0' in text
    assert len(platform.of_kind("retraining_started")) == 1
