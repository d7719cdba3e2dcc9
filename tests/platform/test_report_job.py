"""The hourly report's pod: what it does with each answer of the command that makes the report."""

import os
import subprocess
from pathlib import Path

import pytest
from rendered import Manifest, pods, skip_without_ansible

from driftloop.errors import ExitCode

pytestmark = skip_without_ansible


@pytest.fixture(scope="module")
def command(manifests: list[Manifest]) -> list[str]:
    [pod] = [pod for name, _, _, pod in pods(manifests) if name == "drift-report"]
    return list(pod["containers"][0]["command"])


@pytest.mark.parametrize(
    ("code", "ends_with", "uploads"),
    [
        (ExitCode.DONE, 0, True),
        # After a restore, a promotion or an installation there are no requests yet: no Job has failed.
        (ExitCode.UNDECIDED, 0, False),
        (ExitCode.ERROR, ExitCode.ERROR, False),
        (ExitCode.UNREACHABLE, ExitCode.UNREACHABLE, False),
    ],
)
def test_only_too_few_requests_are_no_failure(
    command: list[str], tmp_path: Path, code: int, ends_with: int, uploads: bool
) -> None:
    for name, ends in (("driftloop", code), ("python3", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\nexit {int(ends)}\n')
        program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == ends_with
    assert done.stdout.splitlines()[0] == "driftloop drift report --to /tmp/report"
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["/scripts/upload.py"] * uploads
