"""What the public API answers of plans and of what drives a prediction; RUL is in steps."""

from pydantic import Field

from driftloop.api.shapes import Shape


class Contribution(Shape):
    """By how many steps a sensor moves the RUL; below 0 it shortens life."""

    sensor: str
    unit: str
    steps: float


class Drivers(Shape):
    """What drives a prediction; the contributions, the largest first, and `unexplained` add up to `rul` minus
    `reference`, the answer for an average unit under the same settings."""

    unit: str
    step: int | None
    rul: float
    reference: float
    method: str
    contributions: list[Contribution]
    unexplained: float
    model_version: str


class Work(Shape):
    """A unit and what is planned for it; risks are chances of failing, `saves` is in the currency of the costs."""

    unit: str
    rul: float
    lower: float
    upper: float
    period: int | None = Field(description="null where it has no slot")
    risk_before: float = Field(description="before its slot, or without one before the end of the last period")
    risk_if_left: float = Field(description="before the end of the last period where nothing is done")
    saves: float = Field(description="what the slot saves, or the best one would have")
    why: str


class Expected(Shape):
    """What is to be expected until the end of the last period."""

    failures: float
    planned: float
    cost: float


class Period(Shape):
    """A period, in steps from now, and what is to be expected in it."""

    period: int
    begins: int
    ends: int
    slots: int
    failures: float
    failures_without_plan: float
    removed: float = Field(description="units that are worked on before they have failed: they teach nothing")


class Learning(Shape):
    """What the plan does to learning: only units that fail teach, and a retraining needs `needed` of them."""

    failures: float
    failures_without_plan: float
    needed: int
    steps_until_enough: float | None = Field(description="by the failures of the periods, then at their mean")


class Plan(Shape):
    """Which unit in which slot, and why."""

    work: list[Work] = Field(description="with a slot, by period")
    unserved: list[Work] = Field(description="worth a slot, but none was left")
    run_on: list[Work] = Field(description="worth a slot, but chosen to run until they fail")
    running: int = Field(description="units that are best left alone")
    unknown: list[str] = Field(description="units of which the model knows nothing: look at them")
    expected: Expected
    without: Expected = Field(description="the same where nothing is planned")
    costs: dict[str, float]
    mean_life: float
    periods: list[Period]
    learning: Learning
