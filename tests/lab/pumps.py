#!/usr/bin/env python3
"""A small made-up fleet that is not C-MAPSS: pumps.toml and runs.csv in a folder. pumps.py FOLDER"""

import sys
from pathlib import Path

import numpy as np

FLEET = """\
name = "pumps"
unit = "pump"
step = "hour"
unit_column = "pump"
cap = 60
sensors = [
  { name = "pressure_bar", unit = "bar" },
  { name = "flow_lps", unit = "l/s" },
  { name = "vibration_mms", unit = "mm/s" },
  { name = "current_a", unit = "A" },
]

[time]
column = "hour"
"""
PUMPS = 60
"""Enough for every role."""


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["pump,hour,pressure_bar,flow_lps,vibration_mms,current_a"]
    for pump in range(1, PUMPS + 1):
        hours = int(rng.integers(60, 120))
        for hour in range(1, hours + 1):
            wear = np.exp((hour - hours) / 20)
            pressure, flow = rng.normal(6 - 0.8 * wear, 0.05), rng.normal(40 - 6 * wear, 0.4)
            vibration, current = rng.normal(1.5 + 3 * wear, 0.1), rng.normal(12 + 2 * wear, 0.1)
            lines.append(f"P{pump:03d},{hour},{pressure:.3f},{flow:.2f},{vibration:.3f},{current:.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pumps.toml").write_text(FLEET)
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
