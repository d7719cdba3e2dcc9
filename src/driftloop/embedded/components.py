"""What the embedded platform consists of: four processes on loopback, and how one knows that each works."""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from driftloop.durable import parse_time
from driftloop.embedded.processes import Component
from driftloop.embedded.status import answers, last_verdict
from driftloop.errors import DriftloopError
from driftloop.settings import Settings

DRIFTLOOP = (sys.executable, "-m", "driftloop.cli")
LOOPBACK = ("127.0.0.1", "localhost")


def components(settings: Settings, token_file: Path) -> list[Component]:
    """MLflow, prediction server, retrainer and drift watch with the URLs of `settings`, which must be loopback."""
    shared = environment(settings, token_file)
    return [
        _mlflow(settings, shared),
        Component(
            "server",
            [*DRIFTLOOP, "serve", "--port", str(_port("server", settings.server_url))],
            lambda _: answers(f"{settings.server_url}/readyz"),
            settings.server_url,
            shared,
        ),
        Component(
            "retrainer",
            [*DRIFTLOOP, "retrainer", "--port", str(_port("retrainer", settings.retrainer_url))],
            lambda _: answers(f"{settings.retrainer_url}/readyz"),
            settings.retrainer_url,
            shared,
        ),
        Component(
            "watch", [*DRIFTLOOP, "drift", "watch"], lambda started: _has_judged(settings, started), environment=shared
        ),
    ]


def environment(settings: Settings, token_file: Path) -> dict[str, str]:
    """What tells a process which platform it belongs to."""
    return {
        "DRIFTLOOP_FLEET": settings.fleet,
        "DRIFTLOOP_MODEL_NAME": settings.model,
        "DRIFTLOOP_STATE_DIR": str(settings.state_dir.resolve()),
        "DRIFTLOOP_MLFLOW_URL": settings.mlflow_url,
        "DRIFTLOOP_SERVER_URL": settings.server_url,
        "DRIFTLOOP_RETRAINER_URL": settings.retrainer_url,
        "DRIFTLOOP_ARCHIVE": settings.archive or str(settings.state_dir.resolve() / "archive"),
        "DRIFTLOOP_TOKEN_FILE": str(token_file.resolve()),
        "PYTHONUNBUFFERED": "1",
        # Idle math threads spin; on a machine that several processes share they cost more than they bring.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # MLflow counts its users by default.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _mlflow(settings: Settings, shared: dict[str, str]) -> Component:
    folder = settings.state_dir.resolve() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    port = _port("mlflow", settings.mlflow_url)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts",
    ]  # fmt: skip
    own = {
        # Eight workers for jobs that driftloop does not have would take 0.7 GB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Component(
        "mlflow", command, lambda _: answers(f"{settings.mlflow_url}/health"), settings.mlflow_url, {**shared, **own}
    )


def _has_judged(settings: Settings, since: float) -> bool:
    """Whether the watch has reported a verdict since then, if only that there is nothing to judge yet."""
    verdict = last_verdict(settings.retrainer_url)
    return verdict is not None and parse_time(verdict["time"]).timestamp() >= since


def _port(name: str, url: str) -> int:
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK or parts.port is None:
        raise DriftloopError(
            f"{url} is not a loopback address with a port",
            where=f"DRIFTLOOP_{name.upper()}_URL",
            remedy="the embedded platform listens on 127.0.0.1 only, for example http://127.0.0.1:8500",
        )
    return parts.port
