"""A campaign: its cases, the command that runs each, and the table."""

import csv
import json
import sys
from pathlib import Path

import pytest

from driftloop.errors import DriftloopError
from driftloop_bench.experiment import campaign, commands
from driftloop_bench.experiment.campaign import Case, cases, row_of, run_cases, summary, write_campaign

METRICS = {
    "t1": "2026-01-01T00:00:00.000Z", "t2": "2026-01-01T00:00:00.000Z", "detection_s": 2.0, "core_recovery_s": 12.0,
    "total_s": 40.0, "recovered": True, "decision": "promoted", "false_alarms_before_t0": 0, "requests_total": 5000,
    "requests_failed": 0, "data_source": "nasa",
}  # fmt: skip
# Writes the metrics that fit its options, as `driftloop demo` does; a seed of 9 leaves nothing.
CASE = f"""
import json, pathlib, sys
o = dict(zip(sys.argv[1::2], sys.argv[2::2]))
metrics = {METRICS!r}
if o["--kind"] != "fleet":
    metrics.update(t2=None, recovered=False, decision="retraining_refused", core_recovery_s=None, total_s=None)
if o["--share"] == "0.1":
    metrics.update(t1=None, detection_s=None)
if o["--seed"] == "9":
    print("the port is taken")
    sys.exit(2)
(pathlib.Path(o["--results"]) / "recovery_metrics.json").write_text(json.dumps(metrics))
"""
COMMAND = [sys.executable, "-c", CASE]


def test_a_campaign_has_every_combination() -> None:
    found = cases(["fleet", "bias"], [0.1, 1.0], range(3), sensor=4)
    assert len({case.name for case in found}) == 12
    assert {case.sensor for case in found} == {4}


@pytest.mark.parametrize(("kinds", "shares"), [(["flood"], [1.0]), (["fleet"], [0.0]), (["fleet"], [1.5])])
def test_a_kind_or_share_that_does_not_exist_is_refused(kinds: list[str], shares: list[float]) -> None:
    with pytest.raises(DriftloopError):
        cases(kinds, shares, [0])


def test_shares_that_are_no_numbers_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DriftloopError, match=r"--shares: '10,many' is no list of percentages"):
        commands.experiment(campaign=True, kinds="fleet", shares="10,many", results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_misses_and_wanted_outcomes_are_counted(tmp_path: Path) -> None:
    said: list[str] = []
    rows = run_cases(cases(["fleet", "stuck"], [0.1, 1.0], [0, 1]), tmp_path, COMMAND, said.append)
    assert [row["as_wanted"] for row in rows] == [True, True, True, True, False, False, True, True]
    assert [row["detected"] for row in rows] == [False, False, True, True, False, False, True, True]
    assert said[-1] == "8/8 stuck-100-1: detected after 2.0 s, retraining_refused, as wanted"
    table = summary(rows)
    assert "| stuck | 10% | 2 | 2 | 0 | 0 | - | - | - | 0 |" in table
    assert (
        "| fleet | 100% | 2 | 0 | 0 | 2 | 2.0 (2.0 to 2.0) | 12.0 (12.0 to 12.0) | 40.0 (40.0 to 40.0) | 0 |" in table
    )


def test_a_case_without_results_is_shown_as_such_and_not_as_a_miss(tmp_path: Path) -> None:
    rows = run_cases([Case("fleet", 1.0, 9)], tmp_path, COMMAND, lambda _: None)
    assert rows[0]["error"] == "exit code 2: the port is taken"
    assert "| fleet | 100% | 1 (1 without results) | 0 | 0 | 0 |" in summary(rows)


def test_a_case_that_has_results_is_not_repeated(tmp_path: Path) -> None:
    chosen = [Case("fleet", 1.0, 0)]
    first = run_cases(chosen, tmp_path, COMMAND, lambda _: None)
    assert run_cases(chosen, tmp_path, ["false"], lambda _: None) == first


def test_the_campaign_is_written_as_json_csv_markdown_and_picture(tmp_path: Path) -> None:
    rows = run_cases(cases(["fleet", "bias"], [0.25, 1.0], [0]), tmp_path, COMMAND, lambda _: None)
    paths = write_campaign(rows, tmp_path)
    assert all(path.stat().st_size for path in paths)
    assert json.loads((tmp_path / campaign.CASES).read_text()) == rows
    with (tmp_path / campaign.TABLE).open() as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["fleet", "fleet", "bias", "bias"]


def test_damaged_results_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "recovery_metrics.json").write_text("{")
    assert row_of(Case("fleet", 1.0, 0), tmp_path)["error"] == "left no results"
