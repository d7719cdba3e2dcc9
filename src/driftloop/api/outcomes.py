"""What the public API answers to acts, for its description and for programs."""

from typing import Any

from driftloop.api.shapes import Shape


class Renamed(Shape):
    """A unit's name, and the one before."""

    unit: str
    before: str


class Split(Shape):
    """How many rows the new unit has, and how many contradicting ones are left."""

    unit: str
    split_off: str
    rows: int
    left: int


class Done(Shape):
    """What the retrainer wrote down."""


class Attempt(Shape):
    """A retraining that has been asked for."""

    attempt: dict[str, Any]


class Moved(Shape):
    """What is in production now, and what was before."""

    model_version: str
    from_version: str | None
    already: bool
    """Whether it had been done before, and nothing was done now."""


class ScheduleList(Shape):
    """What is done by the clock."""

    schedules: list[dict[str, Any]]


class Archived(Shape):
    """Runs that are new, and those that were there already."""

    added: list[str]
    known: list[str]


class Withdrawn(Shape):
    """Runs that were taken back now, those that had been before, and the versions that know them."""

    withdrawn: list[str]
    before: list[str]
    versions: list[dict[str, Any]]
