"""A benchmark that takes a moment."""

from dataclasses import replace

import pytest

from driftloop_bench.rul.benchmark import QUICK_CONFIG, Plan, make_plan

SMALL = replace(QUICK_CONFIG, steps=10)
"""A benchmark's training that takes a moment."""


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A benchmark of two seeds that takes a moment."""
    return replace(make_plan("FD001,FD002", 2, quick=True), config=SMALL)
