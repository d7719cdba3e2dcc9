"""The concept watch: are the production model's predictions of completed engines as good as they should be?

It looks whenever engines have completed (a run was archived, or outcomes were posted) or another version is in
production, and tells the retrainer like the drift watch does, by an alert of its own kind. Of an archived run the
production model's answers are computed again, as the gate does; of other engines the outcomes are taken that were
fed back for this version.

Errors also grow where the inputs have changed, but that is not concept drift: the labels of old engines hold, and
the drift watch has a better cure. So the rows of the engines in question are judged against the model's baseline
first, and nothing is said while an alert about the inputs fires.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop import durable
from driftloop.drift import outcomes
from driftloop.drift.outcomes import DRIFT, NO_DRIFT, NOT_ENOUGH_DATA, RMSE, Judgement
from driftloop.drift.production import WatchedModel, follow
from driftloop.drift.statistics import Floats
from driftloop.drift.verdict import Verdict, judge
from driftloop.errors import DriftloopError
from driftloop.fleet.archive import Archive
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.loop import background
from driftloop.loop.feedback import FeedbackLog
from driftloop.loop.judge import evaluation
from driftloop.loop.store import Store
from driftloop.model import answers
from driftloop.model.bundle import ManifestEntry, read_metadata
from driftloop.model.registry import Registry
from driftloop.protocol import causes
from driftloop.protocol.alerts import Alert
from driftloop.protocol.causes import CONCEPT, Cause

INPUT_DRIFT = "input_drift"
"""The verdict where errors are out of control and the inputs have changed too."""
VERDICTS = (DRIFT, NO_DRIFT, NOT_ENOUGH_DATA, INPUT_DRIFT)
ENDS_BELOW = 0.8
"""Score below which an alert ends: lower than where it begins, or one near its limit would flutter."""
KEPT = "concept"
"""Name of the change of the labels in the store."""
LOOK_S = 2.0
"""Pause between two looks: the runs of a fleet arrive in many calls."""
FOLLOW_S = 10.0
"""How often it is asked what is in production while nothing else is new: each time costs the registry's CPU."""
BUSY = ("running",)
"""States of the loop in which the next model is already decided on; completed engines can wait for it."""

log = logging.getLogger(__name__)


class Loop(Protocol):
    """What the watch asks of the loop, and tells it."""

    @property
    def phase(self) -> str:
        """What the loop is doing."""
        ...

    @property
    def firing(self) -> Mapping[str, list[str]]:
        """Since when alerts fire, by cause."""
        ...

    def on_alert(self, alert: Alert, **kept: msgspec.Struct | None) -> str:
        """Take an alert and keep what belongs to it, together; what became of it."""
        ...


class Change(msgspec.Struct):
    """A change of the labels that an alert fires for: what survives a restart."""

    model_version: str
    starts_at: str
    since: str
    """First engine, in the order of arrival, for which the labels have changed."""

    def __post_init__(self) -> None:
        durable.parse_time(self.starts_at)
        try:
            Cause(CONCEPT, self.model_version)
        except DriftloopError as error:
            raise ValueError(str(error)) from error


class Truth(msgspec.Struct, frozen=True):
    """What is known of the production model's truth."""

    model_version: str | None = None
    judgement: Judgement | None = None
    verdict: str = NOT_ENOUGH_DATA
    reason: str | None = None
    """Why there is no judgement."""


