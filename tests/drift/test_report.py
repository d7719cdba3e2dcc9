import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from driftloop.drift.report import LEAST, push, served_rows, training_rows
from driftloop.errors import DriftloopError, ExitCode
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import COLUMNS, SCHEMA
from driftloop.model.bundle import ManifestEntry

RESULT = {"model_version": "3", "rows": 10, "psi": {"sensor_2": 0.5, "sensor_3": 0.0}, "drifted": ["sensor_2"]}


def log(folder: Path, name: str, records: list[tuple[str, float]]) -> None:
    lines = [json.dumps({"model_version": version, "row": [value] * 24, "rul": 1.0}) for version, value in records]
    (folder / name).write_text("\n".join(lines) + "\n")


def test_the_newest_rows_of_the_version_are_taken(tmp_path: Path):
    log(tmp_path, "inference-0.jsonl", [("1", 0.0)] + [("2", float(i)) for i in range(5)])
    rows = served_rows(tmp_path, "2", 24, least=1)
    assert rows.shape == (5, len(COLUMNS))
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_line_cut_short_is_passed_over(tmp_path: Path):
    log(tmp_path, "inference-0.jsonl", [("2", 1.0)])
    with (tmp_path / "inference-0.jsonl").open("a") as file:
        file.write('{"model_version": "2", "row": [1, 2')
    assert len(served_rows(tmp_path, "2", 24, least=1)) == 1


def test_more_rows_than_wanted_are_sampled(tmp_path: Path):
    for worker in (0, 1):
        log(tmp_path, f"inference-{worker}.jsonl", [("2", float(i)) for i in range(50)])
    rows = served_rows(tmp_path, "2", 24, 20, least=1)
    assert len(rows) == 20
    assert rows[:, 0].min() >= 30


def test_too_few_requests_make_no_report(tmp_path: Path):
    log(tmp_path, "inference-0.jsonl", [("2", 1.0)] * (LEAST - 1))
    with pytest.raises(DriftloopError, match="holds 299 requests to model version 2; below 300, chance") as raised:
        served_rows(tmp_path, "2", 24)
    assert raised.value.exit_code == ExitCode.UNDECIDED
    log(tmp_path, "inference-1.jsonl", [("2", 1.0)])
    assert len(served_rows(tmp_path, "2", 24)) == LEAST


def test_an_empty_log_is_said_with_its_folder(tmp_path: Path):
    with pytest.raises(DriftloopError, match="no requests to model version 2") as raised:
        served_rows(tmp_path, "2", 24)
    assert str(tmp_path) in str(raised.value)


def test_domains_have_their_share_of_the_training_rows(tmp_path: Path):
    archive = open_archive(tmp_path, SCHEMA)
    runs = [Run(f"eng-{i}", np.full((100, 24), float(i))) for i in range(3)]
    archive.add_all(runs)
    roles = ("train", "train", "gate")
    domains = (0, 1, 1)
    manifest = [
        ManifestEntry(run.run_id, run.sha256, role, domain, 100)
        for run, role, domain in zip(runs, roles, domains, strict=True)
    ]
    rows = training_rows(archive, manifest, {0: 0.25, 1: 0.75}, 40)
    assert np.unique(rows[:, 0], return_counts=True)[1].tolist() == [10, 30]
    assert np.unique(training_rows(archive, manifest, {0: 0.0, 1: 1.0})).tolist() == [1.0]


def test_a_pushgateway_that_is_down_is_said():
    with pytest.raises(DriftloopError, match="could not be pushed"):
        push(RESULT, "http://127.0.0.1:1")


def test_figures_are_pushed(monkeypatch: pytest.MonkeyPatch):
    sent: dict[str, float] = {}

    def receive(url: str, job: str, registry, timeout: float) -> None:
        assert (url, job, timeout) == ("http://gateway", "driftloop_drift_report", 10)
        sent.update({sample.name: sample.value for metric in registry.collect() for sample in metric.samples})

    monkeypatch.setattr("driftloop.drift.report.push_to_gateway", receive)
    push(RESULT, "http://gateway")
    assert (sent["driftloop_report_drifted_columns"], sent["driftloop_report_rows"]) == (1, 10)


def test_importing_the_room_imports_neither_evidently_nor_pandas_nor_torch():
    code = "import sys, driftloop.drift.commands, driftloop.drift.report; print([m for m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"'evidently'", "'pandas'", "'torch'", "'mlflow'"} & set(loaded.strip("[]\n").split(", "))


@pytest.mark.slow
def test_evidently_writes_both_files_and_names_the_column_that_moved(tmp_path: Path):
    pytest.importorskip("evidently")
    from driftloop.drift.report import make_report

    rng = np.random.default_rng(0)
    reference, current = rng.normal(size=(600, 24)), rng.normal(size=(600, 24))
    reference[:, 7] = current[:, 7] = 5.0
    current[:, 4] += 3
    result = make_report(current, reference, SCHEMA.columns, tmp_path, version="3", threshold=0.2)
    assert result["drifted"] == ["sensor_2"]
    assert json.loads((tmp_path / "report.json").read_text())["psi"]["sensor_2"] == result["psi"]["sensor_2"] > 1
    assert "<html" in (tmp_path / "report.html").read_text()[:200].lower()
