"""What the public API, the prediction server and the service that keeps units answer, as types for programs.

Times are ISO 8601 in UTC, RUL is in steps. What a newer platform adds is passed over.
"""

from typing import Any

import msgspec

from driftloop.protocol.answers import Explanation


class Due(msgspec.Struct, frozen=True):
    """The unit whose interval ends first; RUL in steps."""

    unit: str
    rul: float
    low: float
    high: float


class Fleet(msgspec.Struct, frozen=True):
    """A fleet at a glance; `away` names the parts of it that do not answer, of which nothing is known now."""

    name: str
    unit: str
    step: str
    state: str
    verdict: str
    units: int | None = None
    waits_for: str | None = None
    champion: str | None = None
    provisional: bool = False
    first_due: Due | None = None
    away: list[str] = []


class Unit(msgspec.Struct, frozen=True):
    """The newest answer of one unit; None what is not known of it yet."""

    unit: str
    flags: list[str]
    last_seen: str | None = None
    step: int | None = None
    rul: float | None = None
    low: float | None = None
    high: float | None = None
    version: str | None = None


class UnitPage(msgspec.Struct, frozen=True):
    """A page of units, of `total` in all."""

    total: int
    units: list[Unit]


class Answered(msgspec.Struct, frozen=True):
    """One answer of the past, None where the server refused to give one."""

    time: str
    rul: float | None
    low: float | None
    high: float | None
    flags: list[str]
    version: str
    step: int | None = None


class Sensor(msgspec.Struct, frozen=True):
    """Readings, oldest first, each with the band in which most readings of its regime lie."""

    name: str
    unit: str
    values: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


class UnitInWhole(msgspec.Struct, frozen=True):
    """One unit; `steps` are those of its sensors' readings."""

    unit: str
    flags: list[str]
    predictions: list[Answered]
    sensors: list[Sensor]
    steps: list[int]
    last_seen: str | None = None
    version: str | None = None


class Mark(msgspec.Struct, frozen=True):
    """A mark of the present or last recovery; None where it has not happened."""

    mark: str
    time: str | None = None
    event: int | None = None


class Loop(msgspec.Struct, frozen=True):
    """Where the loop is."""

    state: str
    marks: list[Mark]
    promotion: str
    since: str | None = None
    waits_for: str | None = None
    attempt: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    estimate: dict[str, Any] | None = None


class Model(msgspec.Struct, frozen=True):
    """A version."""

    version: str
    alias: list[str]
    created: str
    kind: str
    state: str
    figures: dict[str, float]
    reasons: list[str]
    parent: str | None = None


class Moved(msgspec.Struct, frozen=True):
    """What is in production now, and what was before."""

    model_version: str
    from_version: str | None = None
    already: bool = False
    """Whether it had been done before, and nothing was done now."""


class Event(msgspec.Struct, frozen=True):
    """What the loop of a fleet saw or decided; `place` is what to go on from."""

    fleet: str
    seq: int
    time: str
    event: str
    who: str | None = None
    place: str = ""
    detail: dict[str, Any] = {}
    """Its other fields."""


class Prediction(msgspec.Struct, frozen=True):
    """Remaining useful life in steps after the newest row, with the ends of its interval."""

    rul: float
    lower: float
    upper: float
    flags: list[str]
    model_version: str
    request_id: str
    regime: int = 0


class Column(msgspec.Struct, frozen=True):
    """A setting or a sensor."""

    name: str
    unit: str
    description: str


class FleetInWhole(Fleet, frozen=True, kw_only=True):
    """A fleet, and what its rows are; `cap` in steps, None where training finds it."""

    description: str
    settings: list[Column]
    sensors: list[Column]
    least_units: dict[str, int]
    cap: int | None = None


class Component(msgspec.Struct, frozen=True):
    """A process of the platform; `fleet` is None where all fleets share it."""

    name: str
    state: str
    fleet: str | None = None
    since: str | None = None
    address: str | None = None
    memory_bytes: int | None = None
    message: str | None = None


class About(msgspec.Struct, frozen=True):
    """Version, processes and fleets; `telemetry` is where rows go, None where no service keeps units."""

    version: str
    components: list[Component]
    fleets: list[str]
    started: str | None = None
    telemetry: str | None = None


