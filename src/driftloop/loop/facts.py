"""Finds the facts that the next move is decided on. It asks registry, archive, pipeline and server; it changes nothing.

Each phase needs few of them, and no more is asked: the registry takes tens of milliseconds for an answer.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from driftloop.drift.live_error import Estimate
from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.fleet import roles
from driftloop.loop import evidence
from driftloop.loop.evidence import Evidence
from driftloop.loop.jobs.local import Backend, Ended, Runs
from driftloop.loop.judge import plan, promotion
from driftloop.loop.judge.standing import Standing
from driftloop.loop.moves import Challenger, Facts, Pipeline, Seen
from driftloop.loop.state import Attempt, State
from driftloop.loop.waits import Now
from driftloop.model.bundle import FIRST_AID, ManifestEntry, read_metadata
from driftloop.model.follower import Bundles
from driftloop.model.registry import DIGEST_TAG, PRODUCTION, Registry, Version
from driftloop.protocol.client import Server
from driftloop.protocol.events import Event
from driftloop.settings import Settings

GROWTH = 1.5
"""By how much the labels must have grown since a challenger was turned down: one more run changes no verdict."""
ALIAS_POLL_S, AWAY_S = 5.0, 1.0
"""How often it is looked whether a running pipeline's champion is still in production; what is done through the
retrainer is looked at at once. And how soon again where the registry is away."""
SETTLE_S, SETTLE_LIMIT_S = 0.3, 10.0
"""A fleet's runs arrive in many calls: wait for 0.3 s of silence, but not longer than ten seconds."""


class Archive(evidence.Archive, Protocol):
    """What the loop asks of the archive."""

    def total(self) -> int:
        """How many runs were ever archived."""
        ...

    def roles(self) -> dict[str, str]:
        """The roles that were dealt."""
        ...


class Arrivals:
    """When runs arrived, so that a start waits for the last of a fleet's many calls."""

    def __init__(self) -> None:
        self._first = self._last = float("-inf")

    def note(self, now: Now) -> None:
        """Runs have arrived."""
        if now.seconds - self._last > SETTLE_S:
            self._first = now.seconds
        self._last = now.seconds

    def settling_s(self, now: Now) -> float:
        """Seconds to wait for the rest; 0 where they have settled."""
        quiet, waited = now.seconds - self._last, now.seconds - self._first
        return 0.0 if quiet >= SETTLE_S or waited >= SETTLE_LIMIT_S else SETTLE_S - quiet


