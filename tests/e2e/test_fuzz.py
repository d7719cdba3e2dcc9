"""Requests that nobody would send for a quarter of an hour, against a whole platform: all that one may ask of it.

Schemathesis makes them up from each service's own description, fitting and not; answers must be as described, nothing
may be a server's error, and at the end every process is the one that was started. DRIFTLOOP_FUZZ_S changes how long.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SECONDS = int(os.environ.get("DRIFTLOOP_FUZZ_S", "200"))
"""For each service."""
ENGINES = 60
DESCRIPTIONS = {
    "console": "/api/openapi.json", "retrainer": "/openapi.json", "server": "/openapi.json", "units": "/openapi.json",
}  # fmt: skip
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "use_after_free",
)  # fmt: skip
"""Not `unsupported_method`: GET of models/rollback is GET of a version that is called so, and refused as that."""
NO_ANSWER_ENDS = "/events/stream"
SHOWN_CHARACTERS = 20_000


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With a model, units and an archive: requests find something."""
    folder = tmp_path_factory.mktemp("fuzzed")
    fleet = folder / "fleet"
    with Platform(folder / "state", engines=ENGINES) as platform:
        types(platform, "data", "simulate", "--out", fleet, "--engines", ENGINES)
        types(platform, "archive", "add", fleet / "train_FD001.txt")
        types(platform, "train", "--promote")
        types(platform, "units", "replay", some(fleet / "test_FD001.txt"), "--rate", 5000)
        platform.wait(platform.served, "the model to be served")
        yield platform


def types(platform: Platform, *arguments: object) -> None:
    assert platform.run(*map(str, arguments)).returncode == 0


def some(file: Path, units: int = 10) -> Path:
    """The rows of the first units alone."""
    rows = [row for row in file.read_text().splitlines() if int(row.split()[0]) <= units]
    few = file.with_name(f"few-{file.name}")
    few.write_text("\n".join(rows) + "\n")
    return few


@pytest.mark.timeout(SECONDS + 600, func_only=True)  # A slow machine takes ten minutes to set the platform up.
@pytest.mark.parametrize("service", DESCRIPTIONS)
def test_whatever_is_sent_is_answered_as_described(platform: Platform, tmp_path: Path, service: str) -> None:
    before = processes(platform)
    fuzzing = [
        str(Path(sys.executable).with_name("schemathesis")), "run", platform.urls[service] + DESCRIPTIONS[service],
        "--header", f"Authorization: Bearer {platform.settings.token}",
        "--phases", "examples,coverage,fuzzing,stateful", "--checks", ",".join(CHECKS), "--exclude-path-regex",
        NO_ANSWER_ENDS, "--max-time", str(SECONDS), "--max-examples", "100000", "--continue-on-failure",
        "--request-timeout", "30", "--generation-database", "none", "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(
        fuzzing, cwd=tmp_path, env={**os.environ, "NO_PROXY": "*"}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=SECONDS + 500, check=False,
    )  # fmt: skip
    print(done.stdout[-SHOWN_CHARACTERS:], done.stderr[-SHOWN_CHARACTERS:])
    assert done.returncode == 0
    assert processes(platform) == before
    logs = {log.name: log.read_text(encoding="utf-8") for log in (platform.state / "logs").glob(f"*{service}*.log")}
    assert logs
    assert [name for name, text in logs.items() if "Traceback" in text] == []


def processes(platform: Platform) -> dict[str, tuple[str, int]]:
    """Each component's state and process."""
    return {name: (one["state"], one["pid"]) for name, one in platform.written()["components"].items()}
