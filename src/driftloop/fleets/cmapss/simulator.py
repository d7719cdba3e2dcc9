"""A C-MAPSS-like fleet for machines that have no data: engines that wear until a health threshold.

One engine's wear is its initial wear plus damage that grows exponentially, by random steps, until the sum
reaches 1, the threshold at which it has failed (the damage model of Saxena et al., "Damage propagation
modeling for aircraft engine run-to-failure simulation", PHM 2008). A sensor reads what it reads in its
operating regime on a healthy engine, moved in proportion to the wear in the direction of the engine's fault
(high-pressure compressor, HPC, or fan), plus measurement noise, rounded as in NASA's files.

The tables below were fitted by least squares to the rows of NASA's four training files, so that means,
directions and noise are those of the real data. The fleet is new in all else, and not NASA's data.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftloop.durable import write_atomically
from driftloop.fleets.cmapss.files import ENGINES, SPLITS, SUBSETS, Split, Subset, names_of
from driftloop.fleets.cmapss.schema import COLUMNS, N_SENSORS, SENSORS

Array = NDArray[np.float64]

REGIMES = np.array(
    [(0, 0, 100), (10, 0.25, 100), (20, 0.7, 100), (25, 0.62, 60), (35, 0.84, 100), (42, 0.84, 100)], dtype=np.float64
)
"""Altitude (1000 ft), Mach number and throttle (%) of the six operating regimes; the first is sea level."""

REGIME_SHARE = np.array([0.15, 0.15, 0.15, 0.15, 0.15, 0.25])

# fmt: off
HEALTHY = np.array([
    (518.67, 642.26, 1585.45, 1400.37, 14.62, 21.6098, 554.08, 2388.0218, 9054.51, 1.2999, 47.28, 522.01, 2388.0214, 8136.78, 8.4059, 0.03, 391.87, 2388, 100, 38.97, 23.3811),  # noqa: E501
    (489.05, 604.51, 1497.45, 1303.38, 10.52, 15.49, 394.76, 2318.8556, 8777.09, 1.2597, 45.24, 371.81, 2388.0559, 8130.09, 8.6279, 0.03, 368.5, 2319, 100, 28.63, 17.1775),  # noqa: E501
    (491.19, 607.18, 1480.99, 1245.92, 9.35, 13.653, 334.72, 2323.9068, 8721.52, 1.0781, 44.22, 315.04, 2388.0363, 8060.88, 9.1974, 0.0195, 364.16, 2324, 100, 24.53, 14.7194),  # noqa: E501
    (462.54, 536.64, 1258.83, 1044.23, 7.05, 9.026, 175.53, 1915.3316, 8008.46, 0.9397, 36.6, 164.65, 2028.225, 7873.18, 10.8712, 0.02, 306.36, 1915, 84.93, 14.31, 8.5861),  # noqa: E501
    (449.44, 555.43, 1362.32, 1124.66, 5.48, 8, 194.57, 2222.9352, 8347.96, 1.021, 41.76, 183.12, 2388.0251, 8066.99, 9.298, 0.02, 333.09, 2223, 100, 14.88, 8.926),  # noqa: E501
    (445, 549.35, 1350.04, 1120.69, 3.91, 5.714, 138.68, 2211.9229, 8319.35, 1.0199, 41.91, 130.58, 2388.0002, 8083.72, 9.3448, 0.02, 329.9, 2212, 100, 10.62, 6.3706),  # noqa: E501
])
"""`[regime, sensor]`: readings of an engine without wear."""

HPC_FAULT = np.array([
    (0, 1.57, 18.61, 31.99, 0, 0, -2.84, 0.25, 39.52, 0, 0.969, -2.42, 0.251, 25.65, 0.131, 0, 4.95, 0, 0, -0.58, -0.346),  # noqa: E501
    (0, 1.51, 17.2, 29.99, 0, 0.009, -1.87, 0.372, 34.47, 0, 0.922, -1.55, 0.384, 21.75, 0.135, 0, 4.57, 0, 0, -0.404, -0.243),  # noqa: E501
    (0, 1.44, 17.18, 26.97, 0, 0.006, -1.29, 0.414, 31.92, -0.0049, 0.864, -1.07, 0.425, 19.89, 0.134, 0.0117, 4.55, 0, 0, -0.324, -0.195),  # noqa: E501
    (0, 0.822, 14.41, 22.89, 0, 0.004, -0.6, 0.347, 27.35, 0, 0.759, -0.484, 0.368, 20.95, 0.16, 0, 3.68, 0, 0, -0.186, -0.113),  # noqa: E501
    (0, 1.38, 16.42, 25.8, 0, 0.003, -0.738, 0.421, 31.99, -0.0016, 0.847, -0.61, 0.452, 20.9, 0.131, 0, 4.29, 0, 0, -0.2, -0.115),  # noqa: E501
    (0, 1.29, 16.56, 26.65, 0, 0.004, -0.415, 0.233, 33.16, 0.0016, 0.877, -0.313, 0.251, 22.54, 0.115, 0, 4.33, 0, 0, -0.139, -0.0811),  # noqa: E501
])
"""`[regime, sensor]`: change of the readings from no wear to failure by HPC degradation."""

FAN_FAULT = np.array([
    (0, 0.919, 15.87, 21.33, 0, -0.005, 15.58, 0.486, 69.84, 0.0156, 0.778, 14.89, 0.487, 56.94, -0.209, 0, 4.21, 0, 0, 0.756, 0.46),  # noqa: E501
    (0, 0.759, 14.16, 18.75, 0, 0, 10.71, 0.724, 65.98, 0.0128, 0.68, 10.22, 0.744, 55.48, -0.211, 0, 3.77, 0, 0, 0.554, 0.329),  # noqa: E501
    (0, 0.443, 14.04, 17.85, 0, 0, 9.14, 0.807, 61.6, 0.0151, 0.66, 8.7, 0.826, 53.52, -0.236, 0.0096, 3.68, 0, 0, 0.486, 0.291),  # noqa: E501
    (0, 0.482, 8.5, 8.03, 0, 0, 4.3, 0.57, 40.54, 0.0009, 0.376, 4.1, 0.606, 35.94, -0.262, 0, 2.04, 0, 0, 0.279, 0.165),  # noqa: E501
    (0, 0.319, 13.38, 18.33, 0, 0, 5.7, 0.82, 62.74, 0.0298, 0.643, 5.4, 0.879, 58.52, -0.263, 0, 3.64, 0, 0, 0.311, 0.195),  # noqa: E501
    (0, 0.237, 14.1, 19.55, 0, 0, 4.12, 0.631, 63.88, 0.0308, 0.658, 3.92, 0.685, 59.86, -0.284, 0, 3.65, 0, 0, 0.22, 0.134),  # noqa: E501
])
"""`[regime, sensor]`: the same for fan degradation."""

NOISE = np.array((
    0, 0.296, 3.96, 4.04, 0, 0.002, 0.472, 0.0446, 4.55, 0.0019, 0.104, 0.385, 0.0457, 3.55, 0.0207, 0.0004, 0.943, 0, 0, 0.0992, 0.0591,  # noqa: E501
))
"""`[sensor]`: standard deviation of the measurement noise."""
# fmt: on

_DECIMALS = (4, 4, 1) + (2,) * 14 + (4, 2, 0, 0, 2, 2, 4)
"""Digits after the point of the 24 columns in NASA's files."""