class Look:
    """Everything outside that the worker looks at; raises DriftloopError while it cannot be looked at."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        registry: Registry,
        archive: Archive,
        backend: Backend,
        changed_runs: Callable[[], list[str]],
        served: Callable[[], str | None] | None = None,
    ) -> None:
        """`changed_runs` says which archived runs show the labels as they are after a concept drift."""
        self._settings, self._registry, self._archive, self._backend = settings, registry, archive, backend
        self._changed_runs, self._served = changed_runs, served or (lambda: serves(settings.server_url, settings.token))
        self._bundles = Bundles(registry, folder / "bundles", keep=1)
        self._before: tuple[str, str | None] | None = None
        """A version that was in production, and the one that a rollback of it goes to."""
        self.evidence = Evidence(registry, folder / "evidence", archive)
        self._manifests: dict[str, list[ManifestEntry]] = {}
        self.arrivals = Arrivals()
        self.seen: Seen | None = None
        """The watch's newest verdict; it says it again every few seconds."""
        self.estimate: tuple[str, Estimate] | None = None
        """The version, and how wrong the watch thinks that it is."""
        self.lost = False
        """Whether the run at hand was an earlier retrainer's and ended with it."""
        self._ended: tuple[str, Ended] | None = None
        """A run that has ended, and how."""
        self._alias_due = float("-inf")
        """When it is looked next whether a running pipeline's champion is in production."""
        self._total: int | None = None

    def facts(self, state: State, now: Now) -> Facts:
        """What the phase of the loop asks about."""
        if state.intent is not None:
            self._alias_due = float("-inf")
            return Facts(production=self._registry.alias(PRODUCTION))
        found = self._of_phase(state, Facts(enabled=self._settings.enable_retraining), now)
        confirming = state.confirming
        if confirming is None:
            return found
        return replace(found, served=self._served(), confirm_s=confirming.wait.left(now))

    def _of_phase(self, state: State, facts: Facts, now: Now) -> Facts:
        attempt = state.attempt
        if state.phase == "cooling_down":
            return replace(facts, pause_s=state.pause.left(now) if state.pause is not None else 0.0)
        if state.phase == "running":
            assert attempt is not None
            return self._of_run(attempt, facts, now)
        if state.phase == "awaiting_approval":
            facts = replace(
                facts,
                production=self._registry.alias(PRODUCTION),
                settling_s=self.arrivals.settling_s(now),
                archived=self.total(),
                next_run=next_run(),
            )
            if state.question is not None and not state.question.passed and attempt is not None:
                lacking, labels = self.labels_for(attempt)
                facts = replace(facts, lacking=lacking, labels=labels)
            return self._of_question(state, facts, now)
        if state.phase == "verifying":
            assert attempt is not None
            return self._of_recovery(attempt, facts)
        if attempt is None and facts.enabled:
            self._backend.prepare()
            attempt = state.queue[0] if state.queue else None
        if attempt is None or (state.phase == "waiting_for_labels" and _is_over(attempt, state, facts)):
            return facts
        return self._of_question(state, self._before_a_start(attempt, facts, now), now)

    def _of_recovery(self, attempt: Attempt, facts: Facts) -> Facts:
        version = self._registry.alias(PRODUCTION)
        facts = replace(
            facts,
            production=version,
            archived=self.last_total(),
            seen=self.seen,
            answers_needed=self._settings.recovery_answers,
        )
        spoken = version == attempt.challenger and facts.spoken_about(version)
        if version is None or not spoken or attempt.condemned is not None:
            return facts
        return replace(facts, standing=self._standing(version, only_since=not facts.still_drifts))

    def _standing(self, version: str, *, only_since: bool = False) -> Standing | None:
        """How a version compares with the one that a rollback would go to; None where there is none to go to."""
        if self._before is None or self._before[0] != version:
            self._before = version, promotion.goes_back_to(self._registry)
        before = self._before[1]
        return None if before is None else self.evidence.compare(version, before, only_since=only_since)

    def _of_question(self, state: State, facts: Facts, now: Now) -> Facts:
        asked = state.question
        if asked is None:
            return facts
        return replace(facts, digest=self.digest_of(asked.version), deadline_s=asked.left_s(now))

    def digest_of(self, version: str) -> str | None:
        """The digest of a version's bundle as the registry has it; None where there is no such version."""
        try:
            return self._registry.tags(version).get(DIGEST_TAG, "")
        except RegistryUnavailable:
            raise
        except DriftloopError:
            return None

    def _before_a_start(self, attempt: Attempt, facts: Facts, now: Now) -> Facts:
        facts = replace(facts, settling_s=self.arrivals.settling_s(now), archived=self.total())
        if facts.settling_s > 0:
            self._backend.expect()
            # Those that are here are looked at while the others arrive.
            self.runs_for(attempt)
            return facts
        production = self._registry.alias(PRODUCTION)
        facts = replace(facts, production=production, next_run=next_run())
        if production != attempt.champion:
            return replace(facts, provisional_of=self._provisional_of(production))
        facts = replace(facts, first_aid=self._settings.first_aid)
        pause = attempt.announced.left(now) if attempt.announced is not None else 0.0
        lacking, labels = self.labels_for(attempt)
        facts = replace(facts, lacking=lacking, labels=labels, pause_s=pause)
        if attempt.aided is None or attempt.condemned is not None or lacking is None:
            return facts
        return replace(facts, standing=self._standing(attempt.aided, only_since=True))

    def alias_has_moved(self) -> None:
        """Somebody has moved the alias `production`: look at once whether a running pipeline is of use."""
        self._alias_due = float("-inf")

    def _of_run(self, attempt: Attempt, facts: Facts, now: Now) -> Facts:
        pipeline: Pipeline = "lost"
        error = None
        if not self.lost:
            ended = self._end_of(attempt.run)
            pipeline = "runs" if ended is None else "ended"
            error = ended.error if ended is not None else None
        if pipeline == "runs" and self._is_of_use(attempt, now):
            return replace(facts, pipeline=pipeline)
        production = self._registry.alias(PRODUCTION)
        return replace(
            facts,
            pipeline=pipeline,
            error=error,
            production=production,
            challengers=tuple(map(_challenger, self.versions_of(attempt.run))),
            archived=self.total(),
            next_run=next_run(),
            shadow=self._settings.shadow_answers > 0,
            asks=self._settings.promotion == "approve",
        )

    def _end_of(self, run: str) -> Ended | None:
        """How a run ended; None while it goes on. It is asked once: the registry may be away when it has ended."""
        if self._ended is None or self._ended[0] != run:
            ended = self._backend.poll()
            self._ended = (run, ended) if ended is not None else None
        return self._ended[1] if self._ended is not None else None

    def _is_of_use(self, attempt: Attempt, now: Now) -> bool:
        """Whether a running pipeline's champion is still in production, as far as is known and worth asking now."""
        if now.seconds < self._alias_due:
            return True
        try:
            production = self._registry.alias(PRODUCTION)
        except RegistryUnavailable:
            # The steps wait for it too.
            self._alias_due = now.seconds + AWAY_S
            return True
        of_use = production in (None, attempt.champion)
        if of_use:
            self._alias_due = now.seconds + ALIAS_POLL_S
        return of_use

    def _provisional_of(self, version: str | None) -> str | None:
        """The version that another one was given first aid from."""
        tags = self._registry.tags(version) if version is not None else {}
        return tags.get(promotion.PARENT_TAG) if tags.get("training") == FIRST_AID else None

    def versions_of(self, run: str) -> list[Version]:
        """The versions that a run has registered, oldest first."""
        return [found for found in self._registry.versions() if found.tags.get(promotion.RETRAINING_TAG) == run]

    # Of completed runs.

    def total(self) -> int:
        """How many runs were ever archived."""
        self._total = self._archive.total()
        return self._total

    def last_total(self) -> int:
        """The same as it was known last, for what must not wait for an archive that is slow; each arrival asks anew."""
        return self.total() if self._total is None else self._total

    def manifest(self, champion: str) -> list[ManifestEntry]:
        """The runs that a version knows."""
        if champion not in self._manifests:
            with self._bundles.alone():
                self._manifests = {champion: read_metadata(self._bundles.fetch(champion)).manifest}
                self._bundles.prune()
        return self._manifests[champion]

    def runs_for(self, attempt: Attempt) -> Runs:
        """The runs of a retraining: those that it learns anew from, which of them are of a domain that is known, and
        which show the labels as they are now."""
        new = plan.new_run_ids(self._archive.failed_ids(), self.manifest(attempt.champion))
        if attempt.why.changes_labels:
            changed = self._changed_runs()
            return Runs(sorted({*new} & {*changed}), changed)
        alarmed = attempt.why.model_version
        if not attempt.why.of_inputs or alarmed is None:
            return Runs(new)
        return Runs(new, known=self.evidence.known(alarmed, new))

    def lacking_for(self, attempt: Attempt) -> str | None:
        """What completed runs are too few of for a retraining, in words."""
        return self.labels_for(attempt)[0]

    def labels_for(self, attempt: Attempt) -> tuple[str | None, int]:
        """What completed runs are too few of for a retraining, in words, and how many there are to learn anew from."""
        least: Mapping[str, int] = self._settings.schema.least
        if attempt.why.changes_labels:
            # After a concept drift nothing older is learnt from.
            least = roles.from_nothing(least)
        runs = self.runs_for(attempt)
        anew = [run_id for run_id in runs.new if run_id not in runs.known]
        needed = max(self._settings.new_units, math.ceil(GROWTH * attempt.labels))
        missing = plan.lacking(anew, needed, least, self._archive.roles())
        if missing is not None and attempt.labels:
            missing += f"; a challenger that learnt {attempt.labels} was turned down"
        if missing is not None and runs.known:
            missing += f"; {len(runs.known)} others are of the fleet as it was before"
        return missing, len(anew)


