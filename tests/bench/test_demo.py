"""The parts of the demonstration and the status that need no platform."""

import json
import os
import socket
from pathlib import Path

import pytest

from driftloop import settings
from driftloop.embedded import status
from driftloop.embedded.components import components
from driftloop.embedded.supervisor import LOCK, STATUS, make_token
from driftloop.errors import DriftloopError
from driftloop_bench import own


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear to somebody")
    with pytest.raises(DriftloopError, match="--state"):
        own.make_fresh(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_state_of_an_earlier_demonstration_is_made_new(tmp_path: Path) -> None:
    own.make_fresh(tmp_path)
    (tmp_path / "events.jsonl").write_text("{}")
    own.make_fresh(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = f"http://127.0.0.1:{holder.getsockname()[1]}"
        other = own.free_url(taken)
    assert other != taken
    assert own.free_url(other) == other


def test_a_simulated_demonstration_does_not_see_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAPSS_DIR", str(tmp_path))
    extra = own.simulator(tmp_path)
    configured = own.own_settings(settings.load(), tmp_path, extra)
    assert configured.cmapss_dir is None
    assert configured.simulator_engines == own.SIMULATED_ENGINES
    passed_on = own._environment(configured, extra)
    assert "CMAPSS_DIR" not in passed_on
    assert passed_on["DRIFTLOOP_SIMULATOR_ENGINES"] == str(own.SIMULATED_ENGINES)


def test_components_get_the_path_of_the_token_and_never_the_token(tmp_path: Path) -> None:
    token = make_token(tmp_path)
    found = components({"cmapss": settings.load(state_dir=tmp_path, token_file=token)}, tmp_path)
    assert [component.name for component in found] == ["console", "mlflow", "server", "retrainer", "watch", "units"]
    passed_on = [text for one in found for text in (*one.command, *one.environment.values())]
    assert not any(token.read_text().strip() in text for text in passed_on)
    told = [one for one in found if one.name != "mlflow"]
    assert {one.environment["DRIFTLOOP_TOKEN_FILE"] for one in told} == {str(token)}


@pytest.mark.parametrize("url", ["http://rul.example.com:8500", "http://127.0.0.1:8500/rul", "http://127.0.0.1"])
def test_a_platform_on_another_machine_is_not_started_here(tmp_path: Path, url: str) -> None:
    configured = settings.load(state_dir=tmp_path, server_url=url)
    with pytest.raises(DriftloopError, match=r"DRIFTLOOP_SERVER_URL.*not a loopback address"):
        components({"cmapss": configured}, tmp_path)


def test_the_status_of_a_platform_that_is_down_says_so(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("mlflow_url", "server_url", "retrainer_url"), "http://127.0.0.1:9")
    found = status.collect(tmp_path, {"cmapss": settings.load(state_dir=tmp_path, **nowhere)})
    assert (found["up"], found["components"], found["model"], found["loop"]) == (False, {}, None, None)
    assert status.caption(found) == "server does not answer · retrainer does not answer"


def test_the_status_knows_a_component_that_died_with_its_supervisor(tmp_path: Path) -> None:
    gone = {"pid": 2**22 + 1, "state": "ready", "url": "", "restarts": 0, "last_exit": None}
    alive = {**gone, "pid": os.getpid()}
    (tmp_path / STATUS).write_text(json.dumps({"pid": os.getpid(), "components": {"server": gone, "watch": alive}}))
    nowhere = dict.fromkeys(("mlflow_url", "server_url", "retrainer_url"), "http://127.0.0.1:9")
    found = status.collect(tmp_path, {"cmapss": settings.load(state_dir=tmp_path, **nowhere)})
    assert found["up"]
    assert found["components"]["server"]["state"] == "down"
    assert found["components"]["watch"]["state"] == "ready"
    assert found["components"]["watch"]["memory_mib"] > 1
    assert status.table(found).row_count == 2
