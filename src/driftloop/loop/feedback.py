"""What became of engines: completed runs, and predictions whose true RUL is known by now.

A completed run in the archive brings everything: what any model version says of it can be computed again. Of such
a run only the order of arrival is kept here. Who has no rows to give sends what was answered, with the true RUL
(POST /feedback); these outcomes are kept for the version that answered.

They are in the loop's store, on disk before the call is answered and in one transaction with the event that tells of
it. Outcomes of all but the newest ENGINES engines are forgotten, at the start and where there are twice as many.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from driftloop.errors import DataError
from driftloop.loop.store import Store

ENGINES = 500
"""Newest engines whose outcomes are kept; a verdict looks at the newest fifty."""
OUTCOMES = 1000
"""Outcomes of one engine under one version that are kept: more say nothing new about it."""


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


RUN = "INSERT INTO engines (engine_id, archived) VALUES (?, 1) ON CONFLICT DO UPDATE SET archived = 1"
_ENGINE = "INSERT OR IGNORE INTO engines (engine_id, archived) VALUES (?, 0)"
_OUTCOME = (
    f"INSERT OR IGNORE INTO outcomes ({', '.join(Outcome.__struct_fields__)}) "
    f"VALUES ({', '.join('?' * len(Outcome.__struct_fields__))})"
)


class Conflict(DataError):
    """An outcome that is known already, with other figures."""


class FeedbackLog:
    """What the store has of it, held in memory too; any number of threads may use it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._order: dict[str, None] = {}  # engines by first arrival; a dict is an ordered set
        self._runs: set[str] = set()
        self._outcomes: dict[tuple[str, str], dict[str, Outcome]] = {}
        self.changes = 0
        """Grows with everything that is taken."""
        for engine, archived in store.rows("SELECT engine_id, archived FROM engines ORDER BY place"):
            self._take([engine] if archived else [], [], engine)
        names = ", ".join(Outcome.__struct_fields__)
        self._take([], [Outcome(*row) for row in store.rows(f"SELECT {names} FROM outcomes")])
        with self._lock:
            self._forget(ENGINES)

    def add_runs(self, run_ids: Iterable[str]) -> list[str]:
        """Note that these runs are archived, in the order given; returns those that were not known."""
        with self._lock:
            new = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in self._runs]
            if new:
                with self._store.change() as change:
                    change.writes.append((RUN, [(run_id,) for run_id in new]))
                self._take(new, [])
            return new

    def add(self, outcomes: Sequence[Outcome]) -> int:
        """Note outcomes, all or none, and tell of them; returns how many were new. Raises Conflict naming one that
        differs.
        """
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
                found = self._that_fit(list(new.values()))
                with self._store.change() as change:
                    change.writes += writes(found)
                    engines = {one.engine_id for one in outcomes}
                    change.tell("feedback_received", count=len(new), engines=len(engines))
                self._take([], found)
                self._forget(2 * ENGINES)
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

    def _take(self, runs: Iterable[str], outcomes: Iterable[Outcome], *engines: str) -> None:
        for run_id in runs:
            self._order.setdefault(run_id)
            self._runs.add(run_id)
        for engine in engines:
            self._order.setdefault(engine)
        for outcome in outcomes:
            self._order.setdefault(outcome.engine_id)
            found = self._outcomes.setdefault((outcome.engine_id, outcome.model_version), {})
            if len(found) < OUTCOMES:
                found[outcome.key] = outcome
        self.changes += 1

    def _that_fit(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Those of new outcomes that are kept: of one engine under one version no more than OUTCOMES."""
        counts = Counter({name: len(found) for name, found in self._outcomes.items()})
        kept = []
        for outcome in outcomes:
            name = (outcome.engine_id, outcome.model_version)
            counts[name] += 1
            if counts[name] <= OUTCOMES:
                kept.append(outcome)
        return kept

    def _forget(self, most: int) -> None:
        """Forget the outcomes of all but the newest engines, where there are more than `most` with any."""
        position = {engine: place for place, engine in enumerate(self._order)}
        brought = sorted({engine for engine, _ in self._outcomes}, key=position.__getitem__)
        if len(brought) <= most:
            return
        gone = set(brought[:-ENGINES])
        nothing_left = gone - self._runs
        with self._store.change() as change:
            change.writes.append(("DELETE FROM outcomes WHERE engine_id = ?", [(engine,) for engine in gone]))
            change.writes.append(("DELETE FROM engines WHERE engine_id = ?", [(engine,) for engine in nothing_left]))
        self._outcomes = {key: found for key, found in self._outcomes.items() if key[0] not in gone}
        self._order = {engine: None for engine in self._order if engine not in nothing_left}


def writes(outcomes: Sequence[Outcome]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """What keeps outcomes in the store, and the engines in the order of their first arrival."""
    return [(_ENGINE, [(one.engine_id,) for one in outcomes]), (_OUTCOME, list(map(msgspec.structs.astuple, outcomes)))]
