"""A platform of one's own: fresh state, free ports, up and ready, and everything gone again at the end."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress

from driftloop import settings
from driftloop.durable import read_json
from driftloop.embedded.components import DRIFTLOOP, environment
from driftloop.embedded.processes import die_with_parent, tail
from driftloop.embedded.supervisor import LOCK, LONGEST_S, STATUS, lock, make_token, port_is_free
from driftloop.errors import DriftloopError, JsonError
from driftloop.fleet import roles
from driftloop.protocol.archive_client import dealt_roles, post_runs
from driftloop.protocol.client import Server
from driftloop.settings import Settings
from driftloop_bench.experiment.source import Source, completed, needed, part

SIMULATED_ENGINES = 100
TRAINING_S = 900.0
SWAP_S = 60.0
_ADDRESSES = ("mlflow_url", "server_url", "retrainer_url", "console_url", "units_url")
STOP_S = 40.0


def own_settings(base: Settings, folder: Path, extra: dict[str, str]) -> Settings:
    """Settings of a platform with its state in `folder`, on the usual ports or, where they are taken, on free ones."""
    folder.mkdir(parents=True, exist_ok=True)
    overrides: dict[str, object] = {
        "state_dir": folder,
        "archive": "",
        "token_file": make_token(folder),
        **{name: free_url(getattr(base, name)) for name in _ADDRESSES},
    }
    if extra:
        overrides |= {
            "cmapss_dir": None,
            "raw_dir": Path(extra["DRIFTLOOP_RAW_DIR"]),
            "simulator_engines": SIMULATED_ENGINES,
        }
    return settings.from_environment(**overrides)


def simulator(folder: Path) -> dict[str, str]:
    """Variables that make every process of the demonstration simulate its fleet."""
    return {"DRIFTLOOP_RAW_DIR": str(folder / "no-data"), "DRIFTLOOP_SIMULATOR_ENGINES": str(SIMULATED_ENGINES)}


def make_fresh(folder: Path) -> None:
    """Empty the state folder of an earlier demonstration; anything else is left alone and refused."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / LOCK).exists():
            raise DriftloopError(
                "is neither empty nor the state of an earlier demonstration",
                where=str(folder),
                remedy="choose a new folder with --state",
            )
        lock(folder).close()
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Marks the folder as ours from the start, so that a demonstration cut short can be repeated.
    (folder / LOCK).touch()


@contextlib.contextmanager
def running(configured: Settings, extra: dict[str, str], console: Console) -> Iterator[Settings]:
    """`driftloop up` as a process, ready; stopped at the end whatever happens."""
    folder = configured.state_dir
    log = folder / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with console.status("starting MLflow, prediction server, retrainer and drift watch"), log.open("wb") as output:
        process = subprocess.Popen(
            [*DRIFTLOOP, "up", "--plain"],
            env=_environment(configured, extra),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (calls one C function that was looked up before)
        )  # fmt: skip
    try:
        with console.status("waiting until every component is ready"):
            wait(lambda: _up(folder), LONGEST_S + 10, lambda: process.poll() is not None, "driftloop up", log)
        console.print(f"[bold]The platform is up[/] after {time.monotonic() - started:.1f} s")
        for name in ("console", "mlflow", "server", "retrainer"):
            console.print(f"  {name:<10}{getattr(configured, f'{name}_url')}")
        yield configured
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def train_champion(
    name: str,
    seed: int,
    configured: Settings,
    extra: dict[str, str],
    console: Console,
    source: Source | None = None,
) -> None:
    """Archive the completed runs of a part of the fleet, train on them, and wait until the server answers with it."""
    schema, failed = configured.schema, part(name, source or Source(), configured).runs
    ids, least = [run.run_id for run in failed], needed(configured.schema, first=True)
    dealt = dealt_roles(ids, least, configured.retrainer_url, configured.token)
    runs = completed(roles.assign(failed, dealt), schema)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("archiving completed runs", total=len(runs))
        post_runs(runs, configured.retrainer_url, configured.token, lambda done, _: bar.update(task, completed=done))
    console.print(f"[bold]{len(runs)} completed runs of {name} archived[/]")
    started = time.monotonic()
    with console.status("training the champion"):
        call([*DRIFTLOOP, "train", "--promote", "--seed", str(seed)], configured, extra, TRAINING_S)
    version = wait_for_model(configured)
    console.print(f"[bold]Champion trained and served[/] as version {version} after {time.monotonic() - started:.1f} s")


def wait_for_model(configured: Settings) -> str:
    """Wait until the server answers with a trained model; returns its version."""
    wait(
        lambda: _served(configured) is not None,
        SWAP_S,
        lambda: False,
        "server",
        configured.state_dir / "logs/server.log",
    )
    return str(_served(configured))


def _served(configured: Settings) -> str | None:
    """The version that the server answers with; None for the stub and where nothing answers."""
    try:
        with Server(configured.server_url, configured.token) as server:
            model = server.model()
        return None if model["stub"] else str(model["model_version"])
    except (DriftloopError, KeyError):
        return None


def call(command: list[str], configured: Settings, extra: dict[str, str], limit_s: float) -> None:
    """Run a driftloop command against this platform; raises DriftloopError with the end of its output."""
    name = " ".join(["driftloop", *command[len(DRIFTLOOP) :]])
    try:
        done = subprocess.run(
            command,
            env=_environment(configured, extra),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=limit_s, check=False,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DriftloopError(f"took longer than {limit_s:g} s", where=name) from None
    if done.returncode:
        end = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise DriftloopError(f"failed with exit code {done.returncode}:\n{end}", where=name)


def _environment(configured: Settings, extra: dict[str, str]) -> dict[str, str]:
    passed_on = {**environment(configured), **extra}
    return {name: value for name, value in passed_on.items() if not (extra and name == "CMAPSS_DIR")}


def _up(folder: Path) -> bool:
    try:
        return bool(read_json(folder / STATUS, dict[str, Any])["ready"])
    except (OSError, JsonError, KeyError):
        return False


def wait(condition: Callable[[], bool], limit_s: float, failed: Callable[[], bool], where: str, log: Path) -> None:
    """Wait until `condition()`; raises DriftloopError with the log's end where `failed()`, or after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if failed() or time.monotonic() > deadline:
            raise DriftloopError(f"did not get ready; its log ends:\n{tail(log, 15)}", where=where, remedy=f"see {log}")
        time.sleep(0.1)


def free_url(url: str) -> str:
    """The URL, on a port that the system chooses where its own is taken."""
    parts = urlsplit(url)
    if parts.port and port_is_free("127.0.0.1", parts.port):
        return url
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
