"""`driftloop units ...` against a running service, and what is said where it refuses or is away."""

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from driftloop.errors import DriftloopError, ExitCode
from driftloop.protocol import problems
from driftloop.units.commands import app

from .conftest import Fleet, row


@pytest.fixture(autouse=True)
def addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_UNITS_URL", "http://units")
    monkeypatch.setenv("DRIFTLOOP_FLEET", str(tmp_path / "fleet.toml"))
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))


def units(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_what_is_told_and_asked_by_command(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "zoë")
    fleet.send(row("a", 1), row("pump 7", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    listed = units("list", "--sort", "unit", "--json")
    assert [one["unit"] for one in json.loads(listed.stdout)["units"]] == ["a", "pump 7"]
    assert units("event", "a", "failed", "--note", "bearing").exit_code == 0
    assert units("event", "pump 7", "removed", "--who", "shift 2").exit_code == 0
    assert "says shift 2" in units("show", "pump 7").stdout
    shown = units("show", "a")
    assert "says zoë bearing" in shown.stdout
    assert units("rename", "pump 7", "pump 8").stdout == "pump 7 is pump 8 now\n"
    assert "give a token" in str(units("erase", "pump 8", "--yes").exception)


def test_what_a_service_refuses_is_said_as_it_says_it(fleet: Fleet) -> None:
    fleet.send(row("a", 1))
    missing = units("event", "b", "failed")
    assert isinstance(missing.exception, DriftloopError)
    assert (missing.exception.exit_code, missing.exception.what) == (ExitCode.MISSING, "unit: nothing is known of b")
    assert "'broken'" in str(units("event", "a", "broken").exception)


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (401, "a token is needed", "set DRIFTLOOP_TOKEN_FILE"),
        (403, "gateway has the role predict, and this needs operate", "ask for a role that may do this"),
    ],
)
def test_who_may_not_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, fleet: Fleet, status: int, said: str, remedy: str
) -> None:
    body = problems.details(status, said, "Authorization")
    monkeypatch.setattr(fleet, "_itself", lambda _: httpx.Response(status, json=body))
    refused = units("event", "a", "failed")
    assert said in str(refused.exception)
    assert remedy in str(refused.exception)
    assert isinstance(refused.exception, DriftloopError)
    assert refused.exception.exit_code == ExitCode.REFUSED


def test_a_service_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch, fleet: Fleet) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    monkeypatch.setattr(fleet, "_itself", away)
    refused = units("status")
    assert "no usable answer from units" in str(refused.exception)
    assert "http://units/status" in str(refused.exception)
