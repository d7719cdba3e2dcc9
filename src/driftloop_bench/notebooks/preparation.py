"""From runs to what a network learns from: roles, regimes, normalisation, windows, labels, and how not to leak."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftloop.fleet.roles import ROLES, with_role
from driftloop.fleet.runs import Run, windows
from driftloop.fleets.cmapss.schema import N_SETTINGS, RUL_CAP, SENSORS
from driftloop.fleets.cmapss.source import Fleet
from driftloop.model.accuracy import rmse
from driftloop.model.regimes import Regimes
from driftloop_bench.notebooks.drawing import BLUE, GREY, ORANGE, PALETTE, panels

_NEIGHBOURS = 5


def normalise(run: Run, known: Regimes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sensors `[cycles, 21]` in standard deviations from their regime's mean, 0 where constant; regimes `[cycles]`.

    What the exported graph does with the rows it is sent (driftloop.training.network), written once more in numpy.
    """
    regime, _ = known.assign(run.rows[:, :N_SETTINGS])
    values = (run.rows[:, N_SETTINGS:] - known.mean[regime]) / known.std[regime] * known.varies[regime]
    return np.asarray(values, dtype=np.float64), regime


def role_table(fleets: Mapping[str, Fleet]) -> pd.DataFrame:
    """Training engines in each role, per subset, beside the share that each role is meant to have."""
    table = pd.DataFrame(
        {subset: {role: len(with_role(fleet.train, role)) for role in ROLES} for subset, fleet in fleets.items()}
    )
    table.insert(0, "meant to be", [f"{share:.0%}" for share in ROLES.values()])
    return table


def regime_table(known: Regimes, runs: Sequence[Run]) -> pd.DataFrame:
    """The regimes: centre in raw units, share of the rows of `runs` that are nearest to it and how many of those lie
    within its radius, and how many sensors vary in it."""
    regime, inside = known.assign(np.concatenate([run.rows[:, :N_SETTINGS] for run in runs]))
    return pd.DataFrame(
        {
            "altitude (1000 ft)": known.centres[:, 0].round(2),
            "Mach number": known.centres[:, 1].round(2),
            "throttle (%)": known.centres[:, 2].round(0),
            "share of rows": [f"{np.mean(regime == number):.0%}" for number in range(len(known))],
            "within its radius": [f"{np.mean(inside[regime == number]):.0%}" for number in range(len(known))],
            "sensors that vary": known.varies.sum(axis=1).astype(int),
        }
    )


def distributions(fleet: Fleet, known: Regimes, sensors: Sequence[str]) -> Figure:
    """Histograms of some sensors before (top) and after (bottom) normalisation, stacked by operating regime.

    Over training-role engines.
    """
    runs = with_role(fleet.train, "train")
    figure, axes = panels(2, len(sensors), height=3.6, data_source=fleet.data_source)
    parts = [normalise(run, known) for run in runs]
    values, regime = (np.concatenate(column) for column in zip(*parts, strict=True))
    raw = np.concatenate([run.rows[:, N_SETTINGS:] for run in runs])
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(known))]
    for column, sensor in enumerate(sensors):
        position = SENSORS.index(sensor)
        for row, found in enumerate((raw, values.clip(-6, 6))):
            groups = [found[regime == number, position] for number in range(len(known))]
            axes[row, column].hist(groups, bins=60, stacked=True, color=colours)
            axes[row, column].set_yticks([])
        axes[0, column].set_title(sensor.replace("_", " "))
        axes[0, column].set_xlabel("raw units")
        axes[1, column].set_xlabel("standard deviations")
    for row in (0, 1):
        axes[row, 0].set_ylabel("rows")
    return figure


def normalisation_check(fleet: Fleet, known: Regimes) -> pd.DataFrame:
    """Mean and standard deviation of the normalised sensors by role: fitted on `train`, met by the others.

    Over the sensors that vary in every regime: the average standard deviation, and the largest mean on either side.
    """
    always = known.varies.min(axis=0) > 0
    table = {}
    for role in ROLES:
        values = np.concatenate([normalise(run, known)[0] for run in with_role(fleet.train, role)])[:, always]
        table[role] = {
            "largest mean": float(np.abs(values.mean(axis=0)).max()),
            "average standard deviation": float(values.std(axis=0).mean()),
        }
    return pd.DataFrame(table).T.round(2)


