"""What drives a prediction: by how many steps each sensor moves the RUL, compared with an average unit.

The method is integrated gradients (Sundararajan, Taly & Yan, "Axiomatic attribution for deep networks", ICML 2017;
in economics the Aumann-Shapley cost shares, 1974), with a sensor's readings over the whole window as one variable. The
reference is the same window, run under the same settings, with each sensor at the mean of its operating regime. On the
straight line from there to the window's own readings the RUL's slope along each sensor is integrated. So the
contributions add up to the answer minus the reference's answer, a sensor that changes nothing gets 0, and of two
sensors that act alike each gets the same.

Slopes are central differences and the integral is Gauss-Legendre's, with twice the points until what is left over is
small; what is left over in the end is told. Nothing of the network is known here: it is asked.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Ask = Callable[[Float32], tuple[NDArray[np.floating], NDArray[np.floating]]]
"""Windows `[n, steps, columns]`, settings before sensors, to RUL `[n]` in steps and the newest row's normalised sensors
`[n, sensors]`."""

METHOD = "integrated gradients"
POINTS = 16
MOST_POINTS = 128
CLOSE = 0.02
"""Share of the difference that is to be explained which may be left over."""
LEAST_LEFT = 0.05
"""Steps that may be left over however small the difference is."""
_HALF = 1.0 / 64
"""Half of the distance over which a slope is taken, as a share of the whole line."""


class Drivers(NamedTuple):
    """Why a window is answered as it is."""

    rul: float
    """The answer, in steps."""
    reference: float
    """The answer for an average unit under the same settings, in steps."""
    contributions: NDArray[np.float64]
    """Steps by which each sensor moves the answer away from the reference, `[sensors]`; below 0 it shortens life."""
    unexplained: float
    """Steps that the contributions lack: what numerical integration leaves over."""


def drivers(ask: Ask, rows: Float32, settings: int) -> Drivers:
    """What drives the answer to one window `rows` `[steps, columns]`, whose first `settings` columns are settings.

    A missing reading (NaN) stays missing and adds nothing.
    """
    reference = average(ask, rows, settings)
    own, base = (float(each) for each in ask(np.stack([rows, reference]))[0])
    points = POINTS
    while True:
        found = _integrated(ask, rows, reference, settings, points)
        left = own - base - float(found.sum())
        if abs(left) <= max(LEAST_LEFT, CLOSE * abs(own - base)) or points >= MOST_POINTS:
            return Drivers(own, base, found, left)
        points *= 2


def average(ask: Ask, rows: Float32, settings: int) -> Float32:
    """`rows` `[steps, columns]` with each sensor at the mean of its regime: where its normalised value is 0.

    Normalisation is a line for each row, so two answers for it give the line. A sensor that is constant in training has
    none and keeps its reading; so does a missing one.
    """
    single = rows[:, None, :].copy()
    scale = np.maximum(np.abs(np.nan_to_num(rows[:, settings:])), 1.0)
    moved = single.copy()
    moved[:, 0, settings:] += scale
    here, there = ask(single)[1].astype(np.float64), ask(moved)[1].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = here * scale / (there - here)
    step[~np.isfinite(step)] = 0.0
    found = rows.astype(np.float64)
    found[:, settings:] -= step
    return np.asarray(found, dtype=np.float32)


def _integrated(ask: Ask, rows: Float32, reference: Float32, settings: int, points: int) -> NDArray[np.float64]:
    nodes, weights = np.polynomial.legendre.leggauss(points)
    places, weights = (nodes + 1) / 2, weights / 2
    line = rows.astype(np.float64) - reference
    sensors = rows.shape[1] - settings
    total = np.zeros(sensors)
    for place, weight in zip(places, weights, strict=True):
        # Never beyond either end of the line.
        half = min(_HALF, place, 1 - place)
        at = reference + place * line
        asked = np.repeat(at[None], 2 * sensors, axis=0)
        for sensor in range(sensors):
            asked[2 * sensor, :, settings + sensor] += half * line[:, settings + sensor]
            asked[2 * sensor + 1, :, settings + sensor] -= half * line[:, settings + sensor]
        rul = ask(asked.astype(np.float32))[0].astype(np.float64)
        total += weight * (rul[0::2] - rul[1::2]) / (2 * half)
    return total
