"""One whole experiment against a platform that recovers on cue, and what is written about it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop.errors import DriftloopError
from driftloop_bench.experiment import recovery
from driftloop_bench.experiment.commands import result_table, succeeded
from driftloop_bench.experiment.fields import FIELDS
from driftloop_bench.experiment.marks import Marks, answers_after
from driftloop_bench.experiment.recording import Plan, Recording
from driftloop_bench.experiment.recovery import SIMULATED, assess
from driftloop_bench.experiment.reference import windows_of
from driftloop_bench.experiment.results import METRICS, SUMMARY, TIMELINE, TRAFFIC, write_results
from driftloop_bench.experiment.run import labels_after, run_experiment
from driftloop_bench.experiment.traffic import Change, read_records
from driftloop_bench.experiment.watching import Observer

from .conftest import FakePlatform

PLAN = Plan(rate=400, healthy_s=0.2, healthy_timeout_s=20, timeout_s=30, answers=550)
KNOWN = (
    "t0", "t1", "t2", "t_rt", "t4", "t5", "detection_s", "trigger_s", "retrain_s", "rollout_s", "verification_s",
    "core_recovery_s", "total_s", "requests_total", "requests_failed", "psi_before", "psi_after", "rmse_healthy",
    "rmse_drifted", "rmse_recovered", "rmse_reference", "champion_version", "challenger_version", "decision",
    "data_source", "seed",
)  # fmt: skip


class Diary(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.marks: dict[str, float] = {}
        self.ticks = 0

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def mark(self, name: str, seconds: float, _: Marks) -> None:
        assert name not in self.marks
        self.marks[name] = seconds

    def tick(self, _: Recording) -> None:
        self.ticks += 1


async def record(platform: FakePlatform, plan: Plan, folder: Path) -> tuple[Recording, Diary]:
    diary = Diary()
    async with platform.running(folder) as configured:
        return await run_experiment(plan, configured, diary), diary


async def test_a_recovery_is_driven_observed_and_written_down(platform: FakePlatform, tmp_path: Path) -> None:
    recording, diary = await record(platform, PLAN, tmp_path)
    assert recording.ended_by == "recovered"
    assert list(diary.marks) == ["t0", "t1", "t2", "t_rt", "t4"]
    assert diary.stages[0] == "healthy traffic of FD001, 400 requests/s"
    assert diary.stages[1] == "change: 100% of requests from engines of FD002"
    assert diary.ticks > 0
    assert platform.requests == len(recording.records)
    assert len(platform.runs) == recording.posted_runs > 0
    assert platform.tokens == {"Bearer a token of sufficient length"}

    answers = answers_after(recording.records, "2")
    assert len(answers) >= 550
    assert [len(window) for window in windows_of(recording, answers)] == [min(30, one.cycle) for one in answers]
    outcome = assess(recording, np.array([one.rul for one in answers], dtype=float))
    assert outcome.recovered
    assert succeeded(outcome)
    result_table(outcome)

    write_results(outcome, tmp_path / "results")
    metrics = json.loads((tmp_path / "results" / METRICS).read_text())
    assert [name for name in KNOWN if metrics[name] is None] == []
    assert (metrics["champion_version"], metrics["challenger_version"], metrics["decision"]) == ("1", "2", "promoted")
    assert (metrics["psi_before"], metrics["psi_after"]) == (5.0, 0.5)
    assert metrics["requests_failed"] == 0
    assert metrics["ratio_upper_bound"] == 1
    assert metrics["data_source"] == "simulated"
    assert metrics["note"] == SIMULATED
    assert SIMULATED in (tmp_path / "results" / SUMMARY).read_text()
    assert (tmp_path / "results" / TIMELINE).read_bytes().startswith(b"\x89PNG")
    assert read_records(tmp_path / "results" / TRAFFIC) == recording.records


async def test_without_a_reference_there_is_no_t5_but_everything_else(platform: FakePlatform, tmp_path: Path) -> None:
    recording, _ = await record(platform, PLAN, tmp_path)
    outcome = assess(recording, None, "no reference model was trained")
    assert not outcome.recovered
    assert succeeded(outcome, with_reference=False)
    assert outcome.metrics["missing"] == {"t5": "no reference model was trained"}
    assert set(outcome.metrics) == set(FIELDS), "docs/reference tells of others"
    write_results(outcome, tmp_path / "results")


async def test_a_sensor_fault_that_is_refused_ends_the_experiment(tmp_path: Path) -> None:
    platform = FakePlatform(recovers=False)
    change = Change("bias", share=1.0, sigmas=3)
    plan = replace(PLAN, change=change)

    class Fault(Observer):
        """No runs arrive in this experiment, so the cue for the platform's alert is the change itself."""

        alarmed = False

        def tick(self, recording: Recording) -> None:
            if not self.alarmed and any(one.changed for one in recording.records):
                self.alarmed = True
                platform.drift()

    async with platform.running(tmp_path) as configured:
        recording = await run_experiment(plan, configured, Fault())
    assert recording.ended_by == "retraining_refused"
    assert not platform.runs
    outcome = assess(recording, None, "no new version answered")
    assert succeeded(outcome)
    assert outcome.marks.reasons["t2"] == "retraining was refused: a sensor fault"
    assert outcome.metrics["decision"] == "retraining_refused"
    assert outcome.metrics["rmse_reference"] is None
    write_results(outcome, tmp_path / "results")