class Feature(msgspec.Struct, frozen=True):
    """A feature's distance to healthy traffic; `score` is the largest of its statistics in units of its threshold."""

    name: str
    psi: float
    score: float
    drifted: bool
    blamed: bool
    threshold: float | None = None


class SensorFault(msgspec.Struct, frozen=True):
    """A column whose readings are not what they should be."""

    sensor: str
    what: str


class Verdict(msgspec.Struct, frozen=True):
    """The watch's newest verdict, said at `as_of`, the worst features first; whether the watch is `silent` since."""

    verdict: str
    requests: int
    features: list[Feature]
    sensor_faults: list[SensorFault]
    since: str | None = None
    false_alarms: dict[str, Any] | None = None
    as_of: str | None = None
    silent: bool = False


class Run(msgspec.Struct, frozen=True):
    """A completed run; `withdrawn` says when and why it was taken back."""

    run_id: str
    role: str
    rows: int | None = None
    censored: bool | None = None
    withdrawn: dict[str, Any] | None = None


class RunPage(msgspec.Struct, frozen=True):
    """A page of completed runs, of `total` in all, how many each role has, and what was turned away lately."""

    total: int
    roles: dict[str, int]
    runs: list[Run]
    refused: list[dict[str, Any]]


class Archived(msgspec.Struct, frozen=True):
    """Runs that are new, and those that were there already."""

    added: list[str]
    known: list[str]


class Withdrawn(msgspec.Struct, frozen=True):
    """Runs that were taken back now, those that had been before, and the versions that know them."""

    withdrawn: list[str]
    before: list[str]
    versions: list[dict[str, Any]]


class Happened(msgspec.Struct, frozen=True):
    """A life event of a unit, as it was written down; `withdrawn` says who took it back."""

    id: int
    kind: str
    time: str
    note: str
    who: str
    recorded: str
    life: int | None = None
    withdrawn: dict[str, Any] | None = None


class Drivers(Explanation, frozen=True, kw_only=True):
    """What drives a prediction: the contributions and `unexplained` add up to `rul` minus `reference`, which is the
    answer for an average unit under the same settings."""

    unit: str
    step: int | None = None


class Work(msgspec.Struct, frozen=True):
    """A unit and what is planned for it: `period` is None without a slot, `saves` in the currency of the costs."""

    unit: str
    rul: float
    lower: float
    upper: float
    risk_before: float
    risk_if_left: float
    saves: float
    why: str
    period: int | None = None


class Expected(msgspec.Struct, frozen=True):
    """What is to be expected until the end of the last period."""

    failures: float
    planned: float
    cost: float


class Period(msgspec.Struct, frozen=True):
    """A period, in steps from now, and what is to be expected in it; who is `removed` teaches nothing."""

    period: int
    begins: int
    ends: int
    slots: int
    failures: float = 0.0
    failures_without_plan: float = 0.0
    removed: float = 0.0


class Learning(msgspec.Struct, frozen=True):
    """What a plan does to learning: only units that fail teach; `steps_until_enough` is None where never."""

    failures: float
    failures_without_plan: float
    needed: int
    steps_until_enough: float | None = None


class MaintenancePlan(msgspec.Struct, frozen=True):
    """Which unit in which slot, and why; `without` is what to expect where nothing is planned."""

    work: list[Work]
    unserved: list[Work]
    run_on: list[Work]
    running: int
    unknown: list[str]
    expected: Expected
    without: Expected
    costs: dict[str, float]
    mean_life: float
    periods: list[Period]
    learning: Learning


class Token(msgspec.Struct, frozen=True):
    """A named token, without the secret; `rate` is requests in a second."""

    name: str
    role: str
    created: str
    expired: bool
    rate: float
    expires: str | None = None


class NewToken(msgspec.Struct, frozen=True):
    """A token, told this once."""

    name: str
    role: str
    token: str


class Act(msgspec.Struct, frozen=True):
    """An entry of the audit log."""

    seq: int
    time: str
    service: str
    address: str
    act: str
    outcome: str
    who: str | None = None
    role: str | None = None
    how: str | None = None


class Kept(msgspec.Struct, frozen=True):
    """What became of rows, of each in `results`; `problems` has the row, the field and why."""

    rows: int
    stored: int
    known: int
    late: int
    ended: int
    refused: int
    results: list[str]
    problems: list[dict[str, Any]]
