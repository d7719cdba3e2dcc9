"""The roles that people and programs have; access.roles says what each may do."""

from typing import Literal

Role = Literal["view", "predict", "operate", "admin"]
