"""`driftloop units serve` as a process, for what only a process shows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from ports import free_port

LONG_S = 120.0


class Process:
    """One service on a free port, with its state in a folder; it can be killed and started again."""

    def __init__(self, folder: Path, fleet_file: str, *, before: Sequence[str] = (), **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fleet.toml").write_text(fleet_file)
        self.folder, self._before = folder, before
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLOOP_")}
        self.environment = {
            **kept,
            "DRIFTLOOP_FLEET": str(folder / "fleet.toml"),
            "DRIFTLOOP_STATE_DIR": str(folder),
            "DRIFTLOOP_UNITS_LATENESS_S": "0",
            "DRIFTLOOP_SERVER_URL": "http://127.0.0.1:9",
            "DRIFTLOOP_RETRAINER_URL": "http://127.0.0.1:9",
            "DRIFTLOOP_UNITS_URL": self.url,
            **variables,
        }
        self.http = httpx.Client(base_url=self.url, timeout=30.0, trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.http.close()

    def start(self) -> None:
        """Start it and wait until it takes rows."""
        command = [*self._before, sys.executable, "-m", "driftloop.cli", "units", "serve", "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait(self.ready)

    def ready(self) -> bool:
        """Whether it takes rows."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        try:
            return self.http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def wait(self, what: Any) -> Any:
        """Wait for a condition."""
        deadline = time.monotonic() + LONG_S
        while not (found := what()):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.02)
        return found

    def kill(self) -> None:
        """kill -9, of whatever was started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
