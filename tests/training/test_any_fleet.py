"""The graph of a fleet whose rows are counted: missing values, short histories, continuous settings, few units."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from driftloop.fleet.labels import bands
from driftloop.fleet.roles import assign
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Channel, Schema, UseSettings
from driftloop.model import bundle, grafting, regimes
from driftloop.model.accuracy import coverage
from driftloop.model.regimes import MARGIN, RIDGE, Regimes
from driftloop.model.signature import INPUT, UNSEEN_REGIME
from driftloop.training import export
from driftloop.training.build import build_bundle, first_manifest
from driftloop.training.descent import TrainConfig
from driftloop.training.intervals import CROSSED, LEAST_UNITS, band_offsets
from driftloop.training.network import CLIP, FED, Architecture
from driftloop.training.train import Trained, fit, train
from driftloop.training.windows import Windows, answers

CAP = 40
WINDOW = 12
SETTINGS, SENSORS = 2, 3
RUL, LOWER, UPPER, REGIME, NEWEST = range(5)
SIZES = Architecture(window=WINDOW, oldest=4, health=0, perceptron=8, members=2, standardised=True)
CONFIG = TrainConfig(architecture=SIZES, steps=20, lr=0.02, batch=64, warm_steps=0, missing=0.3, evaluations=1)

Array = NDArray[Any]


def pumps(use: UseSettings = "continuous", settings: int = SETTINGS) -> Schema:
    """A fleet of pumps with two settings and three sensors, whose missing values are held."""
    return Schema(
        name="pumps",
        unit="pump",
        settings=tuple(Channel(name=f"setting_{at}") for at in range(settings)),
        sensors=tuple(Channel(name=f"sensor_{at}") for at in range(SENSORS)),
        use_settings=use,
        cap=CAP,
    )


def life(name: str, rows: int = 50, settings: int = SETTINGS) -> Run:
    """One pump, run at settings of its own, which its sensors follow; they wear, with noise."""
    rng = np.random.default_rng([*name.encode()])
    own = rng.uniform(10, 20, settings)
    wear = np.exp(-np.arange(rows)[::-1] / 15.0)[:, None] * [3.0, -2.0, 1.0]
    sensors = 100.0 + 2.0 * own.sum() + wear + rng.normal(0, 0.3, (rows, SENSORS))
    return Run(name, np.hstack([np.tile(own, (rows, 1)), sensors]))


def dealt(settings: int = SETTINGS) -> list[Run]:
    """Twelve pumps: eight are learnt from, two each stop early and calibrate."""
    roles = ["train"] * 8 + ["early_stop"] * 2 + ["calibrate"] * 2
    lives = [life(f"pump-{at:02d}", 45 + at, settings) for at in range(len(roles))]
    return assign(lives, {run.run_id: role for run, role in zip(lives, roles, strict=True)})


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return dealt()


@pytest.fixture(scope="module")
def trained(runs: list[Run]) -> Trained:
    return train(runs, pumps(), CONFIG)


@pytest.fixture(scope="module")
def session(trained: Trained) -> Any:
    return export.session(export.onnx_bytes(trained.network))


def ask(session: Any, rows: Array) -> list[Array]:
    """The exported graph's answers to one history `[steps, columns]`."""
    found: list[Array] = session.run(None, {"rows": rows[None].astype(np.float32)})
    return found


def with_gaps(run: Run, share: float = 0.3) -> Array:
    """The newest rows of a run, without a share of their values and without one sensor from the first row on."""
    rows = run.rows[-WINDOW:].copy()
    rows[np.random.default_rng(0).random(rows.shape) < share] = np.nan
    rows[:5, SETTINGS] = np.nan
    return rows


def held(values: Array) -> Array:
    """`values` `[steps, n]`: the last one where one is missing, 0 before the first."""
    found = np.zeros_like(values)
    for step, row in enumerate(values):
        found[step] = np.where(np.isnan(row), found[step - 1] if step else 0.0, row)
    return found


