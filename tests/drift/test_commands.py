import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from driftloop import durable
from driftloop.drift.baseline import Baseline, baseline_bytes
from driftloop.drift.commands import app
from driftloop.drift.source import SourceUnavailable
from driftloop.errors import ExitCode
from driftloop.model.bundle import digest

from .conftest import Loopback
from .engines import lives, metrics_text, stream, tally, trace, write_bundle


@pytest.fixture
def environment(tmp_path: Path, baseline: Baseline, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """A server that `loopback` plays, a model known from before, and no registry."""
    bundles = tmp_path / "watch" / "bundles"
    folder = write_bundle(bundles / "1", baseline_bytes(baseline))
    durable.write_json(bundles / "last.json", {"version": "1", "digest": digest(folder)})
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DRIFTLOOP_SERVER_URL", loopback.url)
    return loopback


def served(baseline: Baseline, fleet: int, n: int = 500) -> str:
    engines = lives(baseline, [trace(i, fleet=fleet) for i in range(200, 220)])
    return metrics_text("1", tally(baseline, stream(engines, n, np.random.default_rng(0))))


def check(*arguments: str):
    return CliRunner().invoke(app, ["check", "--seconds", "0", "--json", *arguments])


@pytest.mark.parametrize(("fleet", "n", "code", "said"), [
    (0, 500, 0, "no_drift"), (1, 500, 1, "drift"), (0, 20, 3, "not_enough_data"),
])  # fmt: skip
def test_the_exit_code_is_the_verdict(
    environment: Loopback, baseline: Baseline, fleet: int, n: int, code: int, said: str
):
    environment.answers["/metrics"] = served(baseline, fleet, n)
    result = check()
    assert result.exit_code == code, result.output
    answer = json.loads(result.stdout)
    assert (answer["verdict"], answer["model_version"], answer["n"]) == (said, "1", n)


def test_a_registry_that_is_away_is_told_of_once(environment: Loopback, baseline: Baseline):
    environment.answers["/metrics"] = served(baseline, 0)
    result = check()
    assert result.stderr == "the registry does not answer: version 1 was in production when it was asked last\n"


def test_a_server_that_is_down_is_told_from_other_errors(environment: Loopback):
    error = check("--server", "http://127.0.0.1:1").exception
    assert isinstance(error, SourceUnavailable)
    assert error.exit_code == ExitCode.UNREACHABLE
    assert "127.0.0.1:1" in str(error)
    assert environment.received == []


def test_the_table_for_people_names_what_is_to_blame(environment: Loopback, baseline: Baseline):
    environment.answers["/metrics"] = served(baseline, 1)
    result = CliRunner().invoke(app, ["check", "--seconds", "0"])
    assert result.exit_code == 1
    assert "fleet_change" in result.stdout
    assert "regime" in result.stdout


def test_a_report_without_requests_says_what_is_missing(environment: Loopback, tmp_path: Path):
    assert environment
    result = CliRunner().invoke(app, ["report"])
    assert result.exit_code != 0
    assert not (tmp_path / "report.html").exists()
