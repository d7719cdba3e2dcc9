"""The processes of the platform: as the supervisor writes them down where there is one, else as they answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from driftloop import durable
from driftloop.api.fleets import Fleet
from driftloop.durable import format_seconds
from driftloop.errors import JsonError
from driftloop.memory import memory_now
from driftloop.protocol.http import GLANCE, client, why
from driftloop.settings import Settings

STATUS = "platform.json"


def components(base: Settings, fleets: dict[str, Fleet]) -> tuple[str | None, list[dict[str, Any]]]:
    """Since when the platform is up, where that is known, and its processes."""
    written = _written(base.state_dir / STATUS)
    if written:
        memory_of = memory_now()
        found = [_supervised(name, one, memory_of) for name, one in (written.get("components") or {}).items()]
        return written.get("started"), found
    return None, _asked(base, fleets)


def _supervised(name: str, one: dict[str, Any], memory_of: Callable[[int], int]) -> dict[str, Any]:
    pid = one.get("pid")
    memory = memory_of(int(pid)) if pid else None
    state = "down" if pid and not memory else str(one.get("state"))
    ended = one.get("last_exit")
    return {
        "name": name,
        "fleet": one.get("fleet") or None,
        "state": state,
        "since": _started(pid) if pid and memory else None,
        "address": one.get("url") or None,
        "memory_bytes": memory or None,
        "restarts": int(one.get("restarts") or 0),
        "message": f"ended with exit code {ended}" if ended is not None else None,
    }


def _started(pid: int) -> str | None:
    """When a process was started, from the folder that the kernel made for it then."""
    try:
        return format_seconds(Path(f"/proc/{pid}").stat().st_ctime)
    except OSError:
        return None


def _asked(base: Settings, fleets: dict[str, Fleet]) -> list[dict[str, Any]]:
    addresses: list[tuple[str, str | None, str, str]] = [("mlflow", None, base.mlflow_url, "/health")]
    for name, fleet in fleets.items():
        addresses += [
            ("server", name, fleet.settings.server_url, "/readyz"),
            ("retrainer", name, fleet.settings.retrainer_url, "/readyz"),
        ]
    with client(patience=GLANCE) as http:
        return [_answering(http, *address) for address in addresses]


def _answering(http: httpx.Client, name: str, fleet: str | None, url: str, path: str) -> dict[str, Any]:
    message = None
    try:
        answer = http.get(url + path)
        state = "ready" if answer.is_success else "starting"
        message = None if answer.is_success else f"answers {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        state, message = "down", f"does not answer: {why(error)}"
    nothing = {"since": None, "memory_bytes": None, "restarts": 0}
    return {"name": name, "fleet": fleet, "state": state, "address": url, "message": message, **nothing}


def _written(path: Path) -> dict[str, Any]:
    try:
        return durable.read_json(path, dict[str, Any])
    except (OSError, JsonError):
        return {}
