"""What became of engines: an append-only log of completed runs and of predictions whose true RUL is known by now.

A completed run in the archive brings everything: what any model version says of it can be computed again. Of such
a run only the order of arrival is kept here. Who has no rows to give sends what was answered, with the true RUL
(POST /feedback); these outcomes are kept for the version that answered.

The log is `feedback.jsonl`, a line for each call, on disk before the call is answered. Outcomes of all but the
newest ENGINES engines are forgotten when the retrainer starts, or when the log has grown to LINES lines. A line that
is damaged is passed over, which is logged: its outcomes are lost, its archived runs are noted again, as newer ones.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from driftloop import durable
from driftloop.errors import DataError

ENGINES = 500
"""Newest engines whose outcomes are kept; a verdict looks at the newest fifty."""
OUTCOMES = 1000
"""Outcomes of one engine under one version that are kept: more say nothing new about it."""
LINES = 20_000
_NAME = "feedback.jsonl"


class Outcome(msgspec.Struct, frozen=True):
    """One answered prediction and the true RUL, both in cycles."""

    engine_id: str
    key: str
    """Which of the engine's predictions this is: it counts once."""
    model_version: str
    rul: float
    lower: float
    upper: float
    true_rul: float


class _Line(msgspec.Struct, omit_defaults=True):
    time: str
    runs: list[str] = []
    outcomes: list[Outcome] = []


class Conflict(DataError):
    """An outcome that is known already, with other figures."""


class FeedbackLog:
    """The log in `folder`; one process at a time may write it, any number of its threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._lock = threading.Lock()
        self._order: dict[str, None] = {}  # engines by first arrival; a dict is an ordered set
        self._runs: set[str] = set()
        self._outcomes: dict[tuple[str, str], dict[str, Outcome]] = {}
        self._lines = 0  # since it was last written anew
        self.changes = 0
        """Grows with everything that is taken."""
        for line in durable.read_json_lines(self._path, _Line):
            self._take(line)
        with self._lock:
            self._compact()

    def add_runs(self, run_ids: Iterable[str]) -> list[str]:
        """Note that these runs are archived, in the order given; returns those that were not known."""
        with self._lock:
            new = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in self._runs]
            if new:
                self._append(_Line(durable.now(), runs=new))
            return new

    def add(self, outcomes: Sequence[Outcome]) -> int:
        """Note outcomes, all or none; returns how many were new. Raises Conflict naming one that differs."""
        with self._lock:
            new: dict[tuple[str, str, str], Outcome] = {}
            for outcome in outcomes:
                engine = (outcome.engine_id, outcome.model_version)
                known = self._outcomes.get(engine, {}).get(outcome.key) or new.get((*engine, outcome.key))
                if known is not None and known != outcome:
                    raise Conflict(
                        f"the outcome {outcome.key!r} of engine {outcome.engine_id!r} is known with other figures",
                        where="feedback",
                        remedy="what is known never changes; leave it out",
                    )
                if known is None:
                    new[(*engine, outcome.key)] = outcome
            if new:
                self._append(_Line(durable.now(), outcomes=list(new.values())))
            return len(new)

    def engines(self) -> list[str]:
        """All engines, in the order of their arrival."""
        with self._lock:
            return list(self._order)

    def runs_since(self, engine_id: str) -> list[str]:
        """The archived runs that arrived with this engine or later; all of them where it is not known."""
        with self._lock:
            order = list(self._order)
            first = order.index(engine_id) if engine_id in self._order else 0
            return [engine for engine in order[first:] if engine in self._runs]

    def has_run(self, engine_id: str) -> bool:
        """Whether the engine's whole run is archived."""
        with self._lock:
            return engine_id in self._runs

    def outcomes(self, engine_id: str, model_version: str) -> list[Outcome]:
        """What a version answered for this engine, as far as it was fed back."""
        with self._lock:
            return list(self._outcomes.get((engine_id, model_version), {}).values())

    def _append(self, line: _Line) -> None:
        durable.append_json_line(self._path, msgspec.to_builtins(line))
        self._take(line)
        if self._lines > LINES:
            self._compact()

    def _take(self, line: _Line) -> None:
        for run_id in line.runs:
            self._order.setdefault(run_id)
            self._runs.add(run_id)
        for outcome in line.outcomes:
            self._order.setdefault(outcome.engine_id)
            found = self._outcomes.setdefault((outcome.engine_id, outcome.model_version), {})
            if len(found) < OUTCOMES:
                found[outcome.key] = outcome
        self._lines += 1
        self.changes += 1

    def _compact(self) -> None:
        """Forget old outcomes and write the log anew, an engine a line, where it has grown."""
        brought = list(dict.fromkeys(engine for engine, _ in self._outcomes))
        if len(brought) <= ENGINES and self._lines <= LINES:
            return
        position = {engine: place for place, engine in enumerate(self._order)}
        kept = set(sorted(brought, key=position.__getitem__)[-ENGINES:])
        self._outcomes = {key: found for key, found in self._outcomes.items() if key[0] in kept}
        self._order = {engine: None for engine in self._order if engine in self._runs or engine in kept}
        by_engine: dict[str, list[Outcome]] = {}
        for (engine, _), found in self._outcomes.items():
            by_engine.setdefault(engine, []).extend(found.values())
        lines = [
            _Line(durable.now(), [engine] if engine in self._runs else [], by_engine.get(engine, []))
            for engine in self._order
        ]
        durable.write_atomically(self._path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        self._lines = 0
