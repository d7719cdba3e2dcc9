"""The API in front of a real retrainer and a real prediction server in this process, with a registry in memory."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from fastapi.testclient import TestClient

from driftloop.access import people
from driftloop.api import app as api_app
from driftloop.api import fleets as api_fleets
from driftloop.api.fleets import Fleet
from driftloop.loop.api import service
from driftloop.serving.app import create_app as create_server
from driftloop.settings import Settings
from live_server import local, running
from loop.fakes import FakeBackend, FakeRegistry
from serving_bundles import FakeRegistry as ServedRegistry
from serving_bundles import row

TOKEN = "a-token-of-enough-length"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords cost next to nothing here."""
    monkeypatch.setattr(people, "_N", 2**4)


def wait(condition: Callable[[], Any], limit_s: float = 30) -> Any:
    """What the condition gives once it holds."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)
    return found


class Versions(FakeRegistry):
    """A registry that has figures and may be closed."""

    def figures(self, run_id: str) -> dict[str, float]:
        return {"early_stop_rmse": 12.5} if run_id == "run1" else {}

    def close(self) -> None:
        """Nothing."""


class Platform:
    """A console's client, and what it asks."""

    def __init__(
        self, http: TestClient, retrainer: httpx.Client, server: httpx.Client, registry: Versions, parts: Any
    ) -> None:
        self.http, self.retrainer, self.server, self.registry, self.parts = http, retrainer, server, registry, parts

    token: ClassVar = {"Authorization": f"Bearer {TOKEN}"}
    served: ServedRegistry
    """The registry that the server follows."""
    settings: Settings

    @contextmanager
    def listening(self) -> Iterator[str]:
        """The address of another console of the same platform, for commands."""
        with running(api_app.create_app(self.settings)) as client:
            yield str(client.base_url)

    @property
    def fleet(self) -> Fleet:
        """The one fleet."""
        found: Fleet = self.http.app.state.fleets.get("cmapss")  # type: ignore[attr-defined]
        return found

    def get(self, path: str, status: int = 200, **parameters: Any) -> Any:
        """The answer of the API to GET `path`, of the fleet where it begins with a dot."""
        answer = self.http.get("/api/v1" + path.replace("./", "/fleets/cmapss/"), params=parameters)
        assert answer.status_code == status, answer.text
        return answer.json()

    def predict(self, unit: str, step: int, sensor: float = 1.0, rows: int = 6) -> dict[str, Any]:
        """A request of a unit to the server, and its answer."""
        body = {"rows": [row(sensor)] * rows, "engine_id": unit, "cycle": step}
        answer = self.server.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform whose worker does not work: events come from tests."""
    (tmp_path / "token").write_text(TOKEN)
    settings = Settings(state_dir=tmp_path / "state", token_file=tmp_path / "token", follow_interval_s=0.05)
    registry = Versions()
    monkeypatch.setattr(service, "Registry", lambda *_: registry)
    monkeypatch.setattr(api_fleets, "Registry", lambda *_: registry)
    retrainer_app = service.create_app(settings, backend=FakeBackend())
    served = ServedRegistry(tmp_path / "registry")
    served.publish("1", 1)
    served.production = "1"
    with running(retrainer_app) as retrainer, running(create_server(settings, served)) as server:
        base = settings.model_copy(
            update={
                "retrainer_url": str(retrainer.base_url),
                "server_url": str(server.base_url),
                "mlflow_url": "http://127.0.0.1:9",
            }
        )
        with local(api_app.create_app(base)) as http:
            found = Platform(http, retrainer, server, registry, retrainer_app.state.service)
            found.served, found.settings = served, base
            yield found
