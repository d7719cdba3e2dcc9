"""How-tos are walked through: every command of them that one machine can run, on a platform with a small simulated
fleet."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from live_platform import Platform
from walking import ELSEWHERE, ROOT, UP, Walk, commands, named

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

ENGINES = 60
WALKED = {
    "docs/notifications.md", "docs/schedules.md", "docs/full-disk.md", "docs/security.md", "docs/console.md",
}  # fmt: skip
"""Pages with commands that this file types."""
BY_OTHERS = {
    "docs/tour.md": "test_tour.py", "docs/upgrade.md": "test_walks.py", "README.md": "test_newcomer.py",
    "docs/your-fleet.md": "test_newcomer.py", "docs/platform.md": "test_fleets.py", "docs/units.md": "test_units.py",
    "docs/fleet-file.md": "../fleet/test_migrate.py", "docs/programs.md": "../api/test_programs.py",
    "docs/backup.md": "../units/test_copying.py", "docs/approvals.md": "../loop/test_approvals_page.py",
}  # fmt: skip
"""Pages whose commands other tests type, with data of their own; that of upgrade.md stands in full-disk.md too."""
NOT_HERE = {"docs/object-store.md"}
"""A script for a cluster."""


def test_every_page_with_commands_is_walked() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
    here = {page for page in pages if [line for line in commands(page) if not ELSEWHERE.match(line)]}
    assert here == WALKED | set(BY_OTHERS) | NOT_HERE
    assert all((Path(__file__).parent / name).exists() for name in BY_OTHERS.values())


def test_no_command_stands_in_a_block_that_nobody_types() -> None:
    """A block of another kind would not be walked."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lost = []
    for page in pages:
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
            if kind not in ("sh", "console"):
                lost += [
                    f"{page.name}: {line}" for line in block.splitlines() if re.match(r"(\$ )?(driftloop|curl) ", line)
                ]
    assert lost == []


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Not up yet: in the folder of whoever walks, where pages look for `state`."""
    platform = Platform(tmp_path / "state", engines=ENGINES, HOME=str(tmp_path / "home"))
    try:
        yield platform
    finally:
        platform.end()


@contextmanager
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes messages, and what it was told."""
    got: list[dict[str, Any]] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    threading.Thread(target=server.serve_forever, name="told").start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/driftloop", got
    finally:
        server.shutdown()
        server.server_close()


def test_notifications(platform: Platform, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
    [example] = re.findall(r"^```\n(# addresses\n.*?)^```$", page, re.M | re.S)
    with told() as (address, got):
        addresses = tmp_path / "addresses"
        addresses.write_text(re.sub(r"^(?!#).*$", "", example, flags=re.M) + address + "\n")
        walk = Walk("docs/notifications.md", platform, tmp_path, names={"/etc/driftloop/addresses": str(addresses)})
        walk.go()
        assert len(got) == 1
        assert "test" in got[0]["title"]
    addresses.write_text(example)
    walk.types("driftloop notify test")
    shown = "\n".join(walk.said.values())
    assert "(mailtos)" in shown
    assert "password" not in shown
    assert "TokenA" not in shown


def test_schedules(platform: Platform, tmp_path: Path) -> None:
    platform.start()
    walk = Walk("docs/schedules.md", platform, tmp_path)
    walk.go()
    assert [name in walk.said["driftloop schedules list"] for name in ("weekly", "stale", "wrong")] == [True] * 3
    assert {entry["name"] for entry in platform.loop()["schedules"]} == {"stale", "wrong"}
    assert [muted["cause"] for muted in platform.loop()["muted"]] == ["fleet_change:3"]


def test_a_full_disk(platform: Platform, tmp_path: Path) -> None:
    platform.start()
    walk = Walk("docs/full-disk.md", platform, tmp_path)
    walk.go()
    assert "state/mlflow" in walk.said["du -h --max-depth=2 state | sort -h | tail"]
    page = (ROOT / "docs" / "full-disk.md").read_text(encoding="utf-8")
    folders = [name for name in re.findall(r"^\| `(state/[\w/.]+)`", page, re.M) if "loop.db" not in name]
    # What is made when it is first needed is not there yet.
    late = {
        "state/archive",
        "state/inference",
        "state/loop/pipelines",
        "state/serving",
        "state/watch",
        "state/mlflow/artifacts",
    }
    assert {name for name in folders if not (tmp_path / name).exists()} <= late


def test_secrets_and_doors(platform: Platform, tmp_path: Path) -> None:
    platform.start()
    walk = Walk(
        "docs/console.md",
        platform,
        tmp_path,
        names={"driftloop people add": "echo 'correct horse battery' | driftloop people add"},
    )
    walk.go()
    walk = Walk("docs/security.md", platform, tmp_path)
    walk.go()
    audit = walk.said["driftloop audit"]
    assert all(f"tokens {act} planner" in audit for act in ("add", "rotate", "revoke"))
    named_here = {"people passwd NAME": "people passwd anna", "NAME": "gateway"}
    typed_in = {"driftloop people": "echo 'better horse battery' | driftloop people"}
    walk = Walk("docs/secrets.md", platform, tmp_path, names={**named_here, **typed_in})
    assert walk.types("driftloop tokens add gateway --role predict").returncode == 0
    found = named(walk.page)
    assert "driftloop tokens rotate NAME --overlap-s 3600" in found
    for line in found:
        if not UP.match(line):
            assert walk.types(line).returncode in (0, 1), line
    secrets = [platform.settings.token, "correct horse battery", "better horse battery"]
    secrets += re.findall(r"^\S{40,}$", "\n".join(walk.said.values()), re.M)
    assert len(secrets) > 3
    assert leaks(platform, secrets) == []
    # `state/token`: delete it and restart.
    before = platform.settings.token
    assert platform.interrupt() == 0
    (tmp_path / "state" / "token").unlink()
    platform.start()
    assert platform.settings.token != before
    assert platform.run("schedules", "list").returncode == 0


def leaks(platform: Platform, secrets: list[str]) -> list[str]:
    """Where a secret stands but in its own file: arguments of processes, everything in the state folder (logs, MLflow's
    database and artifacts, events, the audit log), and what each process tells of itself."""
    found = [
        f"arguments of {line.split()[0]}" for line in running(platform.state) if any(one in line for one in secrets)
    ]
    for path in platform.state.rglob("*"):
        if path.is_file() and path != platform.state / "token":
            content = path.read_bytes()
            found += [str(path) for one in secrets if one.encode() in content]
    for name, url in platform.urls.items():
        for path in ("/metrics", "/status", "/openapi.json", "/api/openapi.json", "/api/v1/platform"):
            with contextlib.suppress(httpx.HTTPError):
                said = httpx.get(url + path, trust_env=False, timeout=20.0).text
                found += [f"{name}{path}" for one in secrets if one in said]
    return found


def running(state: Path) -> list[str]:
    """The command of each process of a platform, with its arguments."""
    commands = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(state) in process.environ().values():
                commands.append(" ".join([str(process.pid), *process.cmdline()]))
    assert len(commands) > 4
    return commands
