"""What the public API answers, for its description and for programs: times are ISO 8601 in UTC, RUL is in steps."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """An answer; what a newer platform adds stands beside the fields here."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Me(Shape):
    """Who is asking, as the platform sees it; `csrf` goes into the header X-CSRF-Token of every change."""

    name: str
    role: Literal["view", "predict", "operate", "admin"]
    how: Literal["loopback", "token", "session", "proxy"]
    csrf: str | None = None


class Component(Shape):
    """A process of the platform."""

    name: str
    fleet: str | None = Field(description="null for what all fleets share")
    state: str = Field(description="ready, starting or down")
    since: str | None = Field(description="since when it has been seen in this state")
    address: str | None
    memory_bytes: int | None
    restarts: int
    message: str | None


class Platform(Shape):
    """Version, processes and fleets."""

    version: str
    started: str | None
    components: list[Component]
    fleets: list[str]
    telemetry: str | None


class Due(Shape):
    """The unit whose interval ends first."""

    unit: str
    rul: float
    low: float
    high: float


class Fleet(Shape):
    """A fleet at a glance."""

    name: str
    description: str
    unit: str = Field(description="what one unit is called")
    step: str = Field(description="what one step of time is called")
    state: str = Field(description="of the loop; `unknown` where the retrainer does not answer")
    waits_for: str | None
    champion: str | None = Field(description="the version in production; null also where the server is away")
    provisional: bool = Field(description="whether it is first aid, without labels")
    verdict: str
    units: int | None = Field(description="null where nobody who knows them answers")
    first_due: Due | None
    away: list[str] = Field(
        default=[], description="of server, retrainer, units and watch those that do not answer, or have gone silent"
    )


class FleetList(Shape):
    """All fleets."""

    fleets: list[Fleet]


class Column(Shape):
    """A setting or a sensor."""

    name: str
    unit: str
    description: str


class FleetInWhole(Fleet):
    """A fleet, and what its rows are."""

    settings: list[Column]
    sensors: list[Column]
    cap: int | None = Field(description="steps; no prediction is above it. null where training finds it")
    least_units: dict[str, int]


class Unit(Shape):
    """The newest answer of one unit; null what is not known of it yet."""

    unit: str
    last_seen: str | None
    step: int | None
    rul: float | None
    low: float | None
    high: float | None
    flags: list[str]
    version: str | None


class UnitList(Shape):
    """A page of units; `total` counts all that are meant, `flags` those with each flag, whatever flag is asked for."""

    total: int
    units: list[Unit]
    flags: dict[str, int] = {}


class Prediction(Shape):
    """One answer, null where the server refused to give one; with `true_rul` where the unit has failed since."""

    time: str
    step: int | None
    rul: float | None
    low: float | None
    high: float | None
    flags: list[str]
    version: str


class Sensor(Shape):
    """Readings of one sensor, oldest first, each with the usual band of its regime: the mean over whole lives that the
    model learnt from, with two standard deviations to either side."""

    name: str
    unit: str
    values: list[float | None]
    low: list[float | None] | None
    high: list[float | None] | None


class LifeEvent(Shape):
    """What has happened to a unit; `withdrawn` says who took it back, and what learnt from the run that it ended."""

    id: int
    kind: str
    time: str
    life: int | None
    note: str
    who: str
    recorded: str
    withdrawn: dict[str, Any] | None


class UnitInWhole(Shape):
    """What is known of one unit; `steps` are those of its sensors' readings. Where its rows are kept, `state`,
    `life`, `history_from`, `quality`, `life_events` and `lives` stand here too."""

    unit: str
    last_seen: str | None
    flags: list[str]
    version: str | None
    predictions: list[Prediction]
    sensors: list[Sensor]
    steps: list[int]


class Cause(Shape):
    """What an alert fires for."""

    cause: str
    since: str
    muted_until: str | None = None


