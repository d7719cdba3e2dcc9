"""Promotion and rollback, the same functions for the loop and by hand.

Moving the alias `production` is the single commit point. What is written before it does no harm if a crash
follows, and what is written after it `repair` writes again. Every decision is a tag of the version and an event.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.loop.asking import Answer, Question
from driftloop.model.bundle import FIRST_AID
from driftloop.model.registry import CHALLENGER, PREVIOUS, PRODUCTION, Registry, Version
from driftloop.protocol.events import Event

Tell = Callable[[Event], object]
"""Takes an event on its way to the log."""

APPROVED, PROMOTED, REJECTED, ROLLED_BACK, ABANDONED = "approved", "promoted", "rejected", "rolled_back", "abandoned"
KEPT = "kept"
"""It stays in production though the watch still sees drift, since the version before is known to be worse."""
TOOK_OVER = (PROMOTED, KEPT)
"""Ends of a retraining after which another version is in production."""
SUPERSEDED = "superseded"
"""Another version is in production than the one that the retraining was of."""
UNDECIDED = "undecided"
"""The gate had too few units: the challenger waits for a person, who promotes it or does not."""
OVER_TAG, PARENT_TAG, RETRAINING_TAG = "promoted_over", "parent_version", "retraining"
"""Tags of a version: what it replaced in production, what it was trained from, in which retraining."""
FINDINGS_TAG = "gate_findings"
"""What the gate found, such as `not_better,forgot` (driftloop.loop.judge.gate). The reason beside it is for people:
the registry may cut it off, and nothing is decided by it."""


def decide(
    registry: Registry, version: str, decision: str, reason: str, cause: str | None, findings: Sequence[str] = ()
) -> None:
    """Write a decision about a version into its tags, with what the gate found where it was the gate's."""
    tags = {"decision_reason": reason, "decided_at": durable.now()}
    if findings:
        tags[FINDINGS_TAG] = ",".join(findings)
    # The decision last: who reads it finds the rest.
    tags["decision"] = decision
    registry.set_tags(version, {"cause": cause, **tags} if cause else tags)


def tag_question(registry: Registry, asked: Question) -> None:
    """Write into a version's tags that a person is asked about it."""
    registry.set_tags(asked.version, {"approval": asked.id, "approval_asked_at": asked.since})


def tag_answer(registry: Registry, version: str, given: Answer) -> None:
    """Write into a version's tags what was answered, by whom and why."""
    tags = {"approval_by": given.who, "approval_reason": given.reason, "approval_at": given.at}
    registry.set_tags(version, {**tags, "approval_answer": given.answer})


def findings(tags: Mapping[str, str]) -> list[str]:
    """What the gate found, from a version's tags; empty where it has not judged it."""
    return [word for word in tags.get(FINDINGS_TAG, "").split(",") if word]


def promote(
    registry: Registry,
    version: str,
    *,
    reason: str,
    cause: str | None,
    report: Tell,
    champion: str | None = None,
) -> str | None:
    """Make `version` the production model; returns the version it replaced.

    The bundle is downloaded and its digest compared first, so that a damaged one is never promoted. Does
    nothing but repair what is missing if the version is in production already. `champion` is the version that the
    gate compared it with, which must still be in production. Raises BundleError for a damaged bundle,
    RegistryUnavailable, and DriftloopError for a version that does not exist or another champion.
    """
    replaced = registry.alias(PRODUCTION)
    if replaced == version:
        repair(registry)
        return registry.tags(version).get(OVER_TAG)
    if champion is not None and replaced != champion:
        raise DriftloopError(
            f"version {version} was compared with version {champion}, but {replaced} is in production now",
            where=f"model {registry.model_name}",
            remedy="retrain from the version in production",
        )
    with tempfile.TemporaryDirectory(prefix="driftloop-") as folder:
        registry.fetch(version, Path(folder) / "bundle")
    if replaced is not None:
        registry.set_tag(version, OVER_TAG, replaced)
    decide(registry, version, APPROVED, reason, cause)

    registry.set_alias(PRODUCTION, version)
    report(
        {
            "kind": "promoted",
            "time": durable.now(),
            "model_version": version,
            "from_version": replaced,
            "cause": cause,
            "reason": reason,
        }
    )
    repair(registry)
    return replaced


def rollback(registry: Registry, gone: str, back: str, *, reason: str, cause: str | None, report: Tell) -> None:
    """Put `back` into production in the place of `gone`: the two that `both_ends` gives.

    Raises BundleError where `back` is damaged, and RegistryUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="driftloop-") as folder:
        registry.fetch(back, Path(folder) / "bundle")

    registry.set_alias(PRODUCTION, back)
    report(
        {
            "kind": "rolled_back",
            "time": durable.now(),
            "model_version": back,
            "from_version": gone,
            "cause": cause,
            "reason": reason,
        }
    )
    decide(registry, gone, ROLLED_BACK, reason, cause)
    repair(registry)


def both_ends(registry: Registry) -> tuple[str, str]:
    """The version that a rollback goes back from, and the one that it goes to; raises DriftloopError without them."""
    now, before = _ends(registry)
    if now is None or before is None:
        raise DriftloopError(
            "there is no version to go back to" if now else "nothing is in production",
            where=f"model {registry.model_name}",
            remedy="promote a version by its number: driftloop promote VERSION",
        )
    return now, before


def goes_back_to(registry: Registry) -> str | None:
    """The version that a rollback would go to; None where there is none."""
    return _ends(registry)[1]


def _ends(registry: Registry) -> tuple[str | None, str | None]:
    versions = {version.version: version for version in registry.versions()}
    now = registry.alias(PRODUCTION)
    return now, _before(versions, now)


def repair(registry: Registry) -> None:
    """Make `previous`, `challenger` and the decision's tag agree with `production`."""
    versions = {version.version: version for version in registry.versions()}
    aliases = registry.aliases()
    production = aliases.get(PRODUCTION)
    if production not in versions:
        return
    if versions[production].tags.get("decision") == APPROVED:
        registry.set_tag(production, "decision", PROMOTED)
    before = _before(versions, production)
    if before is not None and aliases.get(PREVIOUS) != before:
        registry.set_alias(PREVIOUS, before)
    if before is None and PREVIOUS in aliases:
        registry.delete_alias(PREVIOUS)
    challenger = aliases.get(CHALLENGER)
    if challenger is not None and (challenger == production or is_settled(versions.get(challenger))):
        registry.delete_alias(CHALLENGER)


def is_settled(version: Version | None) -> bool:
    """Whether nothing more can become of a version's candidacy; one that is gone has none."""
    return version is None or version.tags.get("decision") in (PROMOTED, REJECTED, ROLLED_BACK, ABANDONED)


def _before(versions: dict[str, Version], production: str | None) -> str | None:
    """The labelled version that production replaced, or was trained from; None where neither exists any more.

    A provisional version, which was given first aid, is passed over: its parent had labels. So is one that was rolled
    back itself: what was before it comes next.
    """
    if production not in versions:
        return None
    waiting = [versions[production].tags.get(tag) for tag in (PARENT_TAG, OVER_TAG)]
    passed = {production}
    while waiting:
        version = waiting.pop()
        if version not in versions or version in passed:
            continue
        tags = versions[version].tags
        provisional, gone = tags.get("training") == FIRST_AID, tags.get("decision") == ROLLED_BACK
        if not (provisional or gone):
            return version
        passed.add(version)
        waiting += [tags.get(tag) for tag in ((PARENT_TAG,) if provisional else (PARENT_TAG, OVER_TAG))]
    return None
