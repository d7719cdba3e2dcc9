"""The whole benchmark on small simulated fleets, by its command, and once more with what it kept."""

import json
from pathlib import Path

import pytest

from driftloop.cli import main
from driftloop_bench.first_aid import cases


@pytest.mark.slow
def test_a_benchmark_measures_writes_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path / "state"))
    output = tmp_path / "results"
    command = ["benchmark", "first-aid", "--quick", "--seeds", "1", "--parts", "FD001,FD002", "--output", str(output)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data_source"] == "simulated"
    assert [(case["source"], case["target"]) for case in found["cases"]] == [
        ("FD001", "FD001"), ("FD001", "FD002"), ("FD002", "FD001"), ("FD002", "FD002"),
    ]  # fmt: skip
    there, back = found["pairs"]
    shown = there["looks"]["whole windows"]
    assert sum(shown["outcomes"].values()) == 1
    assert back["looks"]["whole windows"]["outcomes"] == {"not due": 1}
    assert back["looks"]["whole windows"]["rmse"] == back["champion"]["rmse"]
    assert json.loads((output / "first-aid.json").read_text()) == found
    page = (output / "first-aid.md").read_text()
    assert "`data_source: simulated`" in page
    assert "| FD001, FD002 |" in page
    assert (output / "first-aid.png").stat().st_size > 10_000

    monkeypatch.setattr(cases, "measure", lambda *_: pytest.fail("measured what was kept"))
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["cases"] == found["cases"]


def test_what_cannot_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "first-aid", "--quick", "--parts", "FD001"]) == 2
    assert "--parts" in capsys.readouterr().err
    assert main(["benchmark", "first-aid", "--quick", "--parts", "FD001,FD002", "--sources", "FD003"]) == 2
    assert "choose from --parts" in " ".join(capsys.readouterr().err.split())
