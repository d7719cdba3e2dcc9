"""docs/security.md says of each request of each process which role it needs, and is right."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftloop.api import app as console
from driftloop.loop.api import service as retrainer
from driftloop.serving import app as server
from driftloop.serving import routes
from driftloop.settings import Settings
from driftloop.units import app as units

DOC = Path(__file__).resolve().parents[2] / "docs" / "security.md"
PROCESSES: dict[str, tuple[Callable[[Settings], Any], Callable[[str, str], str | None]]] = {
    "console": (console.create_app, console.needs),
    "prediction server": (server.create_app, routes.needs(False)),
    "retrainer": (retrainer.create_app, retrainer._needs),
    "service that keeps rows": (units.create_app, units._needs),
}


def documented(process: str) -> dict[str, str]:
    """The role of each request that the page names in the section of a process."""
    text = DOC.read_text(encoding="utf-8")
    [section] = [part for part in text.split("\n### ") if part.startswith(f"The {process} (")]
    return dict(re.findall(r"^\| `([A-Z]+ /[^`]*)` \| (\w+) \|$", section, re.MULTILINE))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_page_names_every_request_and_its_role(process: str, tmp_path: Path) -> None:
    create, needs = PROCESSES[process]
    document = create(Settings(state_dir=tmp_path, mlflow_url="http://127.0.0.1:9")).openapi()
    true = {
        f"{method.upper()} {path}": needs(method.upper(), path) or "nobody"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert documented(process) == true
