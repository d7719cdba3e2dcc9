"""docs/programs.md is run: each block of Python of it, against a real console, server and service that keeps units."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from driftloop import cli
from driftloop.client import Platform as Client
from driftloop.fleets.cmapss.schema import SCHEMA
from live_server import running
from serving_bundles import row

from .conftest import TOKEN, Platform, wait
from .kept import keeping

PAGE = Path(__file__).resolve().parents[2] / "docs" / "programs.md"
FOLLOWED = 3


def blocks(kind: str = "python") -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_block_does_what_the_page_says(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = [platform.parts.store.append("verdict", verdict="no_drift", n=at)["seq"] for at in range(FOLLOWED)]
    follow = Client.follow
    # Nobody waits for ever here.
    monkeypatch.setattr(Client, "follow", lambda *given, **named: itertools.islice(follow(*given, **named), FOLLOWED))
    known: dict[str, Any] = {
        "TOKEN": TOKEN, "rows": [row(2.0)] * 6, "values": dict.fromkeys(SCHEMA.columns, 2.0),
        "place": f"cmapss:{written[0] - 1}",
    }  # fmt: skip
    said = []
    with keeping(platform, "engine-7") as (app, service), running(app) as console:
        # A console that has just begun has not asked the retrainer yet.
        wait(lambda: console.get("/api/v1/fleets").json()["fleets"][0]["state"] == "idle")
        here = {
            "http://127.0.0.1:8400": str(console.base_url), "http://127.0.0.1:8500": str(platform.server.base_url),
            "http://127.0.0.1:8700": str(service.base_url),
        }  # fmt: skip
        for block in blocks():
            code = re.sub("|".join(here), lambda found: here[found[0]], block)
            exec(compile(code, PAGE.name, "exec"), known)
            said.append(capsys.readouterr().out)
    units, predicted, kept, followed, acted, together = said
    assert "cmapss idle" in units
    assert "engine-7" in units
    assert predicted.startswith("1002.0 ")
    assert "contradict" in kept
    assert followed.count("Z verdict ") == FOLLOWED
    assert known["place"] == f"cmapss:{written[-1]}"
    assert acted == ""
    assert platform.parts.store.read(written[-1])[0]["kind"] == "muted"
    assert together == "['idle']\n"


def test_the_command_of_the_page_makes_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    [command] = [line.split() for block in blocks("sh") for line in block.splitlines()]
    assert cli.main(command[1:]) == 0
    assert len(capsys.readouterr().out.strip()) > 20
