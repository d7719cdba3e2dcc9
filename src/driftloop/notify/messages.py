"""From events to messages: one a cause, with what has happened as its lines. Pure."""

from typing import Any

import msgspec

from driftloop import durable
from driftloop.notify.rules import RULES, SECTIONS
from driftloop.protocol.events import Event

MOST_WAITING = 100
MOST_LINES = 20
MOST_SENT = 500
"""Causes of which it is remembered when people were told of them last."""
RUNBOOKS = "runbooks.md"


class Notice(msgspec.Struct):
    """A message that waits to be delivered."""

    key: str
    """The cause that it is about, as a section and its subject."""
    section: str
    cause: str
    """The loop's cause, by which it may be muted; empty where it has none."""
    lines: list[str]
    seq: int = 0
    """Number of its first event."""
    model_version: str | None = None
    tries: int = 0
    delivered: list[str] = []
    """Marks of the addresses that have it already."""
    follows: bool = False
    """Whether it only goes on about what people were told of before."""
    dropped: int = 0
    """Lines that had no room."""


class Kept(msgspec.Struct):
    """What survives a restart."""

    cursor: int = 0
    """Number of the newest event that was looked at."""
    waiting: list[Notice] = []
    sent: dict[str, str] = {}
    """When people were told of each cause last."""
    given_up: int = 0
    """Messages that could not be delivered, ever."""
    last_error: str | None = None


def take(kept: Kept, events: list[Event]) -> None:
    """Note what events say; those without a rule are passed over."""
    for event in events:
        kept.cursor = int(event["seq"])
        rule = RULES.get(str(event.get("kind")))
        if rule is None:
            continue
        section = rule.section(event)
        key = f"{section} {rule.about(event)}".strip()
        notice = next((each for each in kept.waiting if each.key == key and not each.tries), None)
        if notice is None and not (rule.opens or key in kept.sent):
            continue  # a line about something that nobody was told of
        if notice is None:
            notice = Notice(key, section, str(event.get("cause") or ""), [], kept.cursor, follows=True)
            kept.waiting = [*kept.waiting, notice][-MOST_WAITING:]
        notice.follows = notice.follows and not rule.opens
        notice.model_version = str(event.get("model_version") or "") or notice.model_version
        line = f"{event.get('time')} {rule.line(event)}"
        if len(notice.lines) < MOST_LINES:
            notice.lines.append(line[:600])
        else:
            notice.dropped += 1


def quiet_s(kept: Kept, key: str, now: str, cool_down_s: float) -> float:
    """Seconds until people may be told of a cause again. A clock that was set back keeps nobody waiting."""
    if key not in kept.sent:
        return 0.0
    passed = (durable.parse_time(now) - durable.parse_time(kept.sent[key])).total_seconds()
    return max(0.0, cool_down_s - passed) if passed >= 0 else 0.0


def drop(kept: Kept, notice: Notice) -> None:
    """A message waits no longer."""
    kept.waiting = [each for each in kept.waiting if each is not notice]


def told(kept: Kept, notice: Notice, now: str) -> None:
    """A message has been delivered."""
    drop(kept, notice)
    kept.sent.pop(notice.key, None)
    kept.sent[notice.key] = now
    while len(kept.sent) > MOST_SENT:
        kept.sent.pop(next(iter(kept.sent)))
    kept.last_error = None


def title(notice: Notice, fleet: str) -> str:
    """Its subject line."""
    before = "since then, about: " if notice.follows else ""
    return f"driftloop {fleet}: {before}{SECTIONS[notice.section].title}"


def body(notice: Notice, docs: str) -> str:
    """Its text: what has happened, what a person must do, and where it is explained."""
    about = notice.cause or notice.key.partition(" ")[2]
    lines = [f"Cause: {about}" + (f", model version {notice.model_version}" if notice.model_version else ""), ""]
    lines += [f"- {line}" for line in notice.lines]
    if notice.dropped:
        lines.append(f"- and {notice.dropped} more: driftloop events")
    todo = [] if notice.follows else [f"What to do: {SECTIONS[notice.section].todo}"]
    lines += ["", *todo, f"{docs.rstrip('/')}/{RUNBOOKS}#{notice.section}"]
    return "\n".join(lines)


def shown(kept: Kept) -> dict[str, Any]:
    """What people see of it in the status: never an address."""
    return {
        "waiting": [{"about": each.key, "tries": each.tries} for each in kept.waiting],
        "given_up": kept.given_up,
        "last_error": kept.last_error,
    }
