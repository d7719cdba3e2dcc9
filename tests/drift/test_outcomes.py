"""Live errors against control limits, on made-up engines whose errors have a part of their own."""

import numpy as np
import pytest

from driftloop.drift import outcomes
from driftloop.drift.outcomes import DRIFT, NO_DRIFT, NOT_ENOUGH_DATA, judge, tabulate


def engine(rng: np.random.Generator, *, shift: float = 0.0, cycles: int = 180, scale: float = 1.0) -> np.ndarray:
    """A life as the model sees it: the engine's own error, noise, and labels that are `shift` less than they were."""
    true = np.arange(cycles - 1, -1, -5.0)
    error = scale * np.where(true < 125, rng.normal(0, 8) + rng.normal(0, 6, len(true)), rng.normal(0, 2, len(true)))
    rul = np.clip(np.minimum(true, 125) + error, 0, 125)
    kept = true - shift >= 0
    return tabulate(rul[kept], rul[kept] - 20, rul[kept] + 20, (true - shift)[kept], 125)


def fleet(seed: int, count: int, **kind: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [engine(rng, **kind) for _ in range(count)]  # type: ignore[arg-type]


def test_an_engines_outcomes_are_counted_by_their_true_rul_capped():
    table = tabulate([130, 20, 12], [120, 0, 11], [125, 19, 13], [300, 20, 10], 125)
    assert table[:, 0].tolist() == [2, 0, 0, 0, 0, 1]
    assert table[-1].tolist() == [1, 5, 25, 1]
    assert table[0].tolist() == [2, 2, 4, 0]


@pytest.mark.parametrize("lists", [([], [], [], []), ([1.0], [0.0, 1.0], [2.0], [1.0])])
def test_outcomes_that_do_not_fit_together_are_refused(lists: tuple[list[float], ...]):
    with pytest.raises(ValueError, match="an engine needs"):
        tabulate(*lists, 125)


def test_few_engines_or_no_reference_say_nothing():
    reference = fleet(0, 30)
    for live, known in ((fleet(1, outcomes.LEAST - 1, shift=60), reference), (fleet(1, 30, shift=60), reference[:4])):
        judgement = judge(live, known)
        assert (judgement.verdict, judgement.figures) == (NOT_ENOUGH_DATA, {})
    assert judge([], []).verdict == NOT_ENOUGH_DATA


def test_a_healthy_fleet_is_no_drift_whatever_the_sample():
    for seed in range(60):
        judgement = judge(fleet(2 * seed, 40), fleet(2 * seed + 1, 25))
        assert judgement.verdict == NO_DRIFT, judgement
        assert judgement.window == 40


@pytest.mark.parametrize("shift", [30.0, -40.0])
def test_shifted_labels_are_drift_and_the_change_is_found(shift: float):
    found = judge(fleet(1, 15) + fleet(2, 20, shift=shift), fleet(0, 40))
    assert found.verdict == DRIFT
    assert 15 <= found.window <= 26
    assert np.sign(found.figures["bias"].value) == np.sign(shift)
    assert found.figures["bias"].score > 1
    assert found.figures["coverage"].value < found.figures["coverage"].expected


def test_errors_that_grow_without_a_bias_are_drift():
    found = judge(fleet(1, 30, scale=3.0), fleet(0, 40))
    assert found.verdict == DRIFT
    assert found.figures["rmse"].score > 1
    assert found.figures["rmse"].value > (found.figures["rmse"].upper or np.inf)


def test_more_accurate_than_expected_is_no_drift():
    assert judge(fleet(1, 30, scale=0.2), fleet(0, 40)).verdict == NO_DRIFT


def test_feedback_from_one_part_of_life_is_compared_with_the_same_part():
    def hard(rng: np.random.Generator) -> np.ndarray:
        table = engine(rng)
        table[:, 1] += np.arange(6) * 4 * table[:, 0]  # off by 4 cycles more in each band
        table[:, 2] += (np.arange(6) * 4) ** 2 * table[:, 0]
        return table

    rng = np.random.default_rng(5)
    reference, live = [hard(rng) for _ in range(30)], [hard(rng) for _ in range(30)]
    for table in live:
        table[:3] = 0  # nobody fed back what was answered late in life
    assert judge(live, reference).verdict == NO_DRIFT
    assert judge(live, reference).figures["bias"].expected > 12


def test_a_band_that_no_reference_engine_knows_is_left_out():
    reference = fleet(0, 20)
    for table in reference:
        table[-1] = 0
    live = fleet(1, 20)
    for table in live:
        table[-1, 1] += 1000 * table[-1, 0]
    assert judge(live, reference).verdict == NO_DRIFT


def test_reference_engines_count_by_their_share_in_the_fleet():
    easy, hard = fleet(0, 20), fleet(1, 20, shift=25)
    live = fleet(2, 20, shift=25)
    assert judge(live, [*easy, *hard], [0.05] * 20 + [0.95] * 20).verdict == NO_DRIFT
    assert judge(live, [*easy, *hard], [0.95] * 20 + [0.05] * 20).score > judge(live, [*easy, *hard]).score


def test_the_same_engines_get_the_same_verdict():
    assert judge(fleet(1, 20), fleet(0, 20)) == judge(fleet(1, 20), fleet(0, 20))


def test_a_limit_is_wider_on_the_side_to_which_healthy_fleets_are_skewed():
    # A quarter at sqrt(3), the others at -1 / sqrt(3): mean 0, standard deviation 1, skewness 2 / sqrt(3).
    away = np.repeat([[np.sqrt(3)], [-1 / np.sqrt(3)]], [250, 750], axis=0)
    z, reference = outcomes.LIMIT, 41
    student, honest = (z**3 + z) / 160, np.sqrt(41 / 40)
    skewed = (z**2 - 1) / 6 * 2 / np.sqrt(3)
    rising, falling = (outcomes._distances(sign * away, reference, "bias")[0] for sign in (1, -1))
    assert rising == pytest.approx((z + student + skewed) * honest)
    assert falling == pytest.approx((z + student) * honest)


def test_coverage_that_few_engines_lack_is_judged_by_more_than_its_spread():
    def patchy(rng: np.random.Generator) -> np.ndarray:
        true = np.arange(179, -1, -5.0)
        wide = np.where(rng.random(len(true)) < (1.0 if rng.random() < 0.9 else 0.3), 20.0, -1.0)
        rul = np.minimum(true, 125) + rng.normal(0, 3, len(true))
        return tabulate(rul, rul - wide, rul + wide, true, 125)

    rng = np.random.default_rng(0)
    reference, live = [patchy(rng) for _ in range(40)], [patchy(rng) for _ in range(8)]
    of_engines = np.array([table[:, 3].sum() / table[:, 0].sum() for table in reference])
    covered = judge(live, reference).figures["coverage"]
    spread = of_engines.std() * np.sqrt(1 / 8 + 1 / 40)
    assert covered.expected - (covered.lower or 0) > 1.3 * outcomes.LIMIT * spread
