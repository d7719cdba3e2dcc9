"""A server in this process, on tiny bundles."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from serving_bundles import FakeRegistry

from driftloop.serving.app import create_app
from driftloop.settings import Settings


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", follow_interval_s=0.01)


@pytest.fixture
def make_app(registry: FakeRegistry, settings: Settings) -> Callable[[], FastAPI]:
    return lambda: create_app(settings, registry)


@pytest.fixture
async def client(make_app: Callable[[], FastAPI]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running application, whose registry is empty until a test publishes something."""
    app = make_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client
