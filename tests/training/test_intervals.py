"""Conformal offsets: worked examples, and coverage of engines that were not there."""

import numpy as np
import pytest
import torch

from driftloop.fleet.labels import bands
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.fleets.cmapss.source import simulated_fleet
from driftloop.model import regimes
from driftloop.training.intervals import ATOMS, band_offsets, conformal_offset, cross_guarantee, crossed
from driftloop.training.network import Architecture, Form, RulNetwork


def test_with_nine_engines_ninety_percent_need_the_largest_score():
    assert conformal_offset(np.arange(9.0), np.arange(9), largest=RUL_CAP) == 8.0


def test_with_nineteen_engines_the_second_largest_score_is_enough():
    assert conformal_offset(np.arange(19.0), np.arange(19), largest=RUL_CAP) == 17.0


def test_with_too_few_engines_the_interval_is_the_whole_range():
    assert conformal_offset(np.arange(8.0), np.arange(8), largest=RUL_CAP) == 125.0


def test_each_engine_weighs_the_same_whatever_its_number_of_windows():
    # 19 engines, one of them with a thousand windows of a large score: two engines' weight lies above 0.
    scores = np.concatenate([np.zeros(18), np.full(1000, 50.0)])
    engines = np.concatenate([np.arange(18), np.full(1000, 18)])
    assert conformal_offset(scores, engines, largest=RUL_CAP) == 0.0
    assert np.quantile(scores, 0.9) == 50.0


def test_intervals_that_are_too_wide_are_narrowed():
    assert conformal_offset(np.full(30, -4.0), np.arange(30), largest=RUL_CAP) == -4.0


@pytest.mark.parametrize("engines", [10, 25, 60])
def test_a_new_engine_is_covered_as_often_as_promised(engines):
    rng = np.random.default_rng(engines)
    covered = []
    for _ in range(400):
        level = rng.normal(0, 3, engines + 1)  # what the windows of one engine share
        sizes = rng.integers(5, 40, engines + 1)
        scores = [rng.normal(mean, 1, size) for mean, size in zip(level, sizes, strict=True)]
        known, new = scores[:-1], scores[-1]
        offset = conformal_offset(np.concatenate(known), np.repeat(np.arange(engines), sizes[:-1]), largest=1e9)
        covered.append((new <= offset).mean())
    # Coverage lies between 0.90 and 0.90 + 1/(K+1); the standard error of 400 engines is about 0.015.
    assert 0.90 - 0.04 <= np.mean(covered) <= 0.90 + 1 / (engines + 1) + 0.04


def test_each_band_has_the_offset_of_its_own_labels():
    labels = np.array([float(first) for first, _ in bands(RUL_CAP)] * 20)
    scores = labels / 10  # the same for every engine
    offsets = band_offsets(scores, labels, np.repeat(np.arange(20), len(bands(RUL_CAP))), RUL_CAP)
    np.testing.assert_allclose(offsets, [first / 10 for first, _ in bands(RUL_CAP)], rtol=1e-6)


def test_a_band_that_no_engine_went_through_is_held_whole():
    labels = np.full(30, 60.0)
    offsets = band_offsets(np.full(30, -2.0), labels, np.arange(30), RUL_CAP)
    assert offsets.tolist() == [125.0, 125.0, -2.0, 125.0, 125.0, 125.0]


def interval(offsets, rul, lower, upper):
    network = RulNetwork(
        Architecture(), regimes.find([simulated_fleet("FD001", 0, 1).train[0]], SCHEMA), Form.of(SCHEMA, RUL_CAP)
    )
    network.offsets.copy_(torch.tensor(offsets))
    return [end.item() for end in network.interval(torch.tensor([[rul, lower, upper]]))]


def test_the_interval_holds_the_labels_that_their_band_lets_in():
    # Labels up to 25 may lie 1 outside the quantiles, those from 26 on 8: 22 to 25 reach down to 29 alone.
    assert interval([1.0, 8.0, 0.0, 0.0, 0.0, 0.0], 40.0, 30.0, 50.0) == [40.0, 26.0, 50.0]
    assert interval([9.0, 8.0, 2.0, 0.0, 0.0, 0.0], 40.0, 30.0, 50.0) == [40.0, 21.0, 52.0]
    # Offsets below zero narrow, at most down to the prediction; labels are 0 to 125.
    assert interval([-9.0] * 6, 10.0, 5.0, 15.0) == [10.0, 10.0, 10.0]
    assert interval([9.0] * 6, 130.0, 118.0, 124.0) == [125.0, 109.0, 125.0]


