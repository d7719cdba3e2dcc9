"""How a model is trained."""

from typing import Literal

Mode = Literal["warm_start", "full"]
"""From the production model's weights, or from nothing."""