class Mark(Shape):
    """A mark of the present or last recovery; null where it has not happened or nobody has told of it."""

    mark: Literal["T0", "T1", "T_FA", "T2", "T_RT", "T4", "T5"]
    time: str | None
    event: int | None = Field(description="number of the event that tells of it")


class Loop(Shape):
    """Where the loop is."""

    state: str
    since: str | None
    waits_for: str | None
    attempt: dict[str, Any] | None
    causes: list[Cause]
    marks: list[Mark]
    progress: dict[str, Any] | None
    approval: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="of completed units, against what was answered")
    estimate: dict[str, Any] | None
    promotion: str


class Feature(Shape):
    """A feature's distance to healthy traffic; `score` is the largest of its statistics in units of its threshold."""

    name: str
    psi: float
    threshold: float | None = Field(description="of the PSI, at this number of requests")
    score: float
    drifted: bool
    blamed: bool


class SensorFault(Shape):
    """A column whose readings are not what they should be."""

    sensor: str
    what: str


class Verdict(Shape):
    """The watch's newest verdict; `features` are the worst, the worst first."""

    verdict: str
    since: str | None
    requests: int
    features: list[Feature]
    sensor_faults: list[SensorFault]
    false_alarms: dict[str, Any] | None
    as_of: str | None = Field(default=None, description="when the watch said so")
    silent: bool = Field(default=False, description="whether it has said nothing since for longer than it ever does")


class Model(Shape):
    """A version."""

    version: str
    alias: list[str]
    created: str
    kind: str = Field(description="full, warm, first aid or stub")
    parent: str | None
    state: str = Field(description="champion, challenger, previous, rejected or archived")
    figures: dict[str, float]
    reasons: list[str]


class ModelList(Shape):
    """A page of versions, the newest first."""

    total: int
    models: list[Model]


class Domain(Shape):
    """How a version does on one part of the fleet."""

    domain: str
    rmse: float
    coverage: float | None
    units: int


class Gate(Shape):
    """One question of the gate: RMSE in steps of both; the upper end of `difference` must not be above `limit`."""

    what: str
    challenger: float
    champion: float
    limit: float | None
    passed: bool | None


class LearntFrom(Shape):
    """Completed runs that a version knows."""

    runs: int | None


class ModelInWhole(Model):
    """A version, and how it was judged."""

    by_domain: list[Domain]
    gate: list[Gate]
    shadow: dict[str, Any] | None
    learnt_from: LearntFrom


class Withdrawal(Shape):
    """When and why a run was taken back."""

    time: str
    reason: str


class Run(Shape):
    """A completed run."""

    run_id: str
    role: str
    rows: int | None
    censored: bool | None
    withdrawn: Withdrawal | None


class Refused(Shape):
    """Runs that were turned away."""

    time: str
    count: int
    runs: list[str]


class RunList(Shape):
    """A page of completed runs, how many there are of each role, and what was turned away lately."""

    total: int
    roles: dict[str, int]
    runs: list[Run]
    refused: list[Refused]


class Event(Shape):
    """What the loop saw or decided; its other fields depend on `event`."""

    seq: int
    time: str
    event: str
    who: str | None


class EventList(Shape):
    """Events, the newest first; `first` and `last` are the numbers of the oldest and newest here."""

    events: list[Event]
    first: int | None
    last: int | None


class Token(Shape):
    """A named token, without the secret."""

    name: str
    role: str
    created: str
    expires: str | None
    expired: bool
    rate: float = Field(description="requests in a second")


class TokenList(Shape):
    """All named tokens."""

    tokens: list[Token]


class NewToken(Shape):
    """A token, told this once."""

    name: str
    role: str
    token: str


class AuditEntry(Shape):
    """One act."""

    seq: int
    time: str
    service: str
    who: str | None
    role: str | None
    how: str | None
    address: str
    act: str
    outcome: str


class AuditLog(Shape):
    """Acts, oldest first."""

    entries: list[AuditEntry]
