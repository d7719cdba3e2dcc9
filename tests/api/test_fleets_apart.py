"""Two fleets on one platform: an act on one never reaches the other."""

from collections.abc import Iterator
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastapi.testclient import TestClient

from driftloop import fleets, places
from driftloop.api import app as api_app
from driftloop.api import fleets as api_fleets
from driftloop.loop.api import service
from driftloop.loop.api.service import Service
from driftloop.loop.state import State
from driftloop.places import Place, Places
from driftloop.settings import Settings
from live_server import local, running
from loop.fakes import FakeBackend

from .conftest import TOKEN, Versions

NAMES = ("cmapss", "twins")
"""The second is the first under another name: what tells them apart is the name alone."""
ROWS = np.random.default_rng(0).normal(size=(30, 24)).round(3).tolist()


class Both(NamedTuple):
    """The console's client, and the retrainer of each fleet."""

    http: TestClient
    retrainers: dict[str, Service]
    registries: dict[str, Versions]

    def act(self, fleet: str, path: str, body: Any = None, method: str = "POST") -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = self.http.request(method, f"/api/v1/fleets/{fleet}/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def known(self, fleet: str) -> tuple[State, int, list[str], dict[str, str], list[dict[str, str]]]:
        """All that an act may change: state, events, runs, aliases, tags."""
        retrainer, registry = self.retrainers[fleet], self.registries[fleet]
        tags = [dict(version.tags) for version in registry.known.values()]
        return retrainer.store.state, retrainer.store.last, retrainer.archive.run_ids(), dict(registry.pointers), tags


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    state, token, file = tmp_path / "state", tmp_path / "token", tmp_path / "twins" / "fleet.toml"
    token.write_text(TOKEN)
    file.parent.mkdir()
    text = (resources.files(fleets) / "cmapss" / "fleet.toml").read_text()
    file.write_text(text.replace('name = "cmapss"', 'name = "twins"', 1))
    registries = {"rul-lstm": Versions(), "rul-twins": Versions()}
    for module in (service, api_fleets):
        monkeypatch.setattr(module, "Registry", lambda _, model: registries[model])
    found, retrainers = {}, {}
    with ExitStack() as stack:
        for name, fleet, folder in (("cmapss", "cmapss", "."), ("twins", str(file), "fleets/twins")):
            settings = Settings(state_dir=state / folder, token_file=token, fleet=fleet, enable_retraining=False)
            app = service.create_app(settings, backend=FakeBackend())
            retrainers[name] = app.state.service
            url = str(stack.enter_context(running(app)).base_url)
            found[name] = Place(fleet=fleet, folder=folder, server_url="http://127.0.0.1:9", retrainer_url=url)
            registry = registries[settings.model]
            registry.add(decision="promoted"), registry.add(decision="approved")
            registry.pointers["production"] = "1"
        places.write(state, Places(mlflow_url="http://127.0.0.1:9", up=NAMES, fleets=found))
        http = stack.enter_context(local(api_app.create_app(Settings(state_dir=state, token_file=token))))
        named = dict(zip(NAMES, registries.values(), strict=True))
        yield Both(http, retrainers, named)


@pytest.mark.parametrize(("one", "other"), [NAMES, NAMES[::-1]])
def test_an_act_on_one_fleet_leaves_the_other_as_it_is(both: Both, one: str, other: str) -> None:
    before = both.known(other)
    acts: list[tuple[str, Any, str]] = [
        ("models/2/promote", {"reason": "looked at it", "from_version": "1"}, "POST"),
        ("models/rollback", {"from_version": "2"}, "POST"),
        ("causes/sensor_fault/mute", {"for_s": 600, "reason": "rebuilt"}, "POST"),
        ("causes/sensor_fault/mute", None, "DELETE"),
        ("causes/concept/mute", {"for_s": 600}, "POST"),
        ("schedules", {"name": "monthly", "act": "retrain", "every_s": 86_400}, "POST"),
        ("schedules/monthly", None, "DELETE"),
        ("runs", {"runs": [{"run_id": "e-1", "rows": ROWS, "confirmed": True}]}, "POST"),
        ("runs", {"runs": [{"run_id": "e-2", "rows": ROWS[1:], "confirmed": True}]}, "POST"),
        ("runs/withdraw", {"runs": ["e-1"], "reason": "the wrong file"}, "POST"),
    ]
    for path, body, method in acts:
        seen = both.known(one)
        both.act(one, path, body, method)
        assert both.known(one) != seen, f"{method} {path} has done nothing"
        assert both.known(other) == before, f"{method} {path} has reached {other}"
    events = both.http.get(f"/api/v1/fleets/{other}/events", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert events["events"] == []
