"""A small made-up fleet of presses in the form in which people have their data: what a spreadsheet in Germany exports.

Nothing of it is C-MAPSS's: 6 columns, 2 settings in three recipes, lives of 40 to 90 shifts, times and no counter.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

HEADER = (
    "Presse", "Halle", "Zeitpunkt", "Druck [bar]", "Takt (1/min)", "Öltemperatur [°C]", "Vibration",
    "Strom [A]", "Leckage (ml/h)", "Bemerkung", "",
)  # fmt: skip
DIGITS = (0, 1, 2, 3, 1, 2)
RECIPES = ((80.0, 12.0), (120.0, 9.0), (160.0, 6.0))
SHIFT = timedelta(hours=8)


def life(rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Pressure, rate, oil temperature, vibration, current and leakage in each shift of a press, oldest first."""
    shifts = int(rng.integers(40, 91))
    rows = []
    for shift in range(shifts):
        pressure, rate = RECIPES[rng.integers(len(RECIPES))]
        wear = np.exp((shift - shifts) / 18.0)
        oil = 35 + 0.05 * pressure + 9 * wear + rng.normal(0, 0.4)
        vibration = 1.2 + 0.02 * rate + 2.5 * wear + rng.normal(0, 0.1)
        current = 1000 + 9 * pressure - 60 * wear + rng.normal(0, 4)
        rows.append((pressure, rate, float(oil), float(vibration), float(current), 4 + 30 * wear + rng.normal(0, 0.8)))
    return rows


def write(folder: Path, *, units: int = 24, seed: int = 0) -> None:
    """Two files in `folder`: presses with leading zeros in their numbers, the second half in another file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    numbers = range(1, units + 1)
    for name, half in (("Halle 1.csv", numbers[: units // 2]), ("Halle 2.csv", numbers[units // 2 :])):
        lines = [";".join(HEADER), *(line for number in half for line in _lines(number, rng))]
        (folder / name).write_bytes("\r\n".join(lines).encode("utf-8-sig"))


def _lines(number: int, rng: np.random.Generator) -> Iterator[str]:
    """One press and an empty line; 4 % of the vibrations are missing."""
    begin = datetime(2024, 1, 13 + number % 15, 6)
    for shift, row in enumerate(life(rng)):
        cells = [german(value, digits) for value, digits in zip(row, DIGITS, strict=True)]
        if rng.random() < 0.04:
            cells[3] = "n/a"
        when = (begin + shift * SHIFT).strftime("%d.%m.%Y %H:%M")
        yield ";".join([f"{number:03d}", "H1", when, *cells, '"Öl; neu"' if rng.random() < 0.05 else "", ""])
    yield ""


def german(value: float, digits: int) -> str:
    """`1.234,50`."""
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))
