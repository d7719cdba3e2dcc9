"""What one experiment does, and all that it saw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.protocol.events import Event
from driftloop_bench.experiment.gateway import Failure
from driftloop_bench.experiment.marks import Marks, find_marks
from driftloop_bench.experiment.source import Source
from driftloop_bench.experiment.traffic import Change, Record, SentEngine

Through = Literal["predict", "telemetry"]
"""Where the traffic goes: windows to the prediction server, or rows to the service for units."""
ROLLING = 300
"""Answers that the live error is taken over."""


@dataclass(frozen=True)
class Plan:
    """What one experiment does. Times in seconds."""

    change: Change = field(default_factory=Change)
    healthy_subset: str = "FD001"
    """The part of the fleet that is in service before T0."""
    rate: float = 100.0
    seed: int = 0
    healthy_s: float = 20.0
    """Healthy traffic before T0, at least; it also lasts until the watch says `no_drift`."""
    healthy_timeout_s: float = 180.0
    timeout_s: float = 300.0
    """Longest time after T0; for the change `none` simply how long."""
    answers: int = 3000
    """Answers of the new version to wait for, so that its error can be told from the reference's."""
    source: Source = field(default_factory=Source)
    person: bool = False
    """Whether somebody answers where the loop asks a person, so that the experiment goes on."""
    labels_after_s: float | None = 0.0
    """Seconds after T0 at which the changed fleet's completed runs arrive; None: they never do."""
    units: int = 0
    """Units in service that send their rows to the service for these; 0: windows go to the prediction server."""


@dataclass
class Recording:
    """All that an experiment saw; everything that is reported is computed from this."""

    plan: Plan
    data_source: str
    window: int
    champion: dict[str, Any]
    """What `GET /model` said before T0."""
    started: float
    schema: Schema
    cap: int
    """Steps that labels are capped at."""
    known: list[Run] = field(default_factory=list)
    """All units of the parts that take part: those that a model may have learnt from, or know."""
    records: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    healthy: dict[str, SentEngine] = field(default_factory=dict)
    changed: dict[str, SentEngine] = field(default_factory=dict)
    ended_by: str = ""
    posted_runs: int = 0
    failures: list[Failure] = field(default_factory=list)
    """Units that have failed in service, in order; where rows go to the service for units."""
    held_back: int = 0
    """Turns in which a unit sent nothing, since its last row was not acknowledged yet."""
    generator_cpu_share: float = 0.0
    """Of one core, for the whole process's event loop: sending, reading answers and polling events."""

    @property
    def champion_version(self) -> str:
        """Version that answered before T0."""
        return str(self.champion["model_version"])

    def marks(self) -> Marks:
        """The marks as far as events and answers show them now."""
        return find_marks(self.events, self.records, self.champion_version)


def rolling_rmse(records: Sequence[Record], count: int = ROLLING) -> float | None:
    """RMSE over the newest `count` answers, None without any."""
    errors = [record.rul - record.true_rul for record in records[-count:] if record.ok and record.rul is not None]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None
