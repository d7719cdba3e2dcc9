"""Lines of JSON: what stands in each, what a request's line says, and that what comes with a request is no way in."""

import json
import logging
import logging.config
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

from driftloop import __version__, logs
from driftloop.loop.store import Store
from driftloop.settings import Settings


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """What is said from now on, as a process says it that is told to write JSON."""
    said: list[dict[str, Any]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(json.loads(self.format(record)))

    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logging.config.dictConfig(logs.config(Settings(state_dir=tmp_path), "server"))
    keeping = Keeping()
    keeping.setFormatter(root.handlers[0].formatter)
    root.handlers = [keeping]
    yield said
    root.handlers, root.level = before, level


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    log = logging.getLogger("driftloop.somewhere")

    @app.get("/asked")
    def asked(request: Request) -> str:
        logs.note(request.scope, who="anna", model_version="7")
        log.warning("a word on %s", "the way")
        return "well"

    @app.get("/refused")
    def refused() -> None:
        raise HTTPException(401)

    @app.get("/failed")
    def failed() -> None:
        raise ValueError("by accident")

    @app.get("/readyz")
    def ready() -> None: ...

    return TestClient(logs.Requests(app), raise_server_exceptions=False)


def test_a_line_says_the_process_and_what_came_with_it(lines: list[dict[str, Any]]) -> None:
    log = logging.getLogger("driftloop.loop")
    log.info('with "quotes" and\nlines', extra={"cause": "fleet_change:3", "who": None})
    try:
        raise ValueError("by accident")
    except ValueError:
        log.exception("it failed")
    first, second = lines
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info", "where": "driftloop.loop", "msg": 'with "quotes" and\nlines', "component": "server",
        "fleet": "cmapss", "release": __version__, "cause": "fleet_change:3",
    }  # fmt: skip
    assert second["level"] == "error"
    assert "ValueError: by accident" in second["exception"]


def test_a_request_is_one_line_and_its_id_is_on_all_that_is_said_on_its_way(
    lines: list[dict[str, Any]], client: TestClient
) -> None:
    answer = client.get("/asked?token=secret", headers={"X-Request-Id": "abc-1"})
    assert answer.headers["X-Request-Id"] == "abc-1"
    word, request = lines
    assert (word["msg"], word["request_id"]) == ("a word on the way", "abc-1")
    assert request["request_id"] == "abc-1"
    assert (request["msg"], request["method"], request["path"], request["status"]) == ("request", "GET", "/asked", 200)
    assert (request["who"], request["model_version"]) == ("anna", "7")
    assert request["seconds"] >= 0
    assert "secret" not in json.dumps(lines)


def test_refusals_and_failures_have_their_status(lines: list[dict[str, Any]], client: TestClient) -> None:
    client.get("/refused")
    client.get("/failed")
    assert [line["status"] for line in lines if line["msg"] == "request"] == [401, 500]
    first, second = (line["request_id"] for line in lines if line["msg"] == "request")
    assert first != second


def test_probes_are_not_said(lines: list[dict[str, Any]], client: TestClient) -> None:
    assert client.get("/readyz").status_code == 200
    assert lines == []


@pytest.mark.parametrize("given", ["", "x" * 65, 'a"b', "a b", "ä"])
def test_an_id_that_is_none_is_replaced(lines: list[dict[str, Any]], client: TestClient, given: str) -> None:
    answer = client.get("/asked", headers={"X-Request-Id": given.encode("latin-1")})
    assert answer.headers["X-Request-Id"] == lines[-1]["request_id"] != given
    assert len(lines[-1]["request_id"]) == 32


def test_the_loops_events_are_said_with_their_cause_and_once(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    store = Store(tmp_path / "loop.db", 100)
    for _ in range(2):
        store.log({"kind": "promoted", "id": "one", "cause": "fleet_change:1", "model_version": "2"})
    events = [line for line in lines if "event" in line]
    assert [(line["event"], line["cause"], line["model_version"]) for line in events] == [
        ("promoted", "fleet_change:1", "2")
    ]


SAYS = """
import logging, sys, threading, warnings
from pathlib import Path
from driftloop import logs
from driftloop.settings import Settings
{begins}
print("printed\\nin two lines")
print("without an end", end="", flush=True)
sys.stderr.write("an error is told\\n")
warnings.warn("take care")
logging.getLogger("somebody.else").info("said")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise ValueError("by accident")
"""
OURS = 'assert logs.begin(Settings(state_dir=Path("."), log_format="json"), "train")'
OTHERS = """import logging.config, json
logging.config.dictConfig(json.loads(json.dumps(logs.of_others("mlflow"))))"""


@pytest.mark.parametrize("begins", [OURS, OTHERS], ids=["ours", "of others"])
def test_a_process_says_everything_in_lines(tmp_path: Path, begins: str) -> None:
    """What is printed, warned of and raised too, by whatever is in the process."""
    command = [sys.executable, "-c", SAYS.format(begins=begins)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["msg"] for line in said if line["where"] == "stdout"] == ["printed", "in two lines", "without an end"]
    assert [line["msg"] for line in said if line["where"] == "stderr"] == ["an error is told"]
    [warning] = [line for line in said if line["where"] == "py.warnings"]
    assert "take care" in warning["msg"]
    assert ("somebody.else", "said") in {(line["where"], line["msg"]) for line in said}
    ended = [line["exception"] for line in said if "exception" in line]
    assert ["ZeroDivisionError" in ended[0], "ValueError: by accident" in ended[1]] == [True, True]
    assert {line["component"] for line in said} == {"train" if begins is OURS else "mlflow"}
    assert [text for line in done.stderr.splitlines() for text in logs.texts(line)][-1] == "ValueError: by accident"


def test_with_text_nothing_is_changed(tmp_path: Path) -> None:
    before = sys.stdout, sys.stderr, sys.excepthook
    assert not logs.begin(Settings(state_dir=tmp_path), "train")
    assert (sys.stdout, sys.stderr, sys.excepthook) == before