class ConceptWatch:
    """One watch; `look` is one turn, `work` turns until `stop`. State that must survive is in `folder`."""

    def __init__(
        self,
        folder: Path,
        registry: Registry,
        archive: Archive,
        feedback: FeedbackLog,
        store: Store,
        schema: Schema,
    ) -> None:
        self._archive, self._feedback, self._store = archive, feedback, store
        self._production = follow(registry, folder, schema)
        self._version: str | None = None
        self._model: answers.Model | None = None
        self._manifest: dict[str, ManifestEntry] = {}
        self._tables: dict[str, Floats] = {}  # of archived runs, under the version in production
        self._counts: dict[str, NDArray[np.int64]] = {}  # of their rows in the baseline's bins
        self._seen: tuple[str | None, int, bool] | None = None
        self._noticed: tuple[int, str, frozenset[str], bool] | None = None
        self._looked_at = float("-inf")
        self._stopping = threading.Event()
        self.change = store.kept(KEPT, Change)
        self.report = Truth()

    # The worker.

    def work(self, loop: Loop) -> None:
        """Look every LOOK_S seconds until `stop`; survives whatever a look raises."""
        background.give_way()
        while not self._stopping.wait(LOOK_S):
            if not self._is_due(loop):
                continue
            try:
                self.look(loop)
            except DriftloopError as error:
                self.report = Truth(self._version, reason=str(error))
            except Exception as error:
                # Concept drift must still be found after one engine that cannot be judged, and it must be said.
                log.exception("a look of the concept watch failed")
                self.report = Truth(self._version, reason=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """End `work`."""
        self._stopping.set()

    def _is_due(self, loop: Loop) -> bool:
        """Whether something is new, or production has not been looked up for a while."""
        now = time.monotonic()
        new = (self._feedback.changes, loop.phase, frozenset(loop.firing), self._seen is None)
        if new == self._noticed and now < self._looked_at + FOLLOW_S:
            return False
        self._noticed, self._looked_at = new, now
        return True

    def look(self, loop: Loop) -> None:
        """Judge the production model where something is new, and tell the retrainer what it means."""
        if loop.phase in BUSY:
            return
        model = self._production.look()
        version = model.version if model is not None else None
        if self.change is not None and self.change.model_version != version:
            self._end(loop)
        inputs_fire = any(cause.of_inputs for cause in causes.about(loop.firing, version))
        if model is not None:
            self._follow(model)
        now = (version, self._feedback.changes, inputs_fire)
        if now == self._seen or model is None:
            return
        engines = self._live()
        report = self._judge(model, engines, inputs_fire)
        if report is None:
            return
        self._tell(report)
        self._decide(report, engines, loop)
        self._seen = now

    # What others ask.

    def changed_runs(self) -> list[str]:
        """The archived runs for which the labels have changed, in the order of arrival; none without an alert."""
        if self.change is None:
            return []
        gone = self._archive.withdrawn()
        return [run_id for run_id in self._feedback.runs_since(self.change.since) if run_id not in gone]

    def live_rmse(self) -> tuple[str, float] | None:
        """The version in production and its RMSE over completed engines; None where that is not known."""
        version, judgement = self.report.model_version, self.report.judgement
        if version is None or judgement is None or RMSE not in judgement.figures:
            return None
        return version, judgement.figures[RMSE].value

    def on_withdrawn(self) -> None:
        """Judge anew at the next look: runs that were taken back say nothing any more."""
        self._seen = None

    def status(self) -> dict[str, Any]:
        """The report as plain JSON."""
        shown: dict[str, Any] = msgspec.to_builtins(self.report)
        judgement = shown.pop("judgement") or {}
        judgement.pop("verdict", None)
        return {**shown, **judgement, "alarm": msgspec.to_builtins(self.change)}

    def promise(self) -> dict[str, Any]:
        """How rare false alarms are by the production baseline, and what that rests on; nothing before it is known."""
        known = self._production.current
        if known is None:
            return {}
        return {"promise": {"model_version": known.version, **msgspec.to_builtins(known.baseline.false_alarms)}}

    # Parts of a look.

    def _follow(self, model: WatchedModel) -> None:
        if model.version == self._version:
            return
        metadata = read_metadata(model.folder)
        self._model = answers.open_model(model.folder)
        self._manifest = {entry.run_id: entry for entry in metadata.manifest}
        self._tables, self._counts = {}, {}
        self._version = model.version
        # A log that is younger than the archive, or a crash between the two.
        self._feedback.add_runs(self._archive.failed_ids())

    def _live(self) -> list[str]:
        """The newest completed engines that this version does not know, in the order of arrival."""
        assert self._version is not None
        gone = self._archive.withdrawn()
        found = [
            engine
            for engine in self._feedback.engines()
            if engine not in self._manifest
            and engine not in gone
            and (self._feedback.has_run(engine) or self._feedback.outcomes(engine, self._version))
        ]
        return found[-outcomes.MOST :]

    def _judge(self, model: WatchedModel, engines: Sequence[str], inputs_fire: bool) -> Truth | None:
        """The report on the newest engines; None where the loop became busy or the watch is to stop."""
        if len(engines) < outcomes.LEAST:
            few = outcomes.judge([], [])
            return Truth(model.version, msgspec.structs.replace(few, engines=len(engines), window=len(engines)))
        reference = [
            entry for entry in self._manifest.values() if entry.role in answers.WITNESS_ROLES and not entry.superseded
        ]
        for run_id in [*engines, *(entry.run_id for entry in reference)]:
            if self._stopping.is_set():
                return None
            if run_id not in self._tables and (run_id in self._manifest or self._feedback.has_run(run_id)):
                self._answer(model, self._archive.read(run_id))
        live = [self._table(engine) for engine in engines]
        mixture = self._inputs(model, engines)
        judgement = outcomes.judge(
            live,
            [self._tables[entry.run_id] for entry in reference],
            _weights(reference, mixture.mixture) if mixture is not None else None,
        )
        verdict = judgement.verdict
        if verdict == DRIFT:
            inputs = self._inputs(model, engines[-judgement.window :])
            if inputs_fire or (inputs is not None and inputs.verdict == DRIFT):
                verdict = INPUT_DRIFT
        return Truth(model.version, judgement, verdict)

    def _answer(self, model: WatchedModel, run: Run) -> None:
        """Ask the model about one run, at the cycles that the gate asks for, and count its rows."""
        assert self._model is not None
        found = answers.evaluate(self._model, [run], stride=evaluation.STRIDE, threads=1)
        self._tables[run.run_id] = outcomes.tabulate(found.rul, found.lower, found.upper, found.true, self._model.cap)
        self._counts[run.run_id] = model.baseline.binner.counts(
            found.rul, run.rows[found.cycle - 1, : self._model.schema.n_settings], found.newest, found.regime
        )

    def _table(self, engine: str) -> Floats:
        if engine in self._tables:
            return self._tables[engine]
        assert self._version is not None
        assert self._model is not None
        known = self._feedback.outcomes(engine, self._version)
        return outcomes.tabulate(
            [o.rul for o in known],
            [o.lower for o in known],
            [o.upper for o in known],
            [o.true_rul for o in known],
            self._model.cap,
        )

    def _inputs(self, model: WatchedModel, engines: Sequence[str]) -> Verdict | None:
        """What the rows of those engines say that came with any; None where none did."""
        counts = [self._counts[engine] for engine in engines if engine in self._counts]
        if not counts:
            return None
        return judge(model.baseline.binner.split(np.sum(counts, axis=0)), model.baseline)

    # What becomes of it.

    def _decide(self, report: Truth, engines: Sequence[str], loop: Loop) -> None:
        judgement = report.judgement
        if judgement is None or report.model_version is None:
            return
        if report.verdict == DRIFT:
            first = engines[-judgement.window]
            if self.change is None:
                self.change = Change(report.model_version, durable.now(), first)
            elif judgement.window < judgement.engines:
                # More engines tell better where the change began.
                self.change.since = first
        elif self.change is not None and (
            # Runs of a changed fleet are not what an alert about labels may be trained on.
            report.verdict == INPUT_DRIFT or (report.verdict == NO_DRIFT and judgement.score < ENDS_BELOW)
        ):
            self._end(loop)
        if self.change is not None and report.verdict == DRIFT:
            loop.on_alert(_alert(self.change, judgement), concept=self.change)

    def _end(self, loop: Loop) -> None:
        if self.change is not None:
            # The end of the alert and of what is kept for it are one: half of it would let it fire for ever.
            loop.on_alert(_alert(self.change, None), concept=None)
        self.change = None

    def _tell(self, report: Truth) -> None:
        """Log the verdict where it has changed."""
        said = (self.report.model_version, self.report.verdict)
        self.report = report
        judgement = report.judgement
        if said == (report.model_version, report.verdict) or judgement is None:
            return
        self._store.append(
            "concept_verdict",
            model_version=report.model_version,
            verdict=report.verdict,
            engines=judgement.engines,
            window=judgement.window,
            score=judgement.score,
            figures=msgspec.to_builtins(judgement.figures),
        )


def _alert(change: Change, judgement: Judgement | None) -> Alert:
    figures = judgement.figures if judgement is not None else {}
    out = [name for name, figure in figures.items() if figure.score > 1]
    shown = ", ".join(f"{name} {figures[name].value:.2f}, expected {figures[name].expected:.2f}" for name in out)
    return Alert(
        firing=judgement is not None,
        drift=CONCEPT,
        model_version=change.model_version,
        starts_at=change.starts_at,
        features=out,
        n=float(judgement.window) if judgement is not None else None,
        score=judgement.score if judgement is not None else None,
        summary=f"The newest completed engines contradict model version {change.model_version}: {shown}" if out else "",
    )


def _weights(reference: Sequence[ManifestEntry], mixture: dict[str, float]) -> list[float] | None:
    """How likely each reference engine's domain is in the live engines' mixture; None where none of them is."""
    numbers = [entry.domain for entry in reference]
    weights = [mixture.get(str(number), 0.0) / numbers.count(number) for number in numbers]
    return weights if sum(weights) > 0 else None
