"""What a server says of the units that it has answered: GET /answers, newest answer of each, and of one unit more; and
POST /bands, between what the readings of given rows usually lie.

Every replica remembers the answers that it gave, so all are asked, and of a unit that several know the newest counts.
"""

from collections.abc import Iterable

import msgspec

PATH, BANDS = "/answers", "/bands"


class Answer(msgspec.Struct, frozen=True):
    """One prediction as it was answered; RUL and the ends of its interval in steps."""

    unit: str
    time: float
    """Seconds since 1970."""
    step: int | None
    rul: float
    low: float
    high: float
    flags: list[str]
    version: str


class Newest(msgspec.Struct, frozen=True):
    """The newest answer of each unit that a process remembers."""

    units: list[Answer]


class Band(msgspec.Struct, frozen=True):
    """One sensor of a unit's newest window: readings, and between what most of its regime's readings lie.

    `values[i]` is None where the reading was missing; `low` and `high` are None for a sensor that does not vary in the
    regime, or where no model is served that knows it.
    """

    name: str
    unit: str
    values: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Contribution(msgspec.Struct, frozen=True):
    """By how many steps a sensor moves the RUL; below 0 it shortens life."""

    sensor: str
    unit: str
    steps: float


class Explanation(msgspec.Struct, frozen=True):
    """What drives the answer to one window, compared with an average unit under the same settings.

    `reference` is the answer for that unit; the contributions, the largest first, and `unexplained` add up to `rul`
    minus `reference`. RUL and contributions are in steps.
    """

    rul: float
    reference: float
    method: str
    contributions: list[Contribution]
    unexplained: float
    model_version: str


class Bands(msgspec.Struct, frozen=True):
    """Every sensor of some rows."""

    sensors: list[Band]


class OfUnit(msgspec.Struct, frozen=True):
    """What a process remembers of one unit: its answers, oldest first, and its newest window."""

    unit: str
    answers: list[Answer]
    sensors: list[Band]
    step: int | None = None
    """Of the window's newest row, where the request named it."""
    drivers: Explanation | None = None
    """What drives the answer to that window, where it was asked for."""


def newest_of(found: Iterable[list[Answer]]) -> dict[str, Answer]:
    """The newest answer of each unit among those of several replicas."""
    units: dict[str, Answer] = {}
    for answers in found:
        for answer in answers:
            known = units.get(answer.unit)
            if known is None or answer.time > known.time:
                units[answer.unit] = answer
    return units
