"""A fleet drawn: how long units lived and how they ended, what is missing, and the range of every column."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driftloop import drawing
from driftloop.fleet.schema import Schema
from driftloop.fleet.tables import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 200
"""Units that are drawn as bars of their own."""
_MOST_COLUMNS = 60
_POINTS = 400
"""Steps of a unit that are drawn."""


def draw(units: Sequence[Unit], schema: Schema, path: Path) -> None:
    """Write a picture of the fleet as PNG: lives, missing values, and every column over the time before the end."""
    columns = min(schema.n_columns, _MOST_COLUMNS)
    across = 4
    down = -(-columns // across)
    height = 2.6 + 1.15 * down
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(drawing.STYLE):
        figure = Figure(figsize=(drawing.WIDTH_IN, height), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=[2.2, 1.15 * down])
        top: Any = grid[0].subgridspec(1, 2, width_ratios=[3, 2]).subplots()
        _lives(top[0], units, schema)
        _missing(top[1], units, schema)
        axes: Any = grid[1].subgridspec(down, across).subplots(squeeze=False)
        for at, channel in enumerate(schema.channels[:columns]):
            _column(axes.flat[at], units, at, channel.name + (f" [{channel.unit}]" if channel.unit else ""))
        for axis in axes.flat[columns:]:
            axis.set_axis_off()
        figure.supxlabel(f"{schema.steps} before the last row", fontsize=7)
        named = sum(unit.life == 1 for unit in units)
        lives = f" in {len(units)} lives" if len(units) > named else ""
        figure.suptitle(f"{schema.name}: {named} {schema.units}{lives}", fontsize=9)
        figure.savefig(path, dpi=drawing.DPI)


def _lives(axis: "Axes", units: Sequence[Unit], schema: Schema) -> None:
    shown = sorted(units, key=lambda unit: len(unit.run.rows))
    shown = [shown[at] for at in np.unique(np.linspace(0, len(shown) - 1, min(len(shown), _MOST)).round().astype(int))]
    lives = np.array([len(unit.run.rows) for unit in shown])
    out = np.array([unit.run.censored for unit in shown], dtype=np.bool_)
    at = np.arange(len(shown))
    axis.bar(at[~out], lives[~out], width=1.0, color=drawing.BLUE, label="failed")
    if out.any():
        axis.bar(at[out], lives[out], width=1.0, color=drawing.ORANGE, label="taken out")
        axis.legend(loc="upper left")
    axis.set_title("lives")
    again = any(unit.life > 1 for unit in units)
    axis.set_xlabel(f"{'lives' if again else schema.units}, shortest first")
    axis.set_ylabel(f"{schema.steps}")


def _missing(axis: "Axes", units: Sequence[Unit], schema: Schema) -> None:
    share = np.isnan(np.concatenate([unit.run.rows for unit in units])).mean(axis=0) * 100
    worst = np.argsort(-share, kind="stable")[:12][::-1]
    axis.barh([schema.columns[at] for at in worst], share[worst], color=drawing.GREY)
    if not share.any():
        axis.text(0.5, 0.5, "nothing", transform=axis.transAxes, ha="center", va="center", color=drawing.GREY)
    axis.set_xlim(0, max(float(share.max()) * 1.1, 1.0))
    axis.set_title("missing, % of steps" + (f" (worst 12 of {len(share)})" if len(share) > 12 else ""))
    axis.tick_params(axis="y", labelsize=6)


def _column(axis: Any, units: Sequence[Unit], at: int, title: str) -> None:
    """One column of up to 40 units, against the steps before the last row."""
    for unit in list(units)[:: max(len(units) // 40, 1)]:
        values = unit.run.rows[:, at]
        index = np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int))
        colour = drawing.ORANGE if unit.run.censored else drawing.BLUE
        axis.plot(index - len(values) + 1, values[index], color=colour, linewidth=0.4, alpha=0.5)
    told = np.concatenate([unit.run.rows[:, at] for unit in units])
    told = told[np.isfinite(told)]
    if len(told):  # a few wild readings shall not hide all others
        low, high = np.quantile(told, [0.001, 0.999])
        margin = max(high - low, abs(high) * 1e-6, 1e-12) * 0.05
        axis.set_ylim(low - margin, high + margin)
    axis.set_title(title, fontsize=6, pad=2)
    axis.tick_params(labelsize=5)
