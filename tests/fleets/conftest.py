import os
from pathlib import Path

import pytest

from driftloop.fleets.cmapss import simulator
from driftloop.settings import Settings, load

NASA = os.environ.get("CMAPSS_DIR")


@pytest.fixture
def nasa() -> Path:
    """The folder with NASA's real files."""
    if not NASA:
        pytest.skip("needs NASA's files: set CMAPSS_DIR")
    return Path(NASA)


@pytest.fixture(scope="session")
def fleet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files in NASA's format, with three simulated engines in each split."""
    folder = tmp_path_factory.mktemp("fleet")
    simulator.write_files(folder, engines=3)
    return folder


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a machine without data."""
    for name in list(os.environ):
        if name == "CMAPSS_DIR" or name.startswith("DRIFTLOOP_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return load(simulator_engines=3)
