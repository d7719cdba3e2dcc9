"""Completion in a real bash: commands, options, and names that the platform knows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from driftloop import completion
from driftloop.access.tokens import Tokens
from live_server import running
from ports import free_port

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="no bash")

ASK = """
eval "$(driftloop --show-completion bash)"
while read -r -a COMP_WORDS; do
  for at in "${!COMP_WORDS[@]}"; do [[ ${COMP_WORDS[at]} == _ ]] && COMP_WORDS[at]=; done
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
  _driftloop_completion driftloop
  echo "${COMPREPLY[*]}"
done
"""


def complete(folder: Path, *lines: str, **variables: str) -> list[list[str]]:
    """What is offered behind each line; `_` is a word that is not begun."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DRIFTLOOP_", "COMP_"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "DRIFTLOOP_STATE_DIR": str(folder)}
    done = subprocess.run(
        [str(BASH), "--norc", "-c", ASK], input="\n".join(lines) + "\n", env=environment | variables, cwd=folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "", "whoever presses the key must not read an error"
    return [line.split() for line in done.stdout.split("\n")[:-1]]


def test_commands_options_and_what_is_on_disk(tmp_path: Path) -> None:
    Tokens(tmp_path / "access").add("gateway", "predict")
    found = complete(
        tmp_path,
        "driftloop dem",
        "driftloop units _",
        "driftloop train --prom",
        "driftloop tokens revoke _",
        "driftloop status --fleet _",
        "driftloop --fleet cm",
        "driftloop up --fleet c",
        "driftloop units show _",
        DRIFTLOOP_CONSOLE_URL=f"http://127.0.0.1:{free_port()}",
    )
    assert found[0] == ["demo"]
    assert {"list", "show", "event"} <= set(found[1])
    assert found[2] == ["--promote"]
    assert found[3] == ["gateway"]
    assert found[4:7] == [["cmapss"]] * 3
    assert found[7] == [], "no platform is up"


def platform() -> FastAPI:
    app = FastAPI()

    @app.get("/api/v1/fleets/cmapss/models")
    def _() -> dict[str, object]:
        one = {"alias": [], "created": "", "kind": "full", "state": "previous", "figures": {}, "reasons": []}
        return {"total": 2, "models": [{"version": version, **one} for version in ("12", "7")]}

    @app.get("/api/v1/fleets/cmapss/units")
    def _(q: str) -> dict[str, object]:
        names = [name for name in ("pump 1", "pump-2", "fan-1") if q in name]
        return {"total": len(names), "units": [{"unit": name, "flags": []} for name in names]}

    @app.get("/status")
    def _() -> dict[str, object]:
        return {"schedules": [{"name": "weekly"}], "muted": [{"cause": "fleet_change:3"}], "approval": {"id": "12-ab"}}

    return app


def test_names_that_only_the_running_platform_knows(tmp_path: Path) -> None:
    with running(platform()) as http:
        url = str(http.base_url).rstrip("/")
        found = complete(
            tmp_path,
            "driftloop promote _",
            "driftloop promote 7",
            "driftloop units show pump-",
            "driftloop why f",
            "driftloop schedules cancel _",
            "driftloop approve _",
            "driftloop unmute fleet",
            "driftloop promote --fleet cmapss 1",
            DRIFTLOOP_CONSOLE_URL=url,
            DRIFTLOOP_RETRAINER_URL=url,
        )
    assert found == [
        ["12", "7"], ["7"], ["pump-2"], ["fan-1"], ["weekly"], ["12-ab"], ["fleet_change:3"], ["12"]
    ]  # fmt: skip


def test_zsh_and_fish_say_the_same_in_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.setenv(completion.VARIABLE, "complete_zsh")
    for text, words in (
        ("driftloop promote ", (["promote", ""], None)),
        ("driftloop promote --fleet pumps 1", (["promote", "1"], "pumps")),
        ("driftloop why 'pump 1", (["why", "pump 1"], None)),
        ("driftloop status --fleet ", (["--fleet", ""], None)),
    ):
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", text)
        monkeypatch.delenv("COMP_WORDS", raising=False)
        assert completion.typed() == words


def test_what_cannot_be_known_now_is_not_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DRIFTLOOP_CONSOLE_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("DRIFTLOOP_RETRAINER_URL", f"http://127.0.0.1:{free_port()}")
    for names in (completion.versions, completion.units, completion.schedules, completion.muted, completion.questions):
        assert names("") == []
    monkeypatch.setenv("DRIFTLOOP_MAX_BATCH", "many")
    assert completion.fleets("") == []
