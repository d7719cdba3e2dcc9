"""The model that a recovered one is measured against."""

from dataclasses import dataclass
from typing import cast

import pytest

from driftloop.model.bundle import Metadata
from driftloop_bench.experiment import reference


@dataclass
class Trained:
    """What of a version's metadata its reference depends on."""

    training: str
    seed: int


@pytest.mark.parametrize(
    ("training", "seed", "expected"), [("warm_start", 3, 3), ("full", 4, 3), ("full", 3, 4)]
)  # fmt: skip
def test_the_reference_is_never_the_version_itself(training: str, seed: int, expected: int) -> None:
    assert reference.seed_of(cast(Metadata, Trained(training, seed)), 3) == expected
