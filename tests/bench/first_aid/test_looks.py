"""What first aid gets to see of live units."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from driftloop.fleet.runs import Run
from driftloop.model.first_aid import LEAST_ROWS, LEAST_UNITS
from driftloop_bench.first_aid import looks


def units(lives: list[int]) -> list[Run]:
    """Units whose only column counts their rows from 1."""
    return [Run(f"u{at:03d}", np.arange(1.0, life + 1)[:, None]) for at, life in enumerate(lives)]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(0, 5))
def test_every_look_sees_the_same_units_at_the_same_ages(lives: list[int], seed: int) -> None:
    runs = {run.run_id: run for run in units(lives)}
    found = looks.seen(list(runs.values()), 256, np.random.default_rng(seed))
    assert list(found) == list(looks.LOOKS)
    ends = {one.unit: one.step for one in found["60 rows a unit"]}
    assert set(ends) == set(runs)
    for look, windows in found.items():
        width = 256 if look == "whole windows" else looks.ROWS
        for one in windows:
            end = ends[one.unit]
            assert one.step == (None if look.endswith("unknown") else end)
            assert end is not None
            np.testing.assert_array_equal(one.rows, runs[one.unit].rows[max(0, end - width) : end])


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_five_hundred_rows_come_from_as_few_units_as_possible(lives: list[int]) -> None:
    found = looks.seen(units(lives), 256, np.random.default_rng(0))
    few, every = found["500 rows"], found["60 rows a unit"]
    assert [one.unit for one in few] == [one.unit for one in every[: len(few)]]
    rows = sum(len(one.rows) for one in few)
    if len(few) < len(every):
        assert rows >= LEAST_ROWS
        assert len(few) >= LEAST_UNITS
    if len(few) > LEAST_UNITS:
        assert rows - len(few[-1].rows) < LEAST_ROWS
