"""What the embedded platform consists of: processes on loopback, and how one knows that each works."""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from driftloop import durable, logs
from driftloop.embedded.processes import Component
from driftloop.embedded.status import answers, last_verdict, refused
from driftloop.environment import chosen
from driftloop.errors import DriftloopError
from driftloop.settings import Settings

_LOGGING = "logging.json"
DRIFTLOOP = (sys.executable, "-m", "driftloop.cli")
LOOPBACK = ("127.0.0.1", "localhost")


def components(fleets: Mapping[str, Settings], state_dir: Path) -> list[Component]:
    """One console, one MLflow, and for each of `fleets` (by name) a server, retrainer, drift watch and units.

    The URLs of their settings must be loopback, and MLflow's the same in all. Where there are several fleets, the names
    of their components begin with the fleet's.
    """
    several = len(fleets) > 1
    first = next(iter(fleets.values()))
    found = [_console(first, state_dir), _mlflow(first, state_dir)]
    for name, settings in fleets.items():
        found += _of_fleet(name, settings, f"{name}/" if several else "")
    return found


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that belongs to the fleet of these settings."""
    return {
        **chosen(settings),
        "DRIFTLOOP_MODEL_NAME": settings.model,
        "DRIFTLOOP_ARCHIVE": settings.archive or str(settings.state_dir.resolve() / "archive"),
        # Idle math threads spin; on a machine that several processes share they cost more than they bring.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _of_fleet(name: str, settings: Settings, prefix: str) -> list[Component]:
    shared = environment(settings)
    server, retrainer = settings.server_url, settings.retrainer_url
    found = [
        Component(
            f"{prefix}server",
            [*DRIFTLOOP, "serve", "--port", str(_port("server", server))],
            lambda _: _serves(server),
            server,
            shared,
            fleet=name,
        ),
        Component(
            f"{prefix}retrainer",
            [*DRIFTLOOP, "retrainer", "--port", str(_port("retrainer", retrainer))],
            lambda _: answers(f"{retrainer}/readyz"),
            retrainer,
            shared,
            fleet=name,
        ),
        Component(
            f"{prefix}watch",
            [*DRIFTLOOP, "drift", "watch"],
            lambda started: _has_judged(settings, started),
            environment=shared,
            fleet=name,
        ),
    ]
    return found + _units(name, settings, prefix, shared)


def _units(name: str, settings: Settings, prefix: str, shared: dict[str, str]) -> list[Component]:
    """The service that takes rows, where its packages (the extra `units`) are installed."""
    if any(importlib.util.find_spec(package) is None for package in ("sqlalchemy", "alembic")):
        return []
    url = settings.units_url
    command = [*DRIFTLOOP, "units", "serve", "--port", str(_port("units", url))]
    return [Component(f"{prefix}units", command, lambda _: answers(f"{url}/readyz"), url, shared, fleet=name)]


def _console(settings: Settings, state_dir: Path) -> Component:
    """For all fleets: it finds them in the state folder."""
    own = {"DRIFTLOOP_STATE_DIR": str(state_dir.resolve()), "DRIFTLOOP_CONSOLE_URL": settings.console_url}
    if settings.token_file is not None:
        own["DRIFTLOOP_TOKEN_FILE"] = str(settings.token_file.resolve())
    return Component(
        "console",
        [*DRIFTLOOP, "console", *_listening("console", settings.console_url)],
        lambda _: answers(f"{settings.console_url}/healthz"),
        settings.console_url,
        {**chosen(), **own},
    )


def _mlflow(settings: Settings, state_dir: Path) -> Component:
    folder = state_dir.resolve() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    port = _port("mlflow", settings.mlflow_url)
    # It runs in its folder, so that no path is in a URL: what `?`, `#` and `%` in one mean differs between libraries.
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts", "--serve-artifacts",
    ]  # fmt: skip
    if settings.log_format == "json":
        durable.write_atomically(folder / _LOGGING, json.dumps(logs.of_others("mlflow")).encode())
        command += ["--uvicorn-opts", f"--log-config {_LOGGING}"]
    own = {
        # With json its messages go where all others do.
        "MLFLOW_CONFIGURE_LOGGING": str(settings.log_format == "text").lower(),
        # Eight workers for jobs that driftloop does not have would take 0.7 GB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return Component(
        "mlflow",
        command,
        lambda _: answers(f"{settings.mlflow_url}/health"),
        settings.mlflow_url,
        {**chosen(), **own},
        folder=folder,
    )


def _serves(url: str) -> bool:
    """Whether the server answers predictions, or refuses the version in production, which only a promotion can end: it
    needs a retrainer, and so must not keep the platform from being up."""
    return answers(f"{url}/readyz") or refused(url) is not None


def _has_judged(settings: Settings, since: float) -> bool:
    """Whether the watch has reported a verdict since then, if only that there is nothing to judge yet."""
    verdict = last_verdict(settings.retrainer_url)
    return verdict is not None and durable.parse_time(verdict["time"]).timestamp() >= since


def _listening(name: str, url: str) -> list[str]:
    """The options of a process that may listen for others than this machine: then it asks for credentials."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None or parts.path:
        raise DriftloopError(
            f"{url} is not an address with a port and nothing behind it",
            where=f"DRIFTLOOP_{name.upper()}_URL",
            remedy="write http://127.0.0.1:8400, or https:// and a name or address of this machine for others too",
        )
    return ["--host", parts.hostname, "--port", str(parts.port)]


def _port(name: str, url: str) -> int:
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK or parts.port is None or parts.path:
        raise DriftloopError(
            f"{url} is not a loopback address with a port and nothing behind it",
            where=f"DRIFTLOOP_{name.upper()}_URL",
            remedy="the embedded platform listens on 127.0.0.1 only, for example http://127.0.0.1:8500",
        )
    return parts.port