_CORE_SPEED, _CORRECTED_CORE_SPEED = SENSORS.index("sensor_9"), SENSORS.index("sensor_14")
_FAN_SHARE = 0.42


def simulate(subset: str, *, seed: int = 0, engines: int | None = None, splits: tuple[Split, ...] = SPLITS) -> Subset:
    """Simulate a subset: `engines` units in each split, by default as many as NASA's subset has.

    An engine depends on the seed, the subset, the split and its own unit number only, so a smaller fleet is the
    beginning of a larger one. Raises DataError for a subset that does not exist.
    """
    names_of(subset)
    counts = ENGINES[subset] if engines is None else (engines, engines)
    train = [_life(subset, "train", unit, seed)[0] for unit in range(1, counts[0] + 1)] if "train" in splits else []
    test, remaining = [], []
    for unit in range(1, counts[1] + 1) if "test" in splits else ():
        rows, rng = _life(subset, "test", unit, seed)
        left = int(rng.integers(6, min(146, len(rows) - 20)))
        test.append(rows[:-left])
        remaining.append(left)
    return Subset(train, test, remaining)


def write_files(folder: Path, *, seed: int = 0, engines: int | None = None) -> list[Path]:
    """Simulate all four subsets and write them as the 13 files of NASA's format; returns their paths."""
    written = [folder / "readme.txt"]
    text = (
        f"Simulated by driftloop with seed {seed}: turbofan engines like those of C-MAPSS. This is not NASA's data.\n"
    )
    write_atomically(written[0], text.encode())
    for subset in SUBSETS:
        content = simulate(subset, seed=seed, engines=engines)
        labels = "".join(f"{left} \n" for left in content.remaining)
        texts = (_text(content.train), _text(content.test), labels)
        for name, text in zip(names_of(subset), texts, strict=True):
            write_atomically(folder / name, text.encode())
            written.append(folder / name)
    return written


