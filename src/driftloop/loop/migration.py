"""What retrainers before the store have kept, taken into it at its first start: `state.json`, `events/`, the log of
feedback, and the change of labels that an alert fires for.

The store is made under another name and renamed when it is whole, so that a crash in between starts over. The old
files stay, under the name that they had and `.migrated`. In the place of `state.json` stays a file that an earlier
driftloop cannot go on from, and which says why: beside the store it would begin anew, with nothing it knew.
"""

import itertools
import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError, JsonError
from driftloop.loop import feedback, store
from driftloop.loop.feedback import Outcome
from driftloop.loop.state import State
from driftloop.protocol.events import Event

ASIDE = ".migrated"
_STATE, _EVENTS = "state.json", "events"
_FEEDBACK, _CONCEPT = Path("feedback", "feedback.jsonl"), Path("concept", "alarm.json")
_MOVED = (
    f"kept in {store.NAME} by a newer driftloop; to go back, stop it and restore {_STATE}{ASIDE} and {_EVENTS}{ASIDE}"
)
_SEGMENT = re.compile(r"events-[0-9]+\.jsonl")

log = logging.getLogger(__name__)


class _Line(msgspec.Struct):
    """A line of the log of feedback."""

    runs: list[str] = []
    outcomes: list[Outcome] = []


def open_store(folder: Path, keep: int) -> store.Store:
    """The store in `folder`, with what earlier retrainers have kept there; raises DriftloopError as they did."""
    path = folder / store.NAME
    if not path.exists() and _is_old(folder):
        _take_over(folder, path)
    opened = store.Store(path, keep)
    _put_aside(folder)
    return opened


def _is_old(folder: Path) -> bool:
    return _has_state(folder) or any((folder / name).exists() for name in (_EVENTS, _FEEDBACK, _CONCEPT))


def _has_state(folder: Path) -> bool:
    path = folder / _STATE
    return path.exists() and _MOVED not in path.read_text(encoding="utf-8", errors="replace")


def _take_over(folder: Path, path: Path) -> None:
    making = path.with_name(f".{path.name}.making")
    for left in folder.glob(f"{making.name}*"):
        left.unlink()
    state = read_state(folder / _STATE) if _has_state(folder) else State()
    count = 0
    with closing(store.connect(making)) as db, store.transaction(db):
        for event in read_events(folder / _EVENTS):
            count += _insert(db, event)
        # The newest line may be damaged; who has read it must not be given its number for something else.
        last = max(
            [0, *(row[0] for row in db.execute("SELECT max(seq) FROM events") if row[0]), _last(folder / _EVENTS)]
        )
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
        db.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (last,))
        db.execute("INSERT INTO kept VALUES ('loop', ?)", (msgspec.json.encode(state).decode(),))
        db.execute("INSERT INTO kept VALUES ('concept', ?)", (json.dumps(_change_of_labels(folder / _CONCEPT)),))
        for line in durable.read_json_lines(folder / _FEEDBACK, _Line):
            for statement, rows in [(feedback.RUN, [(run,) for run in line.runs]), *feedback.writes(line.outcomes)]:
                db.executemany(statement, rows)
    making.replace(path)
    log.warning("%s: the state and %d events of an earlier retrainer were taken into the store", path, count)


def _insert(db: sqlite3.Connection, event: Event) -> int:
    body = {name: value for name, value in event.items() if name != "seq"}
    identity = event.get("id") if isinstance(event.get("id"), str) else None
    insert = "INSERT OR IGNORE INTO events (seq, kind, id, body) VALUES (?, ?, ?, ?)"
    return db.execute(insert, (event["seq"], event["kind"], identity, json.dumps(body))).rowcount


def _put_aside(folder: Path) -> None:
    """Rename the old files; the store has what they say."""
    if _has_state(folder):
        _rename(folder / _STATE)
        durable.write_json(folder / _STATE, {"phase": _MOVED})
    for path in (folder / name for name in (_EVENTS, _FEEDBACK, _CONCEPT)):
        if path.exists():
            _rename(path)


def _rename(path: Path) -> None:
    names = (path.with_name(f"{path.name}{ASIDE}{number or ''}") for number in itertools.count())
    path.rename(next(name for name in names if not name.exists()))


# The old files.


def read_state(path: Path) -> State:
    """The state in a `state.json`; raises DriftloopError for a file that is no state."""
    try:
        found: dict[str, Any] = durable.read_json(path, dict[str, Any])
        firing = found.get("firing", {})
        if isinstance(firing, dict):
            found["firing"] = {cause: [since] for cause, since in firing.items()}
        state = msgspec.convert(found, State)
        state.check()
    except (DriftloopError, ValueError, TypeError) as error:
        what = error.message if isinstance(error, JsonError) else getattr(error, "what", str(error))
        raise DriftloopError(
            f"the retrainer's state cannot be read: {what}",
            where=str(path),
            remedy="move the file away; the retrainer starts idle and finds what is in production in the registry",
        ) from error
    return state


def _change_of_labels(path: Path) -> Any:
    """What an alert of the kind `concept` fires for; None where none does, or where it cannot be read."""
    try:
        return durable.read_json(path, dict[str, Any]).get("alarm")
    except FileNotFoundError:
        return None
    except JsonError as error:
        log.warning("%s cannot be used (%s); an alert that fired before begins anew", path, error)
        return None


def read_events(folder: Path) -> Iterator[Event]:
    """The events of a folder of segments `events-<first seq>.jsonl`, oldest first; damaged lines are passed over."""
    for segment in _segments(folder):
        yield from _read(segment)


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("events-*.jsonl") if _SEGMENT.fullmatch(path.name))


def _read(segment: Path) -> Iterator[Event]:
    """The events of a segment. Their numbers ascend: one that does not fit between its neighbours' is damaged, and a
    reader that went by it would miss events, or ask for the same ones again and again."""
    found = [event for event in durable.read_json_lines(segment) if _is_event(event)]
    newest = 0
    for event, following in itertools.zip_longest(found, found[1:]):
        if newest < event["seq"] and not (following and newest < following["seq"] <= event["seq"]):
            newest = event["seq"]
            yield event


def _is_event(record: Event) -> bool:
    return type(record.get("seq")) is int and all(isinstance(record.get(name), str) for name in ("kind", "time"))


def _last(folder: Path) -> int:
    """The highest number that the lines of the newest segment may have had, damaged ones too."""
    segments = _segments(folder)
    if not segments:
        return 0
    with segments[-1].open("rb") as file:
        return int(segments[-1].stem.removeprefix("events-")) - 1 + sum(line.endswith(b"\n") for line in file)
