"""Which events people are told of: under which cause, in which words, and what a person must do. Pure.

Each rule belongs to a section of docs/runbooks.md. A cause that people are told of is a section and what it is about,
such as `fleet_change` of `fleet_change:3`; events of one cause are lines of one message.
"""

from collections.abc import Callable
from typing import NamedTuple

from driftloop.protocol.events import Event

_SHOWN = 8
"""Sensors that are named."""


class Rule(NamedTuple):
    """What is told of one kind of event."""

    section: Callable[[Event], str]
    line: Callable[[Event], str]
    about: Callable[[Event], str] = lambda event: str(event.get("cause") or event.get("model_version") or "")
    opens: bool = True
    """Whether it is worth a message of its own; else it is a line of the message that its cause has already."""


class Section(NamedTuple):
    """A section of the runbooks."""

    title: str
    todo: str
    """What a person must do."""


SECTIONS: dict[str, Section] = {
    "fleet_change": Section(
        "the fleet has changed",
        "Add completed runs of the changed units as soon as there are any; the loop does the rest.",
    ),
    "sensor_fault": Section(
        "a sensor does not tell the truth", "Have the sensor repaired. Nothing is learnt from it, and nothing will be."
    ),
    "concept": Section(
        "completed units contradict the model",
        "Check the newest completed runs; withdraw wrong ones before the labels of all others are superseded.",
    ),
    "superseding": Section(
        "all labels are about to be superseded", "Withdraw the runs that are wrong, if any, before the pause is over."
    ),
    "approval": Section("a version waits for a person", "Approve it, or reject it with a reason."),
    "failed": Section("a retraining has failed", "Read the error; mend what it names, then retrain by hand."),
    "rejected": Section("a challenger was rejected", "Nothing at once: more completed runs try it again."),
    "rolled-back": Section(
        "a version was rolled back", "Look at what the watch still sees; the version before serves again."
    ),
    "not-served": Section("a promoted version is not served", "See why the server refuses it: driftloop status."),
    "overdue": Section("nothing has been trained for too long", "Add completed runs, or see why retrainings fail."),
    "error": Section("the model's error is too high", "See the live error by domain; add completed runs or retrain."),
}


def _of_drift(event: Event) -> str:
    drift = str(event.get("drift") or str(event.get("cause") or "").partition(":")[0])
    return drift if drift in SECTIONS else "fleet_change"


def _sensors(event: Event) -> str:
    given = event.get("features")
    named = [str(name) for name in given] if isinstance(given, list) else []
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f"{', '.join(named[:_SHOWN])}{more}" if named else "nothing by name"


def _alert(event: Event) -> str:
    score = f", score {event['score']:g}" if isinstance(event.get("score"), int | float) else ""
    return f"{event.get('summary') or 'it was seen'} (in {_sensors(event)}{score})"


def _reason(before: str) -> Callable[[Event], str]:
    return lambda event: f"{before.format_map(_Blank(event))}: {event.get('reason') or 'no reason was given'}"


def _says(words: str) -> Callable[[Event], str]:
    return lambda event: words.format_map(_Blank(event))


class _Blank(dict[str, object]):
    """An event whose missing fields read as `?`: anybody may report one."""

    def __missing__(self, _: str) -> str:
        return "?"


def _is(section: str) -> Callable[[Event], str]:
    return lambda _: section


def _question(event: Event) -> str:
    return str(event.get("approval") or "")


def _watch(event: Event) -> str:
    return "overdue" if event.get("act") == "overdue" else "error"


def _schedule(event: Event) -> str:
    return str(event.get("schedule") or "")


def _failed(event: Event) -> str:
    first = (str(event.get("error") or "").splitlines() or ["no error was given"])[0][:300]
    retry = event.get("retry_in_s")
    then = f"it is tried again in {retry:g} s" if isinstance(retry, int | float) else "it is given up"
    return f"step {event.get('step') or '?'}: {first}; {then}"


RULES: dict[str, Rule] = {
    "alert_firing": Rule(_of_drift, _alert),
    "alert_resolved": Rule(_of_drift, _says("the alert has ended"), opens=False),
    "first_aid_promoted": Rule(
        _of_drift, _says("first aid: version {model_version} serves, provisional until labels come"), opens=False
    ),
    "first_aid_withdrawn": Rule(_of_drift, _reason("no first aid any more"), opens=False),
    "first_aid_refused": Rule(_of_drift, _reason("no first aid"), opens=False),
    "waiting_for_labels": Rule(_of_drift, _reason("the retraining waits for labels"), opens=False),
    "retraining_started": Rule(_of_drift, _says("a retraining of version {model_version} has started"), opens=False),
    "promoted": Rule(_of_drift, _says("version {model_version} is in production"), opens=False),
    "recovery_verified": Rule(
        _of_drift, _says("recovered: the watch sees no drift with version {model_version}"), opens=False
    ),
    "about_to_supersede": Rule(_is("superseding"), _reason("{labels} labels, in {seconds} s")),
    "approval_needed": Rule(
        _is("approval"), _reason("version {model_version} in the place of {from_version} ({approval})"), _question
    ),
    "approval_overdue": Rule(_is("approval"), _reason("version {model_version}"), _question),
    "approval_answered": Rule(_is("approval"), _says("{answer} by {who}"), _question, opens=False),
    "approval_void": Rule(_is("approval"), _reason("it is void"), _question, opens=False),
    "retraining_failed": Rule(_is("failed"), _failed),
    "retraining_superseded": Rule(
        _of_drift, _reason("the retraining of version {model_version} was ended"), opens=False
    ),
    "rejected": Rule(_is("rejected"), _reason("version {model_version}")),
    "rolled_back": Rule(_is("rolled-back"), _reason("version {from_version}, {model_version} serves")),
    "kept": Rule(_of_drift, _reason("version {model_version} stays in production"), opens=False),
    "serving_not_confirmed": Rule(_is("not-served"), _reason("version {model_version}")),
    "watch_firing": Rule(_watch, _reason("watch {schedule}"), _schedule),
    "watch_resolved": Rule(_watch, _reason("watch {schedule} has ended"), _schedule, opens=False),
}
