"""Servers in this process, on tiny bundles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from driftloop.serving.app import create_app
from driftloop.settings import Settings
from live_server import running
from serving_bundles import FakeRegistry


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One server with version 1 for all tests of a file that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    registry = FakeRegistry(folder / "registry")
    registry.publish("1", 1)
    limits = {"max_batch": 8, "max_cycles": 50, "max_body_bytes": 100_000}
    with running(create_app(Settings(state_dir=folder / "state", **limits), registry)) as client:
        yield client


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", follow_interval_s=0.01, max_batch=8, max_cycles=50, max_body_bytes=100_000
    )


@pytest.fixture
def serve(registry: FakeRegistry, settings: Settings) -> Callable[[], "contextmanager[httpx.Client]"]:
    """Call it for a running server; it ends with its `with`."""
    return lambda: running(create_app(settings, registry))


@pytest.fixture
def client(serve: Callable[[], "contextmanager[httpx.Client]"]) -> Iterator[httpx.Client]:
    """A client of a server whose registry is empty until a test publishes something."""
    with serve() as client:
        yield client
