"""What the loop's state and events mean to a person: pure functions of what retrainer and watch have said."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from driftloop.protocol.events import Event

MARKS = ("T0", "T1", "T_FA", "T2", "T_RT", "T4", "T5")
KINDS = (
    "fleet_changed", "alert_firing", "first_aid_promoted", "retraining_started", "promoted", "serving_confirmed",
    "recovery_verified", "rolled_back",
)  # fmt: skip
"""Events that marks are read from; `fleet_changed` is told by whoever knows when the fleet did."""
UNKNOWN = "unknown"


def public(event: Event) -> dict[str, Any]:
    """An event as the API shows it: `event` is its kind, `who` the person who asked for it."""
    shown = {name: value for name, value in event.items() if name not in ("kind", "id", "who")}
    return {**shown, "event": event.get("kind"), "who": event.get("who")}


def marks(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The marks of the present or last recovery, from events in any order."""
    ordered = sorted(events, key=lambda event: int(event["seq"]))
    found: dict[str, dict[str, Any]] = {}
    start = _beginning(ordered)
    if start is not None:
        found = _of_episode(ordered, start)
    return [{"mark": name, **found.get(name, {"time": None, "event": None})} for name in MARKS]


def _beginning(events: Sequence[Event]) -> int | None:
    """Position of the event that the newest recovery begins with: the alert of its cause, or the first retraining that
    somebody asked for."""
    for at in range(len(events) - 1, -1, -1):
        kind = events[at]["kind"]
        if kind == "alert_firing":
            return at
        if kind == "retraining_started":
            cause = events[at].get("cause")
            same = [
                i
                for i in range(at + 1)
                if events[i]["kind"] in ("alert_firing", "retraining_started") and events[i].get("cause") == cause
            ]
            return next((i for i in same if events[i]["kind"] == "alert_firing"), same[0])
    return None


def _of_episode(events: Sequence[Event], start: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    first = events[start]
    if first["kind"] == "alert_firing":
        found["T1"] = _mark(first, first.get("starts_at"))
        told = [event for event in events[:start] if event["kind"] in ("fleet_changed", "promoted", "rolled_back")]
        if told and told[-1]["kind"] == "fleet_changed":
            found["T0"] = _mark(told[-1])
    provisional = challenger = None
    for event in events[start:]:
        kind, version = event["kind"], event.get("model_version")
        if kind == "first_aid_promoted" and provisional is None:
            provisional = version
        elif kind == "serving_confirmed" and version == provisional:
            found.setdefault("T_FA", _mark(event))
        elif kind == "retraining_started":
            found.setdefault("T2", _mark(event))
        elif kind == "promoted" and "T2" in found and "T_RT" not in found:
            challenger = version
            found["T_RT"] = _mark(event)
        elif kind == "serving_confirmed" and version == challenger:
            found.setdefault("T4", _mark(event))
        elif kind == "recovery_verified" and version == challenger:
            found.setdefault("T5", _mark(event))
    return found


def _mark(event: Event, time: Any = None) -> dict[str, Any]:
    return {"time": time or event["time"], "event": event["seq"]}


def waits_for(status: Mapping[str, Any]) -> str | None:
    """What the loop waits for, in words; None where it waits for nothing."""
    return next((said for said in _waits(status) if said), None)


def _waits(status: Mapping[str, Any]) -> Iterator[str]:
    """What it may wait for, the most pressing first."""
    attempt, verification = status.get("attempt") or {}, status.get("verification") or {}
    yield str(status.get("blocked") or "")
    if approval := status.get("approval"):
        yield f"a person's answer about version {approval.get('version')}"
    if status.get("state") == "waiting_for_labels":
        yield str(attempt.get("waiting_for") or "completed runs")
    yield str(verification.get("says") or "")
    if status.get("state") == "cooling_down":
        yield f"{status.get('cooling_down_s', 0):g} s of pause before the next retraining"


def since(status: Mapping[str, Any]) -> str | None:
    """Since when the loop is where it is, as far as its attempt tells."""
    attempt = status.get("attempt") or {}
    names = {"running": "started_at", "verifying": "promoted_at", "waiting_for_labels": "requested_at"}
    history = status.get("history") or []
    if (name := names.get(str(status.get("state")))) is not None:
        found = attempt.get(name)
        return None if found is None else str(found)
    return str(history[-1]["at"]) if history else None


def loop(status: Mapping[str, Any], events: Iterable[Event]) -> dict[str, Any]:
    """The answer to GET /loop."""
    muted = status.get("muted") or []
    until = {one["cause"]: one["until"] for one in muted}
    return {
        "state": status.get("state") or UNKNOWN,
        "since": since(status),
        "waits_for": waits_for(status),
        "attempt": status.get("attempt"),
        "causes": [
            {"cause": cause, "since": at, "muted_until": until.get(cause)}
            for cause, at in (status.get("firing") or {}).items()
        ],
        "marks": marks(events),
        "progress": status.get("progress"),
        "approval": status.get("approval"),
        "error": _error(status.get("concept") or {}),
        "estimate": status.get("estimate"),
        "promotion": str(status.get("promotion") or "automatic"),
        "enable_retraining": status.get("enable_retraining"),
        "queue": status.get("queue") or [],
        "history": status.get("history") or [],
        "muted": muted,
        "schedules": status.get("schedules") or [],
    }


def _error(concept: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far answers were from what completed units showed; None where too few have completed."""
    figures = concept.get("figures") or {}
    if "rmse" not in figures:
        return None
    coverage = (figures.get("coverage") or {}).get("value")
    return {"rmse": figures["rmse"]["value"], "coverage": coverage, "units": concept.get("window")}


def verdict(found: Event | None, began: str | None, promise: Any) -> dict[str, Any]:
    """The answer to GET /verdict, from the watch's newest verdict."""
    said: Mapping[str, Any] = found or {}
    blamed = list(said.get("blamed") or [])
    worst = said.get("worst") or {}
    return {
        "verdict": said.get("verdict") or UNKNOWN,
        "since": began,
        "requests": said.get("n") or 0,
        "version": said.get("model_version"),
        "needed": said.get("min_n"),
        "score": said.get("score"),
        "kind": said.get("drift"),
        "reason": said.get("reason"),
        "features": [
            {
                "name": name,
                "psi": one["psi"],
                "threshold": one.get("threshold_psi"),
                "score": one["score"],
                "drifted": one["score"] > 1,
                "blamed": name in blamed,
            }
            for name, one in worst.items()
        ],
        "sensor_faults": [
            {"sensor": str(one.get("feature")), "what": str(one.get("kind"))} for one in said.get("faults") or []
        ],
        "false_alarms": promise,
    }