def label_figure(run: Run, data_source: str) -> Figure:
    """One engine's true remaining life, and the capped one that a network learns."""
    figure, axes = panels(height=2.2, data_source=data_source)
    cycles = np.arange(1, len(run.rows) + 1)
    axes[0, 0].plot(cycles, run.rul, color=GREY, lw=1, ls="--", label="true")
    axes[0, 0].plot(cycles, np.minimum(run.rul, RUL_CAP), color=BLUE, lw=1.5, label=f"capped at {RUL_CAP}")
    axes[0, 0].set_xlabel("cycle")
    axes[0, 0].set_ylabel("remaining life (cycles)")
    axes[0, 0].legend()
    return figure


def window_figure(run: Run, known: Regimes, width: int, cycles: Sequence[int], data_source: str) -> Figure:
    """What a network sees of an engine after some cycles: the newest `width` rows, normalised; older ones above."""
    figure, axes = panels(1, len(cycles), height=3.0, sharey=True, data_source=data_source)
    rows, labels = windows(run, width, RUL_CAP)
    for axis, cycle in zip(axes[0], cycles, strict=True):
        seen = Run(run.run_id, rows[cycle - 1].astype(np.float64))
        values, _ = normalise(seen, known)
        picture = axis.imshow(values, cmap="PuOr", vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
        padding = max(0, width - cycle)
        if padding:
            axis.axhline(padding - 0.5, color=ORANGE, lw=1.5)
        axis.set_title(f"after {cycle} cycles: {padding} rows padded\nlabel {labels[cycle - 1]:.0f} cycles")
        axis.set_xticks([0, 4, 9, 14, 19], ["1", "5", "10", "15", "20"])
        axis.set_yticks([0, width - 1], [f"oldest (-{width - 1})", "newest (0)"])
        axis.set_xlabel("sensor")
    figure.colorbar(picture, ax=list(axes[0]), label="standard deviations", pad=0.01)
    return figure


def leakage(fleet: Fleet, known: Regimes, *, width: int = 30, stride: int = 5, seed: int = 0) -> pd.DataFrame:
    """The error of one simple model under two ways to hold a fifth of the data back, RMSE in cycles.

    The model answers with the mean capped label of the five windows whose averaged sensors are nearest. Split by
    engine, no window of a held-back engine was seen; split by window, its neighbours in time were.
    """
    runs = [run for run in fleet.train if run.role in ("train", "early_stop", "calibrate")]
    features, labels, engine = [], [], []
    for number, run in enumerate(runs):
        values, _ = normalise(run, known)
        ends = np.arange(len(values) - 1, width - 2, -stride)
        features += [values[end + 1 - width : end + 1].mean(axis=0) for end in ends]
        labels += np.minimum(run.rul[ends], RUL_CAP).tolist()
        engine += [number] * len(ends)
    x, y, owner = np.array(features), np.array(labels), np.array(engine)
    rng = np.random.default_rng(seed)
    by_window = rng.random(len(x)) < 0.2
    by_engine = np.isin(owner, rng.permutation(len(runs))[: round(0.2 * len(runs))])
    table = {
        name: {
            "windows held back": int(held.sum()),
            "from engines that were seen": int(np.isin(owner[held], owner[~held]).sum()),
            "RMSE (cycles)": round(rmse(_nearest(x[~held], y[~held], x[held]), y[held]), 1),
        }
        for name, held in (("split by window (wrong)", by_window), ("split by engine", by_engine))
    }
    return pd.DataFrame(table).T.astype({"windows held back": int, "from engines that were seen": int})


def _nearest(x: NDArray[np.float64], y: NDArray[np.float64], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = (asked**2).sum(axis=1)[:, None] - 2 * asked @ x.T + (x**2).sum(axis=1)[None, :]
    nearest = np.argpartition(distance, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    return np.asarray(y[nearest].mean(axis=1))
