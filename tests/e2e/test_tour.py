"""docs/tour.md is walked through: every command of it, in its order, on a platform with a small simulated fleet."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_platform import COMMAND, LONG_S, Platform

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

TOUR = Path(__file__).resolve().parents[2] / "docs" / "tour.md"
ENGINES = 120


def commands() -> Iterator[str]:
    """The commands of the page's shell blocks, each whole, without comments."""
    for block in re.findall(r"^```sh\n(.*?)^```$", TOUR.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        waiting = ""
        for line in block.splitlines():
            waiting += line + "\n"
            try:
                words = shlex.split(waiting, comments=True)
            except ValueError:  # a quote goes on in the next line
                continue
            if words:
                yield waiting.strip()
            waiting = ""
        assert not waiting, f"is not whole: {waiting}"


def test_the_page_has_its_commands() -> None:
    found = list(commands())
    assert len(found) > 30
    assert found[0].startswith("driftloop status")
    assert len([line for line in found if line.startswith("curl ")]) == 2


def test_every_command_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    starter = tmp_path / "bin" / "driftloop"
    starter.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    starter.chmod(0o755)
    with Platform(tmp_path / "state", engines=ENGINES, HOME=str(tmp_path / "home")) as platform:
        environment = {
            **platform.environment,
            "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{platform.environment['PATH']}",
            "NO_PROXY": "*",
        }
        said = {}
        for line in commands():
            typed = line.replace("localhost:8500", platform.urls["server"].removeprefix("http://"))
            typed = typed.replace("localhost:8600", platform.urls["retrainer"].removeprefix("http://"))
            # With a line after it bash stays, and the command finds the shell that it is typed into.
            done = subprocess.run(
                ["bash", "-c", f"{typed}\nexit $?"], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=2 * LONG_S, check=False,
            )  # fmt: skip
            print(f"$ {line}  -> {done.returncode}\n{done.stdout}{done.stderr}")
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
            said[line.split(" #")[0].strip()] = done.stdout
    assert "0 to mend" in said["driftloop doctor"]
    assert "promoted" in said["driftloop events --kind promoted"]
    assert "POST /rollback" in said["driftloop audit"]
    assert "gateway" in said["driftloop tokens list"]
    assert (tmp_path / "home" / ".bash_completions" / "driftloop.sh").exists()
