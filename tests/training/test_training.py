"""Training: by roles alone, the same each time, and going on from a champion."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from driftloop.errors import BundleError, DataError
from driftloop.fleet.runs import Run, windows
from driftloop.fleets.cmapss.schema import RUL_CAP
from driftloop.model.bundle import CHECKPOINT
from driftloop.training import descent, export
from driftloop.training import train as training
from driftloop.training.network import Architecture
from driftloop.training.optimiser import AdamW, one_cycle
from driftloop.training.train import Progress, Trained, Windows, estimates
from made_up import CRUISE, SEA_LEVEL, fleet, tiny_config, train

CONFIG = tiny_config()


def changed(runs: list[Run], *roles: str) -> list[Run]:
    """The same engines, those of `roles` with other data."""
    return [Run(run.run_id, run.rows * 1.01) if run.role in roles else run for run in runs]


def graph(trained: Trained) -> bytes:
    return export.onnx_bytes(trained.network)


def test_the_same_seed_gives_the_same_bytes(old_runs: list[Run]) -> None:
    one, other = train(old_runs, CONFIG), train(old_runs[::-1], CONFIG)
    assert graph(one) == graph(other)
    assert (one.metrics, one.history) == (other.metrics, other.history)
    assert graph(train(old_runs, replace(CONFIG, seed=1))) != graph(one)


def test_training_leaves_the_callers_random_numbers_and_threads_alone(old_runs: list[Run]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    train(old_runs, replace(CONFIG, threads=threads + 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_gate_and_live_engines_change_nothing(old_runs: list[Run]) -> None:
    expected = graph(train(old_runs, CONFIG))
    assert graph(train(changed(old_runs, "gate", "live"), CONFIG)) == expected
    assert graph(train([run for run in old_runs if run.role not in ("gate", "live")], CONFIG)) == expected


@pytest.mark.parametrize("role", ["train", "early_stop", "calibrate"])
def test_every_learning_role_must_have_an_engine(old_runs: list[Run], role: str) -> None:
    with pytest.raises(DataError, match=role):
        train([run for run in old_runs if run.role != role], CONFIG)


def test_calibrate_engines_set_the_interval_and_nothing_else(old_runs: list[Run]) -> None:
    runs = fleet(per_role=12)
    one = training.checkpoint_arrays(train(runs, CONFIG).network)
    other = training.checkpoint_arrays(train(changed(runs, "calibrate"), CONFIG).network)
    assert [name for name in one if not np.array_equal(one[name], other[name])] == ["offsets"]
    assert len(old_runs) < len(runs)


def test_training_learns(old_runs: list[Run]) -> None:
    spread = np.std(np.concatenate([windows(run, 1, RUL_CAP)[1] for run in old_runs if run.role == "early_stop"]))
    found = train(old_runs, replace(CONFIG, steps=80))
    assert found.metrics["early_stop_rmse"] < spread / 2
    assert (found.training, found.note) == ("full", None)


def test_a_warm_start_moves_every_weight(champion: Path, old_runs: list[Run], new_runs: list[Run]) -> None:
    before = training.load_checkpoint(champion, CONFIG.architecture)
    found = train(old_runs + new_runs, replace(CONFIG, old_tolerance=math.inf), warm_start=champion)
    assert found.training == "warm_start"
    after = dict(found.network.named_parameters())
    assert [name for name, weight in before.named_parameters() if torch.equal(weight, after[name])] == []


def test_progress_is_reported_with_the_early_stop_error(old_runs: list[Run]) -> None:
    seen: list[Progress] = []
    found = train(old_runs, replace(CONFIG, steps=40, evaluations=4), progress=seen.append)
    assert seen == found.history
    assert [now.step for now in seen if now.early_stop_rmse is not None] == [25, 30, 35, 40]
    assert min(now.early_stop_rmse for now in seen if now.early_stop_rmse) == found.metrics["early_stop_rmse"]


def test_flat_windows_are_the_windows_of_the_server(trained: Trained, new_runs: list[Run]) -> None:
    run = new_runs[0]
    cut, labels = windows(run, CONFIG.architecture.window, RUL_CAP, 3)
    rows = torch.from_numpy(cut)
    found = Windows(trained.network, [new_runs[1], run], 3)
    first = found.of_first(1)
    expected = trained.network.for_weights(rows, *trained.network.normalise(rows))
    assert torch.equal(found.cut(torch.arange(first, len(found))), expected)
    np.testing.assert_array_equal(found.labels[first:].numpy(), labels)


def test_the_graph_answers_as_training_estimates(trained: Trained, old_runs: list[Run]) -> None:
    rows, _ = windows(old_runs[0], CONFIG.architecture.window, RUL_CAP)
    with torch.no_grad():
        rul = trained.network(torch.from_numpy(rows)).rul.numpy()
    expected = estimates(trained.network, Windows(trained.network, [old_runs[0]]))[:, 0].clip(0, 125)
    np.testing.assert_allclose(rul, expected, atol=1e-3)


def test_a_warm_start_keeps_regimes_with_id_and_statistics(
    champion: Path, old_runs: list[Run], new_runs: list[Run]
) -> None:
    before = training.load_checkpoint(champion, CONFIG.architecture)
    found = train(old_runs + new_runs, replace(CONFIG, old_tolerance=math.inf), warm_start=champion)
    assert found.training == "warm_start"
    assert (len(before.centres), len(found.network.centres)) == (1, 2)
    for name in ("centres", "mean", "std", "varies"):
        assert torch.equal(getattr(found.network, name)[:1], getattr(before, name))


def test_a_warm_start_repeats_with_its_seed(champion: Path, old_runs: list[Run], new_runs: list[Run]) -> None:
    config = replace(CONFIG, old_tolerance=math.inf)
    one, other = (train(old_runs + new_runs, config, warm_start=champion) for _ in range(2))
    assert graph(one) == graph(other)


def test_gate_and_live_engines_change_nothing_in_a_warm_start(
    champion: Path, old_runs: list[Run], new_runs: list[Run]
) -> None:
    config = replace(CONFIG, old_tolerance=math.inf)
    runs = old_runs + new_runs
    expected = graph(train(runs, config, warm_start=champion))
    assert graph(train(changed(runs, "gate", "live"), config, warm_start=champion)) == expected


def test_a_warm_start_that_ruins_the_old_domain_gives_way_to_a_full_training(
    champion: Path, old_runs: list[Run], new_runs: list[Run]
) -> None:
    ruinous = replace(CONFIG, warm_lr=3.0, steps=7)
    found = train(old_runs + new_runs, ruinous, warm_start=champion)
    assert found.training == "full"
    assert found.note is not None
    assert "old early-stop engines" in found.note
    assert graph(found) == graph(train(old_runs + new_runs, ruinous))


def test_a_warm_start_without_old_runs_still_works(champion: Path, new_runs: list[Run]) -> None:
    found = train(new_runs, CONFIG, warm_start=champion)
    assert found.training == "warm_start"


def test_a_checkpoint_of_another_architecture_is_refused(champion: Path) -> None:
    with pytest.raises(BundleError, match="cannot be used for a warm start"):
        training.load_checkpoint(champion, Architecture())


def test_a_damaged_or_missing_checkpoint_is_refused(champion: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        training.load_checkpoint(tmp_path, CONFIG.architecture)
    content = (champion / CHECKPOINT).read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"x" + content[1:]):
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        with pytest.raises(BundleError, match="train in full instead"):
            training.load_checkpoint(tmp_path, CONFIG.architecture)


def test_a_full_training_takes_the_place_of_a_warm_start_that_has_no_usable_checkpoint(
    champion: Path, new_runs: list[Run], tmp_path: Path
) -> None:
    shutil.copytree(champion, tmp_path, dirs_exist_ok=True)
    (tmp_path / CHECKPOINT).write_bytes(b"")
    found = train(new_runs, CONFIG, warm_start=tmp_path)
    assert found.training == "full"
    assert found.note is not None
    assert "cannot be used for a warm start" in found.note
    assert graph(found) == graph(train(new_runs, CONFIG))


def test_a_loaded_checkpoint_answers_as_before(champion: Path, new_runs: list[Run]) -> None:
    network = training.load_checkpoint(champion, CONFIG.architecture)
    grown = training.load_checkpoint(champion, CONFIG.architecture, extended_by=new_runs)
    rows = torch.from_numpy(windows(fleet(settings=(SEA_LEVEL,))[0], CONFIG.architecture.window, RUL_CAP)[0])
    assert CRUISE not in network.centres.tolist()
    for before, after in zip(network(rows), grown(rows), strict=True):
        assert torch.equal(before, after)


def test_replayed_batches_hold_the_stated_share_of_old_windows() -> None:
    batches = descent.replaying(50, 200, replace(CONFIG, batch=40, replay=0.25), np.random.default_rng(0))
    for _ in range(20):
        batch = next(batches)
        assert ((batch < 50).sum(), len(batch)) == (10, 40)


def test_every_window_comes_once_before_any_comes_again() -> None:
    batches = descent.shuffled(30, 10, np.random.default_rng(0))
    assert sorted(np.concatenate([next(batches) for _ in range(3)])) == list(range(30))


def test_the_optimiser_steps_as_published() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(10, 4, 3))
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimiser = AdamW([weight], weight_decay=0.1)
    expected, mean, square = start.copy(), np.zeros((4, 3)), np.zeros((4, 3))
    for step, gradient in enumerate(gradients, start=1):
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        optimiser.step(lr=0.01)
        clipped = gradient * min(1.0, 1.0 / np.linalg.norm(gradient))
        mean, square = 0.9 * mean + 0.1 * clipped, 0.999 * square + 0.001 * clipped**2
        expected -= 0.01 * 0.1 * expected
        expected -= 0.01 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-4)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(step, 101, 0.01) for step in range(1, 102)]
    assert rates[20] == max(rates) == pytest.approx(0.01)
    assert rates[0] == pytest.approx(0.01 / 25)
    assert rates[-1] == pytest.approx(0.01 * 1e-4)
    assert rates == sorted(rates[:21]) + sorted(rates[21:], reverse=True)


def test_the_loss_is_squared_error_and_both_quantiles_pinball_losses() -> None:
    true = torch.tensor([0.5, 1.0])
    estimate = torch.tensor([[0.7, 0.4, 0.6], [1.2, 1.0, 0.9]])
    low, high = descent.QUANTILES
    pinball = (low * 0.1 + 0.0) / 2 + ((1 - high) * 0.1 + high * 0.1) / 2
    assert descent.loss(estimate, true, 0.3).item() == pytest.approx((0.2**2 + 0.2**2) / 2 + 0.3 * pinball)
