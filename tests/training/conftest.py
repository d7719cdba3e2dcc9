"""Models trained once for all tests of this room."""

from pathlib import Path

import pytest

from driftloop.fleet.runs import Run
from driftloop.training.train import Trained
from made_up import CRUISE, SEA_LEVEL, fleet, tiny_bundle, tiny_config, train


@pytest.fixture(scope="session")
def old_runs() -> list[Run]:
    """A fleet with one regime, the first champion's."""
    return fleet(name="a")


@pytest.fixture(scope="session")
def new_runs() -> list[Run]:
    """Another fleet, with that regime and one more."""
    return fleet(name="b", settings=(SEA_LEVEL, CRUISE))


@pytest.fixture(scope="session")
def trained(old_runs: list[Run], new_runs: list[Run]) -> Trained:
    """A network with two regimes."""
    return train(old_runs + new_runs, tiny_config())


@pytest.fixture(scope="session")
def champion(old_runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first champion's bundle. Not to be changed."""
    return tiny_bundle(tmp_path_factory.mktemp("champion"), runs=old_runs)