def reference(rows: Array, found: Regimes) -> Array:
    """What the weights are to see of rows `[steps, columns]`: `[channels + 1, steps]`, by numpy alone."""
    centre, scale = found.centres[0].astype(float), found.scales
    settings = held(rows[:, :SETTINGS] - centre) + centre
    place = (settings - centre) / scale
    normalised = (rows[:, SETTINGS:] - found.mean[0] - place @ found.slopes) / found.std[0]
    sensors = held(normalised.clip(-CLIP, CLIP) * found.varies[0])
    begun = ~np.isnan(rows).all(axis=1)
    is_row = np.maximum.accumulate(begun).astype(float)
    is_row[-1] = 1.0
    return np.vstack([np.hstack([sensors, (place * FED).clip(-CLIP, CLIP)]).T * is_row, is_row])


def test_missing_values_are_held_as_numpy_says(trained: Trained, runs: list[Run]) -> None:
    rows = with_gaps(runs[0])
    rows[:3] = np.nan
    seen = trained.network.filled(torch.from_numpy(rows.astype(np.float32)), torch.ones(WINDOW))[0]
    np.testing.assert_allclose(seen.numpy(), reference(rows, regimes.find(runs[:8], pumps())), atol=2e-4)


def test_the_exported_graph_answers_as_torch_where_values_are_missing(
    trained: Trained, session: Any, runs: list[Run]
) -> None:
    for run in runs:
        rows = with_gaps(run)
        with torch.no_grad():
            wanted = trained.network(torch.from_numpy(rows[None].astype(np.float32)))
        for expected, got in zip(wanted, ask(session, rows), strict=True):
            np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-3)


def test_the_newest_reading_is_normalised_by_what_its_settings_lead_to_expect(session: Any, runs: list[Run]) -> None:
    found = regimes.find(runs[:8], pumps())
    row = runs[0].rows[-1]
    expected = found.mean[0] + (row[:SETTINGS] - found.centres[0]) / found.scales @ found.slopes
    newest = ask(session, runs[0].rows)[NEWEST][0]
    np.testing.assert_allclose(newest, (row[SETTINGS:] - expected) / found.std[0], atol=2e-3)


def test_the_slopes_are_those_of_a_ridge_regression_in_which_units_weigh_alike(runs: list[Run]) -> None:
    short = [*runs[:7], Run(runs[7].run_id, runs[7].rows[-10:])]
    found = regimes.find(short, pumps())
    rows = np.concatenate([run.rows for run in short])
    weight = np.concatenate([np.full(len(run.rows), 1 / len(run.rows)) for run in short])
    place = (rows[:, :SETTINGS] - np.average(rows[:, :SETTINGS], axis=0, weights=weight)) / found.scales
    values = rows[:, SETTINGS:] - np.average(rows[:, SETTINGS:], axis=0, weights=weight)
    gram = (place * weight[:, None]).T @ place + RIDGE * len(short) * np.eye(SETTINGS)
    np.testing.assert_allclose(
        found.slopes, np.linalg.solve(gram, (place * weight[:, None]).T @ values), rtol=1e-4, atol=1e-4
    )


