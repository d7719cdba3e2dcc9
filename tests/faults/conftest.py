"""A stopped platform with a champion, made once; each case gets a copy of it and hurts that."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.source import load_fleet
from driftloop.protocol.archive_client import post_runs
from live_platform import Platform

ENGINES = 60
SEED = int(os.environ.get("FAULTS_SEED", "0"))
HERE = Path(__file__).parent


def pytest_report_header() -> str:
    """Say how to repeat this order."""
    return f"faults in the order of FAULTS_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the cases by the seed, file by file, so that none relies on the one before it."""
    places = [i for i, item in enumerate(items) if item.path.is_relative_to(HERE)]
    drawn = random.Random(SEED)
    by_file: dict[Path, list[pytest.Item]] = {}
    for place in places:
        items[place].add_marker(pytest.mark.faults)
        items[place].add_marker(pytest.mark.timeout(1800))
        by_file.setdefault(items[place].path, []).append(items[place])
    files = sorted(by_file)
    drawn.shuffle(files)
    shuffled = [item for file in files for item in drawn.sample(by_file[file], len(by_file[file]))]
    for place, item in zip(places, shuffled, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a stopped platform: version 1, trained on a fleet with one operating regime, is served."""
    state = tmp_path_factory.mktemp("champion") / "state"
    with Platform(state, engines=ENGINES) as platform:
        runs = [run for run in load_fleet("FD001", platform.settings, splits=("train",)).train if run.role != "live"]
        post_runs(runs, platform.urls["retrainer"], platform.settings.token)
        assert platform.run("train", "--promote").returncode == 0
        platform.wait(lambda: platform.served() == "1", "version 1 to be served")
        assert platform.interrupt() == 0
    return state


Prepare = Callable[..., Platform]


@pytest.fixture
def prepared(champion: Path, tmp_path: Path) -> Iterator[Prepare]:
    """Makes a platform, up and ready, from a copy of the champion's state; the argument is where its state goes."""
    made: list[Platform] = []

    def prepare(state: Path = tmp_path / "state", **variables: str) -> Platform:
        copy_state(champion, state)
        platform = Platform(state, engines=ENGINES, **variables)
        made.append(platform)
        platform.start()
        platform.wait(lambda: platform.served() == "1", "version 1 to be served")
        return platform

    yield prepare
    for platform in made:
        platform.end()


def copy_state(champion: Path, state: Path) -> None:
    """Copy a stopped platform."""
    shutil.copytree(champion, state, dirs_exist_ok=True, ignore=shutil.ignore_patterns("logs", "*.lock"))


@pytest.fixture(scope="session")
def healthy_fleet(champion: Path) -> list[Run]:
    """Live engines of the fleet that the champion knows."""
    return [run for run in _fleet("FD001", champion) if run.role == "live"]


@pytest.fixture(scope="session")
def changed_fleet(champion: Path) -> list[Run]:
    """All engines of a fleet with six operating regimes, of which the champion knows one."""
    return _fleet("FD002", champion)


def _fleet(subset: str, state: Path) -> list[Run]:
    return load_fleet(subset, Platform(state, engines=ENGINES).settings, splits=("train",)).train
