"""What every step of the pipeline tells the retrainer, whatever it does."""

from pathlib import Path
from typing import Any

import pytest

from driftloop.errors import DriftloopError
from driftloop.loop import dataset, steps
from driftloop.loop.judge import plan
from driftloop.model.registry import Registry, Version


class FakeClient:
    """A retrainer that takes every event, or none."""

    def __init__(self, told: list[dict[str, Any]], takes: bool = True) -> None:
        self.told, self.takes = told, takes

    def __call__(self, *_: object) -> "FakeClient":
        return self

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def report(self, event: dict[str, Any]) -> bool:
        self.told.append(event)
        return self.takes


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(steps, "Client", FakeClient(events))
    return events


def kinds(told: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in told]


def test_a_step_tells_of_its_start_and_its_end(told: list[dict[str, Any]]) -> None:
    with steps._step("train", "run-1", "manual"):
        pass
    assert kinds(told) == ["step_started", "step_finished"]
    assert {(event["run"], event["cause"], event["step"]) for event in told} == {("run-1", "manual", "train")}


def test_a_step_that_raises_tells_why_before_it_dies(told: list[dict[str, Any]]) -> None:
    with pytest.raises(DriftloopError, match="damaged"), steps._step("collect", "run-1", "manual"):
        raise DriftloopError("run eng-7 is damaged", where="archive")
    assert kinds(told) == ["step_started", "step_failed"]
    assert told[-1]["error"] == "DriftloopError: archive: run eng-7 is damaged"
    assert told[-1]["step"] == "collect"


def test_a_step_raises_its_own_error_where_nobody_takes_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "Client", FakeClient([], takes=False))
    with pytest.raises(ValueError, match="too long"), steps._step("train", "run-1", "manual"):
        raise ValueError("too long" + "x" * 9000)


def test_what_is_told_is_bounded(told: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError), steps._step("train", "run-1", "manual"):  # noqa: PT011 (any)
        raise ValueError("x" * 9000)
    assert len(told[-1]["error"]) == steps._ERROR_CHARACTERS


@pytest.mark.parametrize("decision", ["promoted", "rolled_back", "abandoned"])
def test_the_gate_does_not_write_over_what_a_person_has_decided_meanwhile(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decision: str
) -> None:
    known = Version("2", "run2", "mlflow-artifacts:/2", 0.0, {"decision": decision})
    monkeypatch.setattr(Registry, "version", lambda *_: known)
    monkeypatch.setattr(Registry, "set_tags", lambda *_: pytest.fail("a tag was written"))
    dataset.write(plan.Plan([], [], [], [], [], []), tmp_path)
    assert steps.evaluate("run-1", "fleet_change:1", "1", "2", str(tmp_path), "", "") == decision
    assert kinds(told) == ["step_started", "step_finished"]