def _life(subset: str, split: Split, unit: int, seed: int) -> tuple[Array, np.random.Generator]:
    """One engine from its first cycle to its failure: rows `[cycles, 24]`, and the generator for what comes after."""
    rng = np.random.default_rng([seed, SUBSETS.index(subset), SPLITS.index(split), unit])
    six_regimes, two_faults = subset in ("FD002", "FD004"), subset in ("FD003", "FD004")
    fan = two_faults and rng.random() < _FAN_SHARE
    initial, damage = _wear(rng, fan)
    cycles = len(damage)

    regime = rng.choice(len(REGIMES), size=cycles, p=REGIME_SHARE) if six_regimes else np.zeros(cycles, dtype=np.intp)
    settings = REGIMES[regime]
    if six_regimes:
        altitude = rng.uniform(np.where(regime == 0, 0.0, -0.002), np.where(regime == 0, 0.003, 0.008))
        settings += np.stack([altitude, rng.uniform(0, 0.002, cycles), np.zeros(cycles)], axis=1)
    else:
        settings[:, 0] += np.clip(rng.normal(0, 0.0022, cycles), -0.0087, 0.0087)
        settings[:, 1] += np.clip(rng.normal(0, 0.0003, cycles), -0.0006, 0.0006)

    fault = FAN_FAULT[regime].copy() if fan else HPC_FAULT[regime].copy()
    # Manufacturing spreads the core speed and its answer to wear more than any other reading; both sensors share it.
    scale = HPC_FAULT[regime, _CORE_SPEED] / HPC_FAULT[0, _CORE_SPEED]
    offset, answer = rng.normal(0, 7, 2) * (1, 1.5 if fan else 6)
    for sensor in (_CORE_SPEED, _CORRECTED_CORE_SPEED):
        fault[:, sensor] += answer * scale
    sensors = HEALTHY[regime] + initial * HPC_FAULT[regime] + damage[:, None] * fault
    sensors[:, [_CORE_SPEED, _CORRECTED_CORE_SPEED]] += (offset * scale)[:, None]
    sensors += rng.normal(size=(cycles, N_SENSORS)) * NOISE
    return _rounded(np.concatenate([settings, sensors], axis=1)), rng


def _wear(rng: np.random.Generator, fan: bool) -> tuple[float, Array]:
    """Initial wear, and the damage at each cycle `[cycles]`; at the last the two reach the threshold 1."""
    initial = float(np.clip(rng.normal(0, 0.135), -0.35, 0.35))
    life = 160 + min(rng.gamma(2.9, 47), 380) if fan else 130 + min(rng.gamma(2.9, 27), 230)
    time_constant = 48 * np.exp(rng.normal(0, 0.08))
    steps = (1 + 0.35 * rng.normal(size=int(3 * life))) / time_constant
    log_damage = np.log(1 - initial) - life / time_constant + np.cumsum(steps)
    failure = int(np.argmax(log_damage >= np.log(1 - initial)))
    return initial, np.exp(log_damage[: failure + 1])


def _rounded(rows: Array) -> Array:
    # Adding zero turns -0.0 into 0.0, so that text and number say the same.
    return np.stack([np.round(rows[:, i], _DECIMALS[i]) for i in range(len(COLUMNS))], axis=1) + 0.0


def _text(engines: list[Array]) -> str:
    form = " ".join(["%d", "%d", *(f"%.{digits}f" for digits in _DECIMALS)]) + "  \n"
    return "".join(
        form % (unit, cycle, *row)
        for unit, rows in enumerate(engines, start=1)
        for cycle, row in enumerate(rows.tolist(), start=1)
    )