def test_every_band_is_covered_where_one_offset_covers_only_the_average():
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(126.0), 600)
    engines = np.repeat(np.arange(600), 126)
    # Errors grow with the label; the quantiles, 10 apart from the prediction, know nothing of it.
    predicted = labels + rng.normal(0, 1 + labels / 12)
    scores = np.abs(predicted - labels) - 10
    known, new = engines < 300, engines >= 300
    offsets = band_offsets(scores[known], labels[known], engines[known], RUL_CAP)
    one = conformal_offset(scores[known], engines[known], largest=RUL_CAP)
    spread = []
    for (first, last), offset in zip(bands(RUL_CAP), offsets, strict=True):
        chosen = new & (labels >= first) & (labels <= last)
        assert (scores[chosen] <= offset).mean() == pytest.approx(0.9, abs=0.05)
        spread.append((scores[chosen] <= one).mean())
    assert max(spread) - min(spread) > 0.15


# CV+


def several(members: int) -> RulNetwork:
    """A network of several members, of which only the intervals matter here."""
    sizes = Architecture(window=12, oldest=4, perceptron=4, members=members)
    found = regimes.find([simulated_fleet("FD001", 0, 1).train[0]], SCHEMA)
    return RulNetwork(sizes, found, Form.of(SCHEMA, RUL_CAP))


def lowest(network, scores, units, parts, ends):
    """Where CV+ puts the lower end for members' lower quantiles `ends` `[members]`."""
    found = crossed(scores, units, parts, network.architecture.members)
    network.scores.copy_(torch.from_numpy(found.scores))
    network.score_weights.copy_(torch.from_numpy(found.weights))
    return network.crossed(torch.tensor(np.array([ends]), dtype=torch.float32)).item()


def test_members_that_agree_give_the_split_conformal_interval():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(60), 50)
    scores = rng.normal(0, 5, len(units))
    offset = conformal_offset(scores, units, largest=RUL_CAP)
    # Each score of a part stands for some below it: never narrower, and hardly wider.
    assert offset <= 70.0 - lowest(several(5), scores, units, units % 5, [70.0] * 5) <= offset + 0.5


def test_a_member_is_compared_with_its_own_quantiles():
    units = np.arange(20)
    # Member 0, half of the weight, is 30 lower than member 1: nine in ten scores are held from its end on.
    assert lowest(several(2), np.zeros(20), units, units % 2, [40.0, 70.0]) == pytest.approx(40.0)
    # With one in twenty the other has the say.
    few = (units > 0).astype(int)
    assert lowest(several(2), np.zeros(20), units, few, [40.0, 70.0]) == pytest.approx(70.0)


def test_a_new_unit_is_covered_though_each_member_errs_in_its_own_way():
    rng = np.random.default_rng(1)
    network, units, parts = several(5), np.repeat(np.arange(30), 20), np.arange(30) % 5
    covered = []
    for _ in range(300):
        # What a member learns depends on the units that it sees: it answers with their mean, and errs beside.
        levels, wrong = rng.normal(60, 6, 31), rng.normal(0, 3, 5)
        says = np.array([levels[:30][parts != member].mean() for member in range(5)]) + wrong
        values = levels[:, None] + rng.normal(0, 2, (31, 20))
        scores = np.abs(values[:30] - says[parts][:, None]).ravel()
        low = lowest(network, scores, units, parts[units], says)
        high = -network.crossed(torch.tensor([-says], dtype=torch.float32)).item()
        covered.append(((low <= values[30]) & (values[30] <= high)).mean())
    assert cross_guarantee(30, 5) < 0.8
    # Nine in ten, and no less than what is proven; the standard error of 300 units is about 0.015.
    assert 0.86 <= np.mean(covered) <= 0.98


def test_of_too_few_units_nothing_is_known():
    network, units = several(2), np.arange(8)
    low = lowest(network, np.zeros(8), units, units % 2, [70.0, 70.0])
    reach = torch.tensor([[low]]), torch.tensor([[-low]])
    _, lower, upper = network.interval(torch.tensor([[65.0, 60.0, 70.0]]), reach)
    assert (lower.item(), upper.item()) == (0.0, 125.0)


def test_what_is_proven_of_cross_conformal_intervals():
    assert cross_guarantee(100, 5) == pytest.approx(0.8 - 2 * 0.8 / 21)
    assert cross_guarantee(20, 20) == pytest.approx(0.8)  # the jackknife+
    assert cross_guarantee(1, 5) == 0.0


def test_the_scores_of_a_part_never_stand_for_larger_ones():
    rng = np.random.default_rng(2)
    units = np.repeat(np.arange(10), rng.integers(1, 60, 10))
    scores, sizes = rng.normal(size=len(units)), np.bincount(units)
    found = crossed(scores, units, units % 2, 2)
    assert found.weights.sum() == pytest.approx(10 / 11)
    for member in range(2):
        atoms = found.scores[member]
        assert atoms[-1] == pytest.approx(scores[units % 2 == member].max())
        for at, value in enumerate(atoms):
            held = sum((scores[units == unit] <= value + 1e-6).sum() / sizes[unit] for unit in range(member, 10, 2)) / 5
            assert held >= (at + 1) / ATOMS - 1e-6
