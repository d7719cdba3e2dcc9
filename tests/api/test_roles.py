"""Every request of every process, with every role that may not do it, and without credentials."""

from collections.abc import Callable
from typing import Any

import pytest

from driftloop.access.roles import ROLES, may
from driftloop.api.app import needs as of_console
from driftloop.loop.api.service import needs as of_retrainer
from driftloop.serving.routes import needs as of_server

from .conftest import Platform

ELSEWHERE = {"Host": "driftloop.example"}


@pytest.mark.parametrize(
    ("process", "document", "needs"),
    [
        ("http", "/api/openapi.json", of_console),
        ("retrainer", "/openapi.json", of_retrainer),
        ("server", "/openapi.json", of_server(False)),
    ],
    ids=["console", "retrainer", "server"],
)
def test_nobody_does_what_their_role_may_not(
    platform: Platform, process: str, document: str, needs: Callable[[str, str], Any]
) -> None:
    http = getattr(platform, process)
    tokens = platform.http.app.state.door.tokens  # type: ignore[attr-defined]
    brings = {role: {"Authorization": f"Bearer {tokens.add(role, role, rate=1e6)}", **ELSEWHERE} for role in ROLES}
    paths = http.get(document).json()["paths"]
    refused = 0
    for path, methods in paths.items():
        for method in map(str.upper, methods):
            needed = needs(method, path)
            if needed is None:
                continue
            filled = path.replace("{", "").replace("}", "")
            where = f"{method} {path}"
            assert http.request(method, filled, headers=ELSEWHERE).status_code == 401, where
            for role in ROLES:
                if not may(role, needed):
                    assert http.request(method, filled, headers=brings[role]).status_code == 403, f"{where} as {role}"
                    refused += 1
    assert refused > 0 or process == "server"
    assert platform.registry.moves == []
    assert [event["kind"] for event in platform.parts.store.tail(100) if event["kind"] != "concept_verdict"] == []
