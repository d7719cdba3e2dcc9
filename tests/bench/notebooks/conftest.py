"""scripts/notebooks.py as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "notebooks.py"


@pytest.fixture(scope="session")
def script() -> ModuleType:
    """What runs and cleans the notebooks."""
    spec = importlib.util.spec_from_file_location("notebooks_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
