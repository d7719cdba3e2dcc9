"""The data as it is: engines, their lives, their operating regimes, and what their sensors say about wear."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import N_SETTINGS, RUL_CAP, SCHEMA, SENSORS
from driftloop.fleets.cmapss.source import Fleet
from driftloop.model import regimes
from driftloop.model.regimes import Regimes
from driftloop_bench.notebooks.drawing import BLUE, GREY, ORANGE, PALETTE, panels
from driftloop_bench.notebooks.preparation import normalise

Fleets = Mapping[str, Fleet]
HORIZONS = (300, 200, 150, 125, 100, 75, 50, 25, 10)
"""Remaining cycles at which the table of wear looks."""
_NEAR = 5
"""Cycles on each side of a horizon over which readings are averaged."""
_HEALTHY = 200
"""Remaining cycles from which on an engine counts as new in the table of wear."""


def overview(fleets: Fleets) -> pd.DataFrame:
    """One row per subset: engines, rows, lengths of life, operating regimes, and where the data is from.

    Regimes and constant sensors are those of the training engines.
    """
    table = {}
    for subset, fleet in fleets.items():
        lives = [len(run.rows) for run in fleet.train]
        found = regimes.find(with_role(fleet.train, "train"), SCHEMA)
        table[subset] = {
            "training engines": len(fleet.train),
            "test engines": len(fleet.test),
            "training rows": sum(lives),
            "shortest life": min(lives),
            "median life": round(float(np.median(lives))),
            "longest life": max(lives),
            "operating regimes": len(found),
            "constant sensors": int((found.varies.max(axis=0) == 0).sum()),
            "data_source": fleet.data_source,
        }
    return pd.DataFrame(table).T


def lifetimes(fleets: Fleets) -> Figure:
    """How long the training engines lived: one histogram per subset on a common axis."""
    figure, axes = panels(1, len(fleets), height=2.2, sharex=True, data_source=source(fleets))
    longest = max(len(run.rows) for fleet in fleets.values() for run in fleet.train)
    for axis, (subset, fleet) in zip(axes[0], fleets.items(), strict=True):
        lives = [len(run.rows) for run in fleet.train]
        axis.hist(lives, bins=np.arange(100, longest + 25, 25).tolist(), color=BLUE)
        axis.axvline(float(np.median(lives)), color=ORANGE, lw=1.5)
        axis.set_title(f"{subset}, median {np.median(lives):.0f} cycles")
        axis.set_xlabel("life (cycles)")
    axes[0, 0].set_ylabel("training engines")
    return figure


def flight_conditions(fleets: Fleets) -> Figure:
    """Altitude and Mach number of every training row, coloured by the regime that clustering puts it in."""
    figure, axes = panels(1, len(fleets), height=2.6, sharex=True, sharey=True, data_source=source(fleets))
    for axis, (subset, fleet) in zip(axes[0], fleets.items(), strict=True):
        settings = np.concatenate([run.rows[:, :N_SETTINGS] for run in fleet.train])
        found = regimes.find(with_role(fleet.train, "train"), SCHEMA)
        regime, _ = found.assign(settings)
        for place, number in enumerate(np.argsort(found.centres[:, 0])):
            mine = settings[regime == number]
            axis.plot(mine[:, 0], mine[:, 1], "o", ms=4, color=PALETTE[number % len(PALETTE)])
            axis.annotate(
                f"{len(mine) / len(settings):.0%}", mine[:, :2].mean(axis=0), xytext=(0, -12 if place % 2 else 5),
                textcoords="offset points", ha="center",
            )  # fmt: skip
        axis.set_title(f"{subset}: {len(found)} regime{'s' if len(found) > 1 else ''}")
        axis.set_xlabel("altitude (1000 ft)")
    axes[0, 0].set_ylabel("Mach number")
    axes[0, 0].set_ylim(-0.12, 1.0)
    axes[0, 0].set_xlim(-6, 48)
    return figure


def correlations(fleets: Fleets) -> pd.DataFrame:
    """Linear correlation of each sensor, normalised within its regime, with the capped remaining life.

    Over training-role engines; NaN for a sensor that is constant within every regime. One column per subset.
    """
    table = {}
    for subset, fleet in fleets.items():
        values, capped = _normalised(fleet)
        spread = values.std(axis=0)
        centred = values - values.mean(axis=0)
        label = capped - capped.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            table[subset] = np.where(
                spread > 0, (centred * label[:, None]).mean(axis=0) / spread / capped.std(), np.nan
            )
    return pd.DataFrame(table, index=list(SENSORS))


def correlation_map(fleets: Fleets) -> Figure:
    """`correlations` as a map: blue sensors fall as an engine wears out, orange ones rise, grey ones never change."""
    table = correlations(fleets)
    figure, axes = panels(height=1.9, data_source=source(fleets))
    axis = axes[0, 0]
    axis.set_facecolor("0.85")
    picture = axis.imshow(table.to_numpy().T, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    for column, row in np.ndindex(table.shape):
        value = table.iloc[column, row]
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6.5, color=colour)
    axis.set_xticks(range(len(SENSORS)), [name.removeprefix("sensor_") for name in SENSORS])
    axis.set_yticks(range(len(table.columns)), list(table.columns))
    axis.set_xlabel("sensor")
    axis.tick_params(length=0)
    figure.colorbar(picture, ax=axis, label="correlation with\nremaining life", pad=0.01)
    return figure


def wear(fleet: Fleet, sensors: Sequence[str]) -> Figure:
    """Sensors over the remaining life: the median engine, and the middle 80 % of engines; training-role engines."""
    values, remaining = _per_engine(fleet)
    figure, axes = panels(1, len(sensors), height=2.3, sharey=True, data_source=fleet.data_source)
    for axis, sensor in zip(axes[0], sensors, strict=True):
        mine = values[:, :, SENSORS.index(sensor)]
        # At each age only where at least half of the engines lived that long.
        enough = np.isfinite(mine).mean(axis=0) >= 0.5
        low, middle, high = np.nanquantile(mine[:, enough], [0.1, 0.5, 0.9], axis=0)
        axis.fill_between(remaining[enough], low, high, color=BLUE, alpha=0.25, lw=0)
        axis.plot(remaining[enough], middle, color=BLUE, lw=1.3)
        axis.axvline(RUL_CAP, color=ORANGE, lw=1, ls="--")
        axis.invert_xaxis()
        axis.set_title(sensor.replace("_", " "))
        axis.set_xlabel("remaining life (cycles)")
    axes[0, 0].set_ylabel("reading (standard deviations)")
    axes[0, 0].annotate(
        f"cap, {RUL_CAP}", (RUL_CAP, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points",
        va="top", color=ORANGE,
    )  # fmt: skip
    return figure


def wear_by_horizon(fleets: Fleets) -> pd.DataFrame:
    """How far wear has moved the readings at some remaining lives, in percent of the change up to failure.

    The readings are projected on the direction from new to failed; new is more than 200 remaining cycles, failed
    the last five. Training-role engines, sensors normalised within their regimes.
    """
    table = {}
    for subset, fleet in fleets.items():
        values, _ = _normalised(fleet)
        remaining = np.concatenate([run.rul for run in with_role(fleet.train, "train")])
        new, failed = values[remaining >= _HEALTHY].mean(axis=0), values[remaining < _NEAR].mean(axis=0)
        way = failed - new
        reached = 100 * (values - new) @ way / (way @ way)
        near = {horizon: reached[np.abs(remaining - horizon) <= _NEAR] for horizon in HORIZONS}
        table[subset] = {horizon: float(part.mean()) if len(part) else np.nan for horizon, part in near.items()}
    found = pd.DataFrame(table).round(0).astype("Int64")
    found.index.name = "remaining cycles"
    return found


def raw_and_normalised(run: Run, known: Regimes, sensor: str, data_source: str) -> Figure:
    """One engine's sensor as it is read, and normalised within its operating regime."""
    column = SENSORS.index(sensor)
    raw, (clean, regime) = run.rows[:, N_SETTINGS + column], normalise(run, known)
    cycles = np.arange(1, len(run.rows) + 1)
    figure, axes = panels(1, 2, height=2.3, data_source=data_source)
    for axis, values, label in (
        (axes[0, 0], raw, "reading (raw units)"),
        (axes[0, 1], clean[:, column], "reading (standard deviations)"),
    ):
        axis.plot(cycles, values, color=GREY, lw=0.4)
        for number in range(len(known)):
            mine = regime == number
            axis.plot(cycles[mine], values[mine], "o", ms=2.5, color=PALETTE[number % len(PALETTE)])
        axis.set_xlabel("cycle")
        axis.set_ylabel(label)
    axes[0, 0].set_title(f"{sensor.replace('_', ' ')} as it is read")
    axes[0, 1].set_title("the same, normalised within its regime")
    return figure


