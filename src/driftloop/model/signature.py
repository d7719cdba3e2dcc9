"""The signature of every model's graph: what it takes, what it gives, and of which shape, for any fleet.

`rows` float32 `[batch, steps >= 1, columns]`, raw units, oldest first, settings before sensors. It returns
  `rul`    float32 `[batch]`           steps, 0 to the cap
  `lower`  float32 `[batch]`           lower end of the prediction interval
  `upper`  float32 `[batch]`           upper end
  `regime` int64   `[batch]`           operating regime of the newest row; UNSEEN_REGIME for one never seen in training
  `newest` float32 `[batch, sensors]`  normalised sensors of the newest row
Where the fleet counts its padding, NaN is a missing value, and leading rows without any value are no rows.
"""

from typing import NamedTuple

INPUT = "rows"
UNSEEN_REGIME = -1


class Output(NamedTuple):
    """One output of the graph."""

    name: str
    dtype: str
    """As numpy calls it."""
    per_sensor: bool = False
    """`[batch, sensors]`, else `[batch]`."""


SIGNATURE = (
    Output("rul", "float32"),
    Output("lower", "float32"),
    Output("upper", "float32"),
    Output("regime", "int64"),
    Output("newest", "float32", per_sensor=True),
)
OUTPUTS = tuple(output.name for output in SIGNATURE)
"""Names of the outputs, in the graph's order."""