def _is_over(attempt: Attempt, state: State, facts: Facts) -> bool:
    """Whether a wait for labels ends whatever registry and archive say."""
    return not attempt.by_hand and not (facts.enabled and (attempt.stands or attempt.cause in state.firing))


def serves(server_url: str, token: str = "") -> str | None:
    """The version that the server says that it serves; None where it says nothing."""
    with contextlib.suppress(DriftloopError), Server(server_url, token) as server:
        return str(server.model().get("model_version"))
    return None


def estimated(event: Event) -> tuple[str, Estimate] | None:
    """The version and the estimate of its error, from a verdict; None where it has none."""
    with contextlib.suppress(msgspec.ValidationError):
        return str(event.get("model_version")), msgspec.convert(event.get("estimate"), Estimate)
    return None


def seen(event: Event) -> Seen:
    """The watch's verdict, from its event."""

    def number(name: str) -> int:
        value = event.get(name)
        return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0

    figures = {name: number(name) for name in ("answered", "n", "min_n")}
    return Seen(str(event.get("model_version")), str(event.get("verdict")), **figures)


def next_run() -> str:
    """A name for a run that starts now."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")


def _challenger(version: Version) -> Challenger:
    tags = version.tags
    return Challenger(
        version.version,
        tags.get("decision"),
        tags.get("decision_reason", ""),
        tuple(promotion.findings(tags)),
        tags.get("decided_at"),
        tags.get(DIGEST_TAG, ""),
    )
