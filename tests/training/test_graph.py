"""The exported graph keeps what driftloop.model.bundle promises of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from driftloop.errors import BundleError
from driftloop.fleet.runs import Run, windows
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.model import regimes
from driftloop.training import export
from driftloop.training.network import Architecture, Form, RulNetwork
from driftloop.training.train import Trained
from made_up import CONSTANT, SEA_LEVEL, tiny_config

WINDOW = tiny_config().architecture.window
RUL, LOWER, UPPER, REGIME, NEWEST = range(5)

FORM = Form.of(SCHEMA, RUL_CAP)


@pytest.fixture(scope="module")
def session(trained: Trained) -> Any:
    return onnxruntime.InferenceSession(export.onnx_bytes(trained.network), providers=["CPUExecutionProvider"])


def ask(session: Any, rows: NDArray[Any]) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = session.run(None, {"rows": np.asarray(rows, dtype=np.float32)})
    return found


def test_inputs_and_outputs_have_the_agreed_names_types_and_shapes(session: Any) -> None:
    (rows,) = session.get_inputs()
    assert (rows.name, rows.type, rows.shape) == ("rows", "tensor(float)", ["batch", "cycles", 24])
    found = {output.name: (output.type, len(output.shape)) for output in session.get_outputs()}
    assert found == {
        "rul": ("tensor(float)", 1),
        "lower": ("tensor(float)", 1),
        "upper": ("tensor(float)", 1),
        "regime": ("tensor(int64)", 1),
        "newest": ("tensor(float)", 2),
    }


@pytest.mark.parametrize("cycles", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW])
def test_the_graph_pads_and_cuts_histories_as_windows_does(session: Any, old_runs: list[Run], cycles: int) -> None:
    run = Run("eng-x", old_runs[0].rows[:cycles])
    ready = windows(run, WINDOW, RUL_CAP)[0][-1:]
    for raw, padded in zip(ask(session, run.rows[None]), ask(session, ready), strict=True):
        np.testing.assert_array_equal(raw, padded)


def test_the_weights_see_zeros_for_padding_alone(trained: Trained, old_runs: list[Run]) -> None:
    cut = windows(Run("eng-x", old_runs[0].rows[:5]), WINDOW, RUL_CAP)[0]
    rows = torch.from_numpy(cut)
    inputs = trained.network.for_weights(rows, *trained.network.normalise(rows))
    for cycle, seen in enumerate(inputs.transpose(1, 2), start=1):
        assert not seen[: WINDOW - cycle].any()
        assert (seen[WINDOW - cycle :, -1] == 1).all()
        assert seen[WINDOW - cycle :, :-1].abs().sum(dim=1).min() > 0


@pytest.mark.parametrize("cycles", [1, 2, 9, WINDOW])
def test_the_perceptron_is_shown_means_changes_youth_and_age(
    trained: Trained, old_runs: list[Run], cycles: int
) -> None:
    architecture = replace(trained.config.architecture, oldest=4, perceptron=8)
    network = RulNetwork(architecture, regimes.find(old_runs, SCHEMA), FORM)
    rows = torch.from_numpy(windows(Run("eng-x", old_runs[0].rows[:cycles]), WINDOW, RUL_CAP)[0][-1:])
    inputs = network.for_weights(rows, *network.normalise(rows))
    sensors = inputs[0, :21, -cycles:].T.numpy().astype(np.float64)
    expected = [sensors[-width:].mean(0) for width in network.widths]
    for width in network.widths:
        there = min(width, cycles)
        slope = np.polyfit(np.arange(there), sensors[-there:], 1)[0] if there > 1 else np.zeros(21)
        expected.append(slope * width * (there / width) ** 2)
    expected.append(sensors[:4].mean(0))
    assert network.widths[-1] == WINDOW
    found = network.statistics(inputs)[0].numpy()
    np.testing.assert_allclose(found[:-1], np.stack(expected, axis=1).ravel(), rtol=1e-3, atol=1e-4)
    assert found[-1] == pytest.approx(cycles / 100)


def test_the_answer_is_the_mean_of_the_perceptrons(trained: Trained, old_runs: list[Run]) -> None:
    network = RulNetwork(replace(trained.config.architecture, members=3), regimes.find(old_runs, SCHEMA), FORM)
    rows = torch.from_numpy(windows(old_runs[0], WINDOW, RUL_CAP)[0][:3])
    inputs = network.for_weights(rows, *network.normalise(rows))
    with torch.no_grad():
        each = torch.stack(network.by_members(network.statistics(inputs)))
        assert (each.std(0) > 1e-3).any()
        np.testing.assert_allclose(network.estimated(network.statistics(inputs)), each.mean(0), atol=1e-6)


def test_health_indices_are_sums_of_the_sensors(trained: Trained, old_runs: list[Run]) -> None:
    plain = replace(trained.config.architecture, health=0)
    known = regimes.find(old_runs, SCHEMA)
    network, summed = RulNetwork(plain, known, FORM), RulNetwork(replace(plain, health=21), known, FORM)
    summed.load_state_dict(network.state_dict() | {"health.weight": torch.eye(21)[..., None]})
    rows = torch.from_numpy(windows(old_runs[0], WINDOW, RUL_CAP)[0])
    inputs = network.for_weights(rows, *network.normalise(rows))
    with torch.no_grad():
        np.testing.assert_allclose(
            summed.estimated(summed.statistics(inputs)), network.estimated(network.statistics(inputs)), atol=1e-5
        )


@pytest.mark.parametrize(
    ("health", "members", "standardised"), [(0, 1, False), (5, 1, True), (5, 3, False), (0, 3, True)]
)
def test_a_graph_of_any_sizes_answers_as_torch(
    trained: Trained, old_runs: list[Run], tmp_path: Path, health: int, members: int, standardised: bool
) -> None:
    sizes = replace(trained.config.architecture, health=health, members=members, standardised=standardised)
    network = RulNetwork(sizes, regimes.find(old_runs, SCHEMA), FORM)
    assert export.export(network, old_runs[0].rows, tmp_path).exists()


def test_answers_do_not_depend_on_who_else_is_in_the_batch(session: Any, old_runs: list[Run]) -> None:
    batch = windows(old_runs[0], WINDOW, RUL_CAP)[0]
    together = ask(session, batch)
    for i in (0, len(batch) // 2, len(batch) - 1):
        for whole, alone in zip(together, ask(session, batch[i : i + 1]), strict=True):
            np.testing.assert_allclose(whole[i], alone[0], rtol=1e-4, atol=1e-4)


def test_the_interval_holds_the_prediction_within_the_labels_range(session: Any, new_runs: list[Run]) -> None:
    rul, lower, upper, *_ = ask(session, windows(new_runs[0], WINDOW, RUL_CAP)[0])
    assert (lower >= 0).all()
    assert (lower <= rul).all()
    assert (rul <= upper).all()
    assert (upper <= 125).all()


def test_the_newest_row_decides_the_regime(session: Any, trained: Trained, new_runs: list[Run]) -> None:
    rows = new_runs[0].rows
    nearest = [int(np.abs(trained.network.centres.numpy() - row[:3]).sum(1).argmin()) for row in rows]
    assert set(nearest) == {0, 1}
    regime = ask(session, windows(new_runs[0], WINDOW, RUL_CAP)[0])[REGIME]
    assert regime.tolist() == nearest


def test_a_regime_never_seen_is_flagged_and_normalised_by_the_nearest(session: Any, old_runs: list[Run]) -> None:
    known, strange = old_runs[0].rows[:WINDOW].copy(), old_runs[0].rows[:WINDOW].copy()
    known[-1, :3], strange[-1, :3] = SEA_LEVEL, (10.0, 0.25, 100.0)
    before, after = ask(session, known[None]), ask(session, strange[None])
    assert (before[REGIME][0] >= 0, after[REGIME][0]) == (True, -1)
    np.testing.assert_array_equal(before[NEWEST], after[NEWEST])
    np.testing.assert_array_equal(before[RUL], after[RUL])


def test_a_change_of_a_constant_sensor_is_shown_but_not_learnt_from(session: Any, old_runs: list[Run]) -> None:
    rows = old_runs[0].rows[:WINDOW].copy()
    sensor = CONSTANT[0]
    healthy = ask(session, rows[None])
    assert healthy[NEWEST][0, sensor] == 0.0
    rows[:, 3 + sensor] += 2.5
    changed = ask(session, rows[None])
    assert changed[NEWEST][0, sensor] == pytest.approx(2.5, abs=1e-4)
    assert changed[RUL] == healthy[RUL]


def test_newest_is_the_regimes_z_score(session: Any, trained: Trained, old_runs: list[Run]) -> None:
    row = old_runs[0].rows[40]
    found = ask(session, row[None, None])
    regime = found[REGIME][0]
    expected = (row[3:].astype(np.float32) - trained.network.mean[regime].numpy()) / trained.network.std[regime].numpy()
    np.testing.assert_allclose(found[NEWEST][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [1e38, -1e38, float(np.finfo(np.float32).max), 1e-38, 0.0])
@pytest.mark.parametrize("columns", [slice(0, 3), slice(3, 24), slice(0, 24)])
def test_values_far_off_give_finite_answers(session: Any, old_runs: list[Run], value: float, columns: slice) -> None:
    rows = old_runs[0].rows[:WINDOW].copy()
    rows[:, columns] = value
    rows[::2, columns] *= -1
    assert all(np.isfinite(output).all() for output in ask(session, rows[None]))


def test_equal_networks_give_equal_bytes(trained: Trained) -> None:
    assert export.onnx_bytes(trained.network) == export.onnx_bytes(trained.network)


def test_a_graph_that_differs_from_torch_is_refused(trained: Trained, old_runs: list[Run], tmp_path: Path) -> None:
    content = export.onnx_bytes(trained.network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "onnx_bytes", lambda _: content)
        offsets = trained.network.offsets.clone()
        trained.network.offsets.fill_(-30.0)
        try:
            with pytest.raises(BundleError, match="differs from torch"):
                export.export(trained.network, old_runs[0].rows, tmp_path)
        finally:
            trained.network.offsets.copy_(offsets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [{"window": 1}, {"oldest": 0}, {"health": -1}, {"perceptron": 1}, {"members": 0}])
def test_sizes_that_make_no_network_are_refused(size: dict[str, int]) -> None:
    (name,) = size
    with pytest.raises(ValueError, match=f"{name} is {size[name]}, must be "):
        Architecture(**size)


def test_weights_do_not_depend_on_the_number_of_regimes(trained: Trained) -> None:
    known = len(trained.network.centres)
    assert known == 2
    assert all(known not in weight.shape[:1] for weight in trained.network.parameters())
