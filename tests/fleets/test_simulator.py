from pathlib import Path

import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleets.cmapss import files
from driftloop.fleets.cmapss.simulator import simulate, write_files


@pytest.fixture(scope="module")
def subsets() -> dict[str, files.Subset]:
    return {subset: simulate(subset, engines=40) for subset in files.SUBSETS}


def test_a_fleet_has_as_many_engines_as_nasas() -> None:
    content = simulate("FD003")
    assert (len(content.train), len(content.test), len(content.remaining)) == (100, 100, 100)


def test_the_seed_decides_the_fleet() -> None:
    first, again, other = (simulate("FD002", seed=seed, engines=2) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first.train + first.test, again.train + again.test, strict=True))
    assert not np.array_equal(first.train[0][:50], other.train[0][:50])


def test_a_smaller_fleet_is_the_beginning_of_a_larger_one() -> None:
    small, large = simulate("FD004", engines=2), simulate("FD004", engines=4)
    assert all(np.array_equal(a, b) for a, b in zip(small.train, large.train[:2], strict=True))
    assert small.remaining == large.remaining[:2]


def test_written_files_are_read_back_exactly(tmp_path: Path) -> None:
    written = write_files(tmp_path, seed=5, engines=3)
    assert {path.name for path in written} == set(files.SHA256)
    for subset in files.SUBSETS:
        made, read = simulate(subset, seed=5, engines=3), files.read_subset(tmp_path, subset, check=False)
        assert all(np.array_equal(a, b) for a, b in zip(made.train + made.test, read.train + read.test, strict=True))
        assert made.remaining == read.remaining


def test_lines_look_like_nasas(tmp_path: Path) -> None:
    write_files(tmp_path, engines=1)
    line = (tmp_path / "train_FD001.txt").read_text().splitlines()[0]
    assert line.startswith("1 1 ")
    assert line.endswith("  ")
    digits = [len(cell.partition(".")[2]) for cell in line.split()[2:]]
    assert digits == [4, 4, 1, *[2] * 14, 4, 2, 0, 0, 2, 2, 4]


def test_lives_are_as_long_as_nasas(subsets: dict[str, files.Subset]) -> None:
    for subset, content in subsets.items():
        lives = [len(rows) for rows in content.train]
        assert min(lives) > 110
        assert max(lives) < 600
        mean = 206 if subset in ("FD001", "FD002") else 247
        assert np.mean(lives) == pytest.approx(mean, abs=35)
        assert all(left >= 6 and len(rows) >= 15 for rows, left in zip(content.test, content.remaining, strict=True))


def test_subsets_have_one_or_six_operating_regimes(subsets: dict[str, files.Subset]) -> None:
    for subset, content in subsets.items():
        altitude_and_throttle = np.concatenate(content.train)[:, [0, 2]]
        regimes = np.unique(np.round(altitude_and_throttle) + 0.0, axis=0)
        assert len(regimes) == (1 if subset in ("FD001", "FD003") else 6)


def test_sensors_tell_the_remaining_life(subsets: dict[str, files.Subset]) -> None:
    for rows in subsets["FD001"].train[:10]:
        rul = np.minimum(np.arange(len(rows))[::-1], 125)
        for column, sign in ((3 + 10, -1), (3 + 11, 1)):  # Ps30 rises and phi falls as the HPC wears
            assert sign * np.corrcoef(rows[:, column], rul)[0, 1] > 0.5


def test_the_two_faults_move_the_bypass_pressure_apart(subsets: dict[str, files.Subset]) -> None:
    moves = np.array([rows[-5:, 3 + 6].mean() - rows[:30, 3 + 6].mean() for rows in subsets["FD003"].train])
    assert (moves > 4).sum() >= 8
    assert (moves < 0).sum() >= 8
    only = np.array([rows[-5:, 3 + 6].mean() - rows[:30, 3 + 6].mean() for rows in subsets["FD001"].train])
    assert (only < 0).all()


def test_a_subset_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match="there is no subset 'FD009'"):
        simulate("FD009")


@pytest.mark.parametrize("subset", files.SUBSETS)
def test_sensors_read_what_nasas_read(nasa: Path, subsets: dict[str, files.Subset], subset: str) -> None:
    real = np.concatenate(files.read_subset(nasa, subset, ("train",)).train)
    made = np.concatenate(subsets[subset].train)
    spread = np.where(real.std(axis=0) > 1e-6, real.std(axis=0), 1)
    difference = np.abs(made.mean(axis=0) - real.mean(axis=0)) / spread
    assert difference.max() < 0.8
    assert np.median(difference) < 0.2
