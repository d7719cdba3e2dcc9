"""The append-only log of everything the loop saw and decided.

Events are JSON objects with `seq` (1, 2, 3, ...), `time` (RFC 3339, UTC), `kind`, and where they apply
`model_version` and `cause`. They are kept in segments of JSON lines, `events-<first seq>.jsonl`, of which the
oldest go when there are more than `keep` events. A line that is damaged is passed over, which is logged; a number is
never given twice.
"""

import itertools
import json
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftloop import durable
from driftloop.protocol.events import Event, EventKind

PAGE = 1000
"""Events in one answer."""
_SEGMENTS = 10
_REMEMBERED_IDS = 1000
_NEWEST = 2000
_SEGMENT = re.compile(r"events-[0-9]+\.jsonl")


class EventLog:
    """The log in `folder`; one process at a time may write it, any number of its threads."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._keep = keep
        self._segment_size = max(1, keep // _SEGMENTS)
        self._lock = threading.Lock()
        self._newest: deque[Event] = deque(maxlen=_NEWEST)
        self._ids: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        folder.mkdir(parents=True, exist_ok=True)
        for segment in self._segments()[-2:]:
            for event in _read(segment):
                self._newest.append(event)
                if "id" in event:
                    self._ids.append(event["id"])
        self.counts: Counter[str] = Counter()
        """Events of each kind since this process started."""
        self._seq: int = self._newest[-1]["seq"] if self._newest else 0
        if self._segments():
            # The newest line may be damaged; who has read it must not be given its number for something else.
            self._seq = max(self._seq, _last_number(self._segments()[-1]))

    @property
    def last(self) -> int:
        """Number of the newest event; 0 before the first."""
        return self._seq

    def append(self, kind: EventKind, /, **detail: Any) -> Event:
        """Add an event and return it once it is on disk; a `detail` of None is left out.

        `time` may be given by a reporter; an `id` seen before is not added again (a report that was sent twice).
        """
        with self._lock:
            identity = detail.get("id")
            if identity is not None and identity in self._ids:
                return next(event for event in reversed(self._newest) if event.get("id") == identity)
            known = {key: value for key, value in detail.items() if value is not None}
            event = {"seq": self._seq + 1, "time": durable.now(), "kind": kind, **known}
            # A number that JSON does not know must not stop the log; it is written as text.
            line: Event = json.loads(json.dumps(event, default=str), parse_constant=str)
            durable.append_json_line(self._segment_for(line["seq"]), line)
            self._seq = line["seq"]
            self.counts[kind] += 1
            self._newest.append(line)
            if identity is not None:
                self._ids.append(identity)
            return line

    def read(self, after: int = 0, limit: int = PAGE) -> list[Event]:
        """At most `limit` events with a number above `after`, oldest first."""
        with self._lock:
            newest = list(self._newest)
        if newest and newest[0]["seq"] <= after + 1:
            found: Iterator[Event] = iter(newest)
        else:
            found = self._from_disk(after)
        return list(itertools.islice((event for event in found if event["seq"] > after), limit))

    def tail(self, limit: int) -> list[Event]:
        """The newest events, oldest first."""
        with self._lock:
            return list(self._newest)[-limit:]

    def find(self, kind: EventKind, /, **detail: Any) -> Event | None:
        """The newest recent event of a kind with these details; None where there is none."""
        with self._lock:
            for event in reversed(self._newest):
                if event["kind"] == kind and all(event.get(key) == value for key, value in detail.items()):
                    return event
        return None

    def _segment_for(self, seq: int) -> Path:
        segments = self._segments()
        if segments and seq - _first(segments[-1]) < self._segment_size:
            return segments[-1]
        while segments and seq - _first(segments[min(1, len(segments) - 1)]) >= self._keep:
            segments.pop(0).unlink(missing_ok=True)
        return self.folder / f"events-{seq:012d}.jsonl"

    def _segments(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("events-*.jsonl") if _SEGMENT.fullmatch(path.name))

    def _from_disk(self, after: int) -> Iterator[Event]:
        segments = self._segments()
        for segment, following in itertools.zip_longest(segments, segments[1:]):
            if following is None or _first(following) > after + 1:
                yield from _read(segment)


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


def _last_number(segment: Path) -> int:
    """The highest number that a segment's lines may have had, damaged ones too."""
    with segment.open("rb") as file:
        return _first(segment) - 1 + sum(line.endswith(b"\n") for line in file)


def _first(segment: Path) -> int:
    return int(segment.stem.removeprefix("events-"))
