"""A fleet whose units are kept: a real service behind the console of a platform."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from driftloop.api.app import create_app
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.units.app import create_app as create_units
from live_server import running

from .conftest import Platform

PASSWORD = "correct horse battery"


def row(unit: str, step: int, **other: float) -> dict[str, Any]:
    """A row of a unit, 1 in every column that is not named."""
    return {"unit": unit, "time": step, **dict.fromkeys(SCHEMA.columns, 1.0), **other}


@contextmanager
def keeping(platform: Platform, *units: str) -> Iterator[tuple[FastAPI, httpx.Client]]:
    """A console that anna may operate, and the service itself; each unit has three rows."""
    settings = platform.settings.model_copy(update={"units_lateness_s": 0.0})
    with running(create_units(settings)) as service:
        service.headers.update(platform.token)
        for name in units:
            assert service.post("/telemetry", json=[row(name, step) for step in (1, 2, 3)]).status_code == 200
        console = create_app(settings.model_copy(update={"units_url": str(service.base_url)}))
        console.state.door.people.add("anna", "operate", PASSWORD)
        yield console, service