async def test_a_refusal_about_a_version_that_is_not_in_production_ends_nothing(
    platform: FakePlatform, tmp_path: Path
) -> None:
    alert = platform.alert

    def refused_too() -> None:
        alert()
        platform.event("retraining_refused", model_version="0", reason="version 1 is in production")

    platform.alert = refused_too  # type: ignore[method-assign]
    recording, _ = await record(platform, PLAN, tmp_path)
    assert recording.ended_by == "recovered"
    assert "0" in {event.get("model_version") for event in recording.events if event["kind"] == "retraining_refused"}


async def test_without_a_change_the_experiment_lasts_as_long_as_it_was_told(
    platform: FakePlatform, tmp_path: Path
) -> None:
    plan = replace(PLAN, change=Change("none"), timeout_s=0.5)
    recording, _ = await record(platform, plan, tmp_path)
    outcome = assess(recording, None)
    assert recording.ended_by == "timeout of 0.5 s"
    assert succeeded(outcome)
    assert not platform.runs
    write_results(outcome, tmp_path / "results")


def test_a_retraining_under_way_is_no_decision() -> None:
    at = "2026-01-01T00:00:00.000Z"
    kinds = ["waiting_for_labels", "retraining_started", "promoted"]
    events = [{"kind": kind, "time": at} for kind in kinds]
    decisions = [recovery._decision(events[:count], 0.0) for count in range(4)]
    assert decisions == ["none", "waiting_for_labels", "none", "promoted"]


async def test_the_stub_is_no_champion(tmp_path: Path) -> None:
    with pytest.raises(DriftloopError, match="driftloop train --promote"):
        await record(FakePlatform(stub=True), PLAN, tmp_path)


async def test_a_platform_that_is_not_up_is_said_so(tmp_path: Path) -> None:
    async with FakePlatform().running(tmp_path) as configured:
        pass
    with pytest.raises(DriftloopError, match="is the platform up"):
        await run_experiment(PLAN, configured, Observer())


async def test_a_watch_that_never_judges_is_an_error(platform: FakePlatform, tmp_path: Path) -> None:
    platform.verdict = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(DriftloopError, match="it said nothing"):
        await record(platform, replace(PLAN, healthy_timeout_s=0.5), tmp_path)


async def test_labels_that_come_late_leave_time_for_first_aid(tmp_path: Path) -> None:
    """T_FA is told between T1 and T2, and its error and coverage beside those of the labelled version."""
    recording, diary = await record(FakePlatform(aids=True), replace(PLAN, labels_after_s=0.5), tmp_path)
    assert list(diary.marks) == ["t0", "t1", "t_fa", "t2", "t_rt", "t4"]
    assert diary.marks["t_fa"] < 0.5 <= diary.marks["t2"]
    answers = answers_after(recording.records, "3")
    outcome = assess(recording, np.array([one.rul for one in answers], dtype=float))
    assert succeeded(outcome)
    write_results(outcome, tmp_path / "results")
    metrics = json.loads((tmp_path / "results" / METRICS).read_text())
    aided = [one for one in recording.records if one.version == "2"]
    errors = [one.rul - one.true_rul for one in aided if one.rul is not None]
    assert metrics["rmse_first_aid"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=1e-3)
    assert (metrics["coverage_first_aid"], metrics["labels"]) == (1.0, 0.5)
    assert 0 < metrics["first_aid_s"] < metrics["trigger_s"]
    assert metrics["t_fa"] is not None
    page = (tmp_path / "results" / SUMMARY).read_text()
    assert "| T_FA | first answer from a version that was given first aid" in page
    assert "Labels of the new engines: 0.5 s after T0" in page


@pytest.mark.parametrize(
    ("text", "seconds"), [("at-once", 0.0), ("never", None), ("after:60", 60.0), ("60", 60.0), ("after:0.5", 0.5)]
)
def test_when_labels_come_is_said_in_words(text: str, seconds: float | None) -> None:
    assert labels_after(text) == seconds


@pytest.mark.parametrize("text", ["soon", "after:", "after:-1", "-1", "nan", "after:inf", ""])
def test_labels_that_come_at_no_time_are_refused(text: str) -> None:
    with pytest.raises(DriftloopError, match="after:SECONDS"):
        labels_after(text)


async def test_where_a_person_is_asked_a_run_ends_unless_somebody_answers(tmp_path: Path) -> None:
    """With `person` it goes on, and what was approved is the new version as any other."""
    ended = await record(FakePlatform(asks=True), PLAN, _made(tmp_path / "nobody"))
    assert ended[0].ended_by == "approval_needed"
    went_on, diary = await record(FakePlatform(asks=True), replace(PLAN, person=True), _made(tmp_path / "somebody"))
    assert went_on.ended_by == "recovered"
    assert list(diary.marks)[-2:] == ["t_rt", "t4"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
