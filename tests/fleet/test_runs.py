import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.fleet.runs import ROLES, Run, role_of, windows, with_role
from driftloop.fleets.cmapss.source import engine_id

PINNED_ROLES = {
    ("FD001", 1): ("eng-cde1c55558", "train"),
    ("FD001", 2): ("eng-413411542c", "train"),
    ("FD001", 3): ("eng-5d3d2ca142", "gate"),
    ("FD001", 4): ("eng-ad276b7bba", "gate"),
    ("FD001", 5): ("eng-471c002cbc", "gate"),
    ("FD001", 6): ("eng-e313a8b6d7", "train"),
    ("FD002", 1): ("eng-cb8ef0a128", "train"),
    ("FD002", 2): ("eng-0732698b43", "calibrate"),
    ("FD002", 3): ("eng-e4cce180e4", "calibrate"),
    ("FD002", 4): ("eng-34b06496fc", "train"),
    ("FD002", 5): ("eng-dbc4f65740", "gate"),
    ("FD002", 6): ("eng-5792fb4d11", "calibrate"),
}


def run(cycles: int, remaining: int = 0) -> Run:
    rows = np.arange(cycles, dtype=np.float64)[:, None] + np.arange(24) / 100
    return Run("eng-x", rows, remaining)


@given(cycles=st.integers(1, 80), width=st.integers(1, 40), remaining=st.integers(0, 200))
def test_windows_are_what_a_server_sees_over_a_life(cycles: int, width: int, remaining: int) -> None:
    life = run(cycles, remaining)
    inputs, labels = windows(life, width)
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
    every, labels = windows(run(cycles), 10)
    some, some_labels = windows(run(cycles), 10, stride)
    assert np.array_equal(some, every[::-1][::stride][::-1])
    assert np.array_equal(some_labels, labels[::-1][::stride][::-1])


@pytest.mark.parametrize(("width", "stride"), [(0, 1), (1, 0), (-1, 1)])
def test_windows_without_width_or_stride_are_refused(width: int, stride: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        windows(run(5), width, stride)


@given(st.text(max_size=30))
def test_every_engine_has_exactly_one_role_and_keeps_it(run_id: str) -> None:
    assert [role for role in ROLES if role == role_of(run_id)] == [role_of(run_id)]
    assert role_of(run_id) == role_of(run_id)


def test_the_shares_of_the_roles_make_a_whole() -> None:
    assert sum(ROLES.values()) == pytest.approx(1)


def test_the_roles_of_known_engines_never_change() -> None:
    assert {key: (engine_id(*key), role_of(engine_id(*key))) for key in PINNED_ROLES} == PINNED_ROLES


def test_engines_fall_into_roles_in_the_stated_shares() -> None:
    roles = [role_of(engine_id("FD002", unit)) for unit in range(1, 5001)]
    for role, share in ROLES.items():
        assert roles.count(role) / len(roles) == pytest.approx(share, abs=0.02)


def test_with_role_keeps_the_order() -> None:
    runs = [Run(engine_id("FD001", unit), np.zeros((2, 24))) for unit in range(1, 60)]
    chosen = with_role(runs, "train", "gate")
    assert [r for r in runs if r in chosen] == chosen
    assert {r.role for r in chosen} == {"train", "gate"}


def test_the_hash_of_a_run_depends_on_its_rows_alone() -> None:
    rows = np.arange(48, dtype=np.float64).reshape(2, 24)
    assert Run("a", rows).sha256 == Run("b", np.asfortranarray(rows)).sha256 == Run("c", rows.astype(">f8")).sha256
    assert Run("a", rows).sha256 != Run("a", rows + 1e-12).sha256
