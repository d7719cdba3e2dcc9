import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.drift.bins import Binner, FeatureBins, category_bins, numeric_bins
from driftloop.errors import BundleError
from made_up import FEATURES


def binner(**edges: list[float]) -> Binner:
    features = [
        FeatureBins(name, "quantile", edges.get(name, [0.0]), len(edges.get(name, [0.0])) + 1) for name in FEATURES[:-1]
    ]
    return Binner([*features, category_bins("regime", 2)])


def test_a_value_on_an_edge_belongs_to_the_bin_below_it():
    made = binner(prediction=[10.0, 20.0, 30.0])
    index = made.indices([10.0, 10.5, 30.0, 31.0], np.zeros((4, 3)), np.zeros((4, 21)), np.zeros(4, int))
    assert index[:, 0].tolist() == [0, 1, 2, 3]
    assert made.of_predictions([10.0, 10.5, 30.0, 31.0]).tolist() == index[:, 0].tolist()
    assert (index[:, 1:] == 0).all()


def test_a_regime_never_seen_has_the_last_bin():
    index = binner().indices(np.zeros(4), np.zeros((4, 3)), np.zeros((4, 21)), np.array([0, 1, -1, 7]))
    assert index[:, -1].tolist() == [0, 1, 2, 2]


def test_a_constant_has_the_bins_below_equal_and_above():
    bins = numeric_bins("setting_3", np.full(50, 100.0))
    assert (bins.kind, bins.bins) == ("constant", 3)
    made = Binner(
        [
            *(bins if n == "setting_3" else FeatureBins(n, "quantile", [0.0], 2) for n in FEATURES[:-1]),
            category_bins("regime", 1),
        ]
    )
    settings = np.zeros((4, 3))
    settings[:, 2] = [99.0, 100.0, 100.00001, 101.0]
    assert made.indices(np.zeros(4), settings, np.zeros((4, 21)), np.zeros(4))[:, 3].tolist() == [0, 1, 1, 2]


def test_continuous_values_get_ten_bins_of_equal_mass():
    values = np.random.default_rng(1).normal(size=5000)
    bins = numeric_bins("sensor_2", values)
    assert bins.bins == 10
    shares = np.bincount(np.searchsorted(bins.edges, values), minlength=10) / len(values)
    assert np.allclose(shares, 0.1, atol=0.002)


def test_weights_move_the_edges():
    values = np.arange(100.0)
    weights = np.where(values < 50, 0.0, 1.0)
    assert min(numeric_bins("sensor_2", values, weights).edges) > 50


def test_the_edges_of_a_discrete_feature_lie_between_its_values():
    values = np.repeat([1.0, 2.0, 3.0, 4.0], 25)
    assert numeric_bins("sensor_17", values).edges == [1.5, 2.5, 3.5]


def test_small_steps_of_a_discrete_feature_have_edges_between_them():
    values = np.repeat(np.arange(-5, 5) * 1e-4, 40).astype(np.float32)
    edges = numeric_bins("setting_2", values).edges
    assert np.allclose(edges, np.arange(-4.5, 4) * 1e-4, atol=1e-9)


def test_values_beyond_float32_and_nan_have_a_bin():
    settings = np.array([[1e300, -1e300, np.nan]])
    index = binner().indices([1.0], settings, np.full((1, 21), np.inf), [0])
    assert index[0, 1:5].tolist() == [1, 0, 0, 1]


def test_an_empty_batch_has_no_rows():
    assert binner().indices(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 21)), np.zeros(0)).shape == (0, 26)


def test_bins_out_of_order_are_refused():
    with pytest.raises(BundleError, match="contradict"):
        binner(prediction=[2.0, 1.0])


@given(st.integers(0, 64), st.integers(0, 2**32 - 1))
def test_counts_add_up_and_survive_splitting(n: int, seed: int):
    rng = np.random.default_rng(seed)
    made = binner(prediction=[-1.0, 0.0, 1.0])
    flat = made.counts(rng.normal(size=n), rng.normal(size=(n, 3)), rng.normal(size=(n, 21)), rng.integers(-1, 3, n))
    parts = made.split(flat)
    assert all(part.sum() == n for part in parts.values())
    assert (made.join(parts) == flat).all()
