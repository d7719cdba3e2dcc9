"""Programs of the platform that are no packages of this checkout, and what the playbooks apply."""

import sys
from pathlib import Path

import pytest
from rendered import Manifest, render

ROOT = Path(__file__).parents[2]
for folder in ("files/images/backup", "scripts"):
    sys.path.append(str(ROOT / folder))


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Every object that the playbooks apply, but for the secrets."""
    return render(tmp_path_factory.mktemp("manifests"))