def test_engines(fleets: Fleets) -> Figure:
    """What is known of each test engine against what is asked: cycles seen and true remaining life."""
    figure, axes = panels(1, len(fleets), height=2.3, sharex=True, sharey=True, data_source=source(fleets))
    for axis, (subset, fleet) in zip(axes[0], fleets.items(), strict=True):
        seen = [len(run.rows) for run in fleet.test]
        left = np.array([run.remaining for run in fleet.test])
        axis.plot(seen, left, "o", ms=2.5, color=BLUE, alpha=0.6)
        axis.axhline(RUL_CAP, color=ORANGE, lw=1, ls="--")
        axis.set_title(f"{subset}: {np.mean(left > RUL_CAP):.0%} above the cap")
        axis.set_xlabel("history (cycles)")
    axes[0, 0].set_ylabel("true remaining life (cycles)")
    return figure


def source(fleets: Fleets) -> str:
    """`nasa` where every fleet is NASA's, else `simulated`."""
    return "nasa" if all(fleet.data_source == "nasa" for fleet in fleets.values()) else "simulated"


def _normalised(fleet: Fleet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All rows of the training-role engines, normalised, `[n, 21]`, and their capped remaining life `[n]`."""
    runs = with_role(fleet.train, "train")
    known = regimes.find(runs, SCHEMA)
    capped = np.minimum(np.concatenate([run.rul for run in runs]), RUL_CAP)
    return np.concatenate([normalise(run, known)[0] for run in runs]), capped


def _per_engine(fleet: Fleet, step: int = 5, longest: int = 250) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over `step` cycles, `[engines, ages, 21]`, NaN before an engine's first cycle; remaining life `[ages]`."""
    runs = with_role(fleet.train, "train")
    known = regimes.find(runs, SCHEMA)
    ages = longest // step
    found = np.full((len(runs), ages, len(SENSORS)), np.nan)
    for engine, run in enumerate(runs):
        newest_first = normalise(run, known)[0][::-1]
        whole = min(len(newest_first) // step, ages)
        found[engine, :whole] = newest_first[: whole * step].reshape(whole, step, -1).mean(axis=1)
    return found, np.arange(ages, dtype=np.float64) * step + (step - 1) / 2
