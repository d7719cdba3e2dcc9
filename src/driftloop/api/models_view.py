"""The versions of a model as people see them: from the registry's tags and the events that tell how each was judged."""

from collections.abc import Mapping, Sequence
from typing import Any

from driftloop.durable import format_seconds
from driftloop.model.registry import CHALLENGER, PREVIOUS, PRODUCTION, Version
from driftloop.protocol.events import Event

KINDS = {"full": "full", "warm_start": "warm", "first_aid": "first aid"}
_REJECTED = frozenset({"rejected", "rolled_back", "abandoned"})
"""Decisions against a version."""


def model(version: Version, aliases: Mapping[str, str], figures: Mapping[str, float]) -> dict[str, Any]:
    """One version; `aliases` are those of the whole model."""
    tags = version.tags
    alias = sorted(name for name, which in aliases.items() if which == version.version)
    return {
        "version": version.version,
        "alias": alias,
        "created": format_seconds(version.created),
        "kind": KINDS.get(tags.get("training", ""), tags.get("training") or "full"),
        "parent": tags.get("parent_version"),
        "state": _state(tags.get("decision", ""), alias),
        "decision": tags.get("decision"),
        "decided": tags.get("decided_at"),
        "cause": tags.get("cause"),
        "digest": tags.get("bundle_digest"),
        "replaced": tags.get("promoted_over"),
        "figures": dict(figures),
        "reasons": [reason for reason in tags.get("decision_reason", "").split("; ") if reason],
    }


def _state(decision: str, alias: Sequence[str]) -> str:
    if PRODUCTION in alias:
        return "champion"
    if decision in _REJECTED:
        return "rejected"
    if CHALLENGER in alias or decision in ("undecided", "approved", "pending"):
        return "challenger"
    return "previous" if PREVIOUS in alias else "archived"


def judged(version: str, events: Sequence[Event], old_tolerance: float) -> dict[str, Any]:
    """How a version was judged, from events of it, newest first: `by_domain`, `gate` and `shadow`; on old units RMSE
    may grow by the share `old_tolerance`."""
    decided = next((e for e in events if e["kind"] == "gate_decided" and e.get("model_version") == version), None)
    shadow = next((e for e in events if e["kind"] == "shadow_ended" and e.get("model_version") == version), None)
    figures: Mapping[str, Mapping[str, Any]] = (decided or {}).get("figures") or {}
    return {
        "by_domain": [
            {
                "domain": name,
                "rmse": one["rmse_challenger"],
                "coverage": one.get("coverage"),
                "units": one["engines"],
                "champion_rmse": one["rmse_champion"],
            }
            for name, one in figures.items()
        ],
        "gate": [
            _question(name, one, (decided or {}).get("findings") or [], old_tolerance) for name, one in figures.items()
        ],
        "shadow": None if shadow is None else {k: v for k, v in shadow.items() if k not in ("seq", "id", "kind")},
        "compared_with": (decided or {}).get("from_version"),
    }


def _question(group: str, figures: Mapping[str, Any], findings: Sequence[str], old_tolerance: float) -> dict[str, Any]:
    """What the gate asked about one group of units, and what it found."""
    good, bad = {"new": ("better", "not_better"), "old": ("kept", "forgot")}.get(group, ("", ""))
    passed = True if good in findings else False if bad in findings else None
    return {
        "what": f"RMSE on {group} units",
        "challenger": figures["rmse_challenger"],
        "champion": figures["rmse_champion"],
        "difference": [figures.get("lower"), figures.get("upper")],
        "limit": old_tolerance * figures["rmse_champion"] if group == "old" else 0.0,
        "passed": passed,
        "units": figures.get("engines"),
    }
