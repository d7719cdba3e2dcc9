"""Every process that listens starts: what it is told is told once, and uvicorn takes it."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from driftloop import cli
from driftloop.access.connections import Connection
from ports import free_port

COMMANDS = {"console": ["console"], "retrainer": ["retrainer"], "units": ["units", "serve"]}
SIGNATURE = inspect.signature(uvicorn.run)


@pytest.mark.parametrize("process", COMMANDS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_process_is_run_with_what_uvicorn_takes(
    process: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda *given, **how: ran.append(SIGNATURE.bind(*given, **how).arguments))
    monkeypatch.setattr("driftloop.logs.begin", lambda settings, _: settings.log_format == "json")
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DRIFTLOOP_LOG_FORMAT", form)
    assert cli.main([*COMMANDS[process], "--port", str(free_port())]) == 0
    [how] = ran
    assert (how["host"], how["ws"], how["http"]) == ("127.0.0.1", "none", Connection)
    assert ("log_config" in how) == (form == "json")


def test_the_prediction_server_is_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[uvicorn.Config] = []
    # What it says of logging would hold for all tests that follow.
    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda _: None)
    monkeypatch.setattr("driftloop.serving.commands._run", lambda config, _: made.append(config))
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:9")
    assert cli.main(["serve", "--port", str(free_port())]) == 0
    assert (made[0].ws, made[0].http) == ("none", Connection)