def test_leading_rows_without_any_value_change_nothing(session: Any, runs: list[Run]) -> None:
    for steps in (1, 5, WINDOW - 1, WINDOW, WINDOW + 6):
        rows = runs[0].rows[:steps]
        for empty in (1, 4, WINDOW):
            longer = np.vstack([np.full((empty, rows.shape[1]), np.nan), rows])
            for got, expected in zip(ask(session, longer), ask(session, rows), strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_a_repeated_row_is_a_row(trained: Trained, runs: list[Run]) -> None:
    rows = torch.from_numpy(np.repeat(runs[0].rows[-1:], WINDOW, axis=0).astype(np.float32))
    assert trained.network.filled(rows, torch.ones(WINDOW))[0][-1].tolist() == [1.0] * WINDOW


def test_settings_far_from_all_that_were_seen_are_no_regime_and_say_nothing_of_the_life(
    session: Any, runs: list[Run]
) -> None:
    found = regimes.find(runs[:8], pumps())
    rows = runs[0].rows[-WINDOW:].copy()
    learnt = np.concatenate([run.rows for run in runs[:8]])[:, 0]
    span = learnt.max() - learnt.min()
    assert found.known[1, 0] == pytest.approx(learnt.max() + MARGIN * span)
    rows[:, 0] = learnt.max() + 0.9 * MARGIN * span
    assert ask(session, rows)[REGIME].tolist() == [0]
    rows[:, 0] = learnt.max() + 1.1 * MARGIN * span
    rul, lower, upper, regime, _ = ask(session, rows)
    assert regime.tolist() == [UNSEEN_REGIME]
    assert (lower[0], upper[0]) == (0.0, CAP)
    assert 0.0 <= rul[0] <= CAP


@pytest.mark.parametrize("settings", [0, 2])
def test_a_fleet_without_use_of_settings_is_exported_and_answers(settings: int, tmp_path: Path) -> None:
    runs = dealt(settings)
    made = train(runs, pumps("none", settings), CONFIG)
    folder = build_bundle(made, runs, first_manifest(runs), tmp_path, data_source="measured", created="2026-01-01")
    session = export.session((folder / "model.onnx").read_bytes())
    rows = runs[0].rows[-WINDOW:].copy()
    answered = ask(session, rows)
    assert all(np.isfinite(part).all() for part in answered)
    assert answered[REGIME].tolist() == [0]
    if settings:
        rows[:, 0] = 1e6
        assert ask(session, rows)[RUL] == pytest.approx(answered[RUL], abs=1e-3)


def test_a_bundle_of_rows_with_gaps_is_built_and_served(runs: list[Run], tmp_path: Path) -> None:
    from driftloop.serving import engine

    lacking = []
    for run in runs:
        rows = run.rows.copy()
        rows[np.random.default_rng(1).random(rows.shape) < 0.2] = np.nan
        rows[0, SETTINGS:] = np.nan
        lacking.append(Run(run.run_id, rows, dealt=run.dealt))
    made = train(lacking, pumps(), CONFIG)
    folder = build_bundle(
        made, lacking, first_manifest(lacking), tmp_path, data_source="measured", created="2026-01-01"
    )
    assert engine.load(folder, "1").predict([lacking[0].rows.tolist()]).rul.shape == (1,)


def test_units_that_were_taken_out_teach_nothing(trained: Trained, runs: list[Run]) -> None:
    stranger = Run("pump-99", runs[0].rows * 1.5, censored=True, dealt="train")
    made = train([*runs, stranger], pumps(), CONFIG)
    assert export.onnx_bytes(made.network) == export.onnx_bytes(trained.network)


def test_a_fleet_without_early_stop_units_keeps_the_last_weights(runs: list[Run]) -> None:
    schema = pumps()
    schema.least["early_stop"] = 0
    made = train([run for run in runs if run.role != "early_stop"], schema, CONFIG)
    assert "early_stop_rmse" not in made.metrics
    assert made.metrics["interval_width"] > 0


def test_enough_units_give_a_finite_interval_that_the_graph_keeps(runs: list[Run], tmp_path: Path) -> None:
    made = fit(runs, [], [], pumps(), CAP, CONFIG)
    export.export(made.network, runs[0].rows, tmp_path)
    asked = answers(made.network, Windows(made.network, runs))
    assert 0 < made.metrics["interval_width"] < CAP
    assert made.metrics["interval_width"] == pytest.approx(float((asked[:, 2] - asked[:, 1]).mean()))
    assert made.metrics["interval_units"] == len(runs)
    assert 0.5 < made.metrics["interval_guarantee"] < 0.8
    assert "calibrate_coverage" not in made.metrics
    alone = export.session((tmp_path / bundle.MODEL).read_bytes()).run(
        None, {INPUT: runs[0].rows[None, :30].astype(np.float32)}
    )
    assert alone[LOWER] <= alone[RUL] <= alone[UPPER]


def test_first_aid_can_widen_an_interval_that_is_cross_conformal(runs: list[Run]) -> None:
    learn = [Run(run.run_id, np.hstack([np.full((len(run.rows), 2), 15.0), run.rows[:, 2:]])) for run in runs]
    made = fit(learn, [], [], pumps("regimes"), CAP, CONFIG)
    content = export.onnx_bytes(made.network)
    known = grafting.known_regimes(content)
    far = replace(known, **{
        name: np.concatenate([getattr(known, name), getattr(known, name)[:1] + (20 if name == "centres" else 0)])
        for name in ("centres", "mean", "std", "varies")
    })  # fmt: skip
    graph = export.session(grafting.appended(content, far, np.full(len(bands(CAP)), 5.0, np.float32)))
    rows = learn[0].rows[None, :30].astype(np.float32)
    elsewhere = rows + np.array([20.0, 20.0, 0, 0, 0], np.float32)
    before, after, there = (one.run(None, {INPUT: asked}) for one, asked in (
        (export.session(content), rows), (graph, rows), (graph, elsewhere)
    ))  # fmt: skip
    assert [before[at].item() for at in (RUL, LOWER, UPPER)] == [after[at].item() for at in (RUL, LOWER, UPPER)]
    assert there[LOWER] == pytest.approx(np.maximum(before[LOWER] - 5, 0), abs=1e-3)
    assert there[UPPER] == pytest.approx(np.minimum(before[UPPER] + 5, CAP), abs=1e-3)


def test_bands_share_an_offset_until_they_have_nine_units() -> None:
    first = [low for low, _ in bands(CAP)]
    # The unit k has labels in all bands from k // 3 on: three units in the first, and three more in each next one.
    pairs = [(unit, band) for unit in range(3 * len(first)) for band in range(len(first)) if band >= unit // 3]
    units, at = np.array(pairs).T
    offsets = band_offsets(at.astype(float), np.array(first, dtype=float)[at], units, CAP)
    assert len(set(units[at <= 2].tolist())) == LEAST_UNITS
    assert len(set(offsets[:3].tolist())) == 1
    assert np.isfinite(offsets).all()
    assert (offsets < CAP).all()
    assert len(set(offsets[3:].tolist())) == len(first) - 3


def test_fewer_than_nine_units_in_all_give_the_whole_range() -> None:
    labels = np.array([float(low) for low, _ in bands(CAP)] * 8)
    units = np.repeat(np.arange(8), len(bands(CAP)))
    assert band_offsets(np.zeros(len(labels)), labels, units, CAP).tolist() == [CAP] * len(bands(CAP))


def test_windows_of_all_lives_of_a_unit_are_one_units(trained: Trained) -> None:
    runs = [life(run_id, 8) for run_id in ("a", "b", "a.life2", "c.life4", "b.life3.again1")]
    windows = Windows(trained.network, runs, stride=4)
    assert windows.units.tolist() == [0, 0, 1, 1, 0, 0, 2, 2, 1, 1]
    assert windows.parts(2).tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1]


def test_intervals_by_members_that_have_not_seen_a_unit_hold_for_new_units() -> None:
    """Twelve pumps are learnt from: far too few for a split; over 12 trainings and 20 new pumps each."""
    """Twelve pumps are learnt from: far too few for a split; over 12 trainings and 20 new pumps each."""
    sizes = Architecture(window=WINDOW, oldest=4, health=0, perceptron=8, members=5, standardised=True)
    config = replace(CONFIG, architecture=sizes, steps=120)
    covered, widths = [], []
    for seed in range(12):
        pumps_of = [life(f"fleet-{seed}-{at:02d}", 45 + at) for at in range(34)]
        learn, calibrate, new = pumps_of[:12], pumps_of[12:14], pumps_of[14:]
        network = fit(learn, [], calibrate, pumps(), CAP, replace(config, seed=seed)).network
        windows = Windows(network, new)
        _, lower, upper = answers(network, windows).T
        units = np.repeat(np.arange(len(new)), windows.sizes)
        covered.append(coverage(lower, upper, windows.labels.numpy(), units))
        widths.append(float((upper - lower).mean()))
    print(f"covered {np.mean(covered):.3f}, {min(covered):.2f} to {max(covered):.2f}; width {np.mean(widths):.1f}")
    # Aimed at are 90 %; CV+ proves 80 % and a little less.
    assert np.mean(covered) >= 0.88
    assert min(covered) >= 0.75
    assert np.mean(widths) < 0.8 * CAP


def test_metadata_say_that_less_is_proven_of_such_intervals(tmp_path: Path) -> None:
    runs = dealt()
    trained = train(runs, pumps(), CONFIG)
    build_bundle(trained, runs, first_manifest(runs), tmp_path, data_source="simulated")
    assert bundle.read_metadata(tmp_path).interval_method == CROSSED
    alone = replace(CONFIG, architecture=replace(SIZES, members=1))
    build_bundle(train(runs, pumps(), alone), runs, first_manifest(runs), tmp_path, data_source="simulated")
    assert "interval_method" not in (tmp_path / bundle.METADATA).read_text(encoding="utf-8")
