import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.fleet.runs import Run, windows
from driftloop.fleets.cmapss.schema import RUL_CAP


def run(cycles: int, remaining: int = 0) -> Run:
    rows = np.arange(cycles, dtype=np.float64)[:, None] + np.arange(24) / 100
    return Run("eng-x", rows, remaining)


@given(cycles=st.integers(1, 80), width=st.integers(1, 40), remaining=st.integers(0, 200))
def test_windows_are_what_a_server_sees_over_a_life(cycles: int, width: int, remaining: int) -> None:
    life = run(cycles, remaining)
    inputs, labels = windows(life, width, RUL_CAP)
    rows = life.rows.astype(np.float32)
    assert inputs.shape == (cycles, width, 24)
    first_full = min(width, cycles) - 1
    full = [i for i in range(cycles) if i >= width - 1]
    assert len(full) == max(0, cycles - width + 1)
    for i in full:
        assert np.array_equal(inputs[i], rows[i - width + 1 : i + 1])
    for i in range(first_full):
        padding = width - i - 1
        assert (inputs[i, :padding] == rows[0]).all()
        assert np.array_equal(inputs[i, padding:], rows[: i + 1])
    assert labels.tolist() == [min(125, cycles - 1 - i + remaining) for i in range(cycles)]


@given(cycles=st.integers(1, 80), stride=st.integers(1, 30))
def test_a_stride_keeps_the_last_window(cycles: int, stride: int) -> None:
    every, labels = windows(run(cycles), 10, RUL_CAP)
    some, some_labels = windows(run(cycles), 10, RUL_CAP, stride)
    assert np.array_equal(some, every[::-1][::stride][::-1])
    assert np.array_equal(some_labels, labels[::-1][::stride][::-1])


@pytest.mark.parametrize(("width", "stride"), [(0, 1), (1, 0), (-1, 1)])
def test_windows_without_width_or_stride_are_refused(width: int, stride: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        windows(run(5), width, RUL_CAP, stride)


def test_the_hash_of_a_run_depends_on_its_rows_alone() -> None:
    rows = np.arange(48, dtype=np.float64).reshape(2, 24)
    assert Run("a", rows).sha256 == Run("b", np.asfortranarray(rows)).sha256 == Run("c", rows.astype(">f8")).sha256
    assert Run("a", rows).sha256 != Run("a", rows + 1e-12).sha256
