"""A platform that recovers on cue: the server's and the retrainer's interfaces in one small aiohttp app."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from driftloop import durable, settings
from driftloop.fleet.roles import role_of
from driftloop.settings import Settings


class FakePlatform:
    """Watches its own traffic: healthy until completed runs arrive, then drift, retraining, version 2, no drift.

    `recovers` False stops after the alert with a refusal, as for a sensor fault. With `aids` the alert comes with the
    change, and a provisional version 2 before the runs, which then are learnt by version 3. With `asks`
    a person is asked first, who approves a moment later.
    """

    def __init__(self, *, recovers: bool = True, stub: bool = False, aids: bool = False, asks: bool = False) -> None:
        self.recovers, self.stub, self.aids, self.asks = recovers, stub, aids, asks
        self.version, self.labelled = "1", "3" if aids else "2"
        self.requests = self.promote_at = 0
        self.runs: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()

    def event(self, kind: str, **detail: Any) -> None:
        self.events.append({"seq": len(self.events) + 1, "time": durable.now(), "kind": kind, **detail})

    def verdict(self, verdict: str, score: float) -> None:
        figures = {"n": 500, "score": score, "psi_max": score, "psi_plain_max": score}
        self.event("verdict", model_version=self.version, verdict=verdict, **figures)

    def alert(self) -> None:
        """The watch has seen the change."""
        self.verdict("drift", 5.0)
        self.event("alert_firing", model_version="1", starts_at=durable.now(), features=["sensor_11"])

    def drift(self) -> None:
        """The whole loop at once; called when the experiment has changed its traffic."""
        if not self.aids:
            self.alert()
        if not self.recovers:
            self.event("retraining_refused", model_version="1", reason="a sensor fault")
            return
        self.event("retraining_started", model_version="1")
        if self.asks:
            self.event("approval_needed", model_version=self.labelled)
        self.promote_at = self.requests + 40

    async def predict(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests += 1
        if self.requests == self.promote_at:
            self.event("promoted", model_version=self.labelled, from_version="1")
            self.version = self.labelled
        if self.requests % 50 == 0 and (self.version == self.labelled or not self.promote_at):
            self.verdict("no_drift", 0.5)
        rul = float(len(body["rows"]))
        told = {"rul": rul, "lower": 0.0, "upper": 130.0, "model_version": self.version, "flags": []}
        return web.json_response(told)

    async def archive(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization"))
        added = [run["run_id"] for run in json.loads(await request.read())["runs"]]
        if not self.runs:
            self.drift()
        self.runs += added
        return web.json_response({"added": added, "known": []})

    async def roles(self, request: web.Request) -> web.Response:
        return web.json_response({"roles": {run_id: role_of(run_id) for run_id in (await request.json())["run_ids"]}})

    async def read_events(self, request: web.Request) -> web.Response:
        found = self.events[int(request.query["after"]) :]
        return web.json_response({"events": found, "next": len(self.events)})

    async def add_event(self, request: web.Request) -> web.Response:
        told = await request.json()
        kind = told.pop("kind")
        self.event(kind, **told)
        if self.aids and kind == "fleet_changed":
            self.alert()
            self.event("first_aid_promoted", model_version="2", from_version="1")
            self.version = "2"
        return web.json_response({"seq": len(self.events)})

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response({"state": "idle", "last_event": len(self.events)})

    async def model(self, _: web.Request) -> web.Response:
        return web.json_response({"model_version": self.version, "stub": self.stub, "window": 30, "metadata": {}})

    def add_routes(self, app: web.Application) -> None:
        """What else it answers."""

    @asynccontextmanager
    async def running(self, state_dir: Path) -> AsyncIterator[Settings]:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/predict", self.predict)
        app.router.add_post("/archive/runs", self.archive)
        app.router.add_post("/archive/roles", self.roles)
        app.router.add_get("/events", self.read_events)
        app.router.add_post("/events", self.add_event)
        app.router.add_get("/status", self.status)
        app.router.add_get("/model", self.model)
        self.add_routes(app)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        token = state_dir / "token"
        token.write_text("a token of sufficient length")
        try:
            yield settings.load(
                server_url=url, retrainer_url=url, units_url=url, state_dir=state_dir, token_file=token,
                cmapss_dir=None, raw_dir=state_dir / "no-data", simulator_engines=20,
            )  # fmt: skip
        finally:
            await runner.cleanup()


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()
